"""Trees to test with: random ones, their facts for comparing, and the same as real files of this host."""

import os
from pathlib import Path
from typing import NamedTuple

from hypothesis import strategies as st

from livebuilder.process import run
from livebuilder.tree import Content, Entry, Kind, RootTree


class Fact(NamedTuple):
    """What a path is; every name of a hard-linked file says the same, and who the others are."""

    kind: Kind
    mode: int
    owner: tuple[int, int]
    mtime: int
    data: bytes
    target: str
    device: tuple[int, int]
    names: frozenset[str]


def facts(tree: RootTree, *, owner: bool = True) -> dict[str, Fact]:
    """Everything a tree says but xattrs and sources; without owners for those who cannot give files away."""
    names: dict[str, set[str]] = {}
    for entry in tree:
        names.setdefault(entry.target if entry.kind is Kind.HARDLINK else entry.path, set()).add(entry.path)
    found = {}
    for entry in tree:
        it = tree[entry.target] if entry.kind is Kind.HARDLINK else entry
        target = it.target if it.kind is Kind.SYMLINK else ""
        found[entry.path] = Fact(
            it.kind, it.mode, (it.uid, it.gid) if owner else (0, 0), it.mtime, it.content.read(), target, it.device,
            frozenset(names[it.path]),
        )  # fmt: skip
    return found


def parts() -> st.SearchStrategy[str]:
    """Names of any bytes a file system takes (spaces, newlines, not UTF-8), and short ones that collide."""
    free = st.binary(min_size=1, max_size=24).filter(lambda b: b not in (b".", b"..") and not set(b"/\0") & set(b))
    return st.one_of(st.sampled_from(["a", "b", "etc", "lib", ".x", "..y", "a b", "n\nl"]), free.map(os.fsdecode))


_paths = st.lists(parts(), min_size=1, max_size=4).map("/".join)
_modes = st.integers(0, 0o7777)
_owners = st.sampled_from([0, 1, 1000, 65534, 70_000, 0xFFFF_FFFE])
_times = st.integers(0, 0x7FFF_FFFF)  # what every file system of a host holds
_targets = st.lists(st.one_of(parts(), st.just("..")), min_size=1, max_size=4).map("/".join)
_numbers = st.tuples(st.integers(0, 511), st.integers(0, 255))


@st.composite
def _entries(draw: st.DrawFn, kinds: tuple[Kind, ...], least_mode: int) -> Entry:
    kind = draw(st.sampled_from(kinds))
    mode = 0o777 if kind is Kind.SYMLINK else draw(_modes) | least_mode
    return Entry(
        draw(_paths), kind, mode, draw(_owners), draw(_owners), draw(_times),
        content=Content.from_bytes(draw(st.binary(max_size=40)) if kind is Kind.FILE else b""),
        target=draw(_targets) if kind is Kind.SYMLINK else "",
        device=draw(_numbers) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0), source="random",
    )  # fmt: skip


ALL_KINDS = tuple(kind for kind in Kind if kind is not Kind.HARDLINK)
UNPRIVILEGED_KINDS = (Kind.DIRECTORY, Kind.FILE, Kind.FILE, Kind.SYMLINK, Kind.FIFO)


@st.composite
def trees(
    draw: st.DrawFn, *, kinds: tuple[Kind, ...] = ALL_KINDS, least_mode: int = 0, max_entries: int = 16
) -> RootTree:
    """A sound tree; of entries that contradict one another the first stands. Hard links are added to its files."""
    tree = RootTree()
    for entry in draw(st.lists(_entries(kinds, least_mode), max_size=max_entries)):
        _add_if_free(tree, entry)
    files = [entry.path for entry in tree if entry.kind is Kind.FILE]
    for path, number in draw(st.lists(st.tuples(_paths, st.integers(0, 1000)), max_size=6 if files else 0)):
        _add_if_free(tree, Entry(path, Kind.HARDLINK, 0o644, target=files[number % len(files)], source="random"))
    return tree


def _add_if_free(tree: RootTree, entry: Entry) -> None:
    parents = ["/".join(entry.path.split("/")[:end]) for end in range(1, entry.path.count("/") + 1)]
    if entry.path not in tree and all(tree.get(p) is None or tree[p].kind is Kind.DIRECTORY for p in parents):
        tree.add(entry)


def write_tree(tree: RootTree, folder: Path) -> None:
    """Make the tree below `folder` as an ordinary user can: no owners, no device nodes."""
    later: list[tuple[Path, Entry]] = []
    for entry in tree:
        path = folder / entry.path
        match entry.kind:
            case Kind.DIRECTORY:
                path.mkdir()
            case Kind.FILE:
                path.write_bytes(entry.content.read())
            case Kind.SYMLINK:
                os.symlink(entry.target, path)  # noqa: PTH211
                os.utime(path, (entry.mtime, entry.mtime), follow_symlinks=False)
            case Kind.FIFO:
                os.mkfifo(path)
            case Kind.HARDLINK:
                pass
            case _:
                raise ValueError(f"{entry.kind} needs privileges")
        later.append((path, entry))
    for path, entry in reversed(later):
        if entry.kind is Kind.HARDLINK:
            os.link(folder / entry.target, path)
        elif entry.kind is not Kind.SYMLINK:
            path.chmod(entry.mode)
            os.utime(path, (entry.mtime, entry.mtime))


_MTREE_KIND = {
    "dir": Kind.DIRECTORY, "file": Kind.FILE, "link": Kind.SYMLINK, "char": Kind.CHAR, "block": Kind.BLOCK,
    "fifo": Kind.FIFO,
}  # fmt: skip


class Listed(NamedTuple):
    """What bsdtar says of one member of an archive."""

    kind: Kind
    mode: int
    owner: tuple[int, int]
    mtime: int
    size: int
    target: str
    device: tuple[int, int]


def assert_bsdtar_reads(archive: Path, tree: RootTree) -> None:
    """libarchive finds in the archive what `tree` says; a file of several names has its size under one of them."""
    found = listed_by_bsdtar(archive)
    expected = facts(tree)
    assert found.keys() == expected.keys()
    for path, fact in expected.items():
        here = found[path]
        size = max(found[name].size for name in fact.names)
        said = (here.kind, here.mode, here.owner, here.mtime, size, here.target, here.device)
        assert said == (fact.kind, fact.mode, fact.owner, fact.mtime, len(fact.data), fact.target, fact.device), path


def listed_by_bsdtar(archive: Path) -> dict[str, Listed]:
    """The members of a tar or cpio archive as libarchive reads them (its mtree output, made for machines)."""
    keys = "!all,type,mode,uid,gid,time,size,link,device"
    out = run(["bsdtar", "-cf", "-", "--format=mtree", f"--options={keys}", f"@{archive}"]).stdout_bytes
    found = {}
    for line in out.splitlines()[1:]:
        name, *words = line.split()
        values = {key: value for key, _, value in (word.decode().partition("=") for word in words)}
        _, major, minor = values.get("device", "native,0,0").split(",")
        found[os.path.normpath(_unescaped(name.decode()))] = Listed(
            _MTREE_KIND[values["type"]], int(values["mode"], 8), (int(values["uid"]), int(values["gid"])),
            int(float(values["time"])), int(values.get("size", "0")), _unescaped(values.get("link", "")),
            (int(major), int(minor)),
        )  # fmt: skip
    return found


def _unescaped(word: str) -> str:
    """An mtree word: every special byte is a backslash and three octal digits."""
    first, *rest = word.encode("ascii").split(b"\\")
    return os.fsdecode(first + b"".join(bytes([int(piece[:3], 8)]) + piece[3:] for piece in rest))
