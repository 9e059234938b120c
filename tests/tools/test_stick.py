"""Stick images, made by us and read by everybody else."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import struct
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from livebuilder import process
from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import GIB, MIB
from livebuilder.usb import stick
from livebuilder.usb.bootcode import BOOT_CODE
from livebuilder.usb.btrfs import give_to_root
from livebuilder.usb.fdisk import NewPartition, open_disk
from livebuilder.usb.filesystem import EXT, FILE_SYSTEMS, FOLDERS, check_command, make_commands, scratch_bytes
from livebuilder.usb.plan import LINUX_GUID, StickIdentity, StickPlan, plan_stick, plan_to_json, render_plan
from livebuilder.usb.stick import copy_into, make_stick_image
from tests.support.sticks import extracted, list_folder, probe

ROOT_LAYOUT = {"upper": (0o40755, 0, 0), "work": (0o40755, 0, 0), ".fs_state": (0o120777, 0, 0)}
SIZES = {"ext2": 8 * MIB, "ext3": 18 * MIB, "ext4": 64 * MIB, "f2fs": 66 * MIB, "btrfs": 64 * MIB}


def _plan(*, size_bytes: int = 64 * MIB, fs: str = "ext4", label: str = "rootfs_data", table: str = "gpt") -> StickPlan:
    return plan_stick(size_bytes=size_bytes, fs=fs, label=label, table=table, identity=StickIdentity.random())


@pytest.mark.parametrize("table", ["gpt", "dos"])
@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_every_tool_reads_what_was_planned(tmp_path: Path, fs: str, table: str) -> None:
    plan = _plan(fs=fs, table=table, size_bytes=SIZES[fs])
    path = tmp_path / "stick.img"
    report = make_stick_image(path, plan)

    seen = json.loads(run(["sfdisk", "--json", path]).stdout)["partitiontable"]
    (partition,) = seen["partitions"]
    assert (seen["label"], seen["id"], seen["sectorsize"]) == (table, plan.disk_id, 512)
    assert (partition["start"], partition["size"]) == (2048, plan.sectors)
    if table == "gpt":
        assert (partition["type"], partition["name"]) == (LINUX_GUID, "rootfs_data")
        assert partition["uuid"] == plan.partition_uuid
    else:
        assert partition["type"] == "83"
    assert "No errors" in run(["sfdisk", "--verify", path]).stdout

    sector = path.read_bytes()[:512]
    assert sector[:440] == BOOT_CODE.ljust(440, b"\0")
    assert sector[510:] == b"\x55\xaa"

    found = probe(path)
    assert (found["TYPE"], found["LABEL"], found["UUID"]) == (fs, "rootfs_data", plan.file_system_uuid)
    with extracted(path) as volume:
        assert run(check_command(plan.file_system, volume).argv, check=False).returncode == 0
    if fs in EXT:
        assert list_folder(path) == {**ROOT_LAYOUT, "lost+found": (0o40700, 0, 0)}

    facts = path.stat()
    assert facts.st_size == report.size_bytes == SIZES[fs]
    assert facts.st_blocks * 512 == report.used_bytes
    assert facts.st_blocks * 512 < 2 * MIB
    assert [p.name for p in tmp_path.iterdir()] == ["stick.img"]
    assert report.to_json() == {**plan_to_json(plan), "path": str(path), "used_bytes": report.used_bytes}
    lines = report.render().splitlines()
    assert str(path) in lines[0]
    assert lines[1:2] + lines[3:] == [line for line in render_plan(plan).splitlines() if line[0] in "tf"]


def test_the_link_that_keeps_openwrt_from_wiping_says_2(tmp_path: Path) -> None:
    path = tmp_path / "stick.img"
    make_stick_image(path, _plan())
    with extracted(path) as volume:
        assert 'Fast link dest: "2"' in run(["debugfs", "-R", "stat /.fs_state", volume]).stdout
    make_stick_image(tmp_path / "b.img", _plan(fs="btrfs"))
    with extracted(tmp_path / "b.img") as volume:
        restored = tmp_path / "restored"
        restored.mkdir()
        run(["btrfs", "restore", "--symlinks", volume, restored])
        assert (restored / ".fs_state").readlink() == Path("2")
        assert all((restored / folder).is_dir() for folder in FOLDERS)


def test_ext4_has_a_journal_and_ext2_has_none(tmp_path: Path) -> None:
    for fs in ("ext4", "ext2"):
        make_stick_image(tmp_path / fs, _plan(fs=fs))
        with extracted(tmp_path / fs) as volume:
            text = run(["dumpe2fs", "-h", volume]).stdout
        assert ("has_journal" in text) == (fs == "ext4")
        assert "Errors behavior:          Remount read-only" in text


@pytest.mark.parametrize("table", ["gpt", "dos"])
@pytest.mark.parametrize("fs", FILE_SYSTEMS)
def test_the_smallest_stick_that_is_planned_can_be_made(tmp_path: Path, fs: str, table: str) -> None:
    size = FILE_SYSTEMS[fs].smallest_bytes + (2 if table == "gpt" else 1) * MIB
    make_stick_image(tmp_path / "stick.img", _plan(fs=fs, table=table, size_bytes=size))
    with pytest.raises(LivebuilderError, match="or more"):
        _plan(fs=fs, table=table, size_bytes=size - MIB)


@pytest.mark.parametrize("fs", ["ext4", "f2fs", "btrfs"])
def test_a_large_stick_stays_sparse(tmp_path: Path, fs: str) -> None:
    report = make_stick_image(tmp_path / "stick.img", _plan(fs=fs, size_bytes=16 * GIB))
    assert report.size_bytes == 16 * GIB
    assert report.used_bytes is not None
    assert report.used_bytes < 32 * MIB


@pytest.mark.parametrize(
    ("fs", "table", "label"),
    [("ext4", "gpt", "sixteen_bytes_xx"), ("ext3", "dos", "über_stück"), ("btrfs", "dos", "b" * 254),
     ("f2fs", "dos", "f" * 512), ("f2fs", "dos", "ü" * 256), ("btrfs", "gpt", "-n"), ("ext4", "gpt", "-")],
)  # fmt: skip
def test_labels_at_their_limits_are_kept_whole(tmp_path: Path, fs: str, table: str, label: str) -> None:
    report = make_stick_image(tmp_path / "stick.img", _plan(fs=fs, table=table, label=label, size_bytes=66 * MIB))
    assert report.superblock.label == label
    assert report.partition.name == (label if table == "gpt" else "")
    if len(label) < 255:  # blkid cuts what it prints
        words = run(["blkid", "-p", "-O", str(MIB), "-o", "udev", tmp_path / "stick.img"]).stdout.splitlines()
        assert f"ID_FS_LABEL_ENC={label}" in words


def test_the_umask_and_the_mke2fs_conf_of_the_host_have_no_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, log = process.require_tool("mke2fs"), tmp_path / "log"
    _fake_tool(tmp_path / "bin", "mke2fs", f'echo "$MKE2FS_CONFIG" > {log}\nexec {real} "$@"', monkeypatch)
    before = os.umask(0o077)
    try:
        make_stick_image(tmp_path / "ext4", _plan())
        make_stick_image(tmp_path / "btrfs", _plan(fs="btrfs"))
    finally:
        os.umask(before)
    assert log.read_text() == "/dev/null\n"
    assert stat.S_IMODE((tmp_path / "ext4").stat().st_mode) == 0o600
    assert list_folder(tmp_path / "ext4")["upper"] == (0o40755, 0, 0)
    assert _btrfs_inodes(tmp_path / "btrfs") == {("40755", "0"), ("120777", "0")}


def _btrfs_inodes(path: Path) -> set[tuple[str, str]]:
    """Mode and owner of everything in the file system."""
    with extracted(path) as volume:
        words = run(["btrfs", "inspect-internal", "dump-tree", "-t", "5", volume]).stdout.split()
    places = [place for place, word in enumerate(words) if word == "uid"]
    return {(words[place - 3], words[place + 1]) for place in places}


@pytest.fixture
def for_everybody() -> Iterator[Path]:
    """A folder in which any user may write; pytest's own is closed to others."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        yield Path(name)


def _btrfs_of_somebody(folder: Path, size_bytes: int = 62 * MIB) -> Path:
    """A btrfs made of a folder that belongs to an ordinary user, by mkfs.btrfs alone."""
    tree, volume = folder / "tree", folder / "volume"
    stick._layout(tree)
    if os.geteuid() == 0:
        for path in (tree, *tree.iterdir()):
            os.chown(path, 4321, 4321, follow_symlinks=False)
    volume.touch()
    os.truncate(volume, size_bytes)
    (command,) = make_commands(
        FILE_SYSTEMS["btrfs"],
        volume,
        size_bytes=size_bytes,
        label="x",
        uuid=str(StickIdentity.random().disk),
        tree=tree,
    )
    run(command.argv)
    return volume


def _data_of(volume: Path) -> list[tuple[int, int]]:
    with volume.open("rb") as stream:
        return list(stick.data_ranges(stream.fileno()))


def _owners(volume: Path) -> set[tuple[str, str]]:
    told = run(["btrfs", "inspect-internal", "dump-tree", "-t", "5", volume]).stdout
    return set(re.findall(r" uid (\d+) gid (\d+) ", told))


def _leaves(volume: Path) -> list[int]:
    """Where the newest leaf of the tree of files is, and its copies: level 0 of the tree that is number 5."""
    ages = {}
    with volume.open("rb") as stream:
        for place in (at for start, end in _data_of(volume) for at in range(start, end, 4096)):
            stream.seek(place)
            age, owner, _count, level = struct.unpack_from("<QQIB", stream.read(4096), 0x50)
            if (owner, level) == (5, 0):
                ages[place] = age
    return [place for place, age in ages.items() if age == max(ages.values())]


def _spoil(volume: Path, place: int) -> None:
    with volume.open("r+b") as stream:
        stream.seek(place)
        stream.write(b"?")


@pytest.mark.parametrize(("size_bytes", "copies"), [(62 * MIB, 1), (2 * GIB, 2)])
def test_a_btrfs_is_given_to_root_with_every_copy(tmp_path: Path, size_bytes: int, copies: int) -> None:
    volume = _btrfs_of_somebody(tmp_path, size_bytes)
    tree = (tmp_path / "tree").stat()
    assert (str(tree.st_uid), str(tree.st_gid)) in _owners(volume)
    assert give_to_root(volume, _data_of(volume)) >= 4 * copies, "the top, two folders and a link; and older leaves"
    assert _owners(volume) == {("0", "0")}
    run(check_command(FILE_SYSTEMS["btrfs"], volume).argv)
    leaves = _leaves(volume)
    assert len(leaves) == copies
    if copies > 1:
        _spoil(volume, leaves[0] + 1000)
        assert _owners(volume) == {("0", "0")}, "the other copy serves"


def test_a_leaf_that_is_damaged_is_left_alone(tmp_path: Path) -> None:
    volume = _btrfs_of_somebody(tmp_path)
    (leaf,) = _leaves(volume)
    _spoil(volume, leaf + 1000)
    before = volume.read_bytes()
    with pytest.raises(LivebuilderError, match="where 4 were made"):
        stick._give_btrfs_to_root(volume)
    assert volume.read_bytes()[leaf : leaf + 4096] == before[leaf : leaf + 4096]


def test_what_is_no_btrfs_belongs_to_nobody(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.write_bytes(bytes(MIB))
    with pytest.raises(LivebuilderError, match=r"volume has no btrfs in it"):
        give_to_root(volume, [])
    made = _btrfs_of_somebody(tmp_path)
    with made.open("r+b") as stream:
        stream.seek(64 * 1024 + 0xC4)
        stream.write(b"\1")
    with pytest.raises(LivebuilderError, match=r"checksums other than CRC-32C \(kind 1\)"):
        give_to_root(made, [])


def test_a_btrfs_stick_made_by_an_ordinary_user_belongs_to_root(for_everybody: Path) -> None:
    """Where the user may not even have a namespace of his own: in a chroot, or where a distribution forbids it."""
    path = for_everybody / "stick.img"
    child = os.fork()  # which has all of Python loaded: the user need not be able to read where that lies
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(4321)
                os.setuid(4321)
            make_stick_image(path, _plan(fs="btrfs"))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert path.stat().st_uid == (4321 if os.geteuid() == 0 else os.geteuid())
    assert _btrfs_inodes(path) == {("40755", "0"), ("120777", "0")}


# What is there already.


def test_a_file_is_never_overwritten_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "stick.img"
    path.write_text("settings of years")
    with pytest.raises(LivebuilderError, match="may hold settings") as caught:
        make_stick_image(path, _plan())
    assert "--force" in (caught.value.hint or "")
    assert path.read_text() == "settings of years"
    make_stick_image(path, _plan(), force=True)
    assert probe(path)["TYPE"] == "ext4"
    assert [p.name for p in tmp_path.iterdir()] == ["stick.img"]


def test_a_file_that_appears_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "stick.img"
    _fake_tool(tmp_path / "bin", "e2fsck", f"echo mine > {path}", monkeypatch)
    with pytest.raises(LivebuilderError, match="appeared while"):
        make_stick_image(path, _plan())
    assert path.read_text() == "mine\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bin", "stick.img"]


def test_force_follows_a_link_to_the_file_it_names(tmp_path: Path) -> None:
    (tmp_path / "real.img").write_text("old")
    (tmp_path / "link.img").symlink_to("real.img")
    make_stick_image(tmp_path / "link.img", _plan(), force=True)
    assert (tmp_path / "link.img").is_symlink()
    assert probe(tmp_path / "real.img")["TYPE"] == "ext4"


def test_a_name_of_255_bytes_is_fine(tmp_path: Path) -> None:
    make_stick_image(tmp_path / ("n" * 251 + ".img"), _plan())


@pytest.mark.parametrize("force", [False, True])
def test_what_is_no_image_file_is_refused(tmp_path: Path, force: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(LivebuilderError, match="is no file"):
            make_stick_image(tmp_path / name, _plan(), force=force)
    for path in (Path("/dev/null"), Path("/dev/sdz"), Path("/dev/disk/by-label/none")):
        with pytest.raises(LivebuilderError):
            make_stick_image(path, _plan(), force=force)
        assert not path.is_file()


def test_for_a_device_there_is_another_command() -> None:
    with pytest.raises(LivebuilderError, match="only image files are made here") as caught:
        make_stick_image(Path("/dev/sdz"), _plan(), force=True)
    assert "livebuilder usb prepare" in (caught.value.hint or "")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match="there is no folder") as caught:
        make_stick_image(tmp_path / "none" / "stick.img", _plan())
    assert caught.value.hint == f"mkdir -p {tmp_path / 'none'}"


# Failures on the way, after which nothing is left.


def _fake_tool(folder: Path, name: str, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setattr(process, "SEARCH_PATH", f"{folder}:{process.SEARCH_PATH}")


@pytest.mark.parametrize(
    ("tool", "body", "said"),
    [
        ("mke2fs", "echo 'No space left on device' >&2; exit 1", "No space left"),
        ("debugfs", "exit 0", "lacks or has wrong"),  # as it does when its commands fail
        ("e2fsck", "exit 4", "status 4"),
    ],
)
def test_a_tool_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str, body: str, said: str
) -> None:
    _fake_tool(tmp_path / "bin", tool, body, monkeypatch)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(LivebuilderError, match=said):
        make_stick_image(out / "stick.img", _plan())
    assert list(out.iterdir()) == []


def test_a_file_system_that_outgrows_its_partition_is_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = process.require_tool("mkfs.btrfs")
    body = f'for last; do :; done; {real} "$@" && truncate -s +1M "$last"'
    _fake_tool(tmp_path / "bin", "mkfs.btrfs", body, monkeypatch)
    with pytest.raises(LivebuilderError, match=r"does not fit into 62\.0 MiB"):
        make_stick_image(tmp_path / "stick.img", _plan(fs="btrfs"))
    assert [p.name for p in tmp_path.iterdir()] == ["bin"]


def test_a_label_that_did_not_arrive_is_found_when_it_is_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = process.require_tool("mke2fs")
    body = f'for last; do v=$w; w=$last; done; {real} "$@" && tune2fs -L ROOTFS_DATA "$v"'
    _fake_tool(tmp_path / "bin", "mke2fs", body, monkeypatch)
    with pytest.raises(LivebuilderError, match="label is 'ROOTFS_DATA', not 'rootfs_data'"):
        make_stick_image(tmp_path / "stick.img", _plan())
    assert [p.name for p in tmp_path.iterdir()] == ["bin"]


def test_a_copy_that_went_wrong_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy_badly(source: Path, target: Path, *, offset: int) -> None:
        copy_into(source, target, offset=offset)
        with source.open("rb") as reader:
            last_start, _ = list(stick.data_ranges(reader.fileno()))[-1]
        with target.open("r+b") as stream:
            stream.seek(offset + last_start)
            stream.write(b"\xa5\x5a")

    monkeypatch.setattr(stick, "copy_into", copy_badly)
    with pytest.raises(LivebuilderError, match="differs from what was written"):
        make_stick_image(tmp_path / "stick.img", _plan())
    assert list(tmp_path.iterdir()) == []


def test_missing_tools_are_all_named_before_anything_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(LivebuilderError, match=r"mkfs\.f2fs, sload\.f2fs, fsck\.f2fs \(f2fs-tools\)") as caught:
        make_stick_image(tmp_path / "stick.img", _plan(fs="f2fs", size_bytes=66 * MIB))
    assert "livebuilder doctor" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


_SCRIPT = """
import resource, sys
from pathlib import Path
from loguru import logger
from livebuilder import process
from livebuilder.errors import LivebuilderError
from livebuilder.usb.plan import StickIdentity, plan_stick
from livebuilder.usb.stick import make_stick_image
logger.remove()
process.SEARCH_PATH = sys.argv[2] + ":" + process.SEARCH_PATH
if sys.argv[3] != "0":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    make_stick_image(Path(sys.argv[1]), plan_stick(identity=StickIdentity.random()))
except LivebuilderError as error:
    sys.exit("said: " + error.message)
"""


def _in_a_process_of_its_own(out: Path, *, tools: Path, limit_bytes: int = 0) -> process.Completed:
    out.mkdir()
    argv = [sys.executable, "-c", _SCRIPT, str(out / "stick.img"), str(tools), str(limit_bytes)]
    return run(argv, check=False, timeout_seconds=60)


@pytest.mark.parametrize("force", [False, True])
def test_a_disk_without_room_is_told_before_anything_is_made(tmp_path: Path, force: bool) -> None:
    """Whatever disk this is: the stick is planned so large that it does not fit."""
    target = tmp_path / "stick.img"
    if force:
        target.write_text("as it was")
    free = shutil.disk_usage(tmp_path).free
    plan = _plan(fs="btrfs", size_bytes=(free + GIB) // MIB * 256 * MIB)
    needed = scratch_bytes(plan.file_system, plan.partition_bytes)
    with pytest.raises(
        LivebuilderError, match=rf"^making {target} takes up to {needed} bytes .* in {tmp_path}"
    ) as caught:
        make_stick_image(target, plan, force=force)
    assert re.search(r"where \d+ bytes \(.*\) are left$", caught.value.message)
    assert f"df -h {tmp_path}" in (caught.value.hint or "")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == ({"stick.img": "as it was"} if force else {})


@pytest.mark.parametrize(
    ("fs", "size_bytes"), [("ext2", 64 * MIB), ("ext3", 400 * MIB), ("ext4", 16 * GIB), ("f2fs", GIB)]
)
def test_no_stick_takes_more_than_was_looked_for(tmp_path: Path, fs: str, size_bytes: int) -> None:
    plan = _plan(fs=fs, size_bytes=size_bytes)
    stick._build(tmp_path, plan)
    taken = sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir())
    assert taken < scratch_bytes(plan.file_system, plan.partition_bytes)


def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path: Path) -> None:
    done = _in_a_process_of_its_own(tmp_path / "out", tools=tmp_path, limit_bytes=20 * MIB)
    assert done.returncode == 1
    assert "stick.img failed: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("tool", ["mke2fs", "debugfs", "e2fsck"])
def test_ctrl_c_leaves_nothing(tmp_path: Path, tool: str) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    # A terminal's Ctrl-C reaches the tool as well; this one is deaf and has to be ended.
    (tools / tool).write_text("#!/bin/sh\ntrap '' INT\nkill -INT $PPID\nexec sleep 60\n")
    (tools / tool).chmod(0o755)
    done = _in_a_process_of_its_own(tmp_path / "out", tools=tools)
    assert done.returncode == -signal.SIGINT
    assert list((tmp_path / "out").iterdir()) == []


def test_the_same_process_uninterrupted_makes_the_stick(tmp_path: Path) -> None:
    done = _in_a_process_of_its_own(tmp_path / "out", tools=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["stick.img"]


# The parts.


def test_a_copy_keeps_holes_and_bytes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    pattern = bytes(range(256)) * 1000
    with source.open("xb") as stream:
        stream.truncate(40 * MIB)
        stream.seek(10 * MIB + 1)
        stream.write(pattern)
        stream.write(bytes(4 * MIB))  # zeros that take space
    with target.open("xb") as stream:
        stream.truncate(50 * MIB)
    copy_into(source, target, offset=5 * MIB)
    data = target.read_bytes()
    assert len(data) == 50 * MIB
    assert data[15 * MIB + 1 :].startswith(pattern)
    assert data.count(0) == len(data) - len(pattern) + pattern.count(0)
    assert target.stat().st_blocks * 512 < MIB
    stick._verify_copy(source, target, offset=5 * MIB)
    with target.open("r+b") as stream:
        stream.seek(15 * MIB + 1000)
        stream.write(b"\xff\xff")
    with pytest.raises(LivebuilderError, match="differs"):
        stick._verify_copy(source, target, offset=5 * MIB)


def test_what_libfdisk_wrote_is_what_sfdisk_reads(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    with path.open("xb") as stream:
        stream.truncate(32 * MIB)
    with open_disk(path, writable=True) as disk:
        disk.create_label("gpt")
        disk.add(NewPartition(start_sector=2048, sectors=4096, type="EFI System", name="boot"))
        disk.add(NewPartition(start_sector=8192, sectors=4096, type="Linux filesystem", name="rootfs_data"))
        disk.set_boot_flag(2)
        disk.write()
    with open_disk(path) as disk:
        ours = disk.partitions()
        disk_id = disk.disk_id
    seen = json.loads(run(["sfdisk", "--json", path]).stdout)["partitiontable"]
    assert seen["id"] == disk_id
    assert [(p["start"], p["size"], p["type"], p["name"], p["uuid"], "attrs" in p) for p in seen["partitions"]] == [
        (p.start_sector, p.sectors, p.type, p.name, p.uuid, p.bootable) for p in ours
    ]


@pytest.mark.parametrize("table", ["gpt", "dos"])
def test_what_sfdisk_wrote_is_what_libfdisk_reads(tmp_path: Path, table: str) -> None:
    path = tmp_path / "disk"
    with path.open("xb") as stream:
        stream.truncate(32 * MIB)
    extra = ", name=rootfs_data, attrs=LegacyBIOSBootable" if table == "gpt" else ", bootable"
    script = f"label: {table}\nstart=2048, size=2048, type={LINUX_GUID if table == 'gpt' else '83'}{extra}\nsize=4096\n"
    run(["sfdisk", "--quiet", path], input_bytes=script.encode())
    with open_disk(path) as disk:
        assert disk.label == table
        assert [(p.number, p.start_sector, p.sectors, p.bootable) for p in disk.partitions()] == [
            (1, 2048, 2048, True), (2, 4096, 4096, False)
        ]  # fmt: skip
        assert disk.partitions()[0].name == ("rootfs_data" if table == "gpt" else "")
