"""Is this stick right? What is found on it, what would cure it, and what a boot would do with it.

Nothing is changed, but for the write test where it is asked for, which puts back what was there.
"""

from __future__ import annotations

import difflib
import re
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import render_size
from livebuilder.tree import Kind, RootTree
from livebuilder.usb.adopt import plan_adoption
from livebuilder.usb.backup import shown
from livebuilder.usb.blockdevice import BlockDevice, Volume
from livebuilder.usb.bootcode import has_boot_code
from livebuilder.usb.content import read_content
from livebuilder.usb.filesystem import EXT, FILE_SYSTEMS, REFUSED, DamagedError
from livebuilder.usb.plan import ALIGNMENT_BYTES, DEFAULT_LABEL, LINUX_CODE, LINUX_GUID, SECTOR_BYTES
from livebuilder.usb.probe import probe_capacity
from livebuilder.usb.target import Target

Level = Literal["bad", "note", "good"]

_SIMILAR = 0.8
# Features an ext file system may have that the e2fsck of OpenWrt up to 19.07, or an old kernel, cannot deal with; by
# the superblock's word and bit (kernel: fs/ext4/ext4.h): s_feature_compat, s_feature_incompat, s_feature_ro_compat.
_NEW_FEATURES = {
    "orphan_file": (0, 0x1000), "64bit": (1, 0x80), "metadata_csum_seed": (1, 0x2000), "large_dir": (1, 0x4000),
    "inline_data": (1, 0x8000), "casefold": (1, 0x20000), "metadata_csum": (2, 0x400), "verity": (2, 0x8000),
}  # fmt: skip
_FEATURES_AT = 1024 + 0x5C
_HAS_JOURNAL = 0x4
_GPT_SIGNATURE = b"EFI PART"
# As initramfs/lib/machine.sh and reset.sh have them.
_MACHINES = "by-mac"
_MAC = re.compile("[0-9A-Fa-f]{12}")
_OLD = ".livebuilder/old"


@dataclass(frozen=True)
class Observation:
    """One thing about a stick; "bad": settings may not be kept. `cure` is the line to type, empty for none."""

    level: Level
    code: str
    text: str
    cure: str = ""


@dataclass(frozen=True)
class CheckReport:
    """What was found. `boot` is a sentence on what a boot would do with this stick as the only one."""

    device: str
    observations: tuple[Observation, ...]
    boot: str

    @property
    def fits(self) -> bool:
        """Whether nothing bad was found."""
        return all(observation.level != "bad" for observation in self.observations)

    def to_json(self) -> dict[str, object]:
        """The report as plain data."""
        return {**asdict(self), "fits": self.fits}

    def render(self) -> str:
        """The report for a reader, what is bad first."""
        in_order = sorted(self.observations, key=lambda one: ("bad", "note", "good").index(one.level))
        lines = []
        for one in in_order:
            lines.append(f"{one.level:4}  {one.text}")
            if one.cure:
                lines.append(f"      -> {one.cure}")
        return "\n".join((*lines, f"{self.device}: a boot would {self.boot}"))


def check_stick(
    device: BlockDevice, target: Target | None, *, label: str = DEFAULT_LABEL, write_test: bool = False
) -> CheckReport:
    """Look at the stick; without `target` only at what `device` says. `write_test` needs a writable target."""
    found = [*check_table(device), *check_volumes(device, label=label)]
    if target is not None:
        found += check_start(device, target.read(0, max(SECTOR_BYTES, device.sector_bytes)))
        if device.table == "gpt":
            found.append(_backup_table(device, target))
        for volume in storage_of(device, label):
            found += _check_content(device, volume, target, label=label)
    if write_test and target is not None:
        found.append(_write_test(target))
    damaged = any(one.code == "damaged" for one in found)
    return CheckReport(device.path, tuple(found), boot_sentence(device, label=label, damaged=damaged))


def storage_of(device: BlockDevice, label: str) -> list[Volume]:
    """The volumes a boot would take: those of a fitting kind that are labelled so, the UUID that sorts first first."""
    fitting = [volume for volume in device.volumes if volume.fs in FILE_SYSTEMS and volume.label == label]
    return sorted(fitting, key=lambda volume: (volume.uuid, volume.path))


def is_near_miss(text: str, label: str) -> bool:
    """Whether somebody who wrote `text` will have meant `label`."""
    if not text or text == label:
        return False
    one, other = (word.strip().casefold().replace("-", "_").replace(" ", "_") for word in (text, label))
    return one == other or difflib.SequenceMatcher(None, one, other).ratio() >= _SIMILAR


# What the record says: pure.


def check_table(device: BlockDevice) -> Iterator[Observation]:
    """On the partition table, alignment and types."""
    if device.kind == "partition":
        return
    if not device.table:
        yield Observation(
            "note", "no-table",
            f"{device.path} has no partition table: OpenWrt's own look for a partition's name will not find it",
        )  # fmt: skip
    elif device.table not in ("gpt", "dos"):
        yield Observation("bad", "table", f"{device.path} has a {device.table} table, which an old PC may not know")
    else:
        yield Observation("good", "table", f"{device.path} has a {device.table} table")
    for volume in device.volumes:
        if volume.number and volume.offset_bytes % ALIGNMENT_BYTES:
            yield Observation(
                "note",
                "alignment",
                f"{volume.path} does not begin at a whole MiB: writing to it is slower than it could be",
            )
        wanted = {"gpt": LINUX_GUID, "dos": LINUX_CODE}.get(device.table, "")
        if volume.fs in FILE_SYSTEMS and wanted and volume.type != wanted:
            yield Observation("note", "type", f"{volume.path} is of type {volume.type}, not {wanted} (Linux)")


def check_volumes(device: BlockDevice, *, label: str) -> Iterator[Observation]:
    """On file systems, labels and names, near misses among them."""
    adopt = f"livebuilder usb adopt {device.path}"
    found = storage_of(device, label)
    for volume in found:
        yield Observation("good", "label", f"{volume.path} is {volume.fs}, labelled {label}")
    if len(found) > 1:
        names = " and ".join(volume.path for volume in found)
        yield Observation(
            "bad", "twins", f"{names} have the same label: which is taken depends on their UUIDs",
            "give one of them another label",
        )  # fmt: skip
    for volume in device.volumes:
        if volume.label == label and volume.fs in FILE_SYSTEMS:
            if volume.name and volume.name != label:
                yield Observation(
                    "note",
                    "name",
                    f"the partition {volume.path} is named {volume.name!r}: OpenWrt 22.03 looks for {label}",
                    adopt,
                )
            continue
        wrong = REFUSED.get(volume.fs) if volume.fs else ""
        if volume.label.casefold() == label.casefold() and wrong:
            yield Observation(
                "bad", "refused", f"{volume.path} is labelled {volume.label}, but {volume.fs} cannot be"
                f" storage: {wrong}",
                f"livebuilder usb prepare {device.path}   # erases it",
            )  # fmt: skip
        elif is_near_miss(volume.label, label):
            yield Observation(
                "bad", "near-miss", f"the label of {volume.path} is {volume.label!r}, which is not {label!r}", adopt
            )
        elif label in (volume.name, volume.name.strip()):
            says = f"labelled {volume.label!r}" if volume.label else "without a label"
            yield Observation(
                "bad",
                "name-only",
                f"the partition {volume.path} is named {label}, but its file system is {says}",
                adopt,
            )
        elif is_near_miss(volume.name, label):
            yield Observation("bad", "near-miss", f"the name of {volume.path} is {volume.name!r}, not {label!r}", adopt)
    if not found and not device.volumes:
        yield Observation(
            "bad", "empty", f"no file system was found on {device.path}", f"livebuilder usb prepare {device.path}"
        )
    elif not found:
        able = [volume for volume in device.volumes if volume.fs in FILE_SYSTEMS]
        cure = adopt if len(able) == 1 else f"livebuilder usb prepare {device.path}   # erases it"
        yield Observation("bad", "no-label", f"no file system on {device.path} is labelled {label}", cure)


def check_start(device: BlockDevice, sector: bytes) -> Iterator[Observation]:
    """On the boot code in the first sector of a disk."""
    if device.kind == "partition" or not device.table:
        return
    if has_boot_code(sector[:SECTOR_BYTES]):
        yield Observation("good", "boot-code", "a BIOS that tries this stick first goes on to the next")
    elif not any(sector[:440]):
        yield Observation(
            "note", "boot-code", "there is no boot code: a BIOS that tries this stick first may stop there",
            "put the CD before the stick in the BIOS's order of starting",
        )  # fmt: skip
    else:
        yield Observation(
            "note", "boot-code", "the boot code is not ours: a BIOS that tries this stick first starts that"
        )


def check_features(start: bytes, *, path: str) -> Iterator[Observation]:
    """On what an old system may not know; `start` is the first 2 KiB of an ext file system."""
    words = struct.unpack_from("<3I", start, _FEATURES_AT)
    new = sorted(name for name, (word, bit) in _NEW_FEATURES.items() if words[word] & bit)
    if new:
        yield Observation(
            "note",
            "features",
            f"{path} has features that old kernels or OpenWrt's old e2fsck do not know: {', '.join(new)}",
        )
    if not words[0] & _HAS_JOURNAL:
        yield Observation(
            "note", "journal", f"{path} has no journal: it has to be checked after every time the power is switched off"
        )


def check_tree(device: BlockDevice, volume: Volume, tree: RootTree, *, label: str) -> Iterator[Observation]:
    """On what lies at the top."""
    adopt = f"livebuilder usb adopt {device.path}"
    try:
        plan = plan_adoption(device, volume, tree, label=label)
    except LivebuilderError as error:
        yield Observation("bad", "layout", error.message, error.hint or "")
        return
    for path in plan.paths:
        why = ": OpenWrt 22.03 and later erases what it finds without it" if path.startswith(".") else ""
        yield Observation("note", "layout", f"{volume.path} has no {path}{why}", adopt)
    if not plan.paths:
        yield Observation("good", "layout", f"{volume.path} has upper/, work/ and .fs_state")
    size = sum(entry.content.size for entry in tree if entry.path.startswith(("upper/", f"{_MACHINES}/")))
    yield Observation("good", "content", f"{volume.path} keeps {render_size(size)} of settings and files")
    machines = [entry.name for entry in tree if entry.parent == _MACHINES and entry.kind is Kind.DIRECTORY]
    for name in machines:
        if _MAC.fullmatch(re.sub("[:-]", "", name)):
            yield Observation("good", "machine", f"the machine with the network card {name} has settings of its own")
        else:
            yield Observation(
                "note", "machine", f"/{_MACHINES}/{shown(name)} is not named by the address of a network card",
                "name it as in 52:54:00:12:34:56",
            )  # fmt: skip
    if old := sum(entry.parent == _OLD for entry in tree):
        yield Observation("note", "old", f"{volume.path} keeps {old} states from before a reset in /{_OLD}")


def boot_sentence(device: BlockDevice, *, label: str, damaged: bool = False) -> str:
    """What a boot with this stick would do, to follow "a boot would"."""
    found = storage_of(device, label)
    if found:
        volume = found[0]
        if damaged and volume.fs not in EXT:  # /init mends ext alone
            return f"mount {volume.path} as it is, and keep no settings if that cannot be done"
        if damaged:
            return f"try to mend {volume.path} with its own e2fsck, and keep no settings if it cannot"
        return f"keep its settings on {volume.path} ({volume.fs}, UUID {volume.uuid})"
    refused = [v for v in device.volumes if v.fs in REFUSED and v.label.casefold() == label.casefold()]
    if refused:
        return f"keep no settings: {refused[0].path} is labelled {label}, but {refused[0].fs} cannot hold them"
    return f"keep no settings: nothing on this stick is labelled {label}"


# What has to be read.


def _check_content(device: BlockDevice, volume: Volume, target: Target, *, label: str) -> Iterator[Observation]:
    if volume.fs in EXT:
        sector = max(device.sector_bytes, SECTOR_BYTES)
        low = volume.offset_bytes // sector * sector
        start = target.read(low, 8192)[volume.offset_bytes - low :]
        yield from check_features(start, path=volume.path)
    try:
        with read_content(target, volume) as tree:
            yield Observation("good", "sound", f"the file system on {volume.path} is sound")
            yield from check_tree(device, volume, tree, label=label)
    except DamagedError as error:
        yield Observation("bad", "damaged", error.message, error.hint or "")
    except LivebuilderError as error:
        yield Observation("note", "unread", error.message, error.hint or "")


def _backup_table(device: BlockDevice, target: Target) -> Observation:
    sector = device.sector_bytes
    last = target.read(device.size_bytes // sector * sector - sector, sector)
    if last.startswith(_GPT_SIGNATURE):
        return Observation("good", "backup-table", "the backup of the partition table is at the very end of the disk")
    return Observation(
        "bad", "backup-table",
        "there is no backup of the partition table at the end: the disk may hold less than it says, or was copied from"
        " a smaller one",
        f"livebuilder usb check --write-test {device.path}",
    )  # fmt: skip


def _write_test(target: Target) -> Observation:
    try:
        probe_capacity(target)
    except LivebuilderError as error:
        return Observation("bad", "capacity", error.message, error.hint or "")
    return Observation("good", "capacity", f"{target.path} holds what is written to it, up to its end")
