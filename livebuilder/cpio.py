"""The newc cpio archive, as the Linux kernel unpacks it into its first root.

Layout (kernel: Documentation/driver-api/early-userspace/buffer-format.rst), per member::

    "070701"  13 fields of 8 hex digits  name NUL  pad to 4  data  pad to 4

The fields are ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize
and check; the archive ends with a member named TRAILER!!!. "070702" says that check is the sum of a file's bytes; such
archives are read, not written. All names of a hard-linked file share an inode number;
only the last one carries the data (busybox and the kernel link the earlier ones to it).
"""

from __future__ import annotations

import binascii
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import align_up
from livebuilder.tree import EMPTY, TYPE_BITS, Content, Entry, Kind, RootTree, hardlink, kind_of_mode

MAGICS = (b"070701", b"070702")
_SUMMED = MAGICS[1]
TRAILER = "TRAILER!!!"
_HEADER = MAGICS[0] + b"%08X" * 13
_HEADER_BYTES = 110
_LIMIT = 0xFFFF_FFFF
# The kernel refuses longer names (init/initramfs.c, N_ALIGN(PATH_MAX)).
_NAME_LIMIT = 4096


class CpioError(LivebuilderError):
    """A tree the format cannot hold, or bytes that are no newc archive."""


def archive(entries: Iterable[Entry], *, mtime_limit: int = _LIMIT, links: RootTree | None = None) -> Iterator[bytes]:
    """The archive's bytes, piece by piece, ended by its trailer.

    `entries` come in the order they are to be unpacked (parents first); `links` is the tree in which hard links
    find their file when it is not among the entries: those names that are stay linked to one another, and the last
    of them brings the data. Times after `mtime_limit` (seconds since 1970) are brought back to it, so that the same
    tree gives the same bytes whenever it is packed.
    Raises `CpioError` for what 32 bits or 4,095 bytes of name cannot hold, `LivebuilderError` when a file changed.
    """
    listed = list(entries)
    files = {entry.path: entry for entry in listed}
    names: dict[str, list[str]] = {}  # the file → its names among the entries, in their order
    for entry in listed:
        names.setdefault(_file_path(entry), []).append(entry.path)
    inodes = {path: number for number, path in enumerate(names, start=1)}
    for entry in listed:
        path = _file_path(entry)
        meta = files.get(path) or (links.get(path) if links else None)
        if meta is None or meta.kind is Kind.HARDLINK:
            raise CpioError(f"/{entry.path} is a hard link to /{path}, which is no file of this tree")
        nlink = 2 if meta.kind is Kind.DIRECTORY else len(names[path])
        content = _body(meta) if entry.path == names[path][-1] else EMPTY
        mtime = max(0, min(meta.mtime, mtime_limit))
        yield _header(entry.path, meta, inode=inodes[path], nlink=nlink, mtime=mtime, size=content.size)
        if content.size:
            yield from content.pieces()
            yield _padding(content.size)
    yield _record(TRAILER.encode(), 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)


def unkept_xattrs(tree: RootTree) -> list[str]:
    """What a newc archive of `tree` would lose, in archive order: `/bin/ping (security.capability)`."""
    return [f"/{entry.path} ({', '.join(sorted(entry.xattrs))})" for entry in tree if entry.xattrs]


def _file_path(entry: Entry) -> str:
    return entry.target if entry.kind is Kind.HARDLINK else entry.path


def _body(entry: Entry) -> Content:
    return Content.from_bytes(os.fsencode(entry.target)) if entry.kind is Kind.SYMLINK else entry.content


def _header(path: str, meta: Entry, *, inode: int, nlink: int, mtime: int, size: int) -> bytes:
    name = os.fsencode(path)
    if len(name) >= _NAME_LIMIT:
        raise CpioError(f"/{path[:60]}… has a name of {len(name)} bytes; cpio and Linux hold {_NAME_LIMIT - 1}")
    if path == TRAILER:
        raise CpioError(f"/{TRAILER} cannot be a file's name: in a cpio archive it means the end")
    numbers = {"size": size, "owner": meta.uid, "group": meta.gid, "major": meta.device[0], "minor": meta.device[1]}
    for what, number in numbers.items():
        if not 0 <= number <= _LIMIT:
            raise CpioError(f"/{path}: its {what} {number} does not fit into 32 bits")
    mode = TYPE_BITS[meta.kind] | meta.mode
    return _record(name, inode, mode, meta.uid, meta.gid, nlink, mtime, size, 0, 0, *meta.device)


def _record(name: bytes, *fields: int) -> bytes:
    head = _HEADER % (*fields, len(name) + 1, 0) + name + b"\0"
    return head + _padding(len(head))


def _padding(length: int) -> bytes:
    return bytes(-length % 4)


@dataclass(frozen=True, slots=True)
class _Member:
    """One member as it stands in an archive, its data not copied: `data` is a view of the archive.

    `inode` is (major, minor, number): members of `nlink` > 1 that share it are names of one file. `device` is what
    a device node stands for.
    """

    name: str
    inode: tuple[int, int, int]
    mode: int
    nlink: int
    uid: int
    gid: int
    mtime: int
    device: tuple[int, int]
    data: memoryview


def read_archive(data: bytes | memoryview, *, source: str = "cpio archive") -> tuple[RootTree, int]:
    """The tree of the first archive in `data`, and the offset behind its trailer; `source` names it in messages.

    Raises `CpioError`, with the offset in bytes, at anything that is not newc, `TreeError` for paths that may not be.
    """
    tree = RootTree()
    linked: dict[tuple[int, int, int], list[_Member]] = {}
    end = 0
    for member, offset in _members(memoryview(data), source=source):
        end = offset
        if member is None:
            break
        if stat.S_ISREG(member.mode) and member.nlink > 1:
            linked.setdefault(member.inode, []).append(member)
        else:
            tree.add(_entry(member, source=source))
    for members in linked.values():
        first, *others = members
        carrier = next((member for member in reversed(members) if member.data), first)
        tree.add(replace(_entry(carrier, source=source), path=first.name))
        for member in others:
            tree.add(hardlink(member.name, first.name, source=source))
    return tree, end


def _entry(member: _Member, *, source: str) -> Entry:
    kind = kind_of_mode(member.mode)
    if kind is None:
        raise CpioError(f"{source}: {member.name!r} is of a kind that cannot be unpacked (mode {member.mode:o})")
    body = bytes(member.data)
    # The kernel's own gen_init_cpio ends a symlink's target with NUL.
    target = os.fsdecode(body.removesuffix(b"\0")) if kind is Kind.SYMLINK else ""
    return Entry(
        member.name, kind, stat.S_IMODE(member.mode), member.uid, member.gid, member.mtime,
        content=Content.from_bytes(body) if kind is Kind.FILE else EMPTY, target=target,
        device=member.device if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0), source=source,
    )  # fmt: skip


def _members(view: memoryview, *, source: str) -> Iterator[tuple[_Member | None, int]]:
    """Each member with the offset behind it; None stands for the trailer."""
    offset = 0
    while True:
        header = bytes(view[offset : offset + _HEADER_BYTES])
        if len(header) < _HEADER_BYTES:
            raise CpioError(f"{source} ends in the middle of a header, at byte {offset}")
        if not header.startswith(MAGICS):
            raise CpioError(f"{source} has no newc header at byte {offset}")
        try:
            fields = struct.unpack(">13I", binascii.unhexlify(header[len(_SUMMED) :]))
        except binascii.Error:
            raise CpioError(f"{source}: the header at byte {offset} has digits that are not hex") from None
        ino, mode, uid, gid, nlink, mtime, size, major, minor, device_major, device_minor, name_size, check = fields
        start = offset + _HEADER_BYTES
        name = bytes(view[start : start + name_size])
        if not 1 <= name_size <= _NAME_LIMIT or len(name) < name_size or not name.endswith(b"\0"):
            raise CpioError(f"{source}: the name at byte {start} has an impossible length of {name_size}")
        name = name[:-1]
        body = offset + align_up(_HEADER_BYTES + name_size, 4)
        if body + size > len(view):
            raise CpioError(f"{source} ends in the middle of {name!r}")
        offset = min(align_up(body + size, 4), len(view))
        # The sum of an empty file says nothing: it may stand with the name that brings the data.
        if (
            header.startswith(_SUMMED)
            and stat.S_ISREG(mode)
            and size
            and sum(view[body : body + size]) & _LIMIT != check
        ):
            raise CpioError(f"{source}: the checksum of {name!r} is wrong")
        if name == TRAILER.encode():
            yield None, offset
            return
        member = _Member(
            os.fsdecode(name), (major, minor, ino), mode, nlink, uid, gid, mtime,
            (device_major, device_minor), view[body : body + size],
        )  # fmt: skip
        yield member, offset
