"""The file systems that can keep a router's settings: their limits and the commands that make and check them.

A prepared stick holds `upper/`, `work/` and the symlink `.fs_state` -> `2`. The first two are the overlay's; the
third tells OpenWrt's mount_root (22.03 and later) that the file system is ready, otherwise it deletes what it
finds there at the first boot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import GIB, KIB, MIB

FOLDERS = ("upper", "work")
READY_LINK = (".fs_state", "2")
LOST_AND_FOUND = "lost+found"  # means nothing on another day

# Largest sizes: 2^32 blocks of 4 KiB without ext4's 64bit; 16 TiB for f2fs; btrfs has no limit a disk reaches.
_TIB = 1024 * GIB


class DamagedError(LivebuilderError):
    """A file system that has to be mended before it can be read; its checker cannot do it without asking."""


@dataclass(frozen=True)
class FileSystem:
    """One file system that can be storage; `smallest_bytes` is what its tools manage reliably, `package` Debian's."""

    name: str
    package: str
    tools: tuple[str, ...]
    label_bytes: int
    smallest_bytes: int
    largest_bytes: int


@dataclass(frozen=True)
class Command:
    """A program to run, what it reads on standard input, and what is added to its environment."""

    argv: tuple[str, ...]
    input_bytes: bytes | None = None
    env: Mapping[str, str] = field(default_factory=dict)


_EXT_TOOLS = ("mke2fs", "debugfs", "e2fsck")
_ALL = (
    FileSystem("ext2", "e2fsprogs", _EXT_TOOLS, 16, 2 * MIB, 16 * _TIB),
    # Below 2,048 blocks mke2fs leaves the journal out; twice that leaves room for more than the journal.
    FileSystem("ext3", "e2fsprogs", _EXT_TOOLS, 16, 16 * MIB, 16 * _TIB),
    FileSystem("ext4", "e2fsprogs", _EXT_TOOLS, 16, 16 * MIB, 16 * _TIB),
    # mkfs.f2fs 1.15 gives way at 50 MiB, sload.f2fs on anything below 64 MiB (it dies in move_one_curseg_info).
    FileSystem("f2fs", "f2fs-tools", ("mkfs.f2fs", "sload.f2fs", "fsck.f2fs"), 512, 64 * MIB, 16 * _TIB),
    # The label's field holds 255 bytes and NUL, and btrfs-progs 6.2 drops the 255th without a word.
    FileSystem("btrfs", "btrfs-progs", ("mkfs.btrfs", "btrfs"), 254, 30 * MIB, 1024 * _TIB),
)
FILE_SYSTEMS: Mapping[str, FileSystem] = {kind.name: kind for kind in _ALL}

_NO_UPPER = "it keeps neither owners nor extended attributes, which the overlay's upper layer needs"
REFUSED: Mapping[str, str] = {
    "vfat": _NO_UPPER,
    "fat": _NO_UPPER,
    "fat32": _NO_UPPER,
    "msdos": _NO_UPPER,
    "exfat": _NO_UPPER,
    "ntfs": "the overlay's upper layer needs trusted extended attributes and file types in folder listings,"
    " and Linux's NTFS drivers do not give both",
}

# The features of an ext4 made by e2fsprogs 1.42 (2011): what Linux 2.6.32 and the e2fsck of OpenWrt 14.07 can read.
# Left out on purpose: metadata_csum, metadata_csum_seed, orphan_file (their e2fsck refuses the file system) and 64bit
# (no stick needs it). uninit_bg checksums with crc16, so that no crypto module stands between the kernel and the stick.
_EXT2 = ("ext_attr", "resize_inode", "dir_index", "filetype", "sparse_super", "large_file")
_EXT3 = ("has_journal", *_EXT2)
_EXT4 = (*_EXT3, "extent", "flex_bg", "huge_file", "uninit_bg", "dir_nlink", "extra_isize")
_EXT_FEATURES = {"ext2": _EXT2, "ext3": _EXT3, "ext4": _EXT4}
EXT = tuple(_EXT_FEATURES)
_MANY_SMALL_FILES = 512 * MIB  # below this, one inode for every 4 KiB: settings are small files
_LAZY_ABOVE = 4 * GIB
_MIXED_BELOW = 1 * GIB  # a small btrfs runs out of metadata space unless both kinds share their block groups


def make_commands(
    kind: FileSystem,
    image: Path,
    *,
    size_bytes: int,
    label: str,
    uuid: str,
    tree: Path,
    for_used_disk: bool = False,
) -> tuple[Command, ...]:
    """What makes `kind` in the file `image`, which is `size_bytes` long and all zeros, nothing being mounted.

    `tree` holds the folders and the link for those tools that copy a folder. All files belong to 0:0, whoever runs the
    commands, but for btrfs, where they belong to whom `tree` does until `btrfs.give_to_root()` was there. With
    `for_used_disk` the zeros that matter are written and not left out as holes, so that what is no hole in `image`
    makes the file system on any disk.
    """
    if kind.name == "f2fs":
        return (
            Command(("mkfs.f2fs", "-q", "-t", "0", "-l", label, "-U", uuid, str(image))),
            Command(("sload.f2fs", "-f", str(tree), str(image))),  # owners are 0:0 unless -P
        )
    if kind.name == "btrfs":
        mixed = ("--mixed", "--nodesize", "4096") if size_bytes < _MIXED_BELOW else ()
        argv = ("mkfs.btrfs", "--quiet", *mixed, "--label", label, "--uuid", uuid, "--rootdir", str(tree), str(image))
        return (Command(argv),)
    inode_every = 4 * KIB if size_bytes < _MANY_SMALL_FILES else 16 * KIB
    # A table of inodes takes a sixty-fourth of the disk. Where uninit_bg marks those without an inode, Linux makes the
    # zeros itself while the stick is in use, and e2fsck does without; elsewhere they have to be written.
    lazy = int(for_used_disk and kind.name == "ext4" and size_bytes > _LAZY_ABOVE)
    options = f"lazy_itable_init={lazy},lazy_journal_init=0,nodiscard,root_owner=0:0"
    argv = (
        "mke2fs", "-q", "-F",
        "-t", kind.name,
        "-O", ",".join(("none", *_EXT_FEATURES[kind.name])),
        "-b", "4096", "-I", "256", "-i", str(inode_every), "-m", "0",
        "-e", "remount-ro",
        "-E", options,
        "-L", label,
        "-U", uuid,
        str(image), f"{size_bytes // KIB}k",
    )  # fmt: skip
    env = {"MKE2FS_CONFIG": "/dev/null"}  # the host's mke2fs.conf has no say
    if for_used_disk:
        env["UNIX_IO_NOZEROOUT"] = "1"  # libext2fs then writes zeros, where it would ask the kernel for a hole
    # debugfs and not `mke2fs -d`, which copies the caller's uid and, on an SELinux host, its security labels.
    script = [*(f"mkdir {folder}" for folder in FOLDERS), "symlink {} {}".format(*READY_LINK), "quit"]
    return (
        Command(argv, env=env),
        Command(("debugfs", "-w", "-f", "-", str(image)), input_bytes="\n".join(script).encode() + b"\n"),
    )


def scratch_bytes(kind: FileSystem, size_bytes: int) -> int:
    """What a file system of `size_bytes` made with `for_used_disk` takes at most in its sparse file."""
    share = 32 if kind.name in EXT else 256  # ext: the tables of inodes and the journal
    return 64 * MIB + size_bytes // share


def check_command(kind: FileSystem, image: Path) -> Command:
    """What finds fault with the file system in `image` without changing it; it ends with 0 when there is none."""
    if kind.name == "f2fs":
        return Command(("fsck.f2fs", "--dry-run", str(image)))
    if kind.name == "btrfs":
        return Command(("btrfs", "check", "--readonly", str(image)))
    return Command(("e2fsck", "-f", "-n", str(image)))


def label_command(kind: FileSystem, image: Path, label: str) -> Command:
    """What gives the file system in `image`, which is not mounted, another label."""
    if kind.name == "f2fs":
        return Command(("f2fslabel", str(image), label))
    if kind.name == "btrfs":
        return Command(("btrfs", "filesystem", "label", str(image), label))
    return Command(("tune2fs", "-L", label, str(image)))


def list_command(kind: FileSystem, image: Path) -> Command | None:
    """What lists the top folder, for `parse_listing()`; None where no tool can without mounting."""
    return Command(("debugfs", "-R", "ls -p /", str(image))) if kind.name in EXT else None


def parse_listing(text: str) -> dict[str, tuple[int, int, int]]:
    """Name to (mode with its type bits, uid, gid), from debugfs's lines `/inode/mode/uid/gid/name/size/`."""
    found = {}
    for line in text.splitlines():
        parts = line.split("/")
        if len(parts) == 8 and parts[1].isdigit():
            found[parts[5]] = (int(parts[2], 8), int(parts[3]), int(parts[4]))
    return found
