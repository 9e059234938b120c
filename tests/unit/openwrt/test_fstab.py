"""The entry for the stick in every era's words, and nobody's own entry touched."""

from __future__ import annotations

import pytest

from livebuilder.openwrt.eras import ERAS, Era, FstabStyle
from livebuilder.openwrt.fstab import add_extroot, find_extroot, has_block_mount, render_extroot
from livebuilder.tree import RootTree, file, symlink

BY_STYLE: dict[FstabStyle, Era] = {era.fstab: era for era in ERAS}

SHELL = """\
config mount
\toption target '/overlay'
\toption label 'attic'
\toption fstype 'ext4'
\toption options 'rw,noatime'
\toption enabled '1'
\toption enabled_fsck '1'
\toption is_rootfs '1'
"""
BLOCK = """\
config global
\toption delay_root '15'
\toption check_fs '1'

config mount
\toption target '/overlay'
\toption label 'attic'
\toption enabled '1'
"""


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (FstabStyle.SHELL, SHELL),
        (FstabStyle.BLOCK, BLOCK),
        (FstabStyle.BLOCK_OFF, BLOCK.replace("enabled '1'", "enabled '0'")),
    ],
)
def test_the_words_of_an_era(style: FstabStyle, text: str) -> None:
    root, changes = add_extroot(RootTree([file("sbin/block", b"")]), era=BY_STYLE[style], label="attic")
    assert root["etc/config/fstab"].content.read().decode() == text
    assert changes[0].text.startswith("/etc/config/fstab says that /overlay is on label attic")
    assert ("second overlay" in changes[0].text) is (style is FstabStyle.BLOCK_OFF)


def test_without_block_mount_nothing_reads_it() -> None:
    root = RootTree([file("sbin/init", b"")])
    assert not has_block_mount(root)
    assert add_extroot(root, era=ERAS[-1], label="attic") == (root, ())


def test_block_is_often_a_link() -> None:
    assert has_block_mount(RootTree([symlink("sbin/block", "../usr/sbin/block"), file("usr/sbin/block", b"")]))


def test_what_is_there_stays() -> None:
    given = "config global\n\toption anon_swap '0'\n\nconfig mount 'data'\n\toption target '/mnt/data'\n"
    root = RootTree([file("sbin/block", b""), file("etc/config/fstab", given, mode=0o600)])
    changed, _ = add_extroot(root, era=BY_STYLE[FstabStyle.BLOCK], label="attic")
    text = changed["etc/config/fstab"].content.read().decode()
    assert text == f"{given}\n{render_extroot('attic', style=FstabStyle.BLOCK, with_global=False)}"
    assert changed["etc/config/fstab"].mode == 0o600


@pytest.mark.parametrize(
    "line", ["option target '/overlay'", "option target /", 'option target "/overlay"', "option is_rootfs 1"]
)
def test_an_entry_for_extroot_is_kept_and_said(line: str) -> None:
    given = f"config 'global'\n\nconfig 'mount'\n\t{line}\n\toption uuid 4ab3\n"
    root = RootTree([file("sbin/block", b""), file("etc/config/fstab", given)])
    changed, changes = add_extroot(root, era=ERAS[-1], label="attic")
    assert changed is root
    assert "stays" in changes[0].text and "uuid 4ab3" in changes[0].text


@pytest.mark.parametrize(
    "text", ["", "config mount\n\toption target /mnt\n", "config swap\n\toption target '/overlay'\n"]
)
def test_other_entries_are_none(text: str) -> None:
    assert find_extroot(text) is None
