import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.sources.deb import unpack_deb
from livebuilder.tarfiles import TarFiles, read_tar
from livebuilder.tree import Kind, RootTree
from tests.support.debs import (
    COMPRESSORS,
    ar_of,
    deb_of,
    everything,
    folder,
    link,
    member,
    tar_of,
    write_deb,
)


def unpack(tmp_path: Path, data: bytes) -> TarFiles:
    sha256 = write_deb(tmp_path / "thing.deb", data)
    return unpack_deb(tmp_path / "thing.deb", sha256=sha256, cache=Cache(tmp_path / "cache"), source="thing 1")


@pytest.mark.parametrize("compression", COMPRESSORS)
def test_everything_a_package_may_hold(tmp_path: Path, compression: str) -> None:
    tree = RootTree(unpack(tmp_path, deb_of(everything(), compression=compression)).entries())
    members = {info.name.removeprefix("./").rstrip("/"): (info, data) for info, data in everything()}
    assert {entry.path for entry in tree} == {name for name in members if name} | {"dev", "run"}
    for entry in tree:
        if entry.path in ("dev", "run"):
            continue  # implied
        info, data = members[entry.path]
        assert (entry.uid, entry.gid, entry.mtime) == (info.uid, info.gid, info.mtime)
        assert entry.kind is Kind.HARDLINK or entry.mode == info.mode
        if info.isreg():
            assert (entry.kind, entry.content.read()) == (Kind.FILE, data)
        elif info.issym():
            assert (entry.kind, entry.target) == (Kind.SYMLINK, info.linkname)
        elif info.isdev() and not info.isfifo():
            assert entry.device == (info.devmajor, info.devminor)
    assert tree["usr/bin/other"].target == "usr/bin/thing"
    assert tree["dev/loop7"].kind is Kind.BLOCK
    assert tree["run/fifo"].kind is Kind.FIFO
    tree.verify()


def test_ustar_with_prefix(tmp_path: Path) -> None:
    name = "./" + "prefix/" * 20 + "file"
    (entry,) = unpack(tmp_path, ar_of([
        ("debian-binary", b"2.0\n"), ("data.tar/", tar_of([member(name, b"x")], format=tarfile.USTAR_FORMAT)),
    ])).entries()  # fmt: skip
    assert entry.path == name[2:]


def test_a_v7_folder_is_told_by_its_slash(tmp_path: Path) -> None:
    info, _ = member("./old/", kind=tarfile.AREGTYPE)
    header = info.tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "t").write_bytes(header + bytes(1024))
    assert [row[:2] for row in read_tar(tmp_path / "t", source="t")] == [("old", "directory")]


def test_the_second_time_the_package_is_not_opened(tmp_path: Path) -> None:
    data = deb_of(everything())
    first = unpack(tmp_path, data)
    sha256 = write_deb(tmp_path / "thing.deb", data)
    (tmp_path / "thing.deb").unlink()
    cache = Cache(tmp_path / "cache")
    second = unpack_deb(tmp_path / "thing.deb", sha256=sha256, cache=cache, source="thing 1")
    assert list(second.entries()) == list(first.entries())


@pytest.mark.parametrize("damage", ["index.json", "data.tar"])
def test_a_damaged_copy_in_the_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    data = deb_of(everything())
    first = list(unpack(tmp_path, data).entries())
    (copy,) = (tmp_path / "cache").glob(f"*/*/{damage}")
    copy.write_bytes(copy.read_bytes()[:100])
    assert list(unpack(tmp_path, data).entries()) == first


def test_some_paths(tmp_path: Path) -> None:
    deb = unpack(tmp_path, deb_of(everything()))
    assert [entry.path for entry in deb.entries({"usr/empty", "run/fifo"})] == ["usr/empty", "run/fifo"]
    assert {entry.path for entry in deb.entries(below="usr/bin/")} == {"thing", "other", "soft"}
    assert {entry.target for entry in deb.entries(below="usr/bin/")} == {"thing", "", "../lib/nowhere"}


def test_a_hard_link_without_its_file_becomes_the_file(tmp_path: Path) -> None:
    members = [member("a", b"same"), link("b", "a", hard=True), link("c", "b", hard=True)]
    tree = RootTree(unpack(tmp_path, deb_of(members)).entries({"b", "c"}))
    assert tree["b"].content.read() == b"same"
    assert tree["c"].target == "b"
    tree.verify()


BROKEN = {
    "empty": b"",
    "no ar": b"PK\3\4 this is a zip",
    "only the magic": b"!<arch>\n",
    "first member": ar_of([("control.tar.gz", b"")]),
    "format": ar_of([("debian-binary", b"3.0\n"), ("data.tar", tar_of([]))]),
    "no data": ar_of([("debian-binary", b"2.0\n"), ("control.tar", b"")]),
    "compression": ar_of([("debian-binary", b"2.0\n"), ("data.tar.Z", b"")]),
    "empty tar": ar_of([("debian-binary", b"2.0\n"), ("data.tar", b"")]),
    "not xz": ar_of([("debian-binary", b"2.0\n"), ("data.tar.xz", b"no xz at all")]),
    "half an xz": ar_of([("debian-binary", b"2.0\n"), ("data.tar.xz", COMPRESSORS[".xz"](tar_of(everything()))[:-40])]),
    "half a zst": ar_of([("debian-binary", b"2.0\n"), ("data.tar.zst", COMPRESSORS[".zst"](bytes(99999))[:-4])]),
    "no end mark": ar_of([("debian-binary", b"2.0\n"), ("data.tar", tar_of(everything())[:1024])]),
    "climbs": deb_of([member("../up", b"x")]),
    "absolute": deb_of([member("/etc/passwd", b"x")]),
    "climbing link": deb_of([member("a", b"x"), link("b", "../a", hard=True)]),
    "link to nothing": deb_of([link("b", "a", hard=True)]),
    "link to a folder": deb_of([folder("a"), link("b", "a", hard=True)]),
    "pax": ar_of([
        ("debian-binary", b"2.0\n"), ("data.tar", tar_of([member("é" * 90, b"x")], format=tarfile.PAX_FORMAT)),
    ]),
}  # fmt: skip


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_refused_by_name_and_nothing_left_behind(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(LivebuilderError, match="thing 1"):
        unpack(tmp_path, data)
    assert list((tmp_path / "cache").glob("*/*")) == []


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["", ".gz", ".xz", ".zst"]), st.data())
def test_mutations_never_give_a_traceback(tmp_path: Path, compression: str, choices: st.DataObject) -> None:
    whole = deb_of(everything()[:9], compression=compression)
    data = bytearray(whole)
    for _ in range(choices.draw(st.integers(1, 4))):
        data[choices.draw(st.integers(0, len(data) - 1))] = choices.draw(st.integers(0, 255))
    del data[choices.draw(st.one_of(st.just(len(data)), st.integers(0, len(data)))) :]
    try:
        for entry in unpack(tmp_path, bytes(data)).entries():
            entry.content.read()
    except LivebuilderError as error:
        assert "thing 1" in error.message


@pytest.mark.parametrize("compression", [".gz", ".xz", ".bz2", ".zst"])
def test_every_truncation_is_seen(tmp_path: Path, compression: str) -> None:
    whole = deb_of(everything()[:5], compression=compression)
    for size in range(0, len(whole) - 16, 31):
        with pytest.raises(LivebuilderError):
            unpack(tmp_path, whole[:size])
