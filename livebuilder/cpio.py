"""The newc cpio archive, as the Linux kernel unpacks it into its first root.

Layout (kernel: Documentation/driver-api/early-userspace/buffer-format.rst), per member::

    "070701"  13 fields of 8 hex digits  name NUL  pad to 4  data  pad to 4

The fields are ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize
and check; the archive ends with a member
named TRAILER!!!. All names of a hard-linked file share an inode number; only the last one carries the data.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from livebuilder.errors import LivebuilderError
from livebuilder.tree import Content, Entry, Kind, RootTree

MAGIC = b"070701"
TRAILER = "TRAILER!!!"
_HEADER_BYTES = 110
_LIMIT = 0xFFFF_FFFF
# The kernel refuses longer names (init/initramfs.c, N_ALIGN(PATH_MAX)).
_NAME_LIMIT = 4096

_TYPE = {
    Kind.DIRECTORY: stat.S_IFDIR,
    Kind.FILE: stat.S_IFREG,
    Kind.HARDLINK: stat.S_IFREG,
    Kind.SYMLINK: stat.S_IFLNK,
    Kind.CHAR: stat.S_IFCHR,
    Kind.BLOCK: stat.S_IFBLK,
    Kind.FIFO: stat.S_IFIFO,
}
_KIND = {kind_bits: kind for kind, kind_bits in _TYPE.items() if kind is not Kind.HARDLINK}


class CpioError(LivebuilderError):
    """A tree the format cannot hold, or bytes that are no newc archive."""


def _pad(length: int) -> bytes:
    return b"\0" * (-length % 4)


def _header(
    *, ino: int, mode: int, nlink: int, uid: int, gid: int, mtime: int, size: int, rdev: tuple[int, int], name: bytes
) -> bytes:
    fields = (ino, mode, uid, gid, nlink, mtime, size, 0, 0, rdev[0], rdev[1], len(name) + 1, 0)
    head = MAGIC + b"".join(b"%08X" % field for field in fields) + name + b"\0"
    return head + _pad(len(head))


def archive(entries: Iterable[Entry], *, mtime_limit: int = _LIMIT, links: RootTree | None = None) -> Iterator[bytes]:
    """The archive's bytes, piece by piece, ended by its trailer.

    `entries` come in the order they are to be unpacked (parents first); `links` is the tree in which hard links
    find their target, by default the entries themselves. Times after `mtime_limit` (seconds since 1970) are
    brought back to it, so that the same tree gives the same bytes whenever it is packed.
    A hard link whose file is not among the entries becomes a file of its own.
    Raises `CpioError` for what 32 bits or 4,095 bytes of name cannot hold.
    """
    listed = list(entries)
    names = {entry.path for entry in listed}
    groups: dict[str, list[str]] = {}
    for entry in listed:
        if entry.kind is Kind.HARDLINK and entry.target in names:
            groups.setdefault(entry.target, [entry.target]).append(entry.path)
    order = {entry.path: place for place, entry in enumerate(listed)}
    last = {first: max(paths, key=order.__getitem__) for first, paths in groups.items()}
    inode_of: dict[str, int] = {}
    by_path = {entry.path: entry for entry in listed}
    for place, entry in enumerate(listed):
        linked = entry.target if entry.kind is Kind.HARDLINK and entry.target in names else entry.path
        meta = entry
        if entry.kind is Kind.HARDLINK:
            meta = by_path[linked] if linked != entry.path else (links or RootTree())[entry.target]
        ino = inode_of.setdefault(linked, place + 1)
        content = _content(meta) if last.get(linked, entry.path) == entry.path else Content.from_bytes(b"")
        yield from _member(entry, meta, content, ino=ino, nlink=len(groups.get(linked, "1")), mtime_limit=mtime_limit)
    end = _header(ino=0, mode=0, nlink=1, uid=0, gid=0, mtime=0, size=0, rdev=(0, 0), name=TRAILER.encode())
    yield end


def _content(entry: Entry) -> Content:
    if entry.kind is Kind.SYMLINK:
        return Content.from_bytes(os.fsencode(entry.target))
    return entry.content


def _member(entry: Entry, meta: Entry, content: Content, *, ino: int, nlink: int, mtime_limit: int) -> Iterator[bytes]:
    name = os.fsencode(entry.path)
    if len(name) >= _NAME_LIMIT:
        raise CpioError(f"/{entry.path[:60]}… has a name of {len(name)} bytes; cpio and Linux hold {_NAME_LIMIT - 1}")
    if entry.path == TRAILER:
        raise CpioError(f"/{TRAILER} cannot be a file's name: in a cpio archive it means the end")
    numbers = {"size": content.size, "owner": meta.uid, "group": meta.gid, "ino": ino}
    for what, number in numbers.items():
        if not 0 <= number <= _LIMIT:
            raise CpioError(f"/{entry.path}: its {what} {number} does not fit into 32 bits")
    nlink = 2 if meta.kind is Kind.DIRECTORY else nlink
    yield _header(
        ino=ino, mode=_TYPE[meta.kind] | meta.mode, nlink=nlink, uid=meta.uid, gid=meta.gid,
        mtime=max(0, min(meta.mtime, mtime_limit)), size=content.size, rdev=meta.device, name=name,
    )  # fmt: skip
    if content.size:
        yield content.read()
        yield _pad(content.size)


@dataclass(frozen=True, slots=True)
class Member:
    """One member as it stands in an archive, its data not copied: `data` is a view of the archive."""

    name: str
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    mtime: int
    device: tuple[int, int]
    data: memoryview


def read_members(data: bytes | memoryview) -> Iterator[Member]:
    """The members of the first archive in `data`, up to its trailer.

    Raises `CpioError`, with the offset in bytes, at anything that is not newc.
    """
    for member, _ in _members(memoryview(data)):
        if member is not None:
            yield member


def read_archive(data: bytes | memoryview, *, source: str = "cpio archive") -> tuple[RootTree, int]:
    """The tree of the first archive in `data`, and the offset behind its trailer.

    Raises `CpioError` for damage, `TreeError` for paths that may not be.
    """
    tree = RootTree()
    held: dict[int, list[Member]] = {}
    offset = 0
    for member, end in _members(memoryview(data)):
        offset = end
        if member is None:
            break
        if stat.S_ISREG(member.mode) and member.nlink > 1:
            held.setdefault(member.ino, []).append(member)
            continue
        tree.add(_entry(member, source=source))
    for members in held.values():
        first, *others = members
        carrier = next((member for member in reversed(members) if member.data), first)
        tree.add(_entry(first, data=bytes(carrier.data), source=source))
        for member in others:
            tree.add(Entry(member.name, Kind.HARDLINK, 0o644, target=first.name.lstrip("./"), source=source))
    return tree, offset


def _entry(member: Member, *, source: str, data: bytes | None = None) -> Entry:
    kind = _KIND.get(stat.S_IFMT(member.mode))
    if kind is None:
        raise CpioError(f"{source}: {member.name!r} is of a kind that cannot be unpacked (mode {member.mode:o})")
    body = bytes(member.data) if data is None else data
    return Entry(
        member.name, kind, stat.S_IMODE(member.mode), member.uid, member.gid, member.mtime,
        content=Content.from_bytes(body if kind is Kind.FILE else b""),
        target=os.fsdecode(body) if kind is Kind.SYMLINK else "",
        device=member.device if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0), source=source,
    )  # fmt: skip


def _members(view: memoryview) -> Iterator[tuple[Member | None, int]]:
    offset = 0
    while True:
        header = bytes(view[offset : offset + _HEADER_BYTES])
        if len(header) < _HEADER_BYTES:
            raise CpioError(f"the archive ends in the middle of a header, at byte {offset}")
        if header[:6] != MAGIC:
            raise CpioError(f"no newc header at byte {offset}")
        try:
            fields = [int(header[6 + 8 * i : 14 + 8 * i], 16) for i in range(13)]
        except ValueError:
            raise CpioError(f"the header at byte {offset} has digits that are not hex") from None
        ino, mode, uid, gid, nlink, mtime, size, _, _, major, minor, name_size, _ = fields
        start = offset + _HEADER_BYTES
        if not 1 <= name_size <= _NAME_LIMIT or start + name_size > len(view):
            raise CpioError(f"the name at byte {start} has an impossible length of {name_size}")
        name = bytes(view[start : start + name_size - 1])
        body = start + name_size + -(start + name_size - offset) % 4
        if body + size > len(view):
            raise CpioError(f"the archive ends in the middle of {name!r}")
        end = body + size + -size % 4
        if name == TRAILER.encode():
            yield None, min(end, len(view))
            return
        yield (
            Member(os.fsdecode(name), ino, mode, nlink, uid, gid, mtime, (major, minor), view[body : body + size]),
            end,
        )
        offset = end
