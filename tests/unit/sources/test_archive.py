"""A root read from tar archives: all of it, or a clear error and nothing left behind."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.sources import archive
from livebuilder.sources.archive import root_tree_from_archive
from livebuilder.tree import Entry, Kind, RootTree, file, symlink
from tests.support.damage import changed, mutated
from tests.support.trees import facts, trees

COMPRESS = {
    "tar": lambda data: data,
    "tar.gz": gzip.compress,
    "tar.xz": lzma.compress,
    "tar.zst": zstandard.compress,
    "tar.bz2": bz2.compress,
}
_TYPE = {
    Kind.DIRECTORY: tarfile.DIRTYPE,
    Kind.FILE: tarfile.REGTYPE,
    Kind.SYMLINK: tarfile.SYMTYPE,
    Kind.HARDLINK: tarfile.LNKTYPE,
    Kind.CHAR: tarfile.CHRTYPE,
    Kind.BLOCK: tarfile.BLKTYPE,
    Kind.FIFO: tarfile.FIFOTYPE,
}


def member(entry: Entry, *, prefix: str = "./", **pax: str) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(prefix + entry.path)
    info.type, info.mode, info.uid, info.gid, info.mtime = (
        _TYPE[entry.kind],
        entry.mode,
        entry.uid,
        entry.gid,
        entry.mtime,
    )
    info.linkname = ("./" if entry.kind is Kind.HARDLINK else "") + entry.target
    info.devmajor, info.devminor = entry.device
    info.size = entry.content.size
    info.pax_headers = pax
    return info, entry.content.read()


def tar_of(*members: tuple[tarfile.TarInfo, bytes], format: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format, encoding="utf-8", errors="surrogateescape") as tar:
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_of_tree(tree: RootTree, *, format: int) -> bytes:
    """Files before their further names, as every tar has them."""
    entries = sorted(tree, key=lambda entry: entry.kind is Kind.HARDLINK)
    return tar_of(*(member(entry) for entry in entries), format=format)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def read(tmp_path: Path, data: bytes, *, name: str = "root.tar") -> RootTree:
    path = tmp_path / name
    path.write_bytes(data)
    return root_tree_from_archive(path, cache=Cache(tmp_path / "cache"))


def left_in(cache: Cache) -> list[Path]:
    return [path for path in cache.root.rglob("*") if path.is_file()] if cache.root.exists() else []


@settings(max_examples=30)
@given(trees())
def test_every_tree_comes_back_from_pax_and_gnu_archives(
    tmp_path_factory: pytest.TempPathFactory, tree: RootTree
) -> None:
    for format in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        if len(tree):
            data = tar_of_tree(tree, format=format)
            assert facts(read(tmp_path_factory.mktemp("tar"), data)) == facts(tree)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_every_compression_is_known_by_its_bytes_and_kept_once(tmp_path: Path, cache: Cache, suffix: str) -> None:
    data = tar_of(member(file("etc/motd", b"hello" * 1000)), member(symlink("l", "etc/motd")))
    path = tmp_path / "misleading.name"
    path.write_bytes(COMPRESS[suffix](data))
    tree = root_tree_from_archive(path, cache=cache)
    content = tree["etc/motd"].content
    assert content.read() == b"hello" * 1000
    assert content.data is None, "the content stays on disk"
    spools = left_in(cache)
    assert len(spools) == (0 if suffix == "tar" else 1)
    before = [spool.stat().st_ino for spool in spools]
    again = root_tree_from_archive(path, cache=cache)
    assert facts(again) == facts(tree)
    assert [spool.stat().st_ino for spool in left_in(cache)] == before


def test_streams_and_frames_put_one_after_another_are_one_archive(tmp_path: Path) -> None:
    data = tar_of(member(file("f", os.urandom(40_000))))
    for suffix in ("tar.gz", "tar.xz", "tar.zst", "tar.bz2"):
        packed = COMPRESS[suffix](data[:7000]) + COMPRESS[suffix](data[7000:])
        assert read(tmp_path, packed)["f"].content.size == 40_000


def test_a_spool_that_got_short_in_a_power_cut_is_made_again(tmp_path: Path, cache: Cache) -> None:
    path = tmp_path / "root.tar.gz"
    path.write_bytes(gzip.compress(tar_of(member(file("f", b"x" * 5000)))))
    root_tree_from_archive(path, cache=cache)
    (spool,) = left_in(cache)
    os.truncate(spool, 1000)
    assert root_tree_from_archive(path, cache=cache)["f"].content.read() == b"x" * 5000


def test_members_without_folders_absent_owners_and_the_top_folder_are_fine(tmp_path: Path) -> None:
    top = tarfile.TarInfo("./")
    top.type, top.mode = tarfile.DIRTYPE, 0o700
    tree = read(tmp_path, tar_of((top, b""), member(file("a/b/c", b"x"))))
    assert [e.path for e in tree] == ["a", "a/b", "a/b/c"]


def test_extended_attributes_and_acls_are_kept_and_the_hosts_own_labels_are_not(tmp_path: Path) -> None:
    capability = b"\x01\x00\x00\x02\x00\x20\xff\x00"
    pax = {
        "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
        "SCHILY.xattr.security.selinux": "system_u:object_r:bin_t:s0",
        "SCHILY.acl.access": "user::rwx,group::r-x",
    }
    tree = read(tmp_path, tar_of(member(file("bin/ping", b"x"), **pax)))
    assert dict(tree["bin/ping"].xattrs) == {
        "security.capability": capability,
        "SCHILY.acl.access": b"user::rwx,group::r-x",
    }


def test_a_chain_of_hard_links_leads_to_the_file_and_other_kinds_are_copied(tmp_path: Path) -> None:
    def link(path: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
        return member(Entry(path, Kind.HARDLINK, 0o644, target=target))

    data = tar_of(
        member(file("a", b"x")), link("b", "a"), link("c", "b"), member(symlink("s", "a")), link("t", "s")
    )  # fmt: skip
    tree = read(tmp_path, data)
    assert (tree["c"].kind, tree["c"].target) == (Kind.HARDLINK, "a")
    assert (tree["t"].kind, tree["t"].target) == (Kind.SYMLINK, "a")


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
def test_the_same_member_twice_is_fine(tmp_path: Path, suffix: str) -> None:
    assert len(read(tmp_path, COMPRESS[suffix](tar_of(member(file("f", b"x")), member(file("f", b"x")))))) == 1


HOSTILE = [
    ("an absolute name", [member(file("etc/x", b""), prefix="/")], "'/etc/x' in .* is an absolute path"),
    ("a name that climbs", [member(file("../x", b""))], "'./../x' in .* climbs out"),
    ("a name that climbs inside", [member(file("a/../../x", b""))], "climbs out"),
    (
        "a file below a device",
        [member(Entry("d", Kind.CHAR, 0o600, device=(1, 3))), member(file("d/x", b""))],
        "/d/x of .* lies below /d, which is a char",
    ),
    (
        "a file below a symlink",
        [member(symlink("s", "/etc")), member(file("s/passwd", b""))],
        "/s/passwd of .* lies below /s, which is a symlink",
    ),
    ("two contents", [member(file("f", b"1")), member(file("f", b"2"))], "/f is given twice with different content"),
    ("a link to nothing", [member(Entry("l", Kind.HARDLINK, 0o644, target="gone"))], "/l of .* hard link to /gone"),
    ("a link that climbs", [member(Entry("l", Kind.HARDLINK, 0o644, target="../x"))], "climbs out"),
    ("a link to itself", [member(Entry("l", Kind.HARDLINK, 0o644, target="l"))], "/l of .* hard link to /l"),
    (
        "a link to a folder",
        [member(Entry("d", Kind.DIRECTORY, 0o755)), member(Entry("l", Kind.HARDLINK, 0o644, target="d"))],
        "hard link to /d",
    ),
    ("an empty symlink", [member(symlink("s", ""))], "/s of .* is a symlink to ''"),
    ("a name too long", [member(file("n" * 300, b""))], "more than 255 bytes"),
]


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize(("members", "reason"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_hostile_members_are_refused_by_name_and_leave_nothing(
    tmp_path: Path, cache: Cache, members: list[tuple[tarfile.TarInfo, bytes]], reason: str, suffix: str
) -> None:
    with pytest.raises(LivebuilderError, match=reason) as caught:
        read(tmp_path, COMPRESS[suffix](tar_of(*members)), name="evil.tar")
    assert "evil.tar" in caught.value.message
    assert left_in(cache) == []


def test_an_unknown_kind_of_member_is_refused(tmp_path: Path) -> None:
    info, data = member(file("dump", b""))
    info.type = b"D"
    with pytest.raises(LivebuilderError, match=r"/dump of .* is of a kind \(b'D'\)"):
        read(tmp_path, tar_of((info, data)))


def with_checksum(header: bytes) -> bytes:
    blank = changed(header[:512], 148, b" " * 8)
    return changed(header, 148, b"%06o\0 " % sum(blank))


PLAIN = tar_of(member(file("first", b"1" * 600)), member(file("second", b"2" * 600)), format=tarfile.GNU_FORMAT)
HUGE = with_checksum(changed(PLAIN[:512], 124, b"77777777777\0")) + PLAIN[512:]
NEGATIVE = with_checksum(changed(PLAIN[:512], 124, b"\xff" * 11 + b"\x00")) + PLAIN[512:]
DAMAGED = [
    ("empty", b"", "is empty"),
    ("text", b"#!/bin/sh\n" * 500, "holds no tar archive"),
    ("zeros", bytes(20_000), "holds no tar archive with files"),
    ("iso", changed(bytes(40_000), 32769, b"CD001"), "is an ISO image"),
    ("zip", b"PK\3\4" + bytes(600), "is a zip archive"),
    ("squashfs", b"hsqs" + bytes(600), "is a squashfs image"),
    ("cpio", b"070701" + b"0" * 600, "is a cpio archive"),
    ("deb", b"!<arch>\n" + bytes(600), "is a Debian package"),
    ("ext4", changed(bytes(4096), 1080, b"\x53\xef"), "is an ext file system"),
    ("bad checksum at the start", changed(PLAIN, 0, b"F"), "holds no tar archive"),
    ("bad checksum in the middle", changed(PLAIN, 1536, b"S"), "damaged or cut short, at byte 1536"),
    ("cut in a file", PLAIN[:700], "cut short: it ends in the middle of ./first"),
    ("cut in a header", PLAIN[:1700], "damaged or cut short, at byte 1536"),
    ("cut between members", PLAIN[:1536], "damaged or cut short, at byte 1536"),
    ("cut before its end", PLAIN[:3072], "damaged or cut short, at byte 3072"),
    ("huge declared size", HUGE, "cut short: it ends in the middle of ./first"),
    ("negative size", NEGATIVE, "holds no tar archive|impossible size"),
    ("gzip cut short", gzip.compress(PLAIN)[:-20], "damaged or cut short"),
    ("gzip with a bad sum", changed(gzip.compress(PLAIN), len(gzip.compress(PLAIN)) - 8, b"abcd"), "damaged"),
    ("gzip of nothing", gzip.compress(b""), "holds no tar archive"),
    ("gzip of text", gzip.compress(b"hello"), "holds no tar archive"),
    ("bare gzip magic", b"\x1f\x8b", "damaged or cut short"),
    ("xz cut short", lzma.compress(PLAIN)[:-20], "damaged or cut short"),
    ("bz2 cut short", bz2.compress(PLAIN)[:-20], "damaged or cut short"),
    ("zstd cut short", zstandard.compress(PLAIN)[:-20], "damaged or cut short|no tar"),
    ("zstd with a huge window", b"\x28\xb5\x2f\xfd\x00\xf8" + bytes(40), "damaged or cut short"),
]


@pytest.mark.parametrize(("data", "reason"), [case[1:] for case in DAMAGED], ids=[case[0] for case in DAMAGED])
def test_damage_and_other_formats_are_told_and_leave_nothing(
    tmp_path: Path, cache: Cache, data: bytes, reason: str
) -> None:
    with pytest.raises(LivebuilderError, match=reason) as caught:
        read(tmp_path, data, name="given.img")
    assert "given.img" in caught.value.message
    assert left_in(cache) == []


def test_an_archive_that_unpacks_without_end_is_stopped(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = lzma.compress(tar_of(member(file("zeros", bytes(4 << 20)))))
    assert len(bomb) < 4000
    monkeypatch.setattr(archive, "_PLAIN_ALWAYS_BYTES", 1 << 20)
    with pytest.raises(LivebuilderError, match=r"bomb.tar.xz has .* B and unpacks to more than 1.0 MiB"):
        read(tmp_path, bomb, name="bomb.tar.xz")
    assert left_in(cache) == []
    monkeypatch.setattr(archive, "_PLAIN_ALWAYS_BYTES", 8 << 20)
    assert read(tmp_path, bomb, name="bomb.tar.xz")["zeros"].content.size == 4 << 20


@pytest.mark.parametrize("size_bytes", [100, 3 << 20])
def test_a_full_disk_is_told_and_leaves_nothing(
    tmp_path: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    # /dev/full answers every write as a full disk does.
    packed = gzip.compress(tar_of(member(file("f", os.urandom(size_bytes)))))
    real = archive._decompress
    monkeypatch.setattr(archive, "_decompress", lambda reader, draft, **kw: real(reader, _full(draft), **kw))
    with pytest.raises(LivebuilderError, match="No space left on device") as caught:
        read(tmp_path, packed)
    assert caught.value.hint is not None and "XDG_CACHE_HOME" in caught.value.hint
    assert left_in(cache) == []


def _full(draft: Path) -> Path:
    draft.symlink_to("/dev/full")
    return draft


@pytest.mark.parametrize(
    ("kind", "reason"), [("missing", "does not exist"), ("folder", "is a folder"), ("fifo", "not a file")]
)
def test_what_is_no_file_is_refused(tmp_path: Path, cache: Cache, kind: str, reason: str) -> None:
    path = tmp_path / "given"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(LivebuilderError, match=reason):
        root_tree_from_archive(path, cache=cache)


def test_sparse_files_are_filled_in_and_giant_ones_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, _ = member(file("log/lastlog", b"data"))
    info.pax_headers = {
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "log/lastlog",
        "GNU.sparse.realsize": "2000",
    }  # fmt: skip
    stored = b"1\n1500\n4\n".ljust(512, b"\0") + b"data"
    info.size = len(stored)
    data = tar_of((info, stored), member(file("after", b"z")))
    tree = read(tmp_path, data)
    assert tree["log/lastlog"].content.read() == bytes(1500) + b"data" + bytes(496)
    assert tree["after"].content.read() == b"z"
    monkeypatch.setattr(archive, "_SPARSE_LIMIT_BYTES", 1000)
    with pytest.raises(LivebuilderError, match=r"lastlog of .* is a sparse file of 2.0 KiB"):
        read(tmp_path, data)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_60_mutated_archives_of_each_kind_give_a_tree_or_a_clear_error(tmp_path: Path, suffix: str) -> None:
    cache = Cache(tmp_path / "cache")
    tree = RootTree([file("bin/sh", bytes(range(256)) * 4, mode=0o755), symlink("etc/l", "../bin/sh")])
    tree.add(file("d" * 120 + "/" + "f" * 120, b"long"))
    tree.add(Entry("dev/console", Kind.CHAR, 0o600, device=(5, 1)))
    tree.add(Entry("bin/ash", Kind.HARDLINK, 0o644, target="bin/sh"))
    outcomes = {"tree": 0, "error": 0}
    for seed in range(60):
        format = (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)[seed // 4 % 2]
        data = mutated(COMPRESS[suffix](tar_of_tree(tree, format=format)), seed)
        kept = left_in(cache)
        try:
            facts(read(tmp_path, data, name="mutated.tar"))
            outcomes["tree"] += 1
        except LivebuilderError as error:
            assert "mutated.tar" in error.message
            assert left_in(cache) == kept
            outcomes["error"] += 1
    assert outcomes["error"] >= 20, outcomes
