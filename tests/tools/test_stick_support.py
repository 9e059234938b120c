"""The sticks that other tests rely on are what they claim to be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from livebuilder.process import run
from tests.support.sticks import (
    Table,
    damage_ext4,
    ext4_state,
    extracted,
    list_folder,
    probe,
    read_file,
    stick_image,
    volume_of,
)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("table", ["gpt", "dos", "none"])
@pytest.mark.parametrize("fs", ["ext4", "f2fs", "btrfs", "vfat"])
def test_blkid_finds_the_file_system_where_the_table_says(tmp_path: Path, fs: str, table: Table) -> None:
    stick = stick_image(tmp_path / "stick", fs=fs, table=table)
    facts = probe(stick)
    assert (facts["TYPE"], facts["LABEL"]) == (fs, "rootfs_data")
    assert volume_of(stick).offset == (0 if table == "none" else 1 << 20)
    assert [p.name for p in tmp_path.iterdir()] == ["stick"]


@pytest.mark.parametrize("table", ["gpt", "none"])
def test_files_put_onto_an_ext_stick_are_read_back_and_belong_to_root(tmp_path: Path, table: Table) -> None:
    files: dict[str, bytes | str] = {"/upper/etc/config/my file": b"\x00\xff", "precious.txt": "kept\n"}
    stick = stick_image(tmp_path / "stick", table=table, files=files)
    before = _digest(stick)
    assert read_file(stick, "/upper/etc/config/my file") == b"\x00\xff"
    assert read_file(stick, "/precious.txt") == b"kept\n"
    assert read_file(stick, "/upper/etc/other") is None
    assert list_folder(stick, "/upper/etc/config") == {"my file": (0o100644, 0, 0)}
    assert set(list_folder(stick)) == {"lost+found", "upper", "work", ".fs_state", "precious.txt"}
    assert _digest(stick) == before


def test_files_put_onto_an_f2fs_stick_leave_it_sound(tmp_path: Path) -> None:
    empty = stick_image(tmp_path / "empty", fs="f2fs")
    stick = stick_image(tmp_path / "stick", fs="f2fs", files={"/upper/etc/hello": "hello f2fs\n"})
    with extracted(stick) as volume:
        assert run(["fsck.f2fs", "--dry-run", volume], check=False).returncode == 0
    assert b"hello f2fs" in stick.read_bytes()
    assert b"hello f2fs" not in empty.read_bytes()


def test_repairable_damage_is_mended_by_e2fsck(tmp_path: Path) -> None:
    stick = stick_image(tmp_path / "stick", files={"/upper/etc/x": "x"})
    assert ext4_state(stick).clean
    assert not ext4_state(stick).errors
    damage_ext4(stick, repairable=True)
    assert ext4_state(stick).errors
    assert not ext4_state(stick).needs_recovery
    with extracted(stick) as volume:
        assert run(["e2fsck", "-p", volume], check=False).returncode == 1
        assert run(["e2fsck", "-p", "-f", volume], check=False).returncode == 0
    assert read_file(stick, "/upper/etc/x") == b"x"


def test_damage_beyond_repair_defeats_e2fsck_and_leaves_the_label(tmp_path: Path) -> None:
    stick = damage_ext4(stick_image(tmp_path / "stick"), repairable=False)
    assert (probe(stick)["TYPE"], probe(stick)["LABEL"]) == ("ext4", "rootfs_data")
    with extracted(stick) as volume:
        before = _digest(volume)
        for option in ("-p", "-y"):
            assert run(["e2fsck", option, volume], check=False).returncode & 4 + 8
        assert _digest(volume) == before


def test_only_a_file_system_without_a_second_superblock_can_be_damaged_beyond_repair(tmp_path: Path) -> None:
    stick = stick_image(tmp_path / "stick", size_bytes=300 << 20)
    with pytest.raises(ValueError, match="second superblock"):
        damage_ext4(stick, repairable=False)
