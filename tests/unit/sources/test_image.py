"""What a file is told to be before anything of it is read, and what is said of files that are no root."""

from __future__ import annotations

import gzip
import lzma
import os
import struct
import zlib
from pathlib import Path

import pytest

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.sources import archive, image
from livebuilder.sources.image import root_from_image
from livebuilder.sources.partitions import read_partitions
from livebuilder.tree import Content
from tests.support.damage import changed


def read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "given.img"
    path.write_bytes(data)
    root_from_image(path, cache=Cache(tmp_path / "cache"))


def left_in(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


OTHERS = [
    (changed(bytes(40_000), 32769, b"CD001"), "is an ISO image", "the root's own image"),
    (changed(changed(bytes(40_000), 32769, b"CD001"), 446, b"\x80" + bytes(3) + b"\x17" + bytes(7) + b"\1\0\0\0"),
     "is an ISO image", ""),
    (b"QFI\xfb" + bytes(600), "is a qcow2 image", "qemu-img convert"),
    (b"KDMV" + bytes(600), "is a VMDK image", "qemu-img convert"),
    (b"PK\3\4" + bytes(600), "is a zip archive", "unzip"),
    (changed(bytes(4096), 0x202, b"HdrS"), "is a Linux kernel", "kernel.image"),
    (b"070701" + bytes(600), "is a cpio archive", ""),
    (b"UBI#" + bytes(600), "is a UBI image", ""),
    (changed(bytes(4096), 1024, b"\xe2\xe1\xf5\xe0"), "is an EROFS image", "fsck.erofs"),
    (changed(bytes(70_000), 65600, b"_BHRfS_M"), "is a btrfs image", ""),
    (b"\xebX\x90MSDOS5.0" + struct.pack("<HBHBHHBH", 512, 1, 1, 2, 224, 2880, 0xF0, 9) + bytes(486) + b"\x55\xaa",
     "is a FAT image", ""),
    (gzip.compress(b"QFI\xfb" + bytes(600)), "is a qcow2 image", "qemu-img"),
    (b"nothing anybody knows", "holds no tar archive", "a root is a tar"),
    (b"", "is empty", "a root is a tar"),
    (gzip.compress(bytes(9999))[:-9], "cut short", ""),
    (changed(gzip.compress(os.urandom(9999)), 40, b"\xff" * 40), "damaged", "download it again"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "said", "hint"), OTHERS, ids=[case[1] for case in OTHERS])
def test_what_is_no_root_is_told_by_its_name(tmp_path: Path, data: bytes, said: str, hint: str) -> None:
    with pytest.raises(LivebuilderError, match=said) as caught:
        read(tmp_path, data)
    assert "given.img" in caught.value.message
    assert hint in (caught.value.hint or "")
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "given"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    said = {"missing": "does not exist", "folder": "is a folder", "fifo": "is not a file"}[kind]
    with pytest.raises(LivebuilderError, match=said):
        root_from_image(path, cache=Cache(tmp_path / "cache"))


def squashfs_head(magic: bytes = b"hsqs", *, version: tuple[int, int] = (4, 0), compression: int = 4) -> bytes:
    order = "<" if magic in (b"hsqs", b"shsq", b"hsqt") else ">"
    head = magic + struct.pack(f"{order}IIIIHHHHHHQQ", 9, 0, 1 << 17, 1, compression, 17, 0, 1, *version, 0, 4000)
    return head.ljust(4096, b"\0")


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (squashfs_head(version=(3, 1)), r"is a squashfs 3\.1, from before Linux 2\.6\.29 and OpenWrt 10\.03"),
        (squashfs_head(b"sqsh", version=(3, 0)), r"is a big-endian squashfs 3\.0"),
        (squashfs_head(b"shsq", version=(3, 0)), r"is a squashfs of a kernel patched for lzma 3\.0"),
        (squashfs_head(compression=2), "packed with lzma, which only the kernels of OpenWrt 10.03 and 12.09"),
        (squashfs_head(compression=9), r"packed in a way nobody knows \(number 9\)"),
        (squashfs_head(), "packed with xz, and cannot be unpacked: "),
        (squashfs_head()[:3000], "is a squashfs cut short: 4000 bytes, and 3000 are there"),
        (squashfs_head()[:50], "is a squashfs cut short"),
        (changed(squashfs_head(), 12, struct.pack("<I", 12345)), "damaged squashfs: blocks of 12345 bytes"),
        (changed(squashfs_head(), 4, struct.pack("<I", 1)), "a squashfs with nothing in it"),
    ],
)
def test_a_squashfs_that_cannot_be_read_is_named(tmp_path: Path, head: bytes, said: str) -> None:
    with pytest.raises(LivebuilderError, match=said) as caught:
        read(tmp_path, head)
    assert "given.img" in caught.value.message
    assert left_in(tmp_path) == []


def test_an_image_that_unpacks_without_end_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "_PLAIN_ALWAYS_BYTES", 1 << 20)
    bomb = lzma.compress(squashfs_head() + bytes(8 << 20))
    with pytest.raises(LivebuilderError, match=r"given.img has .* KiB and unpacks to more than 1.0 MiB"):
        read(tmp_path, bomb)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("behind", range(1, 9))
def test_a_second_stream_is_seen_wherever_a_read_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    first, second = gzip.compress(b"hsqs" * 100), gzip.compress(b"tail")
    monkeypatch.setattr(image, "_READ_BYTES", len(first) + behind)
    path = tmp_path / "packed"
    path.write_bytes(first + second + b"FWx0 metadata")
    with path.open("rb") as stream:
        assert b"".join(image._plain_pieces(stream, "gzip", path)) == b"hsqs" * 100 + b"tail"


def gpt(count: int = 1) -> bytes:
    entry = bytes(range(16)) * 2 + struct.pack("<QQQ", 100, 199, 0) + "rootfs".encode("utf-16-le").ljust(72, b"\0")
    entries = (entry * count).ljust(128 * 4, b"\0")
    header = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 1 << 16, 92, 0, 0, 1, 300, 34, 290, bytes(16), 2, 4, 128, 0)
    header = header[:88] + struct.pack("<I", zlib.crc32(entries))
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    mbr = changed(bytes(510), 446, struct.pack("<B3xB3xII", 0, 0xEE, 1, 299)) + b"\x55\xaa"
    return (mbr + header.ljust(512, b"\0") + entries).ljust(150_000, b"\0")


def test_a_gpt_is_believed_only_with_its_checksums() -> None:
    kind, (only,) = read_partitions(Content.from_bytes(gpt()), source="disk")
    assert (kind, only.number, only.start, only.size, only.name) == ("gpt", 1, 51_200, 51_200, "rootfs")
    for at in (512 + 3, 512 + 30, 512 + 76, 512 + 81, 512 + 86, 1024 + 40):
        with pytest.raises(LivebuilderError, match="disk has a damaged GPT"):
            read_partitions(Content.from_bytes(changed(gpt(), at, b"\xa5")), source="disk")
    with pytest.raises(LivebuilderError, match="damaged GPT"):
        read_partitions(Content.from_bytes(gpt()[:600]), source="disk")


def test_a_disk_whose_partitions_hold_nothing(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError) as caught:
        read(tmp_path, gpt(2))
    assert caught.value.message == (
        f"{tmp_path}/given.img is a disk with a GPT table, partition 1 'rootfs' of 50.0 KiB: unknown;"
        " partition 2 'rootfs' of 50.0 KiB: unknown: none of them holds a root"
    )
