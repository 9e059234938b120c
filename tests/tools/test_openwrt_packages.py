"""Packages from feeds on a server of the tests into a stock-shaped root: right and wrong signatures, bad mirrors."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from livebuilder.cache import Cache
from livebuilder.cpio import archive
from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.closure import ClosureError
from livebuilder.openwrt.feed import Feed
from livebuilder.openwrt.index import FRESH_SECONDS
from livebuilder.openwrt.opkg import read_status
from livebuilder.openwrt.packages import PackagesReport, install_packages, plan_packages
from livebuilder.openwrt.signature import SignatureError, UnknownKeyError, read_key
from livebuilder.sizes import render_size
from livebuilder.tree import RootTree, file
from tests.support.debs import member
from tests.support.ipks import ARCHITECTURE, EPOCH, KERNEL, Made, block_mount, ipk, small_root, write_feed
from tests.support.signing import UsignPair, loopback_certificate
from tests.support.web import Site, serving

KEY, OTHER_KEY = UsignPair.of("feeds"), UsignPair.of("another")
CORE, BASE = "targets/x86/generic/packages", f"packages/{ARCHITECTURE}/base"
OTHER_KERNEL = KERNEL.replace("167", "150")
SHA_AND_MD5 = ("SHA256sum", "MD5Sum")


def kmod(name: str, kernel: str = KERNEL) -> Made:
    return ipk(
        f"kmod-{name}", "5.15.167-1", [member(f"./lib/modules/5.15.167/{name}.ko", b"\x7fELF"),
                                       member(f"./etc/modules.d/{name}", f"{name}\n".encode())],
        Depends=f"kernel (={kernel})",
    )  # fmt: skip


IN_CORE = [kmod("usb-storage"), kmod("other", OTHER_KERNEL)]
IN_BASE = [
    block_mount(depends="libc, libuci20130104 (>= 1), ubox"),
    ipk(
        "libuci20130104",
        "2023-1",
        [member("./lib/libuci.so", b"\x7fELF uci")],
        Provides="libuci",
        ABIVersion="20130104",
    ),
    ipk("ubox", "2-1", [member("./sbin/kmodloader", b"\x7fELF", mode=0o755)], Depends="libc, block-mount"),
]


def add_packages(
    root: RootTree, wanted: Sequence[str], cache: Cache, *, offline: bool = False, **how: Any
) -> tuple[RootTree, PackagesReport]:
    plan = plan_packages(root, wanted, cache=cache, offline=offline, **how)
    return install_packages(root, plan, cache=cache, epoch=EPOCH, offline=offline)


class Scene:
    """A server with two feeds, signed, and a root that names them and trusts their key; a cache of its own."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.cache = Cache(folder / "cache")
        self.publish(CORE, IN_CORE)
        self.publish(BASE, IN_BASE)
        self.root = small_root(files={
            "etc/opkg/distfeeds.conf": f"src/gz core {site.address}/{CORE}\nsrc/gz base {site.address}/{BASE}\n",
            "etc/opkg/keys/feeds": KEY.public.decode(), "etc/opkg/keys/rubbish": "no key\n",
        })  # fmt: skip

    def publish(
        self, where: str, packages: list[Made], *, key: UsignPair | None = KEY, hashes: tuple[str, ...] = SHA_AND_MD5
    ) -> None:
        """Put a feed on the server in place of what was there."""
        for path in [path for path in self.site.files if path.startswith(f"{where}/")]:
            del self.site.files[path]
        folder = write_feed(self.folder / "feeds" / f"{time.monotonic_ns()}", packages, key=key, hashes=hashes)
        self.site.files |= {f"{where}/{path.name}": path.read_bytes() for path in folder.iterdir()}
        del self.site.files[f"{where}/Packages"]

    def feed(self, where: str = BASE) -> Feed:
        return Feed(where.rpartition("/")[2], f"{self.site.address}/{where}")

    def add(self, *wanted: str, **how: Any) -> tuple[RootTree, PackagesReport]:
        return add_packages(self.root, wanted, self.cache, **how)

    def refuse(self, *wanted: str, **how: Any) -> LivebuilderError:
        with pytest.raises(LivebuilderError) as caught:
            self.add(*wanted, **how)
        return caught.value


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One certificate authority: nothing here is by TLS, and to read all those of the host takes most of the time."""
    return loopback_certificate(tmp_path_factory.mktemp("certificates") / "one.pem")


@pytest.fixture
def scene(tmp_path: Path, authorities: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))
    with serving(Site()) as site:
        yield Scene(site, tmp_path)


def file_of(name: str) -> str:
    return next(one.filename for one in (*IN_CORE, *IN_BASE) if one.name == name)


def test_from_the_roots_own_feeds_with_the_roots_own_key(scene: Scene) -> None:
    tree, report = scene.add("block-mount", "kmod-usb-storage", "busybox")
    now = read_status(tree).installed
    assert now.keys() - read_status(scene.root).installed.keys() == {
        "block-mount", "libuci20130104", "ubox", "kmod-usb-storage",
    }  # fmt: skip
    assert tree["lib/modules/5.15.167/usb-storage.ko"].content.read() == b"\x7fELF"
    told = json.loads(json.dumps(report.to_json()))
    assert [(feed["name"], feed["signature"]["scheme"], feed["there"]) for feed in told["feeds"]] == [
        ("core", "usign", True), ("base", "usign", True),
    ]  # fmt: skip
    assert told["feeds"][0]["signature"]["key"] == "the root's /etc/opkg/keys/feeds"
    assert [(one["name"], one["wanted"], one["feed"]) for one in told["install"]] == [
        ("libuci20130104", False, "base"), ("ubox", False, "base"), ("block-mount", True, "base"),
        ("kmod-usb-storage", True, "core"),
    ]  # fmt: skip
    assert told["install"][0]["sha256"] == IN_BASE[1].sha256
    assert (told["already_installed"], told["remove"], told["left_out"], told["warnings"]) == (["busybox"], [], [], [])
    assert told["postinst_at_first_boot"] == ["block-mount"]
    asked = [path for _, path, _ in scene.site.requests]
    assert len(asked) == len(set(asked)) == 8, "two lists, their signatures, four packages, each once"


def test_what_the_user_has_to_know_is_said(scene: Scene) -> None:
    scene.root.add(file("etc/config/fstab", "config mine\n"))
    _, report = scene.add("block-mount")
    assert report.render().splitlines()[-2:] == [
        "later   block-mount: its postinst runs at the first boot",
        "yours   /etc/config/fstab stays; the package's own is /etc/config/fstab-opkg",
    ]
    assert report.to_json()["kept_files"] == ["/etc/config/fstab"]


def test_once_fetched_it_is_built_offline_to_the_same_bytes(scene: Scene) -> None:
    first, _ = scene.add("block-mount")
    scene.site.requests.clear()
    again, _ = scene.add("block-mount")
    offline, _ = scene.add("block-mount", offline=True)
    assert scene.site.requests == []
    assert b"".join(archive(first)) == b"".join(archive(again)) == b"".join(archive(offline))


def test_offline_and_never_fetched(scene: Scene) -> None:
    assert "is not in the cache" in scene.refuse("block-mount", offline=True).message
    plan_packages(scene.root, ["block-mount"], cache=scene.cache)
    error = scene.refuse("block-mount", offline=True)
    assert error.message.startswith("not in the cache: ")
    assert "block-mount 2024.07.14-1" in error.message
    assert scene.site.asked(f"{BASE}/{file_of('ubox')}") == []


def test_a_plan_fetches_no_package(scene: Scene) -> None:
    plan = plan_packages(scene.root, ["block-mount", "busybox"], cache=scene.cache)
    assert plan.render().splitlines() == [
        f"install libuci20130104 2023-1  {len(IN_BASE[1].data)} B  because another needs it",
        f"install ubox 2-1  {len(IN_BASE[2].data)} B  because another needs it",
        f"install block-mount 2024.07.14-1  {render_size(len(IN_BASE[0].data))}",
        "keep    busybox 1.36.1-1",
    ]
    assert all("Packages" in path for _, path, _ in scene.site.requests)


def test_a_key_the_user_gives(scene: Scene) -> None:
    scene.publish(BASE, IN_BASE, key=OTHER_KEY)
    feeds = [scene.feed(BASE)]
    assert isinstance(scene.refuse("ubox", feeds=feeds), UnknownKeyError)
    _, report = scene.add("ubox", feeds=feeds, keys=[read_key(OTHER_KEY.public, source="mine.pub")])
    (feed,) = report.to_json()["feeds"]
    assert feed["signature"] == {"scheme": "usign", "key_id": OTHER_KEY.key_id.hex(), "key": "mine.pub"}


def test_a_feed_nobody_signed_is_refused_unless_hash_only(scene: Scene) -> None:
    scene.publish(CORE, IN_CORE, key=None)
    error = scene.refuse("block-mount")
    assert isinstance(error, SignatureError)
    assert f"no signature of {scene.site.address}/{CORE}/Packages" in error.message
    assert "openwrt.hash_only = true" in (error.hint or "")
    _, report = scene.add("block-mount", hash_only=True)
    assert [feed["signature"] for feed in report.to_json()["feeds"]] == [None, None]
    assert "not whose they are" in report.warnings[0]


@pytest.mark.parametrize("kept", [False, True])
def test_a_list_that_is_not_what_was_signed_is_refused(scene: Scene, kept: bool) -> None:
    if kept:
        scene.add("ubox")
    index = gzip.decompress(scene.site.files[f"{BASE}/Packages.gz"]).replace(b"2-1", b"3-1")
    scene.site.files[f"{BASE}/Packages.gz"] = gzip.compress(index)
    error = scene.refuse("ubox", refresh=True)
    assert isinstance(error, SignatureError)
    assert "is not what the key" in error.message


def test_what_was_kept_is_verified_with_the_keys_of_now(scene: Scene) -> None:
    scene.publish(BASE, IN_BASE, key=OTHER_KEY)
    feeds = [scene.feed(BASE)]
    scene.add("ubox", feeds=feeds, keys=[read_key(OTHER_KEY.public, source="mine.pub")])
    scene.site.requests.clear()
    assert isinstance(scene.refuse("ubox", feeds=feeds), UnknownKeyError)
    scene.add("ubox", feeds=feeds, hash_only=True)
    assert scene.site.requests == []


class Changing(dict[str, bytes]):
    """Files of which one is an old version the first time it is asked for."""

    def __init__(self, files: dict[str, bytes], path: str, old: bytes) -> None:
        super().__init__(files)
        self.path, self.old = path, [old]

    def get(self, path: str, default: object = None) -> bytes | None:  # type: ignore[override]
        return self.old.pop() if path == self.path and self.old else super().get(path)


def test_a_mirror_in_the_middle_of_a_change_is_asked_again(scene: Scene) -> None:
    scene.site.files = Changing(scene.site.files, f"{BASE}/Packages.sig", KEY.sign(b"the list of yesterday"))
    tree, _ = scene.add("ubox")
    assert "ubox" in read_status(tree).installed
    assert len(scene.site.asked(f"{BASE}/Packages.gz")) == 2


def test_a_swapped_package_is_refused(scene: Scene) -> None:
    scene.site.files[f"{BASE}/{file_of('ubox')}"] = IN_BASE[1].data
    error = scene.refuse("ubox")
    assert error.message.startswith("ubox 2-1: ")
    assert IN_BASE[2].sha256 in error.message
    assert "--refresh" in (error.hint or "")
    assert list((scene.folder / "cache").glob("ipk-data/*")) == []


def test_a_package_that_is_gone_is_told(scene: Scene) -> None:
    del scene.site.files[f"{BASE}/{file_of('ubox')}"]
    error = scene.refuse("ubox")
    assert file_of("ubox") in error.message
    assert "404" in error.message
    assert "--refresh" in (error.hint or "")


def test_an_interrupted_package_is_gone_on_with(scene: Scene) -> None:
    path = f"{BASE}/{file_of('ubox')}"
    scene.site.cuts[path] = [100]
    scene.add("ubox")
    assert scene.site.asked(path) == ["", "bytes=100-"]


def test_a_feed_that_is_not_there_is_told_and_passed_over(scene: Scene) -> None:
    scene.site.files = {path: data for path, data in scene.site.files.items() if not path.startswith(CORE)}
    _, report = scene.add("block-mount")
    assert report.warnings == (f"there is no feed core at {scene.site.address}/{CORE}",)
    assert [feed["there"] for feed in report.to_json()["feeds"]] == [False, True]
    assert isinstance(scene.refuse("kmod-usb-storage"), ClosureError)
    assert scene.refuse("block-mount", refresh=True, strict=True).message.startswith("there is no feed core at ")
    scene.site.files = {}
    assert scene.refuse("ubox", refresh=True).message.startswith("none of the feeds is there")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<html>Please log in</html>", "is no list of packages"),
        (gzip.compress(b"Package: a\nVersion: 1\n")[:-6], "damaged"),
        (gzip.compress(bytes(65 << 20)), "unpacks to more than"),
        (b"\xfd7zXZ\0", "is no list of packages"),
    ],
    ids=["error page", "cut short", "bomb", "xz"],
)
def test_what_is_no_list_is_refused(scene: Scene, data: bytes, says: str) -> None:
    scene.site.files[f"{BASE}/Packages.gz"] = data
    assert says in scene.refuse("ubox", feeds=[scene.feed()], hash_only=True).message


def test_a_list_is_kept_for_a_day(scene: Scene) -> None:
    scene.add("ubox")
    newer = [*IN_BASE[:2], ipk("ubox", "3-1", Depends="libc")]
    scene.publish(BASE, newer)

    def version(**how: object) -> str:
        return read_status(scene.add("ubox", **how)[0]).installed["ubox"].version

    assert version() == "2-1"
    for path in (scene.folder / "cache/opkg-lists").iterdir():
        kept = json.loads(path.read_text())
        path.write_text(json.dumps({**kept, "fetched": kept["fetched"] - FRESH_SECONDS}))
    assert version() == "3-1"
    scene.publish(BASE, IN_BASE)
    assert version() == "3-1"
    assert version(refresh=True) == "2-1"


@pytest.mark.parametrize("rubbish", [b"", b"{}", b'{"packed": 1, "signatures": [], "fetched": 1.0}', b"\xff"])
def test_a_damaged_list_in_the_cache_is_fetched_again(scene: Scene, rubbish: bytes) -> None:
    scene.add("ubox")
    for path in (scene.folder / "cache/opkg-lists").iterdir():
        path.write_bytes(rubbish)
    scene.add("ubox")
    assert len(scene.site.asked(f"{BASE}/Packages.gz")) == 2


def test_a_server_that_fails_leaves_the_list_of_before(scene: Scene) -> None:
    scene.add("ubox")
    for path in scene.site.files:
        scene.site.answers[path] = [403] * 9
    scene.add("ubox", refresh=True)
    assert "the server answers 403" in scene.refuse("ubox", refresh=True, strict=True).message
    scene.cache = Cache(scene.folder / "another cache")
    assert "cannot be fetched: the server answers 403" in scene.refuse("ubox").message


def test_feeds_of_the_old_days_know_md5_only(scene: Scene) -> None:
    scene.publish(BASE, IN_BASE, hashes=("MD5Sum",))
    tree, report = scene.add("ubox")
    assert "ubox" in read_status(tree).installed
    assert report.to_json()["install"][-1]["sha256"] is None
    scene.add("ubox", offline=True)
    (scene.folder / "cache/downloads-md5").joinpath(_md5_of(IN_BASE[2])).write_bytes(b"rotten")
    assert scene.refuse("ubox", offline=True).message.startswith("not in the cache")
    scene.add("ubox")
    scene.site.files[f"{BASE}/{file_of('ubox')}"] = IN_BASE[1].data
    (scene.folder / "cache/downloads-md5").joinpath(_md5_of(IN_BASE[2])).unlink()
    assert "is not the file the feed means by ubox 2-1" in scene.refuse("ubox").message


def _md5_of(made: Made) -> str:
    return made.paragraph(hashes=("MD5Sum",)).split("MD5Sum: ")[1].strip()


def test_a_list_without_any_hash_is_refused(scene: Scene) -> None:
    scene.publish(BASE, IN_BASE, hashes=())
    assert "nor what its hash is" in scene.refuse("ubox").message


def test_a_package_that_says_it_is_another_is_refused(scene: Scene) -> None:
    liar = ipk("ubox", "2-1", [member("./a", b"x")])
    honest = ipk("other", "9-9", [member("./a", b"x")])
    scene.publish(BASE, [Made(liar.name, liar.filename, honest.data, liar.control)])
    assert scene.refuse("ubox").message == "what the feed calls ubox 2-1 says of itself that it is other 9-9"


def test_modules_for_another_build_and_for_another_kernel(scene: Scene) -> None:
    error = scene.refuse("kmod-other")
    assert error.message == f"kmod-other is for the kernel {OTHER_KERNEL}, and the root's is {KERNEL}"
    tree, report = scene.add("kmod-other", "kmod-usb-storage", "ubox", foreign_kernel=True)
    assert report.to_json()["left_out"] == ["kmod-other", "kmod-usb-storage"]
    assert report.warnings[0].endswith("whose modules they are: kmod-other, kmod-usb-storage")
    assert "kmod-other" not in read_status(tree).installed


def test_all_that_is_missing_is_told_at_once(scene: Scene) -> None:
    error = scene.refuse("blok-mout", "nothing-like-it")
    assert error.message.splitlines() == [
        "blok-mout is in none of the feeds; the nearest are block-mount, block-mount-any",
        "nothing-like-it is in none of the feeds",
    ]
    assert not any(path.endswith(".ipk") for _, path, _ in scene.site.requests)


def test_a_choice_is_told(scene: Scene) -> None:
    scene.publish(CORE, [ipk(f"lib-{one}", Provides="lib") for one in "ab"])
    _, report = scene.add("lib")
    assert report.warnings == ("lib is given by lib-b, and could be by lib-a: name the one you want",)


def test_a_root_that_names_no_feeds(scene: Scene) -> None:
    scene.root.remove("etc/opkg/distfeeds.conf")
    assert "names no feeds" in scene.refuse("ubox").message


def test_a_local_feed_is_verified_like_any_other(tmp_path: Path) -> None:
    folder = write_feed(tmp_path / "feed", IN_BASE, key=KEY)
    feeds = [Feed("mine", str(folder))]
    cache = Cache(tmp_path / "cache")
    keys = [read_key(KEY.public, source="mine.pub")]
    tree, report = add_packages(small_root(), ["ubox"], cache, feeds=feeds, keys=keys, offline=True)
    assert "ubox" in read_status(tree).installed
    assert report.to_json()["feeds"][0]["signature"]["key"] == "mine.pub"
    (folder / file_of("ubox")).write_bytes(b"other")
    with pytest.raises(LivebuilderError, match=r"is not the file the feed means by ubox 2-1"):
        add_packages(small_root(), ["ubox"], cache, feeds=feeds, keys=keys)
    (folder / file_of("ubox")).unlink()
    with pytest.raises(LivebuilderError, match=r"ubox 2-1 of the feed mine: .* cannot be read"):
        add_packages(small_root(), ["ubox"], cache, feeds=feeds, keys=keys)
    (folder / "Packages.sig").unlink()
    with pytest.raises(SignatureError, match="there is no signature"):
        add_packages(small_root(), ["ubox"], cache, feeds=feeds, keys=keys)


def test_a_folder_of_packages_without_a_list_is_the_users_own(tmp_path: Path) -> None:
    folder = write_feed(tmp_path / "feed", IN_BASE)
    for name in ("Packages", "Packages.gz"):
        (folder / name).unlink()
    feeds = [Feed("mine", str(folder))]
    cache = Cache(tmp_path / "cache")
    tree, report = add_packages(small_root(), ["block-mount"], cache, feeds=feeds)
    assert read_status(tree).installed.keys() >= {"block-mount", "libuci20130104", "ubox"}
    assert report.to_json()["feeds"][0]["signature"] is None
    (folder / "broken.ipk").write_bytes(b"<html>")
    with pytest.raises(LivebuilderError, match=r"broken\.ipk is no OpenWrt package"):
        add_packages(small_root(), ["ubox"], cache, feeds=feeds)


@pytest.mark.parametrize(("name", "says"), [("none", "does not exist"), ("empty", "neither Packages nor .ipk files")])
def test_a_folder_that_is_no_feed(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LivebuilderError, match=says):
        plan_packages(small_root(), ["x"], cache=Cache(tmp_path / "cache"), feeds=[Feed("mine", str(tmp_path / name))])
