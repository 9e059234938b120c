"""Making an existing stick fit without erasing it: its label, its partition's name, and what lies at its top."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from livebuilder.console import Progress, no_progress
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB
from livebuilder.tree import Entry, Kind, RootTree, directory, symlink
from livebuilder.usb.blockdevice import BlockDevice, Volume
from livebuilder.usb.content import change_content
from livebuilder.usb.extents import Extent, FileSlice
from livebuilder.usb.fdisk import gpt_name_problem, open_disk
from livebuilder.usb.filesystem import FILE_SYSTEMS, FOLDERS, READY_LINK, REFUSED
from livebuilder.usb.plan import DEFAULT_LABEL, SECTOR_BYTES
from livebuilder.usb.ranges import differing
from livebuilder.usb.target import Target

# A GPT and its backup lie within the first and the last MiB: 128 entries of 128 bytes take 16 KiB (UEFI 2.10, 5.3).
_TABLE_BYTES = MIB


@dataclass(frozen=True)
class AdoptionPlan:
    """What will be changed. `label` and `partition_name` are None where they stay; `paths` are made at the top.

    `notes` say what stays as it is though it could be better.
    """

    volume: str
    number: int
    label: str | None
    partition_name: str | None
    paths: tuple[str, ...]
    changes: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """The plan as plain data."""
        return asdict(self)

    def render(self) -> str:
        """The plan for a reader, one change to a line."""
        if not self.changes:
            return "\n".join((f"{self.volume} fits already: there is nothing to change", *self.notes))
        title = f"{self.volume} will be changed; nothing on it is erased:"
        return "\n".join((title, *(f"  - {change}" for change in self.changes), *self.notes))


def plan_adoption(device: BlockDevice, volume: Volume, tree: RootTree, *, label: str = DEFAULT_LABEL) -> AdoptionPlan:
    """What makes `volume`, which holds `tree`, a stick that settings are kept on.

    Raises `LivebuilderError` naming all that stands in the way at once.
    """
    problems = [*_file_system_problems(volume), *_label_problems(volume, label), *_top_problems(tree)]
    on_gpt = device.kind != "partition" and device.table == "gpt" and volume.number > 0
    if on_gpt and volume.name != label:
        if problem := gpt_name_problem(label):
            problems.append(f"the name {label!r} {problem}")
        if device.sector_bytes != SECTOR_BYTES:
            problems.append(f"a partition can be named only where sectors have {SECTOR_BYTES} bytes")
    if problems:
        text = f" {problems[0]}" if len(problems) == 1 else "".join(f"\n  - {problem}" for problem in problems)
        raise LivebuilderError(
            f"{volume.path} cannot be adopted:{text}",
            hint=f"livebuilder usb prepare {device.path}   # makes it anew, and erases what is on it",
        )
    relabel = volume.label != label
    rename = on_gpt and volume.name != label
    paths = tuple(entry.path for entry in _top() if not _is_there(tree, entry))
    changes = (
        *([f"the label {volume.label!r} becomes {label!r}"] if relabel else []),
        *([f"the partition's name {volume.name!r} becomes {label!r}"] if rename else []),
        *(_addition(tree, entry) for entry in _top() if entry.path in paths),
    )
    notes = []
    if device.kind == "partition" and "-" in volume.type and volume.name != label:  # a GUID: it is in a GPT
        notes.append(f"its name in the partition table stays {volume.name!r}: give the whole disk to change that")
    others = sorted({entry.path.partition("/")[0] for entry in tree} - {entry.path for entry in _top()})
    if others:
        notes.append(f"what lies beside stays and is not used: {', '.join(others[:5])}{' …' if others[5:] else ''}")
    return AdoptionPlan(
        volume.path, volume.number, label if relabel else None, label if rename else None, paths, changes, tuple(notes)
    )


def adopt(target: Target, volume: Volume, plan: AdoptionPlan, *, progress: Progress = no_progress) -> None:
    """Change what is in `plan` and nothing else, and read it back. Raises `LivebuilderError`."""
    if plan.changes:
        target.verify_identity()
    if plan.paths or plan.label is not None:
        change_content(target, volume, lambda tree: with_top(tree, plan.paths), label=plan.label, progress=progress)
    if plan.partition_name is not None:
        rename_partition(target, plan.number, plan.partition_name)


def with_top(tree: RootTree, paths: tuple[str, ...]) -> RootTree:
    """`tree` with those of the folders and the link of a prepared stick that `paths` names."""
    wanted = RootTree(tree)
    for entry in _top():
        if entry.path in paths:
            wanted.remove(entry.path)
            wanted.add(entry)
    return wanted


def rename_partition(target: Target, number: int, name: str) -> None:
    """Give GPT partition `number` of the open disk another name; only the blocks of the table are written."""
    size = target.size_bytes
    ends = [(0, min(size, _TABLE_BYTES)), (max(0, size - _TABLE_BYTES) // SECTOR_BYTES * SECTOR_BYTES, size)]
    with tempfile.TemporaryDirectory(prefix="livebuilder-") as scratch:
        table = Path(scratch) / "table"
        with table.open("wb") as stream:
            stream.truncate(size)
            for start, end in ends:
                stream.seek(start)
                stream.write(target.read(start, end - start))
        with open_disk(table, writable=True) as disk:
            disk.rename(number, name)
            disk.write()
        with open_disk(table) as disk:
            if name not in {partition.name for partition in disk.partitions() if partition.number == number}:
                raise LivebuilderError(f"partition {number} of {target.path} could not be named {name}")
        extents = []
        with table.open("rb") as stream:
            for start, end in ends:
                stream.seek(start)
                new = stream.read(end - start)
                for low, high in differing(target.read(start, end - start), new):
                    extents.append(Extent(start + low, high - low, FileSlice(table, start + low)))
        # The backup goes first: whenever it ends, one of the two tables is whole.
        extents.reverse()
        target.write_extents(extents)
        target.flush()
        target.read_back(extents)
        target.reread_table()


def _top() -> tuple[Entry, ...]:
    return (*(directory(folder) for folder in FOLDERS), symlink(*READY_LINK))


def _is_there(tree: RootTree, entry: Entry) -> bool:
    found = tree.get(entry.path)
    return found is not None and (found.kind, found.target) == (entry.kind, entry.target)


def _addition(tree: RootTree, entry: Entry) -> str:
    if entry.kind is Kind.DIRECTORY:
        return f"the folder {entry.path}/ is added"
    old = tree.get(entry.path)
    was = f" instead of {old.target!r}" if old is not None else ""
    return f"the link {entry.path} says {entry.target!r}{was}: OpenWrt would erase what it does not take for its own"


def _top_problems(tree: RootTree) -> list[str]:
    return [
        f"/{entry.path} on it is a {found.kind}, not a {entry.kind}"
        for entry in _top()
        if (found := tree.get(entry.path)) is not None and found.kind is not entry.kind
    ]


def _file_system_problems(volume: Volume) -> list[str]:
    if volume.fs in FILE_SYSTEMS:
        return []
    why = REFUSED.get(volume.fs, f"only {', '.join(FILE_SYSTEMS)} can")
    return [f"{volume.fs or 'what is on it'} cannot keep settings: {why}"]


def _label_problems(volume: Volume, label: str) -> list[str]:
    kind = FILE_SYSTEMS.get(volume.fs)
    problems = []
    if not label or any(c.isspace() or not c.isprintable() for c in label):
        problems.append(f"the label {label!r} is not one word")
    if kind is not None and len(label.encode()) > kind.label_bytes:
        problems.append(f"the label {label!r} is longer than the {kind.label_bytes} bytes that {kind.name} holds")
    return problems
