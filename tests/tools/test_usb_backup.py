"""Backups of real images: made, looked into by GNU tar, restored onto a fresh stick; and archives made to do harm."""

from __future__ import annotations

import io
import json
import stat
import tarfile
from pathlib import Path

import pytest
import zstandard

from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.tree import Entry, Kind, RootTree, device, directory, file, symlink
from livebuilder.usb import backup
from livebuilder.usb.backup import ContentReport, changed_paths, digest, read_backup, without_changes
from livebuilder.usb.changes import differences
from livebuilder.usb.devices import describe
from tests.support.contents import a_router, a_stick, assert_holds, assert_sound, opened, put


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = a_stick(tmp_path / "stick")
    put(path, a_router())
    return path


def write(path: Path, archive: Path, *, force: bool = False) -> backup.BackupReport:
    with opened(path, writable=False) as (target, volume):
        return backup.write_backup(target, volume, archive, force=force)


def restored(archive: Path, path: Path) -> ContentReport:
    with opened(path) as (target, volume):
        return backup.restore(archive, target, volume)


def test_a_backup_is_restored_onto_another_stick(stick: Path, tmp_path: Path) -> None:
    before = stick.read_bytes()
    report = write(stick, tmp_path / "b.tar.zst")
    assert stick.read_bytes() == before
    assert report.paths == len(a_router())
    assert report.to_json()["sha256"] == report.sha256
    assert "b.tar.zst" in report.render()
    assert stat.S_IMODE((tmp_path / "b.tar.zst").stat().st_mode) == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["b.tar.zst", "stick"]
    for number, fs in enumerate(("ext4", "ext3", "ext2")):
        other = a_stick(tmp_path / str(number), fs)
        old = describe(other).volumes[0]
        done = restored(tmp_path / "b.tar.zst", other)
        assert "upper/etc/gone" in done.made
        assert_holds(other, a_router())
        assert_sound(other)
        new = describe(other).volumes[0]
        assert (new.uuid, new.label, new.fs) == (old.uuid, old.label, old.fs)
        assert "nothing to do" in restored(tmp_path / "b.tar.zst", other).render()


def test_the_same_stick_gives_the_same_bytes(stick: Path, tmp_path: Path) -> None:
    assert write(stick, tmp_path / "a").sha256 == write(stick, tmp_path / "b").sha256


def test_gnu_tar_reads_it(stick: Path, tmp_path: Path) -> None:
    write(stick, tmp_path / "b.tar.zst")
    plain = zstandard.ZstdDecompressor().stream_reader((tmp_path / "b.tar.zst").open("rb")).read()
    (tmp_path / "b.tar").write_bytes(plain)
    lines = run(["tar", "--numeric-owner", "--xattrs", "-vvtf", tmp_path / "b.tar"]).stdout
    assert "c---------  0/0 " in lines
    assert " link to content/upper/etc/two" in lines
    lines = run(["tar", "--xattrs", "--xattrs-include=*", "-vvtf", tmp_path / "b.tar"]).stdout
    assert "x: 1 trusted.overlay.opaque" in lines
    assert "65534/4294967294" in lines


def test_a_file_that_is_there_is_not_replaced(stick: Path, tmp_path: Path) -> None:
    archive = tmp_path / "b"
    archive.write_bytes(b"the only one")
    with pytest.raises(LivebuilderError, match="only backup"):
        write(stick, archive)
    assert archive.read_bytes() == b"the only one"
    write(stick, archive, force=True)
    with read_backup(archive) as tree:
        assert differences(tree, a_router()) == []


def repacked(archive: Path, *, manifest: object = None, drop: str = "", extra: tarfile.TarInfo | None = None) -> None:
    """The archive again, with something in it that does not belong there, or without something that does."""
    plain = zstandard.ZstdDecompressor().stream_reader(archive.open("rb")).read()
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(plain)) as old, tarfile.open(fileobj=out, mode="w") as new:
        for member in old:
            data = old.extractfile(member).read() if member.isreg() else b""  # type: ignore[union-attr]
            if member.name == "backup.json" and manifest is not None:
                data = json.dumps({**json.loads(data), **manifest}).encode()  # type: ignore[dict-item]
                member.size = len(data)
            if member.name != drop:
                new.addfile(member, io.BytesIO(data))
        if extra is not None:
            new.addfile(extra)
    archive.write_bytes(zstandard.compress(out.getvalue()))


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


BAD = {
    "another checksum": ({"manifest": {"sha256": "0" * 64}}, "not as it was"),
    "one path less": ({"drop": "content/upper/etc/empty"}, "not as it was"),
    "one path more": ({"extra": member("content/upper/new")}, "not as it was"),
    "no manifest": ({"drop": "backup.json"}, "no backup of a stick"),
    "another format": ({"manifest": {"format": "x"}}, "no backup of a stick"),
    "a later version": ({"manifest": {"version": 2}}, "version 2"),
    "a path outside": ({"extra": member("etc/passwd")}, "in no backup"),
    "a path that climbs": ({"extra": member("content/../../etc/passwd")}, "climbs out"),
    "an absolute path": ({"extra": member("/etc/passwd")}, "absolute"),
    "a link that leads out": ({"extra": member("content/x", tarfile.LNKTYPE, "backup.json")}, "in no backup"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_archive_changes_nothing(case: str, stick: Path, tmp_path: Path) -> None:
    archive = tmp_path / "b"
    write(stick, archive)
    change, message = BAD[case]
    repacked(archive, **change)  # type: ignore[arg-type]
    before = stick.read_bytes()
    with pytest.raises(LivebuilderError, match=message):
        restored(archive, stick)
    assert stick.read_bytes() == before


def test_a_damaged_archive_changes_nothing(stick: Path, tmp_path: Path) -> None:
    archive = tmp_path / "b"
    write(stick, archive)
    whole, before = archive.read_bytes(), stick.read_bytes()
    for bad in (b"", whole[:-1000], whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:], b"PK\3\4", before[:9000]):
        archive.write_bytes(bad)
        with pytest.raises(LivebuilderError):
            restored(archive, stick)
    assert stick.read_bytes() == before


def test_a_reset_empties_both_folders(stick: Path) -> None:
    with opened(stick) as (target, volume):
        report = backup.reset(target, volume)
    assert "upper/etc/big" in report.removed
    with opened(stick, writable=False) as (target, volume):
        assert backup.diff(target, volume).differences == ()
    assert_holds(stick, RootTree([directory("upper"), directory("work"), symlink(".fs_state", "2")]))
    assert_sound(stick)


def test_a_reset_keeps_what_is_to_be_kept(stick: Path) -> None:
    before = stick.read_bytes()
    with opened(stick) as (target, volume), pytest.raises(LivebuilderError, match="no changed /etc/typo"):
        backup.reset(target, volume, keep=["/etc/big", "/etc/typo"])
    assert stick.read_bytes() == before
    with opened(stick) as (target, volume):
        report = backup.reset(target, volume, keep=["/etc/big", "etc/two"])
    assert report.kept == ("etc/big", "etc/two")
    assert "upper/one" in report.removed
    wanted = without_changes(a_router(), keep=["etc/big", "etc/two"])
    assert sorted(entry.path for entry in wanted) == sorted(
        [".fs_state", "upper", "upper/etc", "upper/etc/big", "upper/etc/two", "work"]
    )
    assert wanted["upper/etc"].xattrs == {}, "an opaque folder would hide the image's own files"
    assert wanted["upper/etc/two"].content.read() == b"many names"
    assert_holds(stick, wanted)


def test_reset_forgets_what_was_put_aside() -> None:
    tree = a_router()
    tree.add(file(".livebuilder/aside/bin/x", "old"))
    tree.add(file(".livebuilder/image", "aaaa attic 2"))
    assert [entry.path for entry in without_changes(tree, keep=[]) if entry.path.startswith(".l")] == [
        ".livebuilder", ".livebuilder/image"
    ]  # fmt: skip


_BESIDE = ("by-mac/52:54:00:12:34:56/etc/note", ".livebuilder/old/1/upper/etc/note", ".livebuilder/history/1/note")


def test_what_lies_beside_upper_is_in_a_backup_but_no_difference_and_no_resets(stick: Path, tmp_path: Path) -> None:
    tree = a_router()
    for path in _BESIDE:
        tree.add(file(path, "kept\n"))
    put(stick, tree)
    write(stick, tmp_path / "b.tar.zst")
    other = a_stick(tmp_path / "other")
    restored(tmp_path / "b.tar.zst", other)
    assert_holds(other, tree)
    assert changed_paths(tree) == changed_paths(a_router())
    left = without_changes(tree, keep=[])
    assert all(left[path].content.read() == b"kept\n" for path in _BESIDE)


def test_what_the_user_changed() -> None:
    tree = RootTree(
        [
            symlink(".fs_state", "2"), directory("work"), directory("upper/etc/config"), directory("upper/empty"),
            Entry("upper/etc/config/network", Kind.FILE, 0o644, mtime=90_000, content=file("x", b"12345").content),
            device("upper/etc/banner", char=(0, 0)), device("upper/dev/null", char=(1, 3)),
            Entry("upper/www", Kind.DIRECTORY, 0o755, xattrs={"trusted.overlay.opaque": b"y"}),
            Entry("upper/new", Kind.DIRECTORY, 0o755, xattrs={"trusted.overlay.redirect": b"/old"}),
            Entry("upper/late", Kind.FILE, 0, xattrs={"trusted.overlay.whiteout": b""}),
            file("upper/b\x1b[31m\udcff", b""),
        ]
    )  # fmt: skip
    assert [(one.path, one.what) for one in changed_paths(tree)] == [
        ("/b\\x1b[31m\\xff", "changed"), ("/dev/null", "changed"), ("/empty", "changed"), ("/etc/banner", "deleted"),
        ("/etc/config/network", "changed"), ("/late", "deleted"), ("/new", "moved"), ("/www", "replaced"),
    ]  # fmt: skip
    (network,) = changed_paths(tree, below="etc/config")
    assert (network.size_bytes, network.mtime) == (5, 90_000)
    assert changed_paths(tree, below="et") == ()
    lines = backup.DiffReport("/dev/sdx1", changed_paths(tree)).render().splitlines()
    assert lines[4] == "+        5 B  1970-01-02 01:00  /etc/config/network"
    assert lines[3].split() == ["-", "/etc/banner"]
    assert lines[6].endswith("/new  (was /old)")


def test_a_diff_of_a_stick(stick: Path) -> None:
    with opened(stick, writable=False) as (target, volume):
        report = backup.diff(target, volume, "/etc")
    assert [one.path for one in report.differences if one.what == "deleted"] == ["/etc/also-gone", "/etc/gone"]
    assert report.differences[0].what == "replaced"
    assert json.loads(json.dumps(report.to_json()))["differences"][0]["path"] == "/etc"


def test_the_digest_notices_everything() -> None:
    tree = RootTree([file("a", b"1"), Entry("b", Kind.FILE, 0o644, xattrs={"user.x": b"1"}), directory("c")])
    others = [
        RootTree([file("a", b"2"), tree["b"], tree["c"]]), RootTree([tree["a"], file("b", b""), tree["c"]]),
        RootTree([tree["a"], tree["b"]]), RootTree([tree["a"], tree["b"], directory("c", mode=0o700)]),
    ]  # fmt: skip
    assert len({digest(tree), *map(digest, others)}) == 5
