"""Read a Debian package without dpkg: its files, as slices of an uncompressed copy kept in the cache.

A package (deb(5)) is an ar archive of "debian-binary", "control.tar.xz" and "data.tar.xz", perhaps packed otherwise.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import IO

from livebuilder import ar
from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import GIB
from livebuilder.tarfiles import TarFiles, read_tar
from livebuilder.unpacking import PackingError, unpack_to

_MOST_BYTES = 8 * GIB
_INDEX_FORMAT = 1
_KIND = "deb-data"

# How a member data.tar may be packed (deb(5)), by what its name ends with.
_PACKINGS = {"": None, ".gz": "gzip", ".xz": "xz", ".lzma": "lzma", ".bz2": "bzip2", ".zst": "zstd"}


def unpack_deb(deb: Path, *, sha256: str, cache: Cache, source: str) -> TarFiles:
    """The files of the package `deb`, unpacked to the cache the first time this `sha256` is asked for.

    The caller has verified that `deb` has that hash; `deb` is not opened when the cache has it unpacked.
    Raises `LivebuilderError` naming `source` when it is damaged or no Debian package.
    """
    found = find_unpacked(sha256, cache=cache, source=source)
    if found is None:
        _discard(cache.root / _KIND / sha256)
        with cache.place(_KIND, sha256) as draft:
            draft.mkdir()
            with deb.open("rb") as stream, (draft / "data.tar").open("wb") as spool:
                _write_spool(stream, spool, source=source)
            rows = read_tar(draft / "data.tar", source=source)
            size = (draft / "data.tar").stat().st_size
            index = {"format": _INDEX_FORMAT, "spool_bytes": size, "rows": rows}
            (draft / "index.json").write_text(json.dumps(index, separators=(",", ":")))
        found = find_unpacked(sha256, cache=cache, source=source)
        if found is None:
            raise LivebuilderError(f"{source} was unpacked to {cache.root}, but the copy there is damaged")
    return found


def find_unpacked(sha256: str, *, cache: Cache, source: str) -> TarFiles | None:
    """The unpacked package of this hash, or None when the cache has none that is whole."""
    folder = cache.find(_KIND, sha256)
    if folder is None:
        return None
    spool = folder / "data.tar"
    try:
        index = json.loads((folder / "index.json").read_bytes())
        if index["format"] != _INDEX_FORMAT or index["spool_bytes"] != spool.stat().st_size:
            return None
        return TarFiles(spool, tuple(index["rows"]), source)
    except (OSError, ValueError, KeyError, TypeError):
        return None  # damaged: unpacked again


def _discard(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _write_spool(deb: IO[bytes], spool: IO[bytes], *, source: str) -> None:
    """Write data.tar, uncompressed, to `spool`."""
    extension, size = _seek_data(deb, source=source)
    try:
        unpack_to(spool, deb, size=size, packing=_PACKINGS[extension], most_bytes=_MOST_BYTES)
    except PackingError as error:
        raise LivebuilderError(f"{source} is damaged: its data.tar{extension}: {error.message}") from error


def _seek_data(deb: IO[bytes], *, source: str) -> tuple[str, int]:
    """Stand at the first byte of data.tar; returns how it is compressed, as a file name extension, and its size."""
    for number, member in enumerate(ar.members(deb, source=source)):
        if number == 0 and member.name != "debian-binary":
            raise LivebuilderError(f"{source} is no Debian package: its first member is {member.name!r}")
        if number == 0 and not (version := _start(deb, member)).startswith(b"2."):
            raise LivebuilderError(f"{source} is a Debian package of an unknown format, {version!r}")
        if member.name.startswith("data.tar"):
            extension = member.name.removeprefix("data.tar")
            if extension not in _PACKINGS:
                raise LivebuilderError(f"{source} is compressed in an unknown way: {member.name}")
            deb.seek(member.offset)
            return extension, member.size
    raise LivebuilderError(f"{source} is damaged: it has no data.tar")


def _start(deb: IO[bytes], member: ar.Member) -> bytes:
    deb.seek(member.offset)
    return deb.read(min(member.size, 20))
