"""A root is made ready; every change has a name, and what a profile keeps is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from livebuilder.openwrt.change import ChangeKind
from livebuilder.openwrt.eras import ERAS, OverlayBy
from livebuilder.openwrt.root import HOOK_PATH, MD5_STAMP_PATH, TABLES_PATH, PreparedRoot, prepare_root
from livebuilder.tree import RootTree, directory, file, symlink

HOOK_ERA = next(era for era in ERAS if era.overlay_by is OverlayBy.HOOK)
INIT_ERA = next(era for era in ERAS if era.overlay_by is OverlayBy.INIT)


def wrong_root() -> RootTree:
    """A root with everything that can be wrong with one."""
    tree = RootTree(
        [
            file("etc/banner", "OpenWrt\n"), file("etc/shadow", "root:::\n", mode=0o644), directory("root"),
            file("lib/modules/4.14.63/ext4.ko", b"old"), file("sbin/block", b"elf", mode=0o755), directory("tmp"),
            file("sbin/fw3", b"elf", mode=0o755),
        ]
    )  # fmt: skip
    return RootTree(replace(entry, uid=1000, gid=1000) for entry in tree)


def prepare(tree: RootTree, *keep: ChangeKind, hook: bool = True, **how: bool) -> PreparedRoot:
    return prepare_root(tree, era=HOOK_ERA if hook else INIT_ERA, label="rootfs_data", uuid="u", keep=keep, **how)


def test_everything_that_is_done_is_said() -> None:
    prepared = prepare(wrong_root())
    assert {change.kind for change in prepared.changes} == set(ChangeKind)
    assert [warning for warning in prepared.warnings if "1000:1000" in warning]
    assert {entry.uid for entry in prepared.root} == {0}
    assert HOOK_PATH in prepared.root and "lib/modules/4.14.63" not in prepared.root


@pytest.mark.parametrize("kept", ChangeKind)
def test_whatever_is_kept_is_left_as_it_is(kept: ChangeKind) -> None:
    kinds = {change.kind for change in prepare(wrong_root(), kept).changes}
    assert kinds == set(ChangeKind) - {kept}


def test_all_kept_is_the_root_itself() -> None:
    tree = wrong_root()
    prepared = prepare(tree, *ChangeKind)
    assert prepared.root is tree and prepared.changes == () and prepared.warnings == ()


def test_the_hook_is_for_the_eras_whose_shell_mounts_the_root() -> None:
    assert HOOK_PATH not in prepare(wrong_root(), hook=False).generated
    hook = prepare(wrong_root(), ChangeKind.FIREWALL)
    assert [entry.path for entry in hook.generated] == [MD5_STAMP_PATH, "lib", "lib/preinit", HOOK_PATH]
    stamp = hook.generated[MD5_STAMP_PATH].content.read()
    assert stamp == prepare(wrong_root()).generated[MD5_STAMP_PATH].content.read()
    assert len(stamp) == 33


def test_the_roots_own_kernel_keeps_its_modules() -> None:
    assert "lib/modules/4.14.63/ext4.ko" in prepare(wrong_root(), foreign_kernel=False).root


def test_fw3_finds_its_tables_on_another_kernel() -> None:
    root = prepare(wrong_root(), hook=False).root
    assert root[TABLES_PATH].mode == 0o755
    assert root["etc/rc.d/S18livebuilder-iptables"].target == "../init.d/livebuilder-iptables"
    fw4 = RootTree([file("sbin/fw4", b""), symlink("sbin/fw3", "fw4")])
    for others in (prepare(wrong_root(), foreign_kernel=False), prepare(fw4)):
        assert TABLES_PATH not in others.root


def test_two_overlays_over_one_another_are_warned_of() -> None:
    fstab = "config mount\n\toption target '/overlay'\n\toption enabled '1'\n"
    tree = RootTree([file("sbin/block", b""), file("etc/config/fstab", fstab)])
    newest = prepare_root(tree, era=ERAS[-1], label="x", uuid="u")
    assert any("second overlay" in warning for warning in newest.warnings)
    assert prepare_root(tree, era=INIT_ERA, label="x", uuid="u").warnings == ()
