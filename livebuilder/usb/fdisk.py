"""pyfdisk: partition tables by util-linux's libfdisk, bound with ctypes.

    with open_disk(path, writable=True) as disk:
        disk.create_label("gpt")
        disk.add(NewPartition(start_sector=2048, sectors=8192, type="Linux filesystem", name="rootfs_data"))
        disk.write()

Everything happens in memory until `write()`; a disk closed without it is as it was. Numbers of partitions count
from 1 as in `/dev/sda1`, places and lengths are in sectors of `sector_bytes`. Only `FdiskError` is raised.

The library's rules that this module keeps (libfdisk/src/libfdisk.h.in): functions return a negative errno, what
`new` or `get_partitions` gave is released by `unref`, what `fdisk_label_parse_parttype` gave as well, what
`fdisk_get_label` and `fdisk_table_get_partition` gave is borrowed, strings of `fdisk_get_disklabel_id` are freed.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_ulong, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from livebuilder.errors import LivebuilderError

LIBRARY = "libfdisk.so.1"
GPT_NAME_UNITS = 36  # UTF-16 code units in a GPT entry (UEFI 2.10, 5.3.3)

TableName = Literal["gpt", "dos"]

# Flag numbers of fdisk_toggle_partition_flag(): DOS_FLAG_ACTIVE and GPT_FLAG_LEGACYBOOT.
_BOOT_FLAG = {"dos": 1, "gpt": 3}
_GPT_BOOT_WORD = "LegacyBIOSBootable"  # how libfdisk spells attribute bit 2
_ASK_WARN, _ASK_WARNX, _ASK_INFO = 3, 4, 5  # enum fdisk_asktype
_AskFunction = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p)

# name: (result, arguments). Pointers to the library's structures are opaque.
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "fdisk_new_context": (c_void_p, ()),
    "fdisk_unref_context": (None, (c_void_p,)),
    "fdisk_set_ask": (c_int, (c_void_p, _AskFunction, c_void_p)),
    "fdisk_disable_dialogs": (c_int, (c_void_p, c_int)),
    "fdisk_ask_get_type": (c_int, (c_void_p,)),
    "fdisk_ask_print_get_mesg": (c_char_p, (c_void_p,)),
    "fdisk_assign_device": (c_int, (c_void_p, c_char_p, c_int)),
    "fdisk_deassign_device": (c_int, (c_void_p, c_int)),
    "fdisk_get_sector_size": (c_ulong, (c_void_p,)),
    "fdisk_get_nsectors": (c_uint64, (c_void_p,)),
    "fdisk_create_disklabel": (c_int, (c_void_p, c_char_p)),
    "fdisk_has_label": (c_int, (c_void_p,)),
    "fdisk_get_label": (c_void_p, (c_void_p, c_char_p)),
    "fdisk_label_get_name": (c_char_p, (c_void_p,)),
    "fdisk_get_disklabel_id": (c_int, (c_void_p, POINTER(c_void_p))),
    "fdisk_set_disklabel_id_from_string": (c_int, (c_void_p, c_char_p)),
    "fdisk_label_get_nparttypes": (c_size_t, (c_void_p,)),
    "fdisk_label_get_parttype": (c_void_p, (c_void_p, c_size_t)),
    "fdisk_label_parse_parttype": (c_void_p, (c_void_p, c_char_p)),
    "fdisk_unref_parttype": (None, (c_void_p,)),
    "fdisk_parttype_get_name": (c_char_p, (c_void_p,)),
    "fdisk_parttype_get_string": (c_char_p, (c_void_p,)),
    "fdisk_parttype_get_code": (c_uint, (c_void_p,)),
    "fdisk_new_partition": (c_void_p, ()),
    "fdisk_unref_partition": (None, (c_void_p,)),
    "fdisk_partition_set_start": (c_int, (c_void_p, c_uint64)),
    "fdisk_partition_set_size": (c_int, (c_void_p, c_uint64)),
    "fdisk_partition_size_explicit": (c_int, (c_void_p, c_int)),
    "fdisk_partition_partno_follow_default": (c_int, (c_void_p, c_int)),
    "fdisk_partition_set_type": (c_int, (c_void_p, c_void_p)),
    "fdisk_partition_set_name": (c_int, (c_void_p, c_char_p)),
    "fdisk_partition_set_uuid": (c_int, (c_void_p, c_char_p)),
    "fdisk_add_partition": (c_int, (c_void_p, c_void_p, POINTER(c_size_t))),
    "fdisk_set_partition": (c_int, (c_void_p, c_size_t, c_void_p)),
    "fdisk_toggle_partition_flag": (c_int, (c_void_p, c_size_t, c_ulong)),
    "fdisk_get_partitions": (c_int, (c_void_p, POINTER(c_void_p))),
    "fdisk_table_get_nents": (c_size_t, (c_void_p,)),
    "fdisk_table_get_partition": (c_void_p, (c_void_p, c_size_t)),
    "fdisk_unref_table": (None, (c_void_p,)),
    "fdisk_partition_get_partno": (c_size_t, (c_void_p,)),
    "fdisk_partition_get_start": (c_uint64, (c_void_p,)),
    "fdisk_partition_get_size": (c_uint64, (c_void_p,)),
    "fdisk_partition_get_type": (c_void_p, (c_void_p,)),
    "fdisk_partition_get_name": (c_char_p, (c_void_p,)),
    "fdisk_partition_get_uuid": (c_char_p, (c_void_p,)),
    "fdisk_partition_get_attrs": (c_char_p, (c_void_p,)),
    "fdisk_partition_is_bootable": (c_int, (c_void_p,)),
    "fdisk_write_disklabel": (c_int, (c_void_p,)),
    "fdisk_reread_partition_table": (c_int, (c_void_p,)),
}


class FdiskError(LivebuilderError):
    """What libfdisk refused; `errno` is the number it gave, to be compared with the `errno` module."""

    def __init__(self, message: str, number: int, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno = number


@dataclass(frozen=True, kw_only=True)
class NewPartition:
    """A partition to be made, taken exactly as it stands: nothing is aligned or rounded.

    `type` is a name libfdisk knows ("Linux filesystem"), a GUID, or the hexadecimal code of a DOS table ("83").
    `name` and `uuid` are of GPT only; without `uuid` a random one is made.
    """

    start_sector: int
    sectors: int
    type: str
    name: str = ""
    uuid: str = ""


@dataclass(frozen=True)
class Partition:
    """A partition as the table has it; `type` is a GUID or the hexadecimal code, both in capitals."""

    number: int
    start_sector: int
    sectors: int
    type: str
    type_name: str
    name: str
    uuid: str
    bootable: bool


@cache
def _library() -> ctypes.CDLL:
    hint = "livebuilder doctor   # names the package that holds it"
    try:
        library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise FdiskError(f"the library {LIBRARY} is not installed: {error}", errno.ENOENT, hint=hint) from error
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(library, name)
        except AttributeError as error:
            raise FdiskError(f"the installed {LIBRARY} is too old: it lacks {name}", errno.ENOSYS, hint=hint) from error
        function.restype, function.argtypes = result, arguments
    return library


@cache
def _free() -> Any:
    free = ctypes.CDLL(None).free
    free.restype, free.argtypes = None, (c_void_p,)
    return free


class Disk:
    """An open disk or image file and its partition table; made by `open_disk()`."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.path = path
        self.messages: list[str] = []
        self._library = _library()
        # The library keeps the function's address: it has to live as long as the context.
        self._ask = _AskFunction(self._hear)
        self._context = self._library.fdisk_new_context()
        if not self._context:
            raise FdiskError("libfdisk could not be started", errno.ENOMEM)
        try:
            self._check(self._library.fdisk_set_ask(self._context, self._ask, None), "listening to libfdisk")
            self._check(self._library.fdisk_disable_dialogs(self._context, 1), "turning off questions")
            result = self._library.fdisk_assign_device(self._context, os.fsencode(path), 0 if writable else 1)
            self._check(result, f"opening {path}")
        except BaseException:
            self._release()
            raise

    def _hear(self, _context: object, ask: int, _data: object) -> int:
        """Keep what libfdisk has to say; answer no question."""
        if self._library.fdisk_ask_get_type(ask) not in (_ASK_WARN, _ASK_WARNX, _ASK_INFO):
            return -errno.EINVAL
        message = self._library.fdisk_ask_print_get_mesg(ask)
        self.messages.append((message or b"").decode("utf-8", "replace").strip())
        return 0

    def _check(self, result: int, doing: str) -> None:
        if result < 0:
            said = f" ({self.messages[-1]})" if self.messages else ""
            raise FdiskError(f"{doing} failed: {os.strerror(-result)}{said}", -result)

    def _release(self) -> None:
        self._library.fdisk_unref_context(self._context)
        self._context = None

    def close(self) -> None:
        """Flush what was written and let the disk go; changes without `write()` are forgotten."""
        if self._context is None:
            return
        try:
            self._check(self._library.fdisk_deassign_device(self._context, 0), f"flushing {self.path}")
        finally:
            self._release()

    @property
    def sector_bytes(self) -> int:
        """The size of a logical sector."""
        return int(self._library.fdisk_get_sector_size(self._open()))

    @property
    def sectors(self) -> int:
        """The length of the whole disk, in sectors."""
        return int(self._library.fdisk_get_nsectors(self._open()))

    @property
    def label(self) -> str | None:
        """The kind of partition table: "gpt", "dos", another that libfdisk knows, or None."""
        if not self._library.fdisk_has_label(self._open()):
            return None
        return _text(self._library.fdisk_label_get_name(self._label()))

    @property
    def disk_id(self) -> str:
        """The table's own id as libfdisk writes it: a GUID in capitals, or `0x` and 8 hexadecimal digits."""
        pointer = c_void_p()
        result = self._library.fdisk_get_disklabel_id(self._open(), ctypes.byref(pointer))
        self._check(result, f"reading the disk id of {self.path}")
        if not pointer.value:
            return ""
        try:
            return ctypes.string_at(pointer.value).decode("ascii", "replace")
        finally:
            _free()(pointer)

    def create_label(self, name: TableName, *, disk_id: str | None = None) -> None:
        """Begin an empty table in memory; without `disk_id` a random one is made."""
        result = self._library.fdisk_create_disklabel(self._open(), name.encode())
        self._check(result, f"creating a {name} table on {self.path}")
        if disk_id is not None:
            result = self._library.fdisk_set_disklabel_id_from_string(self._open(), disk_id.encode())
            self._check(result, f"setting the disk id {disk_id} of {self.path}")

    def add(self, new: NewPartition) -> int:
        """Add a partition at the next free number, and return that number."""
        label = self._known_label()
        _check_name(new.name, label)
        if new.uuid and label != "gpt":
            raise FdiskError(f"a {label} table has no UUIDs for partitions", errno.EINVAL)
        doing = f"adding a partition at sector {new.start_sector} to {self.path}"
        number = c_size_t()
        with self._partition() as pointer, self._type(new.type) as type_pointer:
            call = self._library
            self._check(call.fdisk_partition_partno_follow_default(pointer, 1), doing)
            self._check(call.fdisk_partition_set_start(pointer, new.start_sector), doing)
            self._check(call.fdisk_partition_set_size(pointer, new.sectors), doing)
            self._check(call.fdisk_partition_size_explicit(pointer, 1), doing)
            self._check(call.fdisk_partition_set_type(pointer, type_pointer), doing)
            if new.name:
                self._check(call.fdisk_partition_set_name(pointer, new.name.encode()), doing)
            if new.uuid:
                self._check(call.fdisk_partition_set_uuid(pointer, new.uuid.encode()), doing)
            self._check(call.fdisk_add_partition(self._open(), pointer, ctypes.byref(number)), doing)
        return number.value + 1

    def rename(self, number: int, name: str) -> None:
        """Give GPT partition `number` another name."""
        _check_name(name or " ", self._known_label())
        doing = f"renaming partition {number} of {self.path}"
        with self._partition() as pointer:
            self._check(self._library.fdisk_partition_set_name(pointer, name.encode()), doing)
            self._check(self._library.fdisk_set_partition(self._open(), number - 1, pointer), doing)

    def set_boot_flag(self, number: int, wanted: bool = True) -> None:
        """Mark partition `number` as the one a BIOS starts (DOS: active, GPT: legacy BIOS bootable), or not."""
        label = self._known_label()
        found = [partition for partition in self.partitions() if partition.number == number]
        if not found:
            raise FdiskError(f"{self.path} has no partition {number}", errno.ENOENT)
        if found[0].bootable != wanted:
            result = self._library.fdisk_toggle_partition_flag(self._open(), number - 1, _BOOT_FLAG[label])
            self._check(result, f"setting the boot flag of partition {number} of {self.path}")

    def partitions(self) -> tuple[Partition, ...]:
        """The partitions of the table in memory, in the table's order; none when there is no table."""
        if self.label is None:
            return ()
        call = self._library
        table = c_void_p()
        self._check(call.fdisk_get_partitions(self._open(), ctypes.byref(table)), f"reading the table of {self.path}")
        try:
            count = call.fdisk_table_get_nents(table)
            return tuple(self._read(call.fdisk_table_get_partition(table, place)) for place in range(count))
        finally:
            call.fdisk_unref_table(table)

    def write(self) -> None:
        """Write the table to the disk."""
        self._check(self._library.fdisk_write_disklabel(self._open()), f"writing the table of {self.path}")

    def reread(self) -> None:
        """Have the kernel look at the partitions of a block device again; an image file has no need of it."""
        result = self._library.fdisk_reread_partition_table(self._open())
        self._check(result, f"telling the kernel about the new table of {self.path}")

    def _open(self) -> int:
        if self._context is None:
            raise FdiskError(f"{self.path} is closed", errno.EBADF)
        return int(self._context)

    def _label(self) -> Any:
        label = self._library.fdisk_get_label(self._open(), None)
        if not label:
            raise FdiskError(f"{self.path} has no partition table", errno.ENOENT)
        return label

    def _known_label(self) -> str:
        label = self.label
        if label not in _BOOT_FLAG:
            raise FdiskError(f"{self.path} has {label or 'no'} partition table, neither gpt nor dos", errno.EINVAL)
        return label

    @contextmanager
    def _partition(self) -> Iterator[Any]:
        pointer = self._library.fdisk_new_partition()
        if not pointer:
            raise FdiskError("libfdisk has no memory for a partition", errno.ENOMEM)
        try:
            yield pointer
        finally:
            self._library.fdisk_unref_partition(pointer)

    @contextmanager
    def _type(self, wanted: str) -> Iterator[Any]:
        call, label = self._library, self._label()
        if (_GUID if self.label == "gpt" else _DOS_CODE).fullmatch(wanted):
            pointer = call.fdisk_label_parse_parttype(label, wanted.encode())
            if not pointer:
                raise FdiskError(f"libfdisk has no memory for the type {wanted}", errno.ENOMEM)
            try:
                yield pointer
            finally:
                call.fdisk_unref_parttype(pointer)
            return
        for place in range(call.fdisk_label_get_nparttypes(label)):
            pointer = call.fdisk_label_get_parttype(label, place)  # borrowed from the label
            if _text(call.fdisk_parttype_get_name(pointer)).casefold() == wanted.casefold():
                yield pointer
                return
        raise FdiskError(f"{wanted!r} is no type of partition that a {self.label} table has", errno.EINVAL)

    def _read(self, pointer: Any) -> Partition:
        call = self._library
        kind = call.fdisk_partition_get_type(pointer)
        guid = _text(call.fdisk_parttype_get_string(kind)) if kind else ""
        attributes = _text(call.fdisk_partition_get_attrs(pointer))
        return Partition(
            number=int(call.fdisk_partition_get_partno(pointer)) + 1,
            start_sector=int(call.fdisk_partition_get_start(pointer)),
            sectors=int(call.fdisk_partition_get_size(pointer)),
            type=guid.upper() or (f"{call.fdisk_parttype_get_code(kind):X}" if kind else ""),
            type_name=_text(call.fdisk_parttype_get_name(kind)) if kind else "",
            name=_text(call.fdisk_partition_get_name(pointer)),
            uuid=_text(call.fdisk_partition_get_uuid(pointer)).upper(),
            bootable=call.fdisk_partition_is_bootable(pointer) == 1 or _GPT_BOOT_WORD in attributes,
        )


_GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
_DOS_CODE = re.compile(r"(0[xX])?[0-9A-Fa-f]{1,2}")


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")


def gpt_name_problem(name: str) -> str | None:
    """Why a GPT partition cannot be named `name`, or None when it can.

    libfdisk cuts what is too long and garbles what lies outside the basic plane, both without a word.
    """
    if any(ord(character) > 0xFFFF for character in name):
        return "has characters that libfdisk cannot put into a GPT name"
    if len(name) > GPT_NAME_UNITS:
        return f"is {len(name)} characters long; a GPT partition's name holds {GPT_NAME_UNITS}"
    return None


def _check_name(name: str, label: str) -> None:
    if name and label != "gpt":
        raise FdiskError(f"a {label} table has no names for partitions", errno.EINVAL)
    if problem := gpt_name_problem(name):
        raise FdiskError(f"the name {name!r} {problem}", errno.ENAMETOOLONG)


@contextmanager
def open_disk(path: Path, *, writable: bool = False) -> Iterator[Disk]:
    """Open an image file or a block device, by default only to be read. Raises `FdiskError`."""
    disk = Disk(path, writable=writable)
    try:
        yield disk
    except BaseException:
        with suppress(FdiskError):  # the first failure is the one worth telling
            disk.close()
        raise
    disk.close()
