"""newc archives: every tree makes the trip there and back, damage is told, nothing is lost without a word."""

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.cpio import CpioError, archive, read_archive, unkept_xattrs
from livebuilder.errors import LivebuilderError
from livebuilder.tree import Content, Entry, Kind, RootTree, device, directory, file, hardlink, symlink
from tests.support.damage import changed, mutated
from tests.support.newc import members_of
from tests.support.trees import facts, trees


def packed(tree: RootTree) -> bytes:
    return b"".join(archive(tree))


@given(trees())
def test_every_tree_makes_the_trip_there_and_back(tree: RootTree) -> None:
    data = packed(tree)
    again, end = read_archive(data)
    assert end == len(data)
    assert facts(again) == facts(tree)
    assert packed(again) == data


@given(trees())
def test_parents_come_first_and_data_comes_with_the_last_name(tree: RootTree) -> None:
    seen = {""}
    sizes: dict[int, list[int]] = {}
    for member in members_of(packed(tree)):
        assert member.name.rpartition("/")[0] in seen
        seen.add(member.name)
        sizes.setdefault(member.inode, []).append(member.size)
        if member.nlink > 1 and member.mode & 0o170000 == 0o100000:
            assert len(sizes[member.inode]) <= member.nlink
    assert all(size == 0 for group in sizes.values() for size in group[:-1])


@given(trees(), st.sets(st.integers(0, 30)))
def test_names_of_a_file_stay_linked_when_only_some_are_packed(tree: RootTree, numbers: set[int]) -> None:
    entries = [e for n, e in enumerate(tree) if n in numbers or e.kind is Kind.DIRECTORY]
    again, _ = read_archive(b"".join(archive(entries, links=tree)))
    chosen = {e.path for e in entries}
    expected = {p: f._replace(names=f.names & chosen) for p, f in facts(tree).items() if p in chosen}
    assert facts(again) == expected


def test_two_names_whose_file_is_elsewhere_share_one_copy() -> None:
    root = RootTree([file("z", b"x" * 1000, mode=0o755), hardlink("a", "z"), hardlink("b", "z")])
    members = list(members_of(b"".join(archive([root["a"], root["b"]], links=root))))
    assert [(m.name, m.nlink, m.size) for m in members] == [("a", 2, 0), ("b", 2, 1000)]
    assert members[0].inode == members[1].inode


def test_a_hard_link_without_its_file_is_refused() -> None:
    with pytest.raises(CpioError, match="/a is a hard link to /gone"):
        list(archive([hardlink("a", "gone")]))


def test_the_layout_is_the_kernels() -> None:
    data = packed(RootTree([file("init", b"hello", mode=0o755)]))
    assert data[:110] == (
        b"070701" b"00000001" b"000081ED" b"00000000" b"00000000" b"00000001" b"00000000" b"00000005"
        b"00000000" b"00000000" b"00000000" b"00000000" b"00000005" b"00000000"
    )  # fmt: skip
    assert data[110:124] == b"init\0\0hello\0\0\0"
    assert data[124:130] == b"070701"
    assert data[234:] == b"TRAILER!!!\0\0\0\0"
    assert len(data) % 4 == 0


def test_times_after_the_limit_are_brought_back_and_those_before_1970_forward() -> None:
    tree = RootTree([Entry("late", Kind.FILE, 0o644, mtime=2_000_000_000), Entry("old", Kind.FIFO, 0o600, mtime=-5)])
    times = {m.name: m.mtime for m in members_of(b"".join(archive(tree, mtime_limit=1_000_000_000)))}
    assert times == {"late": 1_000_000_000, "old": 0}


def test_the_last_second_of_32_bits_is_kept() -> None:
    tree = RootTree([Entry("x", Kind.FIFO, 0o600, mtime=0xFFFF_FFFF)])
    assert read_archive(packed(tree))[0]["x"].mtime == 0xFFFF_FFFF


UNFIT = [
    (file("f", Content(2**32)), "its size 4294967296 does not fit"),
    (replace(file("f", ""), uid=2**32), "its owner 4294967296 does not fit"),
    (replace(file("f", ""), gid=-1), "its group -1 does not fit"),
    (device("f", char=(2**32, 0)), "its major"),
    (file("TRAILER!!!", ""), "means the end"),
    (file("/".join(["d" * 200] * 21), ""), "has a name of 4220 bytes"),
]


@pytest.mark.parametrize(("entry", "reason"), UNFIT, ids=[reason for _, reason in UNFIT])
def test_what_the_format_cannot_hold_is_refused_by_name(entry: Entry, reason: str) -> None:
    with pytest.raises(CpioError, match=reason):
        list(archive([entry]))


def test_what_gets_lost_is_named() -> None:
    capable = replace(file("bin/ping", "x"), xattrs={"user.b": b"", "security.capability": b"\1"})
    assert unkept_xattrs(RootTree([capable, file("plain", "")])) == ["/bin/ping (security.capability, user.b)"]
    assert unkept_xattrs(RootTree([file("plain", "")])) == []


def test_symlinks_as_the_kernels_own_tool_writes_them_end_in_nul() -> None:
    data = packed(RootTree([symlink("l", "target")]))
    assert data[54:62] == b"00000006"
    tree, _ = read_archive(changed(data, 54, b"00000007"))
    assert tree["l"].target == "target"


def test_the_second_of_two_archives_begins_where_the_first_ends() -> None:
    one, two = packed(RootTree([file("a", "1")])), packed(RootTree([file("b", "22")]))
    first, end = read_archive(one + two)
    second, rest = read_archive(memoryview(one + two)[end:])
    assert ([e.path for e in first], [e.path for e in second]) == (["a"], ["b"])
    assert end + rest == len(one + two)


SOUND = packed(RootTree([file("name", b"data")]))
DAMAGED = [
    (b"", "ends in the middle of a header, at byte 0"),
    (SOUND[:50], "ends in the middle of a header, at byte 0"),
    (SOUND[:112], "impossible length of 5"),
    (SOUND[:118], "ends in the middle of b'name'"),
    (SOUND[:120], "ends in the middle of a header, at byte 120"),
    (SOUND[:-8], "impossible length of 11"),
    (changed(SOUND, 0, b"070707"), "no newc header at byte 0"),
    (changed(SOUND, 120, b"070707"), "no newc header at byte 120"),
    (changed(SOUND, 5, b"2"), "the checksum of b'name' is wrong"),
    (changed(SOUND, 6, b"0000 001"), "not hex"),
    (changed(SOUND, 6, b"0x000001"), "not hex"),
    (changed(SOUND, 6, b"0_000001"), "not hex"),
    (changed(SOUND, 14, b"0000C1A4"), "a kind that cannot be unpacked"),
    (changed(SOUND, 54, b"FFFFFFFF"), "ends in the middle of b'name'"),
    (changed(SOUND, 94, b"00000000"), "impossible length of 0"),
    (changed(SOUND, 94, b"7FFFFFFF"), "impossible length of 2147483647"),
    (changed(SOUND, 94, b"00000002"), "impossible length of 2"),
    (changed(SOUND, 114, b"X"), "impossible length of 5"),
]


@pytest.mark.parametrize(("data", "reason"), DAMAGED, ids=[reason for _, reason in DAMAGED])
def test_damage_is_told_with_its_place(data: bytes, reason: str) -> None:
    with pytest.raises(CpioError, match=reason) as caught:
        read_archive(data, source="initrd.img")
    assert "initrd.img" in caught.value.message


def test_a_sum_that_is_right() -> None:
    summed = changed(changed(SOUND, 5, b"2"), 102, b"%08X" % sum(b"data"))
    assert read_archive(summed)[0]["name"].content.read() == b"data"


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up"])
def test_names_that_may_not_be_are_refused(name: str) -> None:
    hostile = b"".join(archive([file("x" * len(name), "1")])).replace(b"x" * len(name), name.encode())
    with pytest.raises(LivebuilderError, match=r"absolute|climbs out"):
        read_archive(hostile)


def test_150_mutated_archives_give_a_tree_or_a_clear_error() -> None:
    tree = RootTree([directory("bin"), file("bin/sh", b"#!" * 200, mode=0o755), hardlink("bin/ash", "bin/sh")])
    tree.add(symlink("etc/l", "../bin/sh"))
    tree.add(device("dev/console", char=(5, 1)))
    data = packed(tree)
    outcomes = {"tree": 0, "error": 0}
    for seed in range(150):
        try:
            read_archive(mutated(data, seed))
            outcomes["tree"] += 1
        except LivebuilderError as error:
            assert error.message
            outcomes["error"] += 1
    assert outcomes["tree"] > 5 and outcomes["error"] > 50, outcomes


@given(st.binary(max_size=300))
def test_any_bytes_give_a_tree_or_a_clear_error(data: bytes) -> None:
    for attempt in (data, SOUND[:94] + data):
        with suppress(LivebuilderError):
            read_archive(attempt)
