"""What is on a stick: real file systems by mke2fs, changed by us, looked at by e2fsck and, as root, by the kernel."""

from __future__ import annotations

import os
import random
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import GIB, MIB
from livebuilder.tree import Entry, Kind, RootTree, directory, file, hardlink, symlink
from livebuilder.usb.blockdevice import Volume
from livebuilder.usb.content import change_content, read_content
from livebuilder.usb.devices import describe
from livebuilder.usb.target import open_target
from tests.support.contents import ALL_FEATURES, a_router, a_stick, assert_holds, assert_sound, opened, put
from tests.support.sticks import change_ext4


@pytest.mark.parametrize(
    ("fs", "options"), [("ext4", ()), ("ext3", ()), ("ext2", ()), ("ext4", ALL_FEATURES), ("ext4", ("-b", "1024"))]
)
def test_everything_a_router_keeps_is_carried(tmp_path: Path, fs: str, options: tuple[str, ...]) -> None:
    path = a_stick(tmp_path / "stick", fs, *options)
    before = describe(path).volumes[0]
    put(path, a_router())
    assert_holds(path, a_router())
    assert_sound(path)
    after = describe(path).volumes[0]
    assert (after.uuid, after.label, after.fs) == (before.uuid, before.label, before.fs)
    fewer = a_router()
    for gone in ("upper/one", "upper/etc", "work/work", "upper/big"):
        fewer.remove(gone)
    fewer.add(directory("upper/etc"))  # no opaque folder any more
    put(path, fewer)
    assert_holds(path, fewer)
    assert_sound(path)
    put(path, RootTree())
    assert_holds(path, RootTree())
    assert_sound(path)


@pytest.mark.host("loop")
def test_the_kernel_sees_the_same(tmp_path: Path) -> None:
    path = a_stick(tmp_path / "stick")
    put(path, a_router())
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    run(["mount", "-o", f"loop,ro,offset={MIB}", path, mounted])
    try:
        gone = (mounted / "upper/etc/gone").lstat()
        assert (oct(gone.st_mode), gone.st_rdev) == ("0o20000", 0)
        far = (mounted / "upper/far").lstat().st_rdev
        assert (os.major(far), os.minor(far)) == (300, 70_000)
        assert os.getxattr(mounted / "upper/etc", "trusted.overlay.opaque") == b"y"
        assert sorted(os.listxattr(mounted / "upper/etc/old")) == ["user.b", "user.empty"]
        assert (mounted / "upper/one").lstat().st_ino == (mounted / "upper/etc/two").lstat().st_ino
        assert (mounted / "upper/one").lstat().st_nlink == 3
        shadow = (mounted / "upper/etc/shadow").lstat()
        assert (shadow.st_uid, shadow.st_gid, shadow.st_mtime) == (65_534, 4_294_967_294, 2_400_000_000)
        assert (mounted / "upper/etc/old").lstat().st_mtime == -7
        assert (mounted / "upper/sparse").lstat().st_blocks < 64
    finally:
        run(["umount", mounted])


@pytest.mark.host("loop")
def test_what_the_kernel_wrote_and_never_unmounted_is_found(tmp_path: Path) -> None:
    path, live, mounted = a_stick(tmp_path / "stick"), tmp_path / "live", tmp_path / "mounted"
    mounted.mkdir()
    live.write_bytes(path.read_bytes())
    run(["mount", "-o", f"loop,offset={MIB}", live, mounted])
    try:
        (mounted / "upper/etc").mkdir()
        for number in range(300):
            with (mounted / f"upper/etc/file{number}").open("w") as stream:
                stream.write(f"{number}\n" * 99)
                stream.flush()
                os.fsync(stream.fileno())
        (mounted / "upper/etc/file7").unlink()
        os.setxattr(mounted / "upper/etc/file8", "trusted.x", b"1")
        for number in range(50):  # for another program's sync(2) may have brought it to its place
            with (mounted / f"upper/etc/more{number}").open("w") as stream:
                stream.write("more")
                stream.flush()
                os.fsync(stream.fileno())  # into the journal, and no further
            path.write_bytes(live.read_bytes())  # the plug is pulled
            looked = run(["debugfs", "-R", f"stat /upper/etc/more{number}", f"{path}?offset={MIB}"])  # replays nothing
            if "Inode:" not in looked.stdout:
                break
        else:
            pytest.fail("nothing was in the journal alone")
    finally:
        run(["umount", mounted])
    image = path.read_bytes()
    with opened(path, writable=False) as (target, volume), read_content(target, volume) as tree:
        assert len([entry for entry in tree if entry.kind is Kind.FILE]) == 299 + number + 1
        assert tree[f"upper/etc/more{number}"].content.read() == b"more"
        assert tree["upper/etc/file299"].content.read() == b"299\n" * 99
        assert tree["upper/etc/file8"].xattrs == {"trusted.x": b"1"}
    assert path.read_bytes() == image, "reading changes nothing"


def test_a_folder_with_thousands_of_names_in_it(tmp_path: Path) -> None:
    tree = RootTree([directory("upper"), file("upper/f", b"x")])
    for number in range(1500):
        tree.add(hardlink(f"upper/further name {number:05}", "upper/f"))
        tree.add(symlink(f"upper/{number:05}", "f"))
    for options in ((), ALL_FEATURES):
        path = a_stick(tmp_path / "stick", "ext4", *options)
        put(path, tree)
        assert_holds(path, tree)
        assert_sound(path)
        path.unlink()


def test_names_with_line_ends_are_read_and_removed_but_not_made(tmp_path: Path) -> None:
    path = a_stick(tmp_path / "stick")
    for command in (
        'mkdir "/upper/a\nb\rc"',
        'symlink "/upper/a\nb\rc/l\nn" "t\nx"',
        'ea_set "/upper/a\nb\rc" user.x y',
    ):
        run(["debugfs", "-w", "-R", command, f"{path}?offset={MIB}"])
    with opened(path, writable=False) as (target, volume), read_content(target, volume) as tree:
        assert tree["upper/a\nb\rc/l\nn"].target == "t\nx"
        assert tree["upper/a\nb\rc"].xattrs == {"user.x": b"y"}
    put(path, RootTree([directory("upper")]))
    assert_sound(path)
    image = path.read_bytes()
    for bad in (
        file("upper/a\nb", b""),
        symlink("upper/a", "\r"),
        Entry("upper/c", Kind.FILE, 0, xattrs={"user.\n": b""}),
    ):
        with pytest.raises(LivebuilderError, match="line end"):
            put(path, RootTree([directory("upper"), bad]))
    with pytest.raises(LivebuilderError, match="cannot hold"):
        put(path, RootTree([Entry("upper", Kind.DIRECTORY, 0o755, xattrs={"weird.x": b""})]))
    assert path.read_bytes() == image


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    path = a_stick(tmp_path / "stick")
    image = path.read_bytes()
    with pytest.raises(LivebuilderError, match=r"it is full; nothing was written"):
        put(path, RootTree([file("big", random.Random(1).randbytes(30 * MIB))]))
    with pytest.raises(LivebuilderError, match=r"nothing was written"):
        put(path, RootTree([Entry("f", Kind.FILE, 0o644, xattrs={"user.big": bytes(60_000)})]))
    assert path.read_bytes() == image


def test_more_than_this_disk_holds_is_told_before_it_is_read(tmp_path: Path) -> None:
    path = a_stick(tmp_path / "stick")
    put(path, RootTree([file("f", b"x")]))
    change_ext4(path, f"set_inode_field /f size {8 * 1024 * GIB}")
    with (
        pytest.raises(LivebuilderError, match=r"what is on .*stick takes up to 8796093022208 bytes") as caught,
        opened(path, writable=False) as (target, volume),
        read_content(target, volume),
    ):
        pytest.fail("a hole of eight TiB was read")
    assert "TMPDIR" in (caught.value.hint or "")


def test_until_the_last_part_an_interruption_leaves_the_old_content(tmp_path: Path) -> None:
    path = a_stick(tmp_path / "stick")
    put(path, a_router())
    image = path.read_bytes()

    def interrupt(done: int, total: int) -> None:
        assert 0 < done < total
        raise KeyboardInterrupt

    more = a_router()
    more.add(file("upper/more", random.Random(9).randbytes(5 * MIB)))
    with pytest.raises(KeyboardInterrupt), opened(path) as (target, volume):
        change_content(target, volume, lambda _: more, progress=interrupt)
    assert path.read_bytes() != image
    assert_holds(path, a_router())
    assert_sound(path)
    put(path, more)
    assert_holds(path, more)


def test_a_damaged_file_system_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = a_stick(tmp_path / "stick")
    with path.open("r+b") as stream:
        stream.seek(MIB + 8192)
        stream.write(os.urandom(512 * 1024))
    image = path.read_bytes()
    with pytest.raises(LivebuilderError) as caught:
        put(path, RootTree())
    assert caught.value.hint == f"e2fsck -f '{path}?offset={MIB}'"
    assert path.read_bytes() == image


def test_no_file_system_for_settings_is_refused(tmp_path: Path) -> None:
    volume = Volume(path="x1", number=1, offset_bytes=MIB, size_bytes=22 * MIB, fs="vfat")
    with open_target(describe(a_stick(tmp_path / "stick")), writable=False) as target:
        with (
            pytest.raises(LivebuilderError, match="cannot be storage: it keeps neither owners"),
            read_content(target, volume),
        ):
            pass
        if os.geteuid() != 0:
            btrfs = Volume(path="x1", number=1, offset_bytes=MIB, size_bytes=22 * MIB, fs="btrfs")
            with pytest.raises(LivebuilderError, match="only root"), read_content(target, btrfs):
                pass


@pytest.mark.host("btrfs")
def test_of_btrfs_too_what_was_never_unmounted_is_found(tmp_path: Path) -> None:
    path, live, mounted = a_stick(tmp_path / "stick", "btrfs", size_bytes=128 * MIB), tmp_path / "live", tmp_path / "m"
    mounted.mkdir()
    live.write_bytes(path.read_bytes())
    run(["mount", "-o", f"loop,offset={MIB}", live, mounted])
    try:
        with (mounted / "upper/late").open("w") as stream:
            stream.write("late")
            stream.flush()
            os.fsync(stream.fileno())  # into the log tree, and no further
        path.write_bytes(live.read_bytes())  # the plug is pulled
    finally:
        run(["umount", mounted])
    with opened(path, writable=False) as (target, volume), read_content(target, volume) as tree:
        assert tree["upper/late"].content.read() == b"late"


@pytest.mark.host("loop")
@pytest.mark.parametrize(("fs", "cure"), [("btrfs", "btrfs check"), ("f2fs", "fsck.f2fs")])
def test_of_these_too_a_damaged_one_is_refused(tmp_path: Path, fs: str, cure: str) -> None:
    path = a_stick(tmp_path / "stick", fs, size_bytes=128 * MIB)
    image = bytearray(path.read_bytes())
    for at in range(6 * MIB, 127 * MIB, 4096):  # all of the trees, and none of the superblocks
        if any(image[at : at + 4096]):
            image[at : at + 4096] = os.urandom(4096)
    path.write_bytes(image)
    with pytest.raises(LivebuilderError) as caught:
        put(path, RootTree())
    assert re.search(r" is damaged: .*(ERROR|\[ASSERT\]|\[Fail\]).* is untouched", caught.value.message)
    assert (caught.value.hint or "").startswith(f"{cure} $(losetup --find --show --offset {MIB} ")
    assert path.read_bytes() == image


@pytest.mark.parametrize("fs", [pytest.param(fs, marks=pytest.mark.host(fs)) for fs in ("btrfs", "f2fs")])
def test_what_has_to_be_mounted_is_mounted_as_a_copy(tmp_path: Path, fs: str) -> None:
    path = a_stick(tmp_path / "stick", fs, size_bytes=128 * MIB)
    before = Path("/proc/self/mounts").read_text()
    put(path, a_router())
    assert_holds(path, a_router())
    put(path, RootTree([directory("upper")]))
    assert_holds(path, RootTree([directory("upper")]))
    assert Path("/proc/self/mounts").read_text() == before


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0\n\r") | st.sampled_from(" \"'<>#\\$-"), min_size=1, max_size=40
).filter(lambda name: name not in (".", "..", "lost+found"))
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["trusted.overlay.opaque", "user.a b", "security.capability", "trusted.overlay.metacopy"]),
    st.binary(max_size=40), max_size=2,
)  # fmt: skip
DEVICES = st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1))


@st.composite
def trees(draw: st.DrawFn) -> RootTree:
    tree = RootTree()
    folders = [""]
    for _ in range(draw(st.integers(0, 12))):
        parent = draw(st.sampled_from(folders))
        path = f"{parent}/{draw(NAMES)}" if parent else draw(NAMES)
        if path in tree:
            continue
        kind = draw(st.sampled_from(Kind))
        files = [entry.path for entry in tree if entry.kind is Kind.FILE]
        if kind is Kind.HARDLINK:
            if files:
                tree.add(hardlink(path, draw(st.sampled_from(files))))
            continue
        number = st.integers(0, 2**32 - 2)
        tree.add(
            Entry(
                path, kind, draw(st.integers(0, 0o7777)), draw(number), draw(number),
                draw(st.integers(-(2**31), 2**33)),
                file("x", draw(st.binary(max_size=9000))).content if kind is Kind.FILE else file("x", b"").content,
                draw(NAMES) if kind is Kind.SYMLINK else "",
                draw(DEVICES) if kind in (Kind.CHAR, Kind.BLOCK) else (0, 0),
                draw(ATTRIBUTES) if kind in (Kind.FILE, Kind.DIRECTORY) else {},
            )
        )  # fmt: skip
        if kind is Kind.DIRECTORY:
            folders.append(path)
    return tree


# Without shrinking, which takes minutes at this price of an example.
@settings(
    max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate], suppress_health_check=[HealthCheck.too_slow]
)
@given(first=trees(), second=trees())
def test_any_tree_is_kept_and_any_other_takes_its_place(first: RootTree, second: RootTree) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = a_stick(Path(name) / "stick")
        for tree in (first, second):
            put(path, tree)
            assert_holds(path, tree)
        assert_sound(path)
