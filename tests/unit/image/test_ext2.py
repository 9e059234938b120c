"""The planned ext2 image: enough, never much too much, in blocks and in inodes."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.image import ext2
from livebuilder.image.ext2 import Ext2Plan, layout, plan_ext2
from livebuilder.sizes import KIB, MIB
from livebuilder.tree import Entry, Kind, RootTree, directory, file, hardlink, symlink
from tests.support.trees import trees


def free_bytes_at_least(tree: RootTree, plan: Ext2Plan) -> int:
    """What is left when everything the tree can take is taken."""
    made = layout(plan.size_bytes, block_size=plan.block_size, bytes_per_inode=plan.bytes_per_inode)
    taken = ext2._data_blocks(tree, ext2._folders(tree), block_size=plan.block_size)
    return (made.free_blocks - taken) * plan.block_size


@settings(max_examples=60)
@given(trees(max_entries=30), st.integers(0, 8 * MIB))
def test_the_plan_leaves_what_was_asked_and_little_more(tree: RootTree, free_bytes: int) -> None:
    plan = plan_ext2(tree, free_bytes=free_bytes)
    assert plan.entries == sum(entry.kind is not Kind.HARDLINK for entry in tree)
    left = free_bytes_at_least(tree, plan)
    assert free_bytes <= left <= free_bytes + plan.size_bytes // 50 + 200 * KIB
    spare = plan.inodes - 11 - plan.entries
    asked = max(64, free_bytes // 8192)
    assert asked <= spare <= asked + plan.inodes // 50 + 64


@settings(max_examples=200)
@given(st.integers(128, 300_000), st.sampled_from([1024, 2048, 4096]), st.integers(1024, 40_000))
@example(8192 + 40, 1024, 8192)
@example(512 * 1024, 4096, 16384)
@example(512 * 1024 - 4, 4096, 16384)
def test_a_layout_adds_up(kib: int, block_size: int, bytes_per_inode: int) -> None:
    made = layout(kib * KIB, block_size=block_size, bytes_per_inode=max(bytes_per_inode, block_size))
    assert 0 <= made.blocks <= kib * KIB // block_size
    if made.blocks:
        assert 0 < made.free_blocks < made.blocks
        assert made.free_inodes == made.inodes - 11
        assert made.inodes % 8 == 0


def test_more_of_everything_needs_no_smaller_image() -> None:
    sizes = [plan_ext2(RootTree([file("f", bytes(n * 10_000))]), free_bytes=MIB).size_bytes for n in range(40)]
    assert sizes == sorted(sizes)
    sizes = [plan_ext2(RootTree(), free_bytes=n * 100_000).size_bytes for n in range(200)]
    assert sizes == sorted(sizes)


BLOCKS = [  # bytes → data and pointer blocks of 1 KiB: 12 direct, then 256 per pointer block
    (0, 0),
    (1, 1),
    (1024, 1),
    (1025, 2),
    (12 * 1024, 12),
    (12 * 1024 + 1, 13 + 1),
    (268 * 1024, 268 + 1),
    (268 * 1024 + 1, 269 + 3),
    ((268 + 256) * 1024, 268 + 256 + 3),
    ((268 + 257) * 1024, 268 + 257 + 4),
    ((268 + 65536) * 1024, 268 + 65536 + 1 + 257),
    ((268 + 65537) * 1024, 268 + 65537 + 1 + 257 + 3),
]


@pytest.mark.parametrize(("size_bytes", "blocks"), BLOCKS)
def test_a_file_takes_its_blocks_and_those_that_point_at_them(size_bytes: int, blocks: int) -> None:
    tree = RootTree([file("f", bytes(size_bytes))])
    assert ext2._data_blocks(tree, ext2._folders(tree), block_size=1024) == blocks


ENTRY_COSTS = [
    ("an empty file", [file("f", b"")], 1, 0),
    ("a folder", [directory("d")], 1, 1),
    ("a symlink in its inode", [symlink("s", "t" * 59)], 1, 0),
    ("a symlink in a block", [symlink("s", "t" * 60)], 1, 1),
    ("a hard link", [file("f", b"x"), hardlink("g", "f")], 1, 1),
    ("a fifo", [Entry("p", Kind.FIFO, 0o600)], 1, 0),
    ("lost+found", [directory("lost+found")], 0, 0),
    ("what was lost and found", [file("lost+found/f", b"")], 1, 0),
    ("a folder of one full block", [file(f"d/{'n' * 92}{i:02}", b"") for i in range(9)], 10, 1),
    ("a folder of more", [file(f"d/{'n' * 92}{i:02}", b"") for i in range(10)], 11, 1 + 3),
]


@pytest.mark.parametrize(("entries", "inodes", "blocks"), [c[1:] for c in ENTRY_COSTS], ids=[c[0] for c in ENTRY_COSTS])
def test_what_an_entry_costs(entries: list[Entry], inodes: int, blocks: int) -> None:
    tree = RootTree(entries)
    assert plan_ext2(tree, free_bytes=0).entries == inodes
    assert ext2._data_blocks(tree, ext2._folders(tree), block_size=1024) == blocks


@pytest.mark.parametrize(("length", "block_size"), [(1, 1024), (1023, 1024), (1024, 2048), (2048, 4096), (4095, 4096)])
def test_blocks_are_as_large_as_the_longest_symlink_needs(length: int, block_size: int) -> None:
    assert plan_ext2(RootTree([symlink("s", "t" * length)]), free_bytes=0).block_size == block_size


def test_blocks_are_as_large_as_the_largest_folder_needs() -> None:
    leaves = ext2._folder_leaves([264] * 40_000, 1024)
    assert ext2._index_nodes(leaves, 1024) > ext2._index_pointers(1024)
    tree = RootTree([file(f"d/{'n' * 248}{i:05}", b"") for i in range(40_000)])
    assert plan_ext2(tree, free_bytes=0).block_size > 1024


def test_many_empty_files_get_their_inodes_though_mke2fs_makes_one_per_block_at_most() -> None:
    plan = plan_ext2(RootTree([file(f"d/{i}", b"") for i in range(10_000)]), free_bytes=0)
    assert plan.bytes_per_inode >= plan.block_size
    assert plan.inodes - 11 - 10_001 >= 64
    assert plan.size_bytes <= 10_400 * KIB


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([file("f", "x"), *(hardlink(f"l{i}", "f") for i in range(32_000))], "/f has 32000 further names"),
        ([directory(f"d/{i}") for i in range(32_000)], "/d has 32000 .* folders in it"),
        ([file("lost+found", "x")], r"/lost\+found is a file"),
    ],
    ids=["names", "folders", "lost+found"],
)
def test_what_ext2_cannot_hold_is_refused_by_name(entries: list[Entry], reason: str) -> None:
    with pytest.raises(LivebuilderError, match=reason):
        plan_ext2(RootTree(entries), free_bytes=0)


def test_an_image_beyond_reason_is_refused() -> None:
    with pytest.raises(LivebuilderError, match=r"more than 16.0 GiB"):
        plan_ext2(RootTree(), free_bytes=17 * 1024 * MIB)


def test_an_image_too_small_for_mke2fs_is_no_layout() -> None:
    assert layout(59 * KIB, block_size=1024, bytes_per_inode=8192).blocks == 0
    assert layout(100 * KIB, block_size=1024, bytes_per_inode=8192).blocks == 100
