"""initramfs/lib/notice.sh: what an OpenWrt root says of itself is true in a boot that keeps nothing."""

from __future__ import annotations

import pytest

from tests.support.init import InitMachine

_FSTAB = "config global\n\toption check_fs '1'\n\nconfig mount\n\toption target '/overlay'\n\toption enabled '1'\n"


def _correct(machine: InitMachine, facts: str) -> None:
    machine.write("newroot/etc/banner", "OpenWrt\n")
    machine.write("newroot/etc/config/fstab", _FSTAB)
    machine.call(f'STORAGE_REASON="it\'s gone"; LB_BANNER=yes LB_FSTAB=yes {facts}; correct_root')


def test_volatile(machine: InitMachine) -> None:
    _correct(machine, "STORAGE_STATE=volatile")
    banner = (machine.root / "newroot/etc/banner").read_text()
    assert banner.startswith("OpenWrt\n *** CHANGES ARE NOT KEPT: this system runs from memory only ***\n")
    assert "     Why: it's gone\n" in banner
    fstab = (machine.root / "newroot/etc/config/fstab").read_text()
    assert fstab == _FSTAB.replace("enabled '1'", "enabled '0'")


def test_read_only(machine: InitMachine) -> None:
    _correct(machine, "STORAGE_STATE=read-only")
    assert "CHANGES ARE NOT KEPT: the stick is read-only" in (machine.root / "newroot/etc/banner").read_text()
    assert (machine.root / "newroot/etc/config/fstab").read_text() == _FSTAB, "the stick is mounted all the same"


@pytest.mark.parametrize("facts", ["STORAGE_STATE=persistent", "STORAGE_STATE=volatile LB_BANNER=no LB_FSTAB=no"])
def test_otherwise_nothing_is_touched(machine: InitMachine, facts: str) -> None:
    _correct(machine, facts)
    assert (machine.root / "newroot/etc/banner").read_text() == "OpenWrt\n"
    assert (machine.root / "newroot/etc/config/fstab").read_text() == _FSTAB


def test_a_root_without_these_files_gets_none(machine: InitMachine) -> None:
    machine.call("STORAGE_REASON=x STORAGE_STATE=volatile LB_BANNER=yes LB_FSTAB=yes; correct_root")
    assert list((machine.root / "newroot").iterdir()) == []
