"""What a stick will be, decided before a byte is written: the executor does what is in the plan and nothing else."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB, align_up, render_size
from livebuilder.usb.fdisk import NewPartition, TableName, gpt_name_problem
from livebuilder.usb.filesystem import FILE_SYSTEMS, REFUSED, FileSystem

SECTOR_BYTES = 512
ALIGNMENT_BYTES = MIB  # what every partitioner since 2009 uses; a whole number of erase blocks on most sticks
DEFAULT_SIZE_BYTES = 64 * MIB
DEFAULT_FS = "ext4"
DEFAULT_LABEL = "rootfs_data"
DEFAULT_TABLE = "gpt"

LINUX_GUID = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
LINUX_CODE = "83"
_GPT_BACKUP_BYTES = 33 * SECTOR_BYTES  # the second header and its 32 sectors of entries, at the very end
_DOS_LARGEST_BYTES = 2**32 * SECTOR_BYTES
# A label goes onto the kernel's command line (lb.label=NAME), into shell scripts and into /dev/disk/by-label.
_NEVER_IN_LABELS = frozenset("\"'`$\\/")


@dataclass(frozen=True)
class StickIdentity:
    """The ids that tell this stick from every other."""

    disk: UUID
    partition: UUID
    file_system: UUID

    @classmethod
    def random(cls) -> StickIdentity:
        """Ids that no other stick has."""
        return cls(uuid4(), uuid4(), uuid4())


@dataclass(frozen=True)
class StickPlan:
    """One partition with one file system in it. `disk_id`, `partition_type` and `partition_uuid` are spelt as
    libfdisk spells them; name and UUID of the partition are empty in a DOS table, which has neither. `number` is 2
    behind the partition of a live image.
    """

    size_bytes: int
    table: TableName
    disk_id: str
    start_sector: int
    sectors: int
    partition_type: str
    partition_name: str
    partition_uuid: str
    file_system: FileSystem
    label: str
    file_system_uuid: str
    number: int = 1

    @property
    def new_partition(self) -> NewPartition:
        """The partition, as `fdisk` makes it."""
        return NewPartition(
            start_sector=self.start_sector,
            sectors=self.sectors,
            type=self.partition_type,
            name=self.partition_name,
            uuid=self.partition_uuid,
        )

    @property
    def partition_offset_bytes(self) -> int:
        """Where the partition begins."""
        return self.start_sector * SECTOR_BYTES

    @property
    def partition_bytes(self) -> int:
        """How long the partition, and so the file system, is."""
        return self.sectors * SECTOR_BYTES


def plan_stick(
    *,
    size_bytes: int = DEFAULT_SIZE_BYTES,
    partition_bytes: int | None = None,
    fs: str = DEFAULT_FS,
    label: str = DEFAULT_LABEL,
    table: str = DEFAULT_TABLE,
    identity: StickIdentity,
) -> StickPlan:
    """The plan of a stick of `size_bytes`; raises `LivebuilderError` naming all that is wrong with it at once.

    The partition takes all of it, or `partition_bytes`, rounded down to whole MiB.
    """
    tail = _GPT_BACKUP_BYTES if table == "gpt" else 0
    space = max(0, _round_down(size_bytes - tail) - ALIGNMENT_BYTES)
    length = space if partition_bytes is None else _round_down(partition_bytes)
    too_long = [f"its partition can have {render_size(space)}, not {render_size(length)}"] if length > space else []
    kind = _checked_kind(
        "this stick cannot be made", size_bytes=size_bytes, partition_bytes=length, overhead_bytes=2 * ALIGNMENT_BYTES,
        fs=fs, label=label, table=table, problems=too_long,
    )  # fmt: skip
    gpt = table == "gpt"
    return StickPlan(
        size_bytes=size_bytes,
        table="gpt" if gpt else "dos",
        disk_id=str(identity.disk).upper() if gpt else f"0x{identity.disk.fields[0] or 1:08x}",
        start_sector=ALIGNMENT_BYTES // SECTOR_BYTES,
        sectors=length // SECTOR_BYTES,
        partition_type=LINUX_GUID if gpt else LINUX_CODE,
        partition_name=label if gpt else "",
        partition_uuid=str(identity.partition).upper() if gpt else "",
        file_system=kind,
        label=label,
        file_system_uuid=str(identity.file_system),
    )


def plan_storage_behind(
    used_bytes: int,
    *,
    size_bytes: int,
    disk_id: int,
    fs: str = DEFAULT_FS,
    label: str = DEFAULT_LABEL,
    identity: StickIdentity,
) -> StickPlan:
    """The plan of a second partition, in the space that a live image of `used_bytes` leaves of `size_bytes`.

    The table is the image's own DOS table with its `disk_id`. Raises as `plan_stick()` does.
    """
    start = align_up(used_bytes, ALIGNMENT_BYTES)
    length = max(0, _round_down(size_bytes) - start)
    kind = _checked_kind(
        f"there can be no storage behind the {render_size(used_bytes)} of the live image",
        size_bytes=size_bytes, partition_bytes=length, overhead_bytes=start, fs=fs, label=label, table="dos",
    )  # fmt: skip
    return StickPlan(
        size_bytes=size_bytes,
        table="dos",
        disk_id=f"0x{disk_id:08x}",
        start_sector=start // SECTOR_BYTES,
        sectors=length // SECTOR_BYTES,
        partition_type=LINUX_CODE,
        partition_name="",
        partition_uuid="",
        file_system=kind,
        label=label,
        file_system_uuid=str(identity.file_system),
        number=2,
    )


def _checked_kind(
    failure: str, *, size_bytes: int, partition_bytes: int, overhead_bytes: int, fs: str, label: str, table: str,
    problems: Sequence[str] = (),
) -> FileSystem:  # fmt: skip
    """The file system; raises `LivebuilderError` that begins with `failure` and names all problems."""
    kind = FILE_SYSTEMS.get(fs)
    found = [
        *problems,
        *_file_system_problems(fs),
        *_table_problems(table, size_bytes),
        *_size_problems(size_bytes, partition_bytes, kind, overhead_bytes=overhead_bytes),
        *_label_problems(label, kind, table),
    ]
    if found:
        text = f" {found[0]}" if len(found) == 1 else "".join(f"\n  - {problem}" for problem in found)
        raise LivebuilderError(f"{failure}:{text}")
    assert kind is not None
    return kind


def _round_down(size_bytes: int) -> int:
    return size_bytes // ALIGNMENT_BYTES * ALIGNMENT_BYTES


def plan_to_json(plan: StickPlan) -> dict[str, object]:
    """The plan as plain data; sizes in bytes."""
    return {
        "size_bytes": plan.size_bytes,
        "table": {"type": plan.table, "id": plan.disk_id},
        "partition": {
            "start_sector": plan.start_sector,
            "sectors": plan.sectors,
            "type": plan.partition_type,
            "name": plan.partition_name,
            "uuid": plan.partition_uuid,
        },
        "file_system": {
            "type": plan.file_system.name,
            "label": plan.label,
            "uuid": plan.file_system_uuid,
            "offset_bytes": plan.partition_offset_bytes,
            "size_bytes": plan.partition_bytes,
        },
    }


def render_plan(plan: StickPlan) -> str:
    """The plan for a reader, one fact to a line."""
    named = f", named {plan.partition_name}" if plan.partition_name else ""
    return "\n".join(
        (
            f"size         {render_size(plan.size_bytes)}",
            f"table        {plan.table}, id {plan.disk_id}",
            f"partition    sector {plan.start_sector}, {render_size(plan.partition_bytes)},"
            f" type {plan.partition_type}{named}",
            f"file system  {plan.file_system.name}, labelled {plan.label}, UUID {plan.file_system_uuid}",
        )
    )


def _file_system_problems(fs: str) -> list[str]:
    if fs in FILE_SYSTEMS:
        return []
    if fs in REFUSED:
        return [f"{fs} cannot keep the settings: {REFUSED[fs]}; choose one of {', '.join(FILE_SYSTEMS)}"]
    near = difflib.get_close_matches(fs, FILE_SYSTEMS, n=1)
    return [
        f"{fs!r} is no file system it can have"
        + (f"; did you mean {near[0]}?" if near else f"; choose one of {', '.join(FILE_SYSTEMS)}")
    ]


def _table_problems(table: str, size_bytes: int) -> list[str]:
    if table not in ("gpt", "dos"):
        return [f"{table!r} is no partition table it can have; choose gpt or dos"]
    if table == "dos" and size_bytes > _DOS_LARGEST_BYTES:
        return [
            f"a dos table reaches {render_size(_DOS_LARGEST_BYTES)} and it is {render_size(size_bytes)}; choose gpt"
        ]
    return []


def _size_problems(size_bytes: int, partition_bytes: int, kind: FileSystem | None, *, overhead_bytes: int) -> list[str]:
    if size_bytes % SECTOR_BYTES:
        return [f"{size_bytes} bytes are not a whole number of {SECTOR_BYTES}-byte sectors"]
    if kind is None:
        return []
    if partition_bytes < kind.smallest_bytes:
        needed = align_up(overhead_bytes + kind.smallest_bytes, ALIGNMENT_BYTES)
        return [
            f"{kind.name} needs {render_size(kind.smallest_bytes)} and {render_size(size_bytes)} leave it"
            f" {render_size(partition_bytes)}; take {needed // MIB}M or more"
        ]
    if partition_bytes > kind.largest_bytes:
        return [f"{kind.name} made here ends at {render_size(kind.largest_bytes)}, not {render_size(partition_bytes)}"]
    return []


def _label_problems(label: str, kind: FileSystem | None, table: str) -> list[str]:
    if not label:
        return ["it needs a label, by which the booting machine finds it"]
    problems = []
    bad = sorted({c for c in label if c.isspace() or not c.isprintable() or c in _NEVER_IN_LABELS})
    if bad:
        shown = " ".join(repr(character) for character in bad)
        problems.append(f"the label {label!r} has {shown} in it, which the kernel's command line cannot carry")
    length = len(label.encode("utf-8", "surrogateescape"))
    if kind is not None and length > kind.label_bytes:
        problems.append(f"the label {label!r} is {length} bytes long; one of {kind.name} holds {kind.label_bytes}")
    if table == "gpt" and (problem := gpt_name_problem(label)):
        problems.append(f"the label {label!r} is to be the partition's name too, and {problem}; or choose dos")
    return problems
