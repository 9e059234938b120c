"""Stick images: made as planned, whole or not at all, and read back."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.process import find_tool, run
from livebuilder.sizes import MIB, render_size
from livebuilder.staging import verify_room
from livebuilder.usb.bootcode import has_boot_code, write_boot_code
from livebuilder.usb.btrfs import give_to_root
from livebuilder.usb.fdisk import Partition, open_disk
from livebuilder.usb.filesystem import (
    FOLDERS,
    READY_LINK,
    Command,
    FileSystem,
    check_command,
    list_command,
    make_commands,
    parse_listing,
    scratch_bytes,
)
from livebuilder.usb.plan import SECTOR_BYTES, StickPlan
from livebuilder.usb.ranges import Range
from livebuilder.usb.superblock import Superblock, read_superblock

_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class StickReport:
    """A stick as it was read back after it was made.

    `used_bytes` is what an image file takes on the host's disk, and None for a stick itself.
    """

    path: Path
    size_bytes: int
    used_bytes: int | None
    table: str
    disk_id: str
    partition: Partition
    superblock: Superblock

    def to_json(self) -> dict[str, object]:
        """The report as plain data: what `plan_to_json()` gives, as found, with `path` and `used_bytes` added."""
        partition = self.partition
        return {
            "path": os.fspath(self.path),
            "size_bytes": self.size_bytes,
            "used_bytes": self.used_bytes,
            "table": {"type": self.table, "id": self.disk_id},
            "partition": {
                "start_sector": partition.start_sector,
                "sectors": partition.sectors,
                "type": partition.type,
                "name": partition.name,
                "uuid": partition.uuid,
            },
            "file_system": {
                "type": self.superblock.type,
                "label": self.superblock.label,
                "uuid": self.superblock.uuid,
                "offset_bytes": partition.start_sector * SECTOR_BYTES,
                "size_bytes": partition.sectors * SECTOR_BYTES,
            },
        }

    def render(self) -> str:
        """The report for a reader, one fact to a line."""
        partition, superblock = self.partition, self.superblock
        named = f", named {partition.name}" if partition.name else ""
        used = "" if self.used_bytes is None else f", of which {render_size(self.used_bytes)} are taken on this disk"
        return "\n".join(
            (
                f"stick        {self.path}: {render_size(self.size_bytes)}{used}",
                f"table        {self.table}, id {self.disk_id}",
                f"partition    sector {partition.start_sector}, {render_size(partition.sectors * SECTOR_BYTES)},"
                f" type {partition.type} ({partition.type_name}){named}",
                f"file system  {superblock.type}, labelled {superblock.label}, UUID {superblock.uuid}",
            )
        )

    # `usb image` calls them by these names.
    facts = to_json


def make_stick_image(path: Path, plan: StickPlan, *, force: bool = False) -> StickReport:
    """Make the image file `path` as planned and return what was read back from it.

    No root, no mount, no loop device. The file is sparse and appears only when it is whole; a file that is there
    is replaced only with `force`. Raises `LivebuilderError`; then, and when interrupted, nothing is left behind.
    """
    target = Path(os.path.realpath(path))
    _check_target(target, shown=path, force=force)
    check_tools(plan.file_system)
    verify_room(
        target.parent,
        scratch_bytes(plan.file_system, plan.partition_bytes),
        what=f"making {path}",
        hint=f"df -h {target.parent}   # free some space there, or make it in another folder",
    )
    title = f"Making the stick image {path}: {render_size(plan.size_bytes)}, {plan.file_system.name} {plan.label}"
    try:
        with step(title), tempfile.TemporaryDirectory(dir=target.parent, prefix=".livebuilder-") as scratch:
            image = _build(Path(scratch), plan)
            report = read_stick(image, plan, shown=path)
            _put_in_place(image, target, force=force)
    except OSError as error:
        hint = f"free some space in {target.parent}" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
        raise LivebuilderError(f"making {path} failed: {error.strerror or error}", hint=hint) from error
    return report


def _check_target(target: Path, *, shown: Path, force: bool) -> None:
    parent = target.parent
    if not parent.is_dir():
        raise LivebuilderError(f"{shown} cannot be made: there is no folder {parent}", hint=f"mkdir -p {parent}")
    exists = target.exists()
    in_dev = target.is_relative_to("/dev") and not target.is_relative_to("/dev/shm")
    if in_dev or (exists and stat.S_ISBLK(target.stat().st_mode)):
        raise LivebuilderError(
            f"{shown} is {'a device' if exists else 'a place for devices'}: only image files are made here",
            hint="livebuilder usb prepare DEVICE   # is for real sticks; livebuilder usb list shows them",
        )
    if not exists:
        return
    if not target.is_file():
        raise LivebuilderError(f"{shown} is there already and is no file", hint="choose another name")
    if not force:
        raise LivebuilderError(
            f"{shown} is there already and may hold settings: it was left as it is",
            hint="choose another name, or use --force to make it anew and lose what is in it",
        )


def check_tools(kind: FileSystem) -> None:
    """Raises `LivebuilderError` that names all programs that are missing to make `kind`."""
    missing = [tool for tool in kind.tools if find_tool(tool) is None]
    if missing:
        raise LivebuilderError(
            f"making {kind.name} needs programs that are not installed: {', '.join(missing)} ({kind.package})",
            hint="livebuilder doctor   # names the packages that hold them",
        )


def _build(scratch: Path, plan: StickPlan) -> Path:
    """The whole image, in the folder `scratch`: table, and the file system copied to its place."""
    image, volume = build_table(scratch, plan), build_volume(scratch, plan)
    copy_into(volume, image, offset=plan.partition_offset_bytes)
    _verify_copy(volume, image, offset=plan.partition_offset_bytes)
    return image


def build_table(scratch: Path, plan: StickPlan) -> Path:
    """A sparse file as long as the stick, in the folder `scratch`, with its partition table and boot code alone."""
    image = _sparse_file(scratch / "image", plan.size_bytes)
    with open_disk(image, writable=True) as disk:
        disk.create_label(plan.table, disk_id=plan.disk_id)
        disk.add(plan.new_partition)
        disk.write()
    write_boot_code(image)
    return image


def build_volume(scratch: Path, plan: StickPlan, *, for_used_disk: bool = False) -> Path:
    """A sparse file as long as the partition, in the folder `scratch`, with the file system in it, checked.

    With `for_used_disk` all that matters of it is data and not holes.
    """
    volume = _sparse_file(scratch / "volume", plan.partition_bytes)
    _make_file_system(volume, plan, tree=_layout(scratch / "tree"), for_used_disk=for_used_disk)
    return volume


def _sparse_file(path: Path, size_bytes: int) -> Path:
    with path.open("xb") as stream:
        stream.truncate(size_bytes)
    return path


def _layout(tree: Path) -> Path:
    """The top folder of a prepared stick, whatever the umask is."""
    for folder in (tree, *(tree / name for name in FOLDERS)):
        folder.mkdir()
        folder.chmod(0o755)
    name, target = READY_LINK
    (tree / name).symlink_to(target)
    return tree


def _make_file_system(volume: Path, plan: StickPlan, *, tree: Path, for_used_disk: bool) -> None:
    kind = plan.file_system
    commands = make_commands(
        kind, volume, size_bytes=plan.partition_bytes, label=plan.label, uuid=plan.file_system_uuid,
        tree=tree, for_used_disk=for_used_disk,
    )  # fmt: skip
    for command in commands:
        _run(command)
    if kind.name == "btrfs":
        _give_btrfs_to_root(volume)
    # mkfs.btrfs --rootdir lets a file grow that is too small for it.
    if volume.stat().st_size != plan.partition_bytes:
        raise LivebuilderError(f"{kind.name} does not fit into {render_size(plan.partition_bytes)}")
    _run(check_command(kind, volume))
    listing = list_command(kind, volume)
    if listing is not None:
        _verify_layout(parse_listing(run(listing.argv).stdout))


def _run(command: Command) -> None:
    run(command.argv, input_bytes=command.input_bytes, env=command.env)


def _give_btrfs_to_root(volume: Path) -> None:
    with volume.open("rb") as stream:
        data = list(data_ranges(stream.fileno()))
    found = give_to_root(volume, data)
    made = len(FOLDERS) + 2  # the link and the top folder
    if found < made:
        raise LivebuilderError(f"the new btrfs has {found} files where {made} were made")


def _verify_layout(found: dict[str, tuple[int, int, int]]) -> None:
    """`debugfs` ends with 0 whatever happened: what it made is looked at."""
    wanted = dict.fromkeys(FOLDERS, (stat.S_IFDIR | 0o755, 0, 0))
    wanted[READY_LINK[0]] = (stat.S_IFLNK | 0o777, 0, 0)
    wrong = sorted(name for name, facts in wanted.items() if found.get(name) != facts)
    if wrong:
        raise LivebuilderError(f"the new file system lacks or has wrong: {', '.join(wrong)}")


def data_ranges(descriptor: int) -> Iterator[Range]:
    """Where an open file has bytes that are not holes, in order."""
    position = 0
    while True:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # only a hole is left
                return
            raise
        position = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, position


def copy_into(source: Path, target: Path, *, offset: int) -> None:
    """Copy `source` to `offset` of `target`, which has only zeros there: holes and zeros stay unwritten."""
    with source.open("rb") as reader, target.open("r+b") as writer:
        for start, end in data_ranges(reader.fileno()):
            reader.seek(start)
            for position in range(start, end, _PIECE_BYTES):
                piece = reader.read(min(_PIECE_BYTES, end - position))
                if piece.count(0) != len(piece):
                    writer.seek(offset + position)
                    writer.write(piece)
        writer.flush()
        os.fsync(writer.fileno())


def _verify_copy(source: Path, target: Path, *, offset: int) -> None:
    with source.open("rb") as left, target.open("rb") as right:
        for start, end in data_ranges(left.fileno()):
            left.seek(start)
            right.seek(offset + start)
            for position in range(start, end, MIB):
                length = min(MIB, end - position)
                if left.read(length) != right.read(length):
                    raise LivebuilderError(f"the image differs from what was written near byte {offset + position}")


def read_stick(path: Path, plan: StickPlan, *, shown: Path) -> StickReport:
    """What the finished stick or image says of itself; raises `LivebuilderError` where that is not the plan.

    `path` is what is opened, `shown` its name for the user.
    """
    with open_disk(path) as disk:
        table, disk_id, partitions = disk.label, disk.disk_id, disk.partitions()
        size_bytes = disk.sectors * disk.sector_bytes
    superblock = read_superblock(path, offset=plan.partition_offset_bytes)
    if len(partitions) != plan.number or superblock is None or table is None:
        raise LivebuilderError(f"{shown} was made, but no stick was found in it when it was read back")
    partition = partitions[-1]
    pairs = {
        "size": (size_bytes, plan.size_bytes),
        "table": (table, plan.table),
        "disk id": (disk_id, plan.disk_id),
        "partition number": (partition.number, plan.number),
        "start": (partition.start_sector, plan.start_sector),
        "length": (partition.sectors, plan.sectors),
        "partition type": (partition.type, plan.partition_type),
        "partition name": (partition.name, plan.partition_name),
        "file system": (superblock.type, plan.file_system.name),
        "label": (superblock.label, plan.label),
        "UUID": (superblock.uuid, plan.file_system_uuid),
    }
    if plan.partition_uuid:  # libfdisk makes one up for the partitions of a DOS table
        pairs["partition UUID"] = (partition.uuid, plan.partition_uuid)
    if plan.number == 1:  # else another's code starts from the partition before
        with path.open("rb") as stream:
            pairs["boot code"] = (has_boot_code(stream.read(SECTOR_BYTES)), True)
    wrong = [f"{what} is {found!r}, not {wanted!r}" for what, (found, wanted) in pairs.items() if found != wanted]
    if wrong:
        raise LivebuilderError(f"{shown} was read back and is not as planned: {'; '.join(wrong)}")
    facts = path.stat()
    used_bytes = facts.st_blocks * 512 if stat.S_ISREG(facts.st_mode) else None
    return StickReport(shown, size_bytes, used_bytes, table, disk_id, partition, superblock)


def _put_in_place(image: Path, target: Path, *, force: bool) -> None:
    if not force:
        try:
            # The name is taken before the image moves onto it: what another made in the meantime stays.
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            raise LivebuilderError(f"{target} appeared while its image was being made: it was left as it is") from None
    try:
        image.replace(target)
    except BaseException:
        if not force:
            target.unlink()
        raise
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
