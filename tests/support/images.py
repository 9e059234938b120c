"""What is in an initramfs, by GNU cpio and Python's own decompressors: nothing here is code of ours."""

from __future__ import annotations

import lzma
import re
import shlex
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zstandard

from livebuilder.process import run

_PIECE = re.compile(r"payload/(.+)\.(\d{3})\.cpio(?:\.\w+)?")
_LINE = re.compile(
    r"(?P<mode>[-bcdlps]\S{9})\s+(?P<links>\d+)\s+(?P<uid>\d+)\s+(?P<gid>\d+)\s+"
    r"(?:(?P<major>\d+),\s*(?P<minor>\d+)|(?P<size>\d+))\s+\w{3}\s+\d+\s+[\d:]+\s(?P<name>.*)"
)


class Listed(NamedTuple):
    """A line of `cpio -itv`."""

    mode: str
    links: int
    owner: tuple[int, int]
    size: int
    device: tuple[int, int]
    target: str


def plain_archives(data: bytes) -> Iterator[bytes]:
    """The archives the kernel would unpack, one after the other, plain."""
    while data := data.lstrip(b"\0"):
        if data.startswith(b"070701"):
            end = _end_of_archive(data)
            yield data[:end]
            data = data[end:]
            continue
        plain, data = _unpacked(data)
        yield from plain_archives(plain)


def _end_of_archive(data: bytes) -> int:
    """Behind the trailer; a payload has trailers of its own in it, so only a walk finds the right one."""
    at, name = 0, b""
    while name != b"TRAILER!!!":
        size, name_size = int(data[at + 54 : at + 62], 16), int(data[at + 94 : at + 102], 16)
        name = data[at + 110 : at + 109 + name_size]
        at += 110 + name_size
        at += -at % 4 + size
        at += -at % 4
    return at


def _unpacked(data: bytes) -> tuple[bytes, bytes]:
    unpacker: lzma.LZMADecompressor | zlib._Decompress | zstandard.ZstdDecompressionObj
    if data.startswith(b"\xfd7zXZ"):
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_XZ)
    elif data.startswith(b"\x1f\x8b"):
        unpacker = zlib.decompressobj(31)
    else:
        assert data.startswith(b"\x28\xb5\x2f\xfd"), data[:8]
        unpacker = zstandard.ZstdDecompressor().decompressobj()
    plain = unpacker.decompress(data)
    assert unpacker.eof
    return plain, unpacker.unused_data


def archives(initramfs: Path, folder: Path) -> list[Path]:
    """The archives of an initramfs as files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, data in enumerate(plain_archives(initramfs.read_bytes())):
        paths.append(folder / f"archive-{number}.cpio")
        paths[-1].write_bytes(data)
    return paths


def layers(initramfs: Path, folder: Path) -> dict[str, Path]:
    """The layers of the root, put together from their pieces, as files in `folder`."""
    found: dict[str, Path] = {}
    for archive in archives(initramfs, folder):
        pieces = sorted(name for name in list_archive(archive) if _PIECE.fullmatch(name))
        if not pieces:
            continue
        run(
            ["cpio", "-id", "--quiet", "--no-absolute-filenames", "payload/*"],
            cwd=folder,
            input_bytes=archive.read_bytes(),
        )
        for name in pieces:
            match = _PIECE.fullmatch(name)
            assert match
            data = (folder / name).read_bytes()
            path = found.setdefault(match[1], folder / f"{match[1]}.cpio")
            packed = name.endswith((".xz", ".gz", ".zst"))
            with path.open("ab" if int(match[2]) else "wb") as stream:
                stream.write(_unpacked(data)[0] if packed else data)
    return found


def list_archive(archive: Path) -> dict[str, Listed]:
    """What GNU cpio says is in it."""
    done = run(["cpio", "-itv", "--quiet", "--numeric-uid-gid"], input_bytes=archive.read_bytes())
    found = {}
    for line in done.stdout.splitlines():
        match = _LINE.fullmatch(line)
        assert match, line
        name, _, target = match["name"].partition(" -> ")
        found[name] = Listed(
            match["mode"], int(match["links"]), (int(match["uid"]), int(match["gid"])), int(match["size"] or 0),
            (int(match["major"] or 0), int(match["minor"] or 0)), target,
        )  # fmt: skip
    return found


def unpack(initramfs: Path, folder: Path, scratch: Path) -> None:
    """The root as /init unpacks it: the layers over one another, and what the initramfs has of it already.

    Without the device nodes, which only root can make.
    """
    folder.mkdir()
    for path in image_conf(initramfs, scratch)["LB_SHARED"].split():
        for archive in archives(initramfs, scratch):
            if path in list_archive(archive):
                run(["cpio", "-idmu", "--quiet", path], cwd=folder, input_bytes=archive.read_bytes())
    for _, archive in sorted(layers(initramfs, scratch).items()):
        run(
            ["cpio", "-idmu", "--quiet", "--nonmatching", "--no-preserve-owner", "dev/*"],
            cwd=folder, input_bytes=archive.read_bytes(),
        )  # fmt: skip


def image_conf(initramfs: Path, scratch: Path) -> dict[str, str]:
    """The assignments /init reads."""
    for archive in archives(initramfs, scratch):
        if "etc/livebuilder/image.conf" in list_archive(archive):
            done = run(
                ["cpio", "-i", "--quiet", "--to-stdout", "etc/livebuilder/image.conf"], input_bytes=archive.read_bytes()
            )
            lines = (line.partition("=") for line in done.stdout.splitlines())
            return {name: " ".join(shlex.split(value)) for name, _, value in lines}
    raise AssertionError("the initramfs has no image.conf")
