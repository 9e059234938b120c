"""Layers and pieces: every path once, parents first, the cache spares work."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from livebuilder import cpio
from livebuilder.cache import Cache
from livebuilder.compression import GZIP, XZ
from livebuilder.image.payload import PIECE_BYTES, pack_layers, split_layers
from livebuilder.tree import Entry, RootTree, TreeError, directory, file, hardlink, symlink
from livebuilder.unpacking import unpack_first
from tests.support.newc import members_of


def unpacked(layers: list[tuple[str, RootTree]]) -> RootTree:
    """What is there after the layers were unpacked one after the other, as the other machine does it."""
    root, split = split_layers(layers)
    there: dict[str, Entry] = {}
    for layer in split:
        data = b"".join(cpio.archive(layer.entries, links=root))
        tree, end = cpio.read_archive(data)
        assert end == len(data)
        names = [member.name for member in members_of(data)]
        for place, name in enumerate(names):
            parent = name.rpartition("/")[0]
            assert not parent or parent in there or parent in names[:place]
        there |= {name: tree[name] for name in names}
    return RootTree(there[path] for path in sorted(there, key=lambda path: path.split("/")))


def facts(tree: RootTree) -> dict[str, tuple[object, ...]]:
    return {e.path: (e.kind, e.mode, e.target, tree.content_of(e).read()) for e in tree}


def test_the_last_layer_wins_and_nothing_travels_twice() -> None:
    lower = RootTree([directory("etc", mode=0o755), file("etc/motd", "old"), file("etc/kept", "kept"), file("b", "b")])
    upper = RootTree([directory("etc", mode=0o700), file("etc/motd", "new"), symlink("b", "etc/kept")])
    root, split = split_layers([("10", lower), ("40", upper)])
    names = [[entry.path for entry in layer.entries] for layer in split]
    assert names == [["etc", "etc/kept"], ["b", "etc/motd"]]
    assert split[0].entries[0].mode == 0o700, "a folder comes first, and in its final mode"
    assert root["etc/motd"].content.read() == b"new"


def test_a_link_survives_the_file_it_was_a_name_of() -> None:
    lower = RootTree([file("bin/a", "program", mode=0o755), hardlink("bin/b", "bin/a"), hardlink("bin/c", "bin/a")])
    upper = RootTree([file("bin/a", "other")])
    tree = unpacked([("10", lower), ("40", upper)])
    assert {path: tree.content_of(tree[path]).read() for path in ("bin/a", "bin/b", "bin/c")} == {
        "bin/a": b"other",
        "bin/b": b"program",
        "bin/c": b"program",
    }
    assert tree["bin/b"].mode == 0o755


_PATHS = st.sampled_from(["a", "b", "a/x", "a/y", "a/x/1", "b/z", "c/d/e"])
_ENTRIES = st.one_of(
    st.builds(lambda p, d, m: file(p, d, mode=m), _PATHS, st.binary(max_size=9), st.sampled_from([0o644, 0o755])),
    st.builds(lambda p, m: directory(p, mode=m), _PATHS, st.sampled_from([0o700, 0o755])),
    st.builds(lambda p: symlink(p, "b"), _PATHS),
)


def _tree(entries: list[Entry]) -> RootTree:
    tree = RootTree()
    for entry in entries:
        try:
            tree.add(entry)
        except TreeError:
            continue
    return tree


@given(st.lists(st.lists(_ENTRIES, max_size=8), min_size=1, max_size=3))
def test_unpacking_the_layers_gives_the_merged_root(drawn: list[list[Entry]]) -> None:
    layers = [(f"{number}0", _tree(entries)) for number, entries in enumerate(drawn, 1)]
    try:
        root, _ = split_layers(layers)
    except TreeError:
        return  # a folder over a file: refused before anything is packed
    assert facts(unpacked(layers)) == facts(root)


def test_pieces_are_cut_compressed_and_remembered(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    import random

    noise = random.Random(1).randbytes(PIECE_BYTES)
    layers = [("10", RootTree([file("big", noise), file("small", "x")])), ("40", RootTree([file("conf", "a=1")]))]
    root, split = split_layers(layers)
    first = pack_layers(split, root, compression=XZ, epoch=0, cache=cache)
    assert [len(layer.pieces) for layer in first] == [2, 1]
    plain = b"".join(unpack_first(piece, "xz", most_bytes=PIECE_BYTES)[0] for piece in first[0].pieces)
    assert cpio.read_archive(plain)[0]["big"].content.read() == noise
    assert sum(layer.from_cache for layer in first) == 0

    layers[1] = ("40", RootTree([file("conf", "a=2")]))
    root, split = split_layers(layers)
    second = pack_layers(split, root, compression=XZ, epoch=0, cache=cache)
    assert [layer.from_cache for layer in second] == [2, 0], "only the changed layer is packed again"
    assert second[0].pieces == first[0].pieces
    assert pack_layers(split, root, compression=GZIP, epoch=0, cache=cache)[0].from_cache == 0


def test_times_after_the_epoch_do_not_show(tmp_path: Path) -> None:
    from dataclasses import replace

    def packed(mtime: int) -> bytes:
        tree = RootTree([replace(file("a", "x"), mtime=mtime)])
        root, split = split_layers([("10", tree)])
        return pack_layers(split, root, compression=XZ, epoch=1000, cache=Cache(tmp_path))[0].pieces[0]

    assert packed(2000) == packed(3000)
    assert packed(2000) != packed(500)
