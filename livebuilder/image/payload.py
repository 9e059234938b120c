"""The root as it travels: layers, each one newc archive cut into pieces that are compressed on their own.

Pieces make two things cheap: a change of one configuration file compresses one small piece again, the rest comes
from the cache; and pieces are compressed in parallel.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from livebuilder import cpio
from livebuilder.cache import Cache
from livebuilder.compression import Compression
from livebuilder.sizes import MIB
from livebuilder.tree import Entry, Kind, RootTree, file

PIECE_BYTES = 2 * MIB
# Part of every cache key: raise it when the bytes of a piece change for another reason than its input.
_GENERATION = "2"
_DIGEST_BYTES = 32
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")


@dataclass(frozen=True)
class Layer:
    """The entries one layer adds, in archive order; `name` sorts in the order of unpacking."""

    name: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class PackedLayer:
    """A layer's compressed pieces; sizes in bytes, `sha256` of the plain archive."""

    name: str
    pieces: tuple[bytes, ...]
    plain_size: int
    sha256: str
    entries: int
    from_cache: int

    @property
    def packed_size(self) -> int:
        """The bytes of all pieces."""
        return sum(map(len, self.pieces))


def split_layers(layers: Sequence[tuple[str, RootTree]]) -> tuple[RootTree, tuple[Layer, ...]]:
    """Lay the trees over one another, and say which layer brings what is left of each.

    Every path travels once, in the last layer that has it; folders come with the first layer that needs them,
    already in their final mode.
    """
    root = RootTree()
    brought_by: dict[str, str] = {}
    for name, tree in layers:
        root.overlay(tree)
        brought_by.update((entry.path, name) for entry in tree)
    there: set[str] = set()
    result = []
    for name, tree in layers:
        mine = []
        for given in tree:
            entry = root.get(given.path)
            if entry is None or (entry.kind is not Kind.DIRECTORY and brought_by[entry.path] != name):
                continue
            for path in (*_parents(entry.path), entry.path):
                if path not in there:
                    there.add(path)
                    mine.append(root[path])
        result.append(Layer(name, tuple(mine)))
    # A hard link can outlive its first name's layer and move: whatever is left comes last.
    left = tuple(entry for entry in root if entry.path not in there)
    if left:
        result[-1] = Layer(result[-1].name, result[-1].entries + left)
    return root, tuple(result)


def shared_paths(early: RootTree, root: RootTree) -> tuple[str, ...]:
    """The files of the root that the initramfs has at the same place: /init copies them instead of unpacking them.

    Only those without further names, and whose name the shell reads as one word.
    """
    linked = {entry.target for entry in root if entry.kind is Kind.HARDLINK}
    pairs = ((entry, root.get(entry.path)) for entry in early if entry.kind is Kind.FILE)
    return tuple(
        entry.path
        for entry, same in pairs
        if same is not None
        and same.kind is Kind.FILE
        and entry.path not in linked
        and _PLAIN_PATH.fullmatch(entry.path)
        and entry.content.same_as(same.content)
    )


def link_owners(layers: Iterable[Layer]) -> Iterator[Entry]:
    """Lists of the symbolic links that are not root's, one for each owner: busybox cpio loses whose those are."""
    owned: dict[tuple[int, int], list[str]] = {}
    for layer in layers:
        for entry in layer.entries:
            if entry.kind is Kind.SYMLINK and (entry.uid, entry.gid) != (0, 0):
                owned.setdefault((entry.uid, entry.gid), []).append(f"./{entry.path}\0")
    for (uid, gid), paths in sorted(owned.items()):
        yield file(f"payload/links.{uid}:{gid}", os.fsencode("".join(paths)), mode=0o400)


def without_paths(layers: Iterable[Layer], paths: Collection[str]) -> tuple[Layer, ...]:
    """The layers with these paths taken out."""
    return tuple(Layer(one.name, tuple(e for e in one.entries if e.path not in paths)) for one in layers)


def _parents(path: str) -> Iterator[str]:
    parts = path.split("/")
    for end in range(1, len(parts)):
        yield "/".join(parts[:end])


def pack_layers(
    layers: Iterable[Layer], root: RootTree, *, compression: Compression, epoch: int, cache: Cache
) -> tuple[PackedLayer, ...]:
    """Every layer compressed; pieces known from before are taken from the cache. `epoch`: the latest time kept."""
    pool = ThreadPoolExecutor(os.cpu_count() or 1)
    try:
        started = []
        for layer in layers:
            plain = b"".join(cpio.archive(layer.entries, mtime_limit=epoch, links=root))
            cut = [plain[start : start + PIECE_BYTES] for start in range(0, len(plain), PIECE_BYTES)]
            jobs = [pool.submit(compress_cached, piece, compression=compression, cache=cache) for piece in cut]
            started.append((layer, len(plain), hashlib.sha256(plain).hexdigest(), jobs))
        packed = []
        for layer, size, digest, jobs in started:
            done = [job.result() for job in jobs]
            pieces = tuple(data for data, _ in done)
            known = sum(cached for _, cached in done)
            packed.append(PackedLayer(layer.name, pieces, size, digest, len(layer.entries), known))
    finally:
        pool.shutdown(cancel_futures=True)  # an interrupted build waits for no piece that nobody began
    return tuple(packed)


def compress_cached(data: bytes, *, compression: Compression, cache: Cache) -> tuple[bytes, bool]:
    """`data` compressed, and whether the cache already had it."""
    if not compression.parameters:
        return compression.compress(data), False
    recipe = f"{_GENERATION} {compression.name} {compression.parameters} {hashlib.sha256(data).hexdigest()}"
    key = hashlib.sha256(recipe.encode()).hexdigest()
    known = cache.find("pieces", key)
    if known is not None:
        # A power cut can leave a kept file short, and then it would go onto every disc from now on.
        kept = known.read_bytes()
        digest, packed = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
        if hashlib.sha256(packed).digest() == digest:
            return packed, True
    packed = compression.compress(data)
    with cache.place("pieces", key) as draft:
        draft.write_bytes(hashlib.sha256(packed).digest() + packed)
    return packed, False


def piece_name(layer: str, number: int, compression: Compression) -> str:
    """Where piece `number` of a layer is in the initramfs."""
    return f"payload/{layer}.{number:03d}.cpio{compression.suffix}"
