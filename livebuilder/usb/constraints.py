"""May this device be used for that? Pure rules from a device's record to findings, each with what to do about it.

Unknown means refuse. Nothing here looks at the machine: what the rules need to know is in the record
(`livebuilder.usb.blockdevice`), so every rule is tested from a table.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from livebuilder.sizes import render_size
from livebuilder.usb.blockdevice import BlockDevice, Volume, is_empty_device, rights_hint
from livebuilder.usb.filesystem import FILE_SYSTEMS
from livebuilder.usb.plan import ALIGNMENT_BYTES, DEFAULT_LABEL

Purpose = Literal["prepare", "write", "adopt", "check", "backup", "restore", "reset", "diff"]
Level = Literal["refuse", "needs-erase", "note"]
_LEVELS: Sequence[Level] = ("refuse", "needs-erase", "note")
# The codes of refusals as they are told: what nobody can help, then what has to be done, in the order of doing it.
IMPORTANCE: Sequence[str] = (
    *("system", "not-a-disk", "not-removable", "no-medium", "size-unknown", "too-small"),
    *("serial-unknown", "serial-shared", "unreadable", "partition", "read-only", "holds-iso"),
    *("mounted", "swap", "held", "lvm", "raid", "dm-crypt", "zfs", "no-rights"),
)

_WRITING: frozenset[Purpose] = frozenset({"prepare", "write", "adopt", "restore", "reset"})
_WHOLE_DISK: frozenset[Purpose] = frozenset({"prepare", "write"})  # what makes a partition table
_ERASING: frozenset[Purpose] = frozenset({"prepare", "write", "restore", "reset"})

LARGE_BYTES = 128 * 10**9  # as it is printed on sticks
LAST_CHARACTERS = 4  # of a serial number, that a person may type instead of all of it

# Where a running system lives. What is mounted elsewhere can be unmounted.
SYSTEM_MOUNTS = frozenset(
    {
        *("/", "/boot", "/boot/efi", "/boot/firmware", "/efi", "/home", "/usr", "/var", "/etc", "/nix"),
        *("/cdrom", "/run/live/medium", "/lib/live/mount/medium", "/run/initramfs/live", "/run/archiso/bootmnt"),
    }
)
_MOUNTED = "mounted at "

# How a use begins, the code of its finding, and what to type about it; `{path}` is the device's. A use that is
# not in this table is refused as "held".
CODES_OF_USES: tuple[tuple[str, str, str], ...] = (
    (_MOUNTED, "mounted", ""),
    ("swap in use", "swap", "if you are sure, swapoff {path}"),
    ("swap", "swap", "if nothing needs it any more, wipefs --all {path}"),
    ("LVM member", "lvm", "if nothing needs it any more, pvremove {path}"),
    ("RAID member", "raid", "if nothing needs it any more, wipefs --all {path}"),
    ("dm-crypt", "dm-crypt", "if nothing needs it any more, wipefs --all {path}"),
    ("ZFS member", "zfs", "if nothing needs it any more, zpool labelclear {path}"),
    ("held by ", "held", "stop what uses it first; lsblk {path} shows it"),
)
_OTHER_USE = ("held", "stop what uses it first")
_RUNNING = (_MOUNTED, "held by ", "swap in use")  # the others are what stands on the disk, used or not


@dataclass(frozen=True)
class Finding:
    """What a rule has to say; `code` is for programs, `text` one sentence with the device's name and what to do."""

    level: Level
    code: str
    text: str


def judge(
    device: BlockDevice,
    *,
    purpose: Purpose,
    needed_bytes: int = 0,
    iso_on: Collection[str] = (),
    others: Iterable[BlockDevice] = (),
) -> tuple[Finding, ...]:
    """All there is to say about using `device` for `purpose`, the most important first.

    Refusals come first, as in `IMPORTANCE`, then what needs --erase, then notes.

    `needed_bytes`: what has to fit. `iso_on`: what the ISO to be written lies on, from `devices.disks_holding()`.
    `others`: the devices that are there too, to notice that two have the same serial number.
    """
    if device.kind not in ("disk", "partition", "image"):
        text = f"{device.path} is no disk but of the kind {device.kind}: give a stick or a card"
        found = [Finding("refuse", "not-a-disk", text), *_uses(device, purpose)]
    else:
        found = [
            *_place(device, purpose),
            *_identity(device, purpose, others),
            *_rights(device, purpose),
            *_medium(device, purpose, needed_bytes),
            *_uses(device, purpose),
            *_iso(device, iso_on),
            *_erasing(device, purpose),
        ]
    shown = dict.fromkeys(replace(finding, text=_shown(finding.text)) for finding in found)
    return tuple(sorted(shown, key=_rank))


def _rank(finding: Finding) -> tuple[int, int]:
    refused = finding.level == "refuse"
    return _LEVELS.index(finding.level), IMPORTANCE.index(finding.code) if refused else 0


def may_use(findings: Iterable[Finding]) -> bool:
    """Whether nothing is refused."""
    return all(finding.level != "refuse" for finding in findings)


def needs_erase(findings: Iterable[Finding]) -> bool:
    """Whether --yes is not enough: the serial number (of an image: its file name) has to be given."""
    return any(finding.level == "needs-erase" for finding in findings)


def erase_accepted(
    device: BlockDevice, typed: str, *, interactive: bool = False, others: Iterable[BlockDevice] = ()
) -> bool:
    """Whether `typed` names this very device: its serial number, of an image its file name.

    A person who was asked (`interactive`) may type the last four characters, unless they fit one of `others` too.
    A device without a serial number is never accepted.
    """
    typed = typed.strip()
    if device.kind == "image":
        return typed == Path(device.path).name and bool(typed)
    if not device.serial or not typed:
        return False
    if typed == device.serial:
        return True
    short = device.serial[-LAST_CHARACTERS:]
    same_end = any(other.serial.endswith(short) for other in _elsewhere(device, others))
    return interactive and typed == short and len(device.serial) > LAST_CHARACTERS and not same_end


def is_our_image(device: BlockDevice) -> bool:
    """Whether an image file is a stick as `usb image` and `usb prepare` make them: one partition, found by label."""
    if device.kind != "image" or len(device.volumes) != 1:
        return False
    (volume,) = device.volumes
    named = volume.name == volume.label if device.table == "gpt" else device.table == "dos"
    return (
        named
        and volume.number == 1
        and volume.offset_bytes == ALIGNMENT_BYTES
        and volume.fs in FILE_SYSTEMS
        and volume.label == DEFAULT_LABEL
    )


# The rules


def _place(device: BlockDevice, purpose: Purpose) -> Iterator[Finding]:
    path = device.path
    if device.kind == "partition" and purpose in _WHOLE_DISK:
        yield Finding(
            "refuse", "partition", f"{path} is a partition: give the whole disk, {device.parent or 'its disk'}"
        )
    if device.kind == "image" or device.removable or device.bus in ("usb", "mmc"):
        return
    how = f"it is on the bus {device.bus}" if device.bus else "its bus is unknown"
    text = f"{path} cannot be taken out of this machine ({how})"
    if purpose in _WRITING:
        yield Finding("refuse", "not-removable", f"{text}: give a USB stick or a memory card")
    else:
        yield Finding("note", "not-removable", f"{text}: it is only read")


def _identity(device: BlockDevice, purpose: Purpose, others: Iterable[BlockDevice]) -> Iterator[Finding]:
    if device.kind == "image" or purpose not in _WRITING:
        return
    path = device.path
    if not device.serial:
        yield Finding(
            "refuse",
            "serial-unknown",
            f"{path} has no serial number that could be read, so it cannot be told from another: use a stick that has"
            " one, or prepare an image file and copy it with dd",
        )
    twins = sorted(other.path for other in _elsewhere(device, others) if other.medium and other.serial == device.serial)
    if device.serial and twins:
        yield Finding(
            "refuse",
            "serial-shared",
            f"{path} and {', '.join(twins)} have the same serial number {device.serial}: unplug all but one",
        )


def _elsewhere(device: BlockDevice, others: Iterable[BlockDevice]) -> Iterator[BlockDevice]:
    """Of `others`, those that are not on the same disk."""
    disk = device.parent or device.path
    return (other for other in others if (other.parent or other.path) != disk)


def _rights(device: BlockDevice, purpose: Purpose) -> Iterator[Finding]:
    if device.problem:
        text = f"{device.path} cannot be read ({device.problem}), so nobody knows what is on it"
        yield Finding("refuse", "unreadable", f"{text}: unplug it and plug it in again")
        return
    if device.readable and (device.writable or purpose not in _WRITING):
        return
    doing = "write" if device.readable else "read"
    cure = rights_hint(device, command=f"livebuilder usb {purpose} …")
    yield Finding("refuse", "no-rights", f"you may not {doing} {device.path}: {cure}")


def _medium(device: BlockDevice, purpose: Purpose, needed_bytes: int) -> Iterator[Finding]:
    path = device.path
    if not device.medium:
        yield Finding("refuse", "no-medium", f"{path} has no medium in it: put the card in")
        return
    if device.size_bytes <= 0 and device.kind != "image":
        yield Finding("refuse", "size-unknown", f"the size of {path} cannot be read: unplug it and plug it in again")
    elif device.size_bytes < max(1, needed_bytes):
        size, needed = render_size(device.size_bytes), render_size(needed_bytes) if needed_bytes else "more"
        yield Finding("refuse", "too-small", f"{path} holds {size} and {needed} is needed: take a larger one")
    if device.read_only and purpose in _WRITING:
        what = (
            "lies on a read-only file system"
            if device.kind == "image"
            else "is write-protected: look for a switch on it"
        )
        yield Finding("refuse", "read-only", f"{path} {what}")


def _uses(device: BlockDevice, purpose: Purpose) -> Iterator[Finding]:
    yield from _uses_of(device.path, device.uses)
    for volume in device.volumes:
        yield from _uses_of(volume.path, [use for use in volume.uses if use not in device.uses])
    for use in device.disk_uses:
        disk = device.parent or "its disk"
        if purpose in _WRITING and _is_system(use):
            yield Finding("refuse", "system", f"{device.path} is on {disk}, which is {use}: this machine runs from it")
        else:
            yield Finding("note", "disk-in-use", f"{device.path} is on {disk}, which is in use elsewhere: {use}")


def _uses_of(path: str, uses: Sequence[str]) -> Iterator[Finding]:
    running = any(use.startswith(_RUNNING) for use in uses)
    for use in uses:
        if _is_system(use):
            yield Finding("refuse", "system", f"{path} is {use}: this machine runs from it")
        elif use.startswith(_MOUNTED):
            point = shlex.quote(use.removeprefix(_MOUNTED))
            yield Finding("refuse", "mounted", f"{path} is {use}: umount {point}")
        else:
            code, cure = next(
                ((code, cure) for start, code, cure in CODES_OF_USES if use.startswith(start)), _OTHER_USE
            )
            if running and not use.startswith(_RUNNING):
                cure = _OTHER_USE[1]  # nobody is told to wipe what is in use
            yield Finding("refuse", code, f"{path} is in use, {use}: {cure.format(path=path)}")


def _is_system(use: str) -> bool:
    return use.startswith(_MOUNTED) and use.removeprefix(_MOUNTED) in SYSTEM_MOUNTS


def _iso(device: BlockDevice, iso_on: Collection[str]) -> Iterator[Finding]:
    paths = {device.path, device.parent, *(volume.path for volume in device.volumes)} - {""}
    if paths & set(iso_on):
        yield Finding(
            "refuse", "holds-iso", f"{device.path} holds the ISO that is to be written: copy the ISO elsewhere"
        )


def _erasing(device: BlockDevice, purpose: Purpose) -> Iterator[Finding]:
    """What a wrong answer would cost: those need more than --yes."""
    if purpose not in _ERASING:
        return
    path = device.path
    if device.kind == "image":
        if device.data and not is_our_image(device):
            name = shlex.quote(Path(path).name)
            text = f"{path} is not empty and is no stick made by livebuilder: --erase {name} if it may be lost"
            yield Finding("needs-erase", "not-ours", text)
        return
    cure = f"--erase {shlex.quote(device.serial or 'SERIAL')} if it may be lost"
    if device.data:
        yield Finding("needs-erase", "data", f"{path} has data on it ({_content(device)}): {cure}")
    if device.size_bytes > LARGE_BYTES:
        text = f"{path} is {render_size(device.size_bytes)} large, more than settings need: {cure}"
        yield Finding("needs-erase", "large", text)
    if device.removable and device.bus not in ("usb", "mmc"):
        text = f"{path} says that it can be taken out and is on the bus {device.bus or '(unknown)'}, as inner disks are"
        yield Finding("needs-erase", "inner-bus", f"{text}: {cure}")


def _content(device: BlockDevice) -> str:
    named = [" ".join(filter(None, (volume.fs, volume.label))) for volume in device.volumes]
    return ", ".join(filter(None, named)) or (f"a {device.table} table" if device.table else "of an unknown kind")


# The list


def render_devices(
    devices: Iterable[BlockDevice], findings: Mapping[str, Sequence[Finding]], *, verbose: bool = False
) -> str:
    """The table of `usb list`; `findings` is by path. What a stick says of itself cannot move the cursor.

    Only with `verbose` all findings are told, and empty loop devices and memory are in it.
    """
    rows = [("DEVICE", "MODEL", "SERIAL", "SIZE", "BUS", "TABLE", "MAY BE USED")]
    notes: list[list[str]] = [[]]
    for device in devices:
        if is_empty_device(device) and not verbose:
            continue
        found = findings.get(device.path, ())
        size = render_size(device.size_bytes) if device.size_bytes else "-"
        cells = (device.path, device.model, device.serial, size, device.bus, device.table)
        rows.append((*(_shown(cell) or "-" for cell in cells), _verdict(found, verbose=verbose)))  # type: ignore[arg-type]
        notes.append([*(_volume_line(volume, device) for volume in device.volumes), *_told(found, verbose=verbose)])
    if len(rows) == 1:
        return "no disk that can be taken out; --all shows the others, and with --verbose what is empty"
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    text = []
    for row, lines in zip(rows, notes, strict=True):
        text.append("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        text += [f"    {line}" for line in lines]
    return "\n".join(text)


def to_json(devices: Iterable[BlockDevice], findings: Mapping[str, Sequence[Finding]]) -> list[dict[str, object]]:
    """The same as plain data; sizes in bytes, `findings` by path."""
    return [
        device.to_json()
        | {
            "may_use": may_use(findings.get(device.path, ())),
            "needs_erase": needs_erase(findings.get(device.path, ())),
            "findings": [asdict(finding) for finding in findings.get(device.path, ())],
        }
        for device in devices
    ]


def _verdict(found: Sequence[Finding], *, verbose: bool) -> str:
    codes = list(dict.fromkeys(finding.code for finding in found if finding.level == "refuse"))
    if codes:
        return "no: " + ", ".join(codes if verbose else codes[:1])
    return "with --erase" if needs_erase(found) else "yes"


def _told(found: Sequence[Finding], *, verbose: bool) -> list[str]:
    """The findings' texts. How to erase it is told only where that would be accepted."""
    texts = [finding.text for finding in found if finding.level != "needs-erase" or may_use(found)]
    if verbose or len(texts) < 2:
        return texts
    return [f"{texts[0]} (+{len(texts) - 1} more: --verbose)"]


def _volume_line(volume: Volume, device: BlockDevice) -> str:
    where = f"partition {volume.number}" if volume.number else "no partition"
    label = f"labelled {volume.label!r}" if volume.label else "no label"
    name = f"named {volume.name!r}" if volume.name else ""
    used = "; ".join(volume.uses if volume.number else device.uses) or "not in use"
    facts = (
        where,
        name,
        render_size(volume.size_bytes),
        volume.fs or "no file system",
        label if volume.fs else "",
        used,
    )
    return ", ".join(_shown(fact) for fact in facts if fact)


def _shown(text: str) -> str:
    """`text` without what a terminal would obey."""
    return "".join(character if character.isprintable() else "?" for character in text)
