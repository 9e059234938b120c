"""Images of roots to read: file systems and whole disks, made by the tools that people make them with.

Nothing here is mounted or needs root: owners, device nodes and attributes get into an ext image by debugfs, into a
squashfs by way of a tar.
"""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.tree import Entry, Kind, RootTree, device, directory, file, hardlink, symlink
from tests.support.trees import write_tree

_SECTOR = 512
_DISK_ID = {"dos": "0x5452574f", "gpt": "5452574F-0000-0000-0000-000000000000"}  # as OpenWrt's
_CAPABILITY = b"\x01\0\0\x02\0\x20" + bytes(14)  # what setcap cap_net_raw+ep writes: not text
_TAR_TYPE = {
    Kind.DIRECTORY: tarfile.DIRTYPE, Kind.FILE: tarfile.REGTYPE, Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.CHAR: tarfile.CHRTYPE, Kind.BLOCK: tarfile.BLKTYPE, Kind.FIFO: tarfile.FIFOTYPE,
}  # fmt: skip


def sample_root(*, large: int = 400_000) -> RootTree:
    """What naive copying loses, and what an ext file system keeps in different places; a file has `large` bytes."""
    tree = RootTree(
        [
            directory("root", mode=0o700),
            directory("tmp", mode=0o1777),
            directory("dev"),
            device("dev/console", char=(5, 1)),
            device("dev/loop7", block=(7, 7), mode=0o660),
            device("dev/far", block=(259, 70_000), mode=0o660),
            file("etc/preinit", "#!/bin/sh\n", mode=0o755),
            file("etc/shadow", "root::0:0:99999:7:::\n", mode=0o600),
            file("etc/empty", b""),
            file("etc/my dir/a file", "spaces\n", mode=0o640),
            hardlink("etc/my dir/same", "etc/my dir/a file"),
            file("bin/busybox", bytes(range(256)) * 20, mode=0o4755),
            symlink("bin/sh", "busybox"),
            symlink("etc/59", "t" * 59),
            symlink("etc/60", "t" * 60),
            symlink("etc/far", "far/" * 100 + "x"),
            file("lib/large", bytes(n * 7 % 251 for n in range(large))),
            Entry("run/pipe", Kind.FIFO, 0o600),
            directory("lost"),
        ]
    )
    for number in range(120):  # more than one block of names
        tree.add(file(f"many/{number:03d}-{'n' * 20}", f"{number}\n"))
    given = []
    for number, entry in enumerate(tree):
        owner = (0, 0) if number % 3 else (1000 + number, 70_000)
        xattrs: dict[str, bytes] = {}
        if entry.path == "bin/busybox":
            xattrs = {"security.capability": _CAPABILITY, "user.note": b"\0\xff=\n1"}
        if entry.path == "tmp":
            xattrs = {"user.big": b"v" * 700}  # does not fit into an inode
        if entry.kind is not Kind.HARDLINK:
            entry = replace(entry, uid=owner[0], gid=owner[1], mtime=1_000_000_000 + number, xattrs=xattrs)
        given.append(replace(entry, source=""))
    return RootTree(given)


def ext_image(
    path: Path,
    tree: RootTree,
    *,
    fs: str = "ext4",
    block_size: int = 4096,
    size_bytes: int = 8 * MIB,
    features: str = "",
) -> Path:
    """An ext file system with `tree` in it; `features` as for mke2fs -O."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "root"
        folder.mkdir()
        makable = RootTree(entry for entry in tree if entry.kind not in (Kind.CHAR, Kind.BLOCK))
        write_tree(makable, folder)
        argv = ["mke2fs", "-q", "-F", "-t", fs, "-b", str(block_size), "-N", "400", "-E", "root_owner=0:0"]
        run([*argv, *(["-O", features] if features else []), "-d", folder, path, f"{size_bytes // 1024}k"])
        debugfs(path, *_facts_for_debugfs(tree, Path(scratch)))
    return path


def _facts_for_debugfs(tree: RootTree, scratch: Path) -> list[str]:
    script = []
    for count, entry in enumerate(tree):
        inside = f'"/{entry.path}"'
        if entry.kind is Kind.HARDLINK:
            continue
        if entry.kind in (Kind.CHAR, Kind.BLOCK):
            major, minor = entry.device
            script += [f"cd /{entry.parent}", f"mknod {entry.name} {entry.kind.value[0]} 1 1"]
            kind = 0o020000 if entry.kind is Kind.CHAR else 0o060000
            script.append(f"sif {inside} mode 0{kind | entry.mode:o}")
            small = major < 256 and minor < 256  # Linux writes others in another way, which debugfs cannot
            number = major << 8 | minor if small else minor & 0xFF | major << 8 | (minor & ~0xFF) << 12
            script += [f"sif {inside} block[{n}] {number if n != small else 0:#x}" for n in (0, 1)]
        for name, value in entry.xattrs.items():
            (scratch / f"{count}-{name}").write_bytes(value)
            script.append(f'ea_set -f "{scratch}/{count}-{name}" {inside} {name}')
        script += [f"sif {inside} {name} {value}" for name, value in (("uid", entry.uid), ("gid", entry.gid))]
        script.append(f"sif {inside} mtime @{entry.mtime}")
    return script


def debugfs(path: Path, *commands: str) -> str:
    """Have debugfs change an image; what it printed."""
    done = run(["debugfs", "-w", "-f", "-", path], input_bytes="\n".join([*commands, "quit", ""]).encode())
    complaints = [line for line in done.stderr.splitlines() if line and not line.startswith("debugfs ")]
    assert not complaints, complaints[:3]
    return done.stdout


def tar_of(tree: RootTree) -> bytes:
    """A pax archive of the tree."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT, errors="surrogateescape") as tar:
        for entry in sorted(tree, key=lambda entry: entry.kind is Kind.HARDLINK):
            info = tarfile.TarInfo(entry.path)
            info.mode, info.uid, info.gid, info.mtime = entry.mode, entry.uid, entry.gid, entry.mtime
            info.type, info.linkname = _TAR_TYPE.get(entry.kind, tarfile.LNKTYPE), entry.target
            info.devmajor, info.devminor = entry.device
            info.size = entry.content.size
            info.pax_headers = {
                f"SCHILY.xattr.{n}": v.decode("utf-8", "surrogateescape") for n, v in entry.xattrs.items()
            }
            tar.addfile(info, io.BytesIO(entry.content.read()))
    return buffer.getvalue()


def squashfs_image(path: Path, tree: RootTree, *options: str) -> Path:
    """A squashfs with `tree` in it, by squashfs-tools (not by the ones that livebuilder uses)."""
    run(["sqfstar", "-quiet", "-no-progress", *options, path], input_bytes=tar_of(tree))
    return path


def fat_image(path: Path, files: dict[str, bytes], *, bits: int = 12) -> Path:
    """A FAT with `files` in it (path: content), by dosfstools and mtools."""
    kib = {12: 1024, 16: 16 * 1024, 32: 40 * 1024}[bits]
    run(["mkfs.vfat", "-F", str(bits), "-C", path, str(kib)])
    for name, data in files.items():
        for folder in reversed(Path(name).parents[:-1]):
            run(["mmd", "-D", "s", "-i", path, f"::/{folder}"], check=False)
        run(["mcopy", "-i", path, "-", f"::/{name}"], input_bytes=data)
    return path


def disk_image(path: Path, *volumes: tuple[str, Path, int], table: str = "dos", lead: bytes = b"") -> Path:
    """A disk: for every volume the line sfdisk is told, its image, and the partition's size in bytes.

    `lead` is what stands in the sectors behind the table, where a boot loader has its core.
    """
    start, places = 2048, []
    script = [f"label: {table}", f"label-id: {_DISK_ID[table]}"]
    for line, image, size in volumes:
        script.append(f"start={start}, size={size // _SECTOR}, {line}")
        places.append((start * _SECTOR, image))
        start += size // _SECTOR
    with path.open("wb") as stream:
        stream.truncate((start + 34) * _SECTOR)
    run(["sfdisk", "--quiet", path], input_bytes="\n".join([*script, ""]).encode())
    with path.open("r+b") as stream:
        if lead:
            stream.seek((40 if table == "gpt" else 1) * _SECTOR)
            stream.write(lead)
        for offset, image in places:
            stream.seek(offset)
            stream.write(image.read_bytes())
    return path


def with_metadata(data: bytes) -> bytes:
    """`data` and what OpenWrt's fwtool puts behind it: JSON, and a trailer with magic, checksum, type and size."""
    metadata = b'{"metadata_version":"1.1","supported_devices":["generic"]}'
    trailer = struct.pack(">4sIB3xI", b"FWx0", zlib.crc32(data + metadata), 1, len(metadata) + 16)
    return data + metadata + trailer


def packed(path: Path, data: bytes) -> Path:
    """`data` as OpenWrt packs its images: gzip, and metadata behind it."""
    path.write_bytes(with_metadata(gzip.compress(data, 6, mtime=0)))
    return path


def kernel_bytes(size: int = 300_000) -> bytes:
    """Something that stands for a kernel: only its bytes are looked at here."""
    return b"".join(struct.pack("<I", n * 2654435761 & 0xFFFFFFFF) for n in range(size // 4))


def openwrt_disk(
    path: Path,
    root: Path,
    *,
    boot: Path,
    table: str = "dos",
    root_bytes: int | None = None,
    names: Sequence[str] = ("", ""),
) -> Path:
    """A combined image: a boot partition, a partition with the root, and GRUB's core before them."""
    sizes = [-(-image.stat().st_size // MIB) * MIB for image in (boot, root)]
    kinds = ("type=83, bootable", "type=83") if table == "dos" else tuple(f'type=linux, name="{n}"' for n in names)
    volumes = [(kinds[0], boot, sizes[0]), (kinds[1], root, root_bytes or sizes[1] + MIB)]
    return disk_image(path, *volumes, table=table, lead=b"GRUB core " * 2000)
