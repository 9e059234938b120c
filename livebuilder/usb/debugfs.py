"""The files in an image of ext2, ext3 or ext4, read and changed by debugfs alone: no mount, and no root is needed.

Commands and what they print: debugfs(8); quoting is that of libss (e2fsprogs lib/ss/parse.c).
"""

from __future__ import annotations

import os
import re
import stat
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.staging import SCRATCH_HINT, verify_room
from livebuilder.tree import HOST_XATTRS, TYPE_BITS, Content, Entry, Kind, RootTree, kind_of_mode
from livebuilder.usb.changes import Change, names_of_files
from livebuilder.usb.filesystem import LOST_AND_FOUND

_XATTRS = ("user.", "trusted.", "security.", "system.posix_acl_access", "system.posix_acl_default")
_NOT_OURS = HOST_XATTRS | {"system.data"}  # the latter is the rest of a file that lies within its inode
_LINE_BYTES = 8000  # debugfs reads lines of a script into a buffer of BUFSIZ = 8,192 bytes, and cuts them at CR
# `/inode/mode/uid/gid/name/size/` of `ls -p`: a name has no `/` in it, but it may have line ends.
_LISTED = re.compile(rb"/(\d+)/(\d{6})/-?\d+/-?\d+/([^/]*)/\d*/\n")
_DUMPED = re.compile(rb"([0-7]{4,})  ((?:[0-9a-f]{4} ){8})")
_ATTRIBUTE = re.compile(rb"  (.+?) \(\d+\)(?: = .*)?")


def read_tree(image: Path, folder: Path, *, source: str) -> RootTree:
    """All files in `image`; what they hold lies in `folder` then. `source` is what it is a copy of, for messages.

    Raises `LivebuilderError`, also when there is no room for what they hold.
    """
    doing = f"reading {source}"
    try:
        paths = _paths(image, doing)
        numbers = sorted({number for _, number in paths})
        dumps = _debugfs(image, [b"inode_dump <%d>" % number for number in numbers], doing=doing)
        inodes = {number: parse_inode(parse_dump(dump)) for number, dump in zip(numbers, dumps, strict=True)}
        lists = _debugfs(image, [b"ea_list <%d>" % number for number in numbers], doing=doing)
        attributes = {
            number: [name for name in parse_attributes(text) if name not in _NOT_OURS]
            for number, text in zip(numbers, lists, strict=True)
        }
    except (ValueError, struct.error) as error:
        raise LivebuilderError(f"{doing} failed: debugfs printed what is not understood ({error})") from error
    size = sum(inode.size for inode in inodes.values() if stat.S_ISREG(inode.mode))
    verify_room(Path(tempfile.gettempdir()), size, what=f"what is on {source}", hint=SCRATCH_HINT)
    commands = []
    for number, inode in inodes.items():
        if stat.S_ISREG(inode.mode) or (stat.S_ISLNK(inode.mode) and inode.size >= len(inode.blocks)):
            commands.append(b"dump <%d> %b" % (number, _quoted(os.fspath(_staged(folder, number)))))
        for name in attributes[number]:
            file = _quoted(os.fspath(_staged(folder, number, name)))
            commands.append(b"ea_get -f %b <%d> %b" % (file, number, _quoted(name)))
    _debugfs(image, commands, doing=doing)
    tree = RootTree()
    seen: dict[int, str] = {}
    for path, number in sorted(paths, key=lambda pair: pair[0].replace("/", "\0")):
        entry = _entry(path, number, inodes[number], attributes[number], folder, source)
        if entry.kind is Kind.FILE and seen.setdefault(number, path) != path:
            entry = replace(entry, kind=Kind.HARDLINK, target=seen[number], content=Content.from_bytes(b""))
        tree.add(entry)
    return tree


def change_tree(image: Path, folder: Path, changes: Sequence[Change], wanted: RootTree, *, source: str) -> None:
    """Carry out `changes`, which lead to `wanted`; the empty `folder` is for what files hold. It is to be mended then.

    For debugfs forgets to free the block of a device's or short symlink's attributes. Raises `LivebuilderError`.
    """
    script = debugfs_script(changes, wanted, folder=folder)
    _write_staged(changes, folder)
    _debugfs(image, script, writable=True, doing=f"changing a copy of {source}")


def debugfs_script(changes: Sequence[Change], wanted: RootTree, *, folder: Path) -> list[bytes]:
    """The commands that carry out `changes`; what they put into files lies in `folder` as `_write_staged()` names it.

    Raises `LivebuilderError`, naming the path, for what debugfs cannot carry.
    """
    lines: list[bytes] = []
    names = names_of_files(wanted)
    here = None
    for number, change in enumerate(changes):
        entry = change.entry
        whole, name = _quoted("/" + entry.path), _quoted(entry.name)
        if change.action == "remove":
            lines.append((b"rmdir " if entry.kind is Kind.DIRECTORY else b"rm ") + whole)
            continue
        _verify_carried(entry, whole)
        if entry.parent != here:  # older releases of debugfs take a path for a name in some commands
            here = entry.parent
            lines.append(b"cd " + _quoted("/" + here))
        if change.action == "make":
            lines += _making(entry, name, data=_staged(folder, number), names=len(names.get(entry.path, {entry.path})))
        if change.action == "set" or entry.kind not in (Kind.DIRECTORY, Kind.HARDLINK):
            lines += _setting(entry, _existing(entry.name), folder=folder, number=number)
    for line in lines:
        if len(line) > _LINE_BYTES and not line.startswith(b"rm"):
            raise LivebuilderError(f"a path is too long for debugfs: {os.fsdecode(line[:60])}…")
    return lines


def _quoted(text: str) -> bytes:
    return b'"' + os.fsencode(text).replace(b'"', b'""') + b'"'


def _existing(name: str) -> bytes:
    """A name in the present folder such that it is taken neither for an option nor for the number of an inode."""
    return _quoted(f"./{name}")


def _staged(folder: Path, number: int, attribute: str = "") -> Path:
    """Where the bytes lie that change `number` puts into its file or into an attribute."""
    return folder / (f"{number}-{os.fsencode(attribute).hex()}" if attribute else str(number))


def _verify_carried(entry: Entry, whole: bytes) -> None:
    for text in (os.fsdecode(whole), entry.target, *entry.xattrs):
        if "\n" in text or "\r" in text:
            raise LivebuilderError(
                f"/{entry.path!r} has a line end in a name, which debugfs cannot carry; nothing was changed",
                hint="use a stick with btrfs on it, or leave that file out",
            )
    for attribute in entry.xattrs:
        if not attribute.startswith(_XATTRS):
            raise LivebuilderError(
                f"/{entry.path} has the extended attribute {attribute}, which ext4 cannot hold; nothing was changed"
            )


def _making(entry: Entry, name: bytes, *, data: Path, names: int) -> list[bytes]:
    if entry.kind is Kind.DIRECTORY:
        return [b"mkdir " + name]
    if entry.kind is Kind.FILE:
        count = [b"sif %b links_count %d" % (_existing(entry.name), names)] if names > 1 else []
        return [b"write %b %b" % (_quoted(os.fspath(data)), name), *count]
    if entry.kind is Kind.SYMLINK:
        return [b"symlink %b %b" % (name, _quoted(entry.target))]
    if entry.kind is Kind.HARDLINK:
        # `ln` does not make a full folder larger, `mknod` does: its entry makes room for the link's.
        return [b"mknod %b p" % name, b"rm " + _existing(entry.name), b"ln %b %b" % (_quoted("/" + entry.target), name)]
    if entry.kind is Kind.FIFO:
        return [b"mknod %b p" % name]
    # mknod itself knows small numbers only: the two blocks hold them as the kernel's ext4_new_encode_dev writes them.
    major, minor = entry.device
    small = major < 256 and minor < 256
    old = major << 8 | minor if small else 0
    new = 0 if small else (minor & 0xFF) | major << 8 | (minor & ~0xFF) << 12
    return [
        b"mknod %b %b 0 0" % (name, b"c" if entry.kind is Kind.CHAR else b"b"),
        b"sif %b block[0] %d" % (_existing(entry.name), old),
        b"sif %b block[1] %d" % (_existing(entry.name), new),
    ]


def _setting(entry: Entry, name: bytes, *, folder: Path, number: int) -> list[bytes]:
    mode = 0o777 if entry.kind is Kind.SYMLINK else entry.mode
    return [
        b"sif %b mode 0%o" % (name, TYPE_BITS[entry.kind] | mode),
        b"sif %b uid %d" % (name, entry.uid),
        b"sif %b gid %d" % (name, entry.gid),
        *(
            b"ea_set -f %b %b %b" % (_quoted(os.fspath(_staged(folder, number, key))), name, _quoted(key))
            for key in sorted(entry.xattrs)
        ),
        b"sif %b mtime @%d" % (name, entry.mtime),
    ]


def _write_staged(changes: Sequence[Change], folder: Path) -> None:
    for number, change in enumerate(changes):
        entry = change.entry
        if change.action == "remove":
            continue
        if entry.kind is Kind.FILE:
            with _staged(folder, number).open("wb") as stream:
                for piece in entry.content.pieces():
                    if piece.count(0) == len(piece):
                        stream.seek(len(piece), os.SEEK_CUR)  # a hole here is a hole there
                    else:
                        stream.write(piece)
                stream.truncate(entry.content.size)
        for key, value in entry.xattrs.items():
            _staged(folder, number, key).write_bytes(value)


def _debugfs(image: Path, lines: Sequence[bytes], *, doing: str, writable: bool = False) -> list[bytes]:
    """Have debugfs carry out `lines`; what each of them printed. It ends with 0 whatever happened: stderr tells."""
    argv = ["debugfs", *(["-w"] if writable else [])]
    printed: list[bytes] = []
    script: list[bytes] = []
    for line in [*lines, b""]:
        one_by_one = b"\n" in line or b"\r" in line or len(line) > _LINE_BYTES
        if (one_by_one or not line) and script:
            done = run([*argv, "-f", "-", image], input_bytes=b"\n".join(script) + b"\n", check=False)
            _verify_debugfs(done.stderr, done.returncode, doing)
            printed += _printed(done.stdout_bytes, script, doing)
            script = []
        if one_by_one:
            done = run([*argv, "-R", os.fsdecode(line), image], check=False)
            _verify_debugfs(done.stderr, done.returncode, doing)
            printed.append(done.stdout_bytes)
        elif line:
            script.append(line)
    return printed


def _verify_debugfs(stderr: str, status: int, doing: str) -> None:
    said = [line for line in stderr.splitlines() if line.strip() and not line.startswith("debugfs ")]
    if said or status:
        full = any("ould not allocate" in line or "No space" in line for line in said)
        raise LivebuilderError(
            f"{doing} failed: " + ("it is full" if full else f"debugfs said {said[0] if said else status!r}")
            + "; nothing was written"
        )  # fmt: skip


def _printed(text: bytes, lines: Sequence[bytes], doing: str) -> list[bytes]:
    """What came after the echo of each line."""
    starts = []
    at = 0
    for line in lines:
        echo = b"debugfs: " + line + b"\n"
        found = text.find(echo, at)
        if found < 0:
            raise LivebuilderError(f"{doing} failed: debugfs did not get as far as {os.fsdecode(line)[:80]!r}")
        starts.append((found, found + len(echo)))
        at = found + len(echo)
    ends = [start for start, _ in starts[1:]] + [len(text)]
    return [text[begin:end] for (_, begin), end in zip(starts, ends, strict=True)]


@dataclass(frozen=True)
class Inode:
    """What the inode of an ext file system says (kernel: Documentation/filesystems/ext4/inodes.rst)."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime: int
    blocks: bytes

    @property
    def device(self) -> tuple[int, int]:
        """The (major, minor) of a device node."""
        old, new = struct.unpack_from("<2I", self.blocks)
        if old:
            return old >> 8 & 0xFF, old & 0xFF
        return new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00


def parse_inode(raw: bytes) -> Inode:
    """The inode in its 128 bytes or more.

    ::

        0 mode  2 uid  4 size  16 mtime  24 gid  40 i_block, 60 bytes  108 size, high
        120 uid, high  122 gid, high  128 i_extra_isize  136 mtime: 2 bits of epoch, 30 of nanoseconds
    """
    mode, uid, size = struct.unpack_from("<HHI", raw)
    (mtime,) = struct.unpack_from("<i", raw, 16)
    (gid,) = struct.unpack_from("<H", raw, 24)
    (size_high,) = struct.unpack_from("<I", raw, 108)
    uid_high, gid_high = struct.unpack_from("<2H", raw, 120)
    if len(raw) >= 140 and struct.unpack_from("<H", raw, 128)[0] >= 12:
        mtime += (struct.unpack_from("<I", raw, 136)[0] & 3) << 32
    return Inode(mode, uid | uid_high << 16, gid | gid_high << 16, size | size_high << 32, mtime, raw[40:100])


def parse_dump(text: bytes) -> bytes:
    """The bytes of `inode_dump`: octal offsets, sixteen bytes to a line, `*` for lines like the one before."""
    raw = bytearray()
    repeated = False
    for line in text.splitlines():
        if line == b"*":
            repeated = True
        elif match := _DUMPED.match(line):
            while repeated and len(raw) < int(match[1], 8):
                raw += raw[-16:]
            repeated = False
            raw += bytes.fromhex(match[2].decode())
    if repeated:  # to the end, which is not said: inodes are powers of two
        size = max(128, 1 << len(raw).bit_length())
        raw += raw[-16:] * ((size - len(raw)) // 16)
    return bytes(raw)


def parse_listing(text: bytes) -> list[tuple[str, int, int]]:
    """(name, inode, mode with its type) of what `ls -p` lists, without `.` and `..`; `ValueError` for anything else."""
    at, found = 0, []
    while match := _LISTED.match(text, at):
        at = match.end()
        if match[3] not in (b".", b"..") and match[1] != b"0":  # an entry without an inode is room for one
            found.append((os.fsdecode(match[3]), int(match[1]), int(match[2], 8)))
    if text[at:].strip():
        raise ValueError(f"no line of a listing: {text[at : at + 80]!r}")
    return found


def parse_attributes(text: bytes) -> list[str]:
    """The names of the extended attributes that `ea_list` lists; `ValueError` for anything else."""
    lines = text.strip(b"\n").split(b"\n") if text.strip() else []
    found = []
    for line in lines[1:] if lines[:1] == [b"Extended attributes:"] else lines:
        match = _ATTRIBUTE.fullmatch(line)
        if match is None:
            raise ValueError(f"no line of a list of attributes: {line[:80]!r}")
        found.append(os.fsdecode(match[1]))
    return found


def _paths(image: Path, doing: str) -> list[tuple[str, int]]:
    """All paths and their inodes, folder by folder."""
    found = []
    folders = [("", 2)]
    known = {2}
    while folders:
        listings = _debugfs(image, [b"ls -p <%d>" % number for _, number in folders], doing=doing)
        below = []
        for (parent, _), listing in zip(folders, listings, strict=True):
            for name, number, mode in parse_listing(listing):
                path = f"{parent}/{name}" if parent else name
                if path == LOST_AND_FOUND or kind_of_mode(mode) is None:
                    continue
                found.append((path, number))
                if stat.S_ISDIR(mode):
                    if number in known:
                        raise LivebuilderError(f"{doing} failed: the folder /{path} is found in two places")
                    known.add(number)
                    below.append((path, number))
        folders = below
    return found


def _entry(path: str, number: int, inode: Inode, attributes: list[str], folder: Path, source: str) -> Entry:
    kind = kind_of_mode(inode.mode)
    assert kind is not None, "others were not read"
    content, target = Content.from_bytes(b""), ""
    dumped = _staged(folder, number)
    if kind is Kind.FILE:
        size = dumped.stat().st_size
        if size < inode.size:  # of a file within its inode debugfs gives all of the inode's room
            raise LivebuilderError(f"reading /{path} of {source} gave {size} bytes, not {inode.size}")
        content = Content.from_file(dumped, size=inode.size)
    elif kind is Kind.SYMLINK:
        target = os.fsdecode(inode.blocks[: inode.size] if inode.size < len(inode.blocks) else dumped.read_bytes())
    xattrs = {name: _staged(folder, number, name).read_bytes() for name in attributes}
    return Entry(
        path, kind, stat.S_IMODE(inode.mode), inode.uid, inode.gid, inode.mtime, content, target,
        inode.device if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0), xattrs, source,
    )  # fmt: skip
