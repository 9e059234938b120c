"""Debian packages made with Python's tarfile, so that our own reader is read against another's writing."""

import bz2
import gzip
import hashlib
import io
import lzma
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import zstandard

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE),
    ".bz2": bz2.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


Member = tuple[tarfile.TarInfo, bytes]


def member(
    name: str, data: bytes = b"", *, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, **fields: object
) -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.size, info.mtime = kind, mode, len(data), 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, mode: int = 0o755) -> Member:
    return member(name, kind=tarfile.DIRTYPE, mode=mode)


def link(name: str, target: str, *, hard: bool = False) -> Member:
    return member(name, kind=tarfile.LNKTYPE if hard else tarfile.SYMTYPE, mode=0o777, linkname=target)


def tar_of(members: Iterable[Member], *, format: int = tarfile.GNU_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def ar_of(members: Iterable[tuple[str, bytes]]) -> bytes:
    result = b"!<arch>\n"
    for name, data in members:
        result += f"{name:<16}{1_600_000_000:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        result += data + b"\n" * (len(data) % 2)
    return result


def deb_of(members: Iterable[Member], *, compression: str = ".xz") -> bytes:
    control = gzip.compress(tar_of([member("./control", b"Package: thing\nVersion: 1\nArchitecture: i386\n")]), mtime=0)
    data = COMPRESSORS[compression](tar_of(members))
    return ar_of([("debian-binary", b"2.0\n"), ("control.tar.gz", control), (f"data.tar{compression}", data)])


def write_deb(path: Path, data: bytes) -> str:
    """Write the bytes and return their hash."""
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def everything() -> list[Member]:
    """One of each kind a package may hold, and names and owners at the edges of the format."""
    long = "very-" * 30 + "long"
    return [
        folder("./"),
        folder("./usr/"),
        folder("./usr/bin/"),
        member("./usr/bin/thing", b"#!/bin/sh\necho thing\n" * 99, mode=0o4755, uid=0, gid=42),
        link("./usr/bin/other", "./usr/bin/thing", hard=True),
        link("./usr/bin/soft", "../lib/nowhere"),
        folder(f"./usr/{long}/", mode=0o1777),
        member(f"./usr/{long}/{long}", b"x"),
        link(f"./usr/{long}/soft", "/" + "a/" * 120 + "b"),
        member("./usr/empty", b""),
        member("./usr/caf\udce9", b"latin-1 name"),
        member("./usr/uid", b"u", uid=3_000_000, gid=3_000_000),
        member("./dev/null", kind=tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3),
        member("./dev/loop7", kind=tarfile.BLKTYPE, mode=0o660, devmajor=7, devminor=7),
        member("./run/fifo", kind=tarfile.FIFOTYPE, mode=0o600),
    ]
