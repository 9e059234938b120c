from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.iso.menu import menu_for, render_isolinux_cfg
from livebuilder.vm.menu import answer_at_prompt, label_asked_for, read_config
from tests.support.isos import SmallIso


def config(*consoles: str, cmdline: str = "") -> str:
    menu = menu_for("attic-pc", version="0.1.0", storage_label="rootfs_data", consoles=consoles, cmdline=cmdline)
    return render_isolinux_cfg(replace(menu, timeout_seconds=0))


HERE = ""
ADDED = "start console=ttyS0,115200n8"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (config("tty0", "ttyS0,115200n8"), HERE),
        (config("ttyS0"), HERE),
        (config("tty0", cmdline="console=ttyS0,9600 quiet"), HERE),
        (config("tty0"), ADDED),
        (config("tty0", "ttyS1,9600"), ADDED),
        (config("ttyS0,115200n8", "tty0"), ADDED),
        (config("ttyS0,115200n8", cmdline="console=tty0"), ADDED),
        ("default start\nlabel start\nkernel linux\n\nlabel x\nappend console=ttyS0\n", ADDED),
    ],
)
def test_linux_is_made_to_talk_where_we_listen(text: str, answer: str) -> None:
    assert answer_at_prompt(text) == answer


@pytest.mark.parametrize(
    ("cmdline", "label"),
    [
        ("", None),
        ("lb.label=attic quiet", "attic"),
        ('lb.label=a lb.label="my stick"', "my stick"),
        ("xlb.label=a", None),
    ],
)
def test_the_label_that_the_menu_asks_for(cmdline: str, label: str | None) -> None:
    assert label_asked_for(config("tty0", cmdline=cmdline)) == label


@pytest.mark.parametrize("text", ["", "LABEL start\n", "DEFAULT menu.c32\nLABEL start\n"])
def test_without_a_default_entry_there_is_nothing_to_start(text: str) -> None:
    with pytest.raises(LivebuilderError, match="names no entry that starts by default"):
        answer_at_prompt(text)


def test_the_configuration_is_read_from_the_disc(tmp_path: Path) -> None:
    disc = SmallIso(tmp_path)
    assert disc.plan.files["isolinux/isolinux.cfg"].read().decode() == read_config(disc.path)
    assert answer_at_prompt(read_config(disc.path)) == HERE


def test_a_file_that_is_no_disc_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(65536))
    with pytest.raises(LivebuilderError, match="is not an ISO 9660 disc"):
        read_config(tmp_path / "file")
