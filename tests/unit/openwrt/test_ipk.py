import gzip
from pathlib import Path

import pytest

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.ipk import Ipk, read_ipk
from livebuilder.tree import Kind
from tests.support.damage import mutated
from tests.support.debs import ar_of, everything, folder, link, member, tar_of
from tests.support.ipks import block_mount, control_of, ipk, ipk_of

CONTROL = gzip.compress(tar_of([folder("./"), member("./control", control_of("thing").encode())]), mtime=0)
DATA = gzip.compress(tar_of([member("./a", b"x")]), mtime=0)


def read(tmp_path: Path, data: bytes) -> Ipk:
    path = tmp_path / "thing_1-1.ipk"
    path.write_bytes(data)
    return read_ipk(path, cache=Cache(tmp_path / "cache"))


@pytest.mark.parametrize("as_ar", [False, True])
def test_what_a_package_holds(tmp_path: Path, as_ar: bool) -> None:
    made = ipk(
        "thing", "1.2-3", everything(), as_ar=as_ar, conffiles=["/etc/config/thing ", "etc/other", "", "/etc/dir/"],
        scripts={"postinst-pkg": "#!/bin/sh\necho\n"}, Depends="libc, libfoo (>= 1)", Description=" first\n second",
    )  # fmt: skip
    found = read(tmp_path, made.data)
    assert (found.name, found.version, found.fields["Depends"]) == ("thing", "1.2-3", "libc, libfoo (>= 1)")
    assert found.conffiles == ("/etc/config/thing", "/etc/other", "/etc/dir")
    assert found.script("postinst-pkg") == "#!/bin/sh\necho\n"
    assert found.script("preinst") == ""
    assert {(entry.path, entry.mode) for entry in found.control_files} == {
        ("control", 0o644), ("conffiles", 0o644), ("postinst", 0o755), ("prerm", 0o755), ("postinst-pkg", 0o755),
    }  # fmt: skip
    for info, data in everything():
        name = info.name.removeprefix("./").rstrip("/")
        if name and info.isreg():
            entry = found.tree[name]
            assert (entry.kind, entry.content.read(), entry.mtime) == (Kind.FILE, data, info.mtime)
            assert (entry.mode, entry.uid, entry.gid) == (info.mode, info.uid, info.gid)
    assert found.tree["usr/bin/other"].target == "usr/bin/thing"
    assert found.tree["dev/loop7"].device == (7, 7)


def test_a_package_packed_by_one_user_is_roots(tmp_path: Path) -> None:
    of_one = ipk("thing", members=[member("./a", b"x", uid=1000, gid=1000), member("./b", b"y", uid=1000, gid=1000)])
    assert {(entry.uid, entry.gid) for entry in read(tmp_path, of_one.data).tree} == {(0, 0)}
    of_two = ipk("thing", members=[folder("./etc/"), member("./etc/b", b"y", uid=453, gid=453)])
    assert {(entry.uid, entry.gid) for entry in read(tmp_path, of_two.data).tree} == {(0, 0), (453, 453)}


def test_a_package_without_files(tmp_path: Path) -> None:
    assert list(read(tmp_path, ipk("luci", members=[]).data).tree) == []


def test_names_without_a_dot_before_them(tmp_path: Path) -> None:
    data = gzip.compress(tar_of([member("debian-binary", b"2.0\n"), member("data.tar.gz", DATA),
                                 member("control.tar.gz", CONTROL)]))  # fmt: skip
    assert read(tmp_path, data).name == "thing"


@pytest.mark.parametrize("damage", ["control.tar", "data.tar"])
def test_a_damaged_copy_in_the_cache_is_made_again(tmp_path: Path, damage: str) -> None:
    made = block_mount()
    first = list(read(tmp_path, made.data).tree)
    (copy,) = (tmp_path / "cache").glob(f"*/*/{damage}")
    copy.write_bytes(copy.read_bytes()[:600])
    assert list(read(tmp_path, made.data).tree) == first


PARTS = {"debian-binary": b"2.0\n", "data.tar.gz": DATA, "control.tar.gz": CONTROL}


def control_with(text: str) -> bytes:
    return gzip.compress(tar_of([member("./control", text.encode())]), mtime=0)


BROKEN = {
    "empty": (b"", "begins neither"),
    "an error page": (b"<html>404</html>", "begins neither"),
    "not a tar": (gzip.compress(b"hello" * 200), "damaged"),
    "no control": (ipk_of({"data.tar.gz": DATA}), "no control.tar.gz"),
    "no data": (ipk_of({"control.tar.gz": CONTROL}), "no data.tar.gz"),
    "two data": (ipk_of({**PARTS, "data.tar": b"x"}), "2 data.tar.gz"),
    "ar without data": (ar_of([("debian-binary", b"2.0\n"), ("control.tar.gz", CONTROL)]), "no data.tar.gz"),
    "packed unknown": (ipk_of({**PARTS, "data.tar.gz": b"", "data.tar.Z": DATA}), "data.tar.gz"),
    "control not gzip": (ipk_of({**PARTS, "control.tar.gz": b"plain"}), "control.tar.gz"),
    "data cut": (ipk_of({**PARTS, "data.tar.gz": DATA[:-9]}), "cut short"),
    "no control file": (ipk_of({**PARTS, "control.tar.gz": DATA}), "no file named control"),
    "no version": (ipk_of({**PARTS, "control.tar.gz": control_with("Package: a\n")}), "no Version"),
    "a path for a name": (ipk_of({**PARTS, "control.tar.gz": control_with("Package: ../a\nVersion: 1\n")}), "name"),
    "climbs": (ipk("thing", members=[member("./../../up", b"x")]).data, "climbs"),
    "absolute": (ipk("thing", members=[member("/etc/passwd", b"x")]).data, "absolute"),
    "below a link": (ipk("thing", members=[link("./a", "/etc"), member("./a/passwd", b"x")]).data, "lies below"),
    "link to nothing": (ipk("thing", members=[link("./b", "./a", hard=True)]).data, "hard link"),
    "twice": (ipk("thing", members=[member("./a", b"x"), member("./a", b"y")]).data, "twice"),
    "conffile above the root": (ipk("thing", conffiles=["/etc/../../passwd"]).data, "climbs"),
    "huge control": (
        ipk_of({**PARTS, "control.tar.gz": control_with("Package: a\nVersion: 1\n" + "X: y\n" * 900_000)}), "bytes",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_refused_by_name_and_nothing_left_behind(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(LivebuilderError, match=r"thing_1-1\.ipk") as caught:
        read(tmp_path, data)
    assert says in caught.value.message
    assert list((tmp_path / "cache").glob("*/*")) == []


def test_a_bomb_stops_at_its_limit(tmp_path: Path) -> None:
    bomb = gzip.compress(bytes(80 << 20), 9)
    with pytest.raises(LivebuilderError, match="unpacks to more than"):
        read(tmp_path, ipk_of({**PARTS, "data.tar.gz": bomb}))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match=r"gone\.ipk cannot be read"):
        read_ipk(tmp_path / "gone.ipk", cache=Cache(tmp_path / "cache"))


WHOLE = {
    "debian-binary": b"2.0\n",
    "data.tar.gz": gzip.compress(tar_of(everything()[:9]), mtime=0),
    "control.tar.gz": CONTROL,
}


def broken_at(layer: str, seed: int) -> bytes:
    """A package with damage that gzip's checksum does not show, unless the layer is the file itself."""
    match layer:
        case "the file":
            return mutated(ipk_of(WHOLE), seed)
        case "the ar archive":
            return mutated(ar_of(WHOLE.items()), seed)
        case "the outer tar":
            return gzip.compress(mutated(gzip.decompress(ipk_of(WHOLE)), seed), mtime=0)
        case name:
            return ipk_of({**WHOLE, name: gzip.compress(mutated(gzip.decompress(WHOLE[name]), seed), mtime=0)})


@pytest.mark.parametrize("layer", ["the file", "the ar archive", "the outer tar", "control.tar.gz", "data.tar.gz"])
def test_mutations_never_give_a_traceback(tmp_path: Path, layer: str) -> None:
    errors = 0
    for seed in range(60):
        try:
            found = read(tmp_path, broken_at(layer, seed))
            for entry in (*found.tree, *found.control_files):
                entry.content.read()
        except LivebuilderError as error:
            errors += 1
            assert "thing_1-1.ipk" in error.message
    assert errors > 15
