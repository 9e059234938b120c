"""Sticks for tests: good ones, damaged ones, ones of the wrong kind, and looking into them after a boot.

Everything works on image files, unprivileged. `Table` "none" puts the file system straight onto the disk.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from livebuilder.errors import CommandError
from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.usb.fdisk import NewPartition, open_disk
from livebuilder.usb.plan import StickIdentity, plan_stick
from livebuilder.usb.stick import copy_into, make_stick_image

Table = Literal["gpt", "dos", "none"]
_FAT_TYPE = {"gpt": "EBD0A0A2-B9E5-4433-87C0-68B6B72699C7", "dos": "0C"}
_SMALLEST = {"f2fs": 66 * MIB}
_LOG_BLOCK_SIZE_AT = 1024 + 0x18  # s_log_block_size of ext: more than 6 makes no sense to anybody


@dataclass(frozen=True)
class Volume:
    """Where the first file system of an image lies."""

    offset: int
    size: int


@dataclass(frozen=True)
class Ext4State:
    """What the superblock says. `needs_recovery`: the journal has something to replay, so it was not unmounted."""

    clean: bool
    errors: bool
    needs_recovery: bool
    label: str
    uuid: str
    features: frozenset[str]

    @property
    def unmounted(self) -> bool:
        """Whether nobody was writing to it when the power went; with a journal "clean" alone does not say that."""
        return self.clean and not self.errors and not self.needs_recovery


def stick_image(
    path: Path,
    *,
    fs: str = "ext4",
    label: str = "rootfs_data",
    table: Table = "gpt",
    size_bytes: int | None = None,
    files: Mapping[str, bytes | str] | None = None,
) -> Path:
    """A prepared stick, or one of vfat that must not be used. `files`: path from the top of the stick to content."""
    size = size_bytes or _SMALLEST.get(fs, 64 * MIB)
    if fs == "vfat":
        if files:
            raise ValueError("no files can be put onto a vfat stick here")
        return _vfat_stick(path, label=label, table=table, size_bytes=size)
    plan = plan_stick(
        size_bytes=size + (2 * MIB if table == "none" else 0), fs=fs, label=label,
        table="gpt" if table == "none" else table, identity=StickIdentity.random(),
    )  # fmt: skip
    make_stick_image(path, plan)
    if table == "none":
        with extracted(path) as volume:
            path.unlink()
            volume.replace(path)
    if files:
        _add_files(path, fs=fs, files=files)
    return path


def _vfat_stick(path: Path, *, label: str, table: Table, size_bytes: int) -> Path:
    with path.open("xb") as stream:
        stream.truncate(size_bytes)
    start = 0
    if table != "none":
        start = MIB
        with open_disk(path, writable=True) as disk:
            disk.create_label(table)
            name = label if table == "gpt" else ""
            sectors = (size_bytes - 2 * MIB) // 512
            disk.add(NewPartition(start_sector=start // 512, sectors=sectors, type=_FAT_TYPE[table], name=name))
            disk.write()
    kib = (volume_of(path).size if start else size_bytes) // 1024
    # mkfs.vfat wants an upper-case label; the one that is asked for is what the test is about.
    run(["mkfs.vfat", "-n", label, f"--offset={start // 512}", path, str(kib)])
    return path


def _add_files(path: Path, *, fs: str, files: Mapping[str, bytes | str]) -> None:
    if fs == "btrfs":
        raise ValueError("no files can be put onto a btrfs stick here")
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        for name, content in files.items():
            file = tree / name.strip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content if isinstance(content, bytes) else content.encode())
            file.chmod(0o644)
        for folder in (tree, *(p for p in tree.rglob("*") if p.is_dir())):
            folder.chmod(0o755)
        if fs == "f2fs":
            with extracted(path) as volume:
                run(["sload.f2fs", "-f", tree, volume])
                _put_back(volume, path)
            return
        script = []
        for item in sorted(tree.rglob("*")):
            inside = PurePosixPath("/") / item.relative_to(tree).as_posix()
            if item.is_dir():
                script.append(f'mkdir "{inside}"')  # complains when it is there, and goes on
            else:
                script += [f'cd "{inside.parent}"', f'write "{item}" "{inside.name}"']
        run(["debugfs", "-w", "-f", "-", _inside(path)], input_bytes="\n".join([*script, "quit", ""]).encode())
    for name, content in files.items():
        assert read_file(path, name) == (content if isinstance(content, bytes) else content.encode()), name


def volume_of(path: Path) -> Volume:
    """Where the first partition of `path` lies, as sfdisk sees it; the whole of it when there is no table."""
    try:
        table = json.loads(run(["sfdisk", "--json", path]).stdout)["partitiontable"]
    except CommandError:
        return Volume(0, path.stat().st_size)
    for first in table.get("partitions", ()):  # a bare vfat looks like a DOS table without any
        return Volume(first["start"] * 512, first["size"] * 512)
    return Volume(0, path.stat().st_size)


def _inside(path: Path) -> str:
    return f"{path}?offset={volume_of(path).offset}"


@contextmanager
def extracted(path: Path) -> Iterator[Path]:
    """A copy of the file system in `path`, in a file of its own beside it, gone afterwards."""
    place = volume_of(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".volume-") as scratch:
        volume = Path(scratch) / "volume"
        with path.open("rb") as reader, volume.open("xb") as writer:
            writer.truncate(place.size)
            for position in range(0, place.size, MIB):
                reader.seek(place.offset + position)
                piece = reader.read(min(MIB, place.size - position))
                if piece.count(0) != len(piece):
                    writer.seek(position)
                    writer.write(piece)
        yield volume


def _put_back(volume: Path, path: Path) -> None:
    place = volume_of(path)
    with path.open("r+b") as stream:
        for position in range(0, place.size, MIB):
            stream.seek(place.offset + position)
            stream.write(bytes(min(MIB, place.size - position)))
    copy_into(volume, path, offset=place.offset)


@contextmanager
def _as_next_boot_sees_it(path: Path) -> Iterator[Path]:
    """A copy of the ext file system in which the journal is replayed, as a mount would."""
    with extracted(path) as volume:
        done = run(["e2fsck", "-f", "-y", volume], check=False)
        assert done.returncode & ~3 == 0, done.stdout + done.stderr
        yield volume


def read_file(path: Path, name: str) -> bytes | None:
    """The bytes of the regular file `name` on the ext stick `path`, or None; the image is not changed."""
    with _as_next_boot_sees_it(path) as volume:
        target = volume.with_name("content")
        done = run(["debugfs", "-R", f'dump "/{name.strip("/")}" "{target}"', volume])
        if "File not found" in done.stderr:
            return None
        return target.read_bytes()


def list_folder(path: Path, name: str = "/") -> dict[str, tuple[int, int, int]]:
    """What is in a folder of the ext stick `path`: name to (mode with its type bits, uid, gid)."""
    with _as_next_boot_sees_it(path) as volume:
        lines = run(["debugfs", "-R", f'ls -p "/{name.strip("/")}"', volume]).stdout.splitlines()
    rows = [line.split("/") for line in lines if line.startswith("/")]
    return {row[5]: (int(row[2], 8), int(row[3]), int(row[4])) for row in rows if row[5] not in (".", "..")}


def ext4_state(path: Path) -> Ext4State:
    """What dumpe2fs says about the ext stick `path` as it lies there, nothing being replayed."""
    lines = run(["dumpe2fs", "-h", _inside(path)]).stdout.splitlines()
    facts = {key.strip(): value.strip() for key, found, value in (line.partition(":") for line in lines) if found}
    state, features = facts["Filesystem state"], frozenset(facts["Filesystem features"].split())
    return Ext4State(
        clean=state.startswith("clean"),
        errors="errors" in state,
        needs_recovery="needs_recovery" in features,
        label=facts["Filesystem volume name"],
        uuid=facts["Filesystem UUID"],
        features=features,
    )


def damage_ext4(path: Path, *, repairable: bool) -> Path:
    """Damage the ext stick `path`: something `e2fsck -p` mends (status 1), or something no e2fsck does (status 8).

    Label and UUID stay readable both times, so that the stick is still found.
    """
    if repairable:
        return change_ext4(path, "set_inode_field /upper links_count 9", "set_super_value state 2")
    if volume_of(path).size > 128 * MIB:
        raise ValueError("above 128 MiB the file system has a second superblock, from which it is mended")
    with path.open("r+b") as stream:
        stream.seek(volume_of(path).offset + _LOG_BLOCK_SIZE_AT)
        stream.write(b"\xff\xff\x00\x00")
        stream.flush()
        os.fsync(stream.fileno())
    return path


def change_ext4(path: Path, *commands: str) -> Path:
    """Do with the ext stick `path` what debugfs(8) is told; a command that fails does not stop the others."""
    script = "\n".join([*commands, "quit", ""]).encode()
    run(["debugfs", "-w", "-f", "-", _inside(path)], input_bytes=script)
    return path


def fill_ext4(path: Path) -> Path:
    """Fill the ext stick `path` with files /filler…, as far as Linux lets anybody: it keeps a fiftieth for itself
    (fs/ext4/super.c, ext4_set_resv_clusters). The file system stays sound."""
    block, kept = _number(path, "Block size"), min(_number(path, "Block count") // 50, 4096)
    few = 64  # more than the large one needs for its extents
    with tempfile.TemporaryDirectory() as scratch:
        large, small = Path(scratch) / "large", Path(scratch) / "small"
        large.write_bytes(b"x" * (_number(path, "Free blocks") - kept - few) * block)
        small.write_bytes(b"x" * block)
        change_ext4(path, f"write {large} filler")
        left = _number(path, "Free blocks") - kept
        change_ext4(path, *(f"write {small} filler{number}" for number in range(left)))
    assert _number(path, "Free blocks") == kept
    return path


def _number(path: Path, name: str) -> int:
    lines = run(["dumpe2fs", "-h", _inside(path)]).stdout.splitlines()
    (value,) = (line.partition(":")[2] for line in lines if line.startswith(f"{name}:"))
    return int(value)


def probe(path: Path) -> dict[str, str]:
    """What blkid finds at the place of the first file system: TYPE, LABEL, UUID …"""
    done = run(["blkid", "-p", "-O", str(volume_of(path).offset), "-o", "export", path])
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
