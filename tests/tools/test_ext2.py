"""The planned image, made by the real busybox mke2fs and filled without privileges: it fits as planned."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from livebuilder.image.ext2 import Ext2Plan, layout, plan_ext2
from livebuilder.process import Completed, run
from livebuilder.sizes import KIB, MIB
from livebuilder.tree import Kind, RootTree, directory, file, hardlink, symlink


def make_file_system(path: Path, *, size_bytes: int, block_size: int, bytes_per_inode: int) -> None:
    path.touch()
    run(
        ["busybox", "mke2fs", "-F", "-b", str(block_size), "-i", str(bytes_per_inode), "-m", "0",
         path, str(size_bytes // KIB)],
    )  # fmt: skip


def numbers_of(path: Path) -> dict[str, int]:
    header = run(["dumpe2fs", "-h", path]).stdout
    return {name: int(number) for name, number in re.findall(r"^([\w ]+):\s+(\d+)$", header, re.MULTILINE)}


def fill(path: Path, tree: RootTree, scratch: Path) -> None:
    """Put the tree into the image with debugfs, and count the names of hard-linked files, which it leaves to us."""
    commands = []
    names: dict[str, int] = {}
    for number, entry in enumerate(sorted(tree, key=lambda entry: entry.kind is Kind.HARDLINK)):
        match entry.kind:
            case Kind.DIRECTORY:
                commands.append(f'mkdir "/{entry.path}"')
            case Kind.FILE:
                source = scratch / (str(number) if entry.content.size else "empty")
                source.write_bytes(entry.content.read())
                commands += [f'cd "/{entry.parent}"', f'write {source} "{entry.name}"']
            case Kind.SYMLINK:
                commands += [f'cd "/{entry.parent}"', f'symlink "{entry.name}" "{entry.target}"']
            case Kind.HARDLINK:
                commands.append(f'ln "/{entry.target}" "/{entry.path}"')
                names[entry.target] = names.get(entry.target, 1) + 1
            case _:
                raise ValueError(entry.kind)
    commands += [f'sif "/{target}" links_count {count}' for target, count in names.items()]
    script = scratch / "commands"
    script.write_text("\n".join(commands) + "\n")
    done = run(["debugfs", "-w", "-f", script, path])
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("debugfs 1.")]
    assert complaints == []


def check(path: Path, *options: str) -> Completed:
    return run(["e2fsck", "-f", *options, path], check=False)


def full(size_bytes: int) -> bytes:
    """Bytes that debugfs does not leave out as a hole."""
    return b"x" * size_bytes


ADVERSARIES: dict[str, Callable[[], RootTree]] = {
    "nothing": RootTree,
    "10,000 empty files": lambda: RootTree([file(f"spool/message-{n}", b"") for n in range(10_000)]),
    "one file of 9 MB": lambda: RootTree([file("firmware.bin", full(9_000_000))]),
    "deep folders": lambda: RootTree([file("/".join(["folder"] * 200) + "/end", b"x")]),
    "long names": lambda: RootTree([file(f"{'n' * 250}{n}", b"x") for n in range(500)]),
    "300 symlinks": lambda: RootTree([symlink(f"etc/{n}", "t" * (20 + n)) for n in range(300)]),
    "a symlink of a page": lambda: RootTree([symlink("l", "t" * 4000), file("f", b"x" * 5000)]),
    "many names of one file": lambda: RootTree(
        [file("busybox", full(70_000)), *(hardlink(f"bin{n % 10}/{n}", "busybox") for n in range(400))]
    ),
    "files at every turn of the block map": lambda: RootTree(
        [file(f"f{kib}-{extra}", full(kib * KIB + extra)) for kib in (11, 12, 13, 267, 268, 524) for extra in (0, 1)]
    ),
    "a root of 30 MB": lambda: RootTree(
        [directory("tmp", mode=0o1777)]
        + [file(f"lib/modules/{n % 37}/driver-{n}.ko", full(n * 37 % 60_000)) for n in range(1000)]
    ),
}  # fmt: skip


@pytest.mark.parametrize("free_bytes", [0, 2 * MIB])
@pytest.mark.parametrize("name", ADVERSARIES)
def test_the_tree_fits_and_what_was_asked_is_left(tmp_path: Path, name: str, free_bytes: int) -> None:
    tree = ADVERSARIES[name]()
    plan = plan_ext2(tree, free_bytes=free_bytes)
    image = tmp_path / "root.ext2"
    make_file_system(
        image, size_bytes=plan.size_bytes, block_size=plan.block_size, bytes_per_inode=plan.bytes_per_inode
    )
    fill(image, tree, tmp_path)
    assert check(image, "-n").returncode == 0
    assert_as_planned(image, plan, free_bytes=free_bytes)
    # Hashed folders, as Linux makes them, need more than the rows debugfs writes.
    assert check(image, "-yD").returncode in (0, 1)
    assert check(image, "-n").returncode == 0
    assert_as_planned(image, plan, free_bytes=free_bytes)


def assert_as_planned(image: Path, plan: Ext2Plan, *, free_bytes: int) -> None:
    numbers = numbers_of(image)
    assert (numbers["Block count"], numbers["Inode count"]) == (plan.blocks, plan.inodes)
    assert numbers["Inode count"] - numbers["Free inodes"] - 11 == plan.entries
    spare = max(64, free_bytes // 8192)
    assert spare <= numbers["Free inodes"] <= spare + plan.inodes // 50 + 32
    left = numbers["Free blocks"] * plan.block_size
    assert left >= free_bytes
    if plan.inodes < plan.blocks * 9 // 10:  # else there are blocks for the sake of inodes: mke2fs wants one for each
        assert left <= free_bytes + plan.size_bytes // 20 + 240 * KIB


def test_one_block_or_inode_less_would_not_do(tmp_path: Path) -> None:
    """The negative control: the check above would notice a plan that is a little too small."""
    tree = RootTree([file("f", full(300_000))])
    plan = plan_ext2(tree, free_bytes=0)
    image = tmp_path / "small.ext2"
    make_file_system(
        image, size_bytes=plan.size_bytes - KIB, block_size=plan.block_size, bytes_per_inode=plan.bytes_per_inode
    )
    with pytest.raises(AssertionError):
        fill(image, tree, tmp_path)


SIZES = [  # KiB, block size, bytes per inode: around every turn of the layout
    (100, 1024, 8192),
    (8193, 1024, 8192),
    (8193 + 100, 1024, 8192),
    (8193 + 190, 1024, 8192),
    (8193 + 200, 1024, 8192),
    (15360, 1024, 8192),
    (3 * 8192 + 700, 1024, 1024),
    (26 * 8192, 1024, 4096),
    (40 * 8192 + 300, 1024, 16384),
    (30_000, 2048, 2048),
    (140_000, 4096, 8192),
    (512 * 1024 - 1, 1024, 16384),
    (512 * 1024, 1024, 16384),
    (512 * 1024 + 4, 4096, 65536),
]


@pytest.mark.parametrize(("kib", "block_size", "bytes_per_inode"), SIZES)
def test_the_layout_is_the_one_busybox_makes(tmp_path: Path, kib: int, block_size: int, bytes_per_inode: int) -> None:
    image = tmp_path / "empty.ext2"
    make_file_system(image, size_bytes=kib * KIB, block_size=block_size, bytes_per_inode=bytes_per_inode)
    made = layout(kib * KIB, block_size=block_size, bytes_per_inode=bytes_per_inode)
    numbers = numbers_of(image)
    found = tuple(numbers[name] for name in ("Block count", "Inode count", "Free blocks", "Free inodes"))
    assert found == (made.blocks, made.inodes, made.free_blocks, made.free_inodes)
