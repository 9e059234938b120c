"""`livebuilder openwrt fetch` against a server of the tests: both layouts, right and wrong signatures, bad mirrors."""

from __future__ import annotations

import hashlib
import signal
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from livebuilder.process import run
from livebuilder.tree import file
from tests.support.builds import (
    Outcome,
    SmallSystem,
    assert_refused,
    hashes,
    run_command,
    run_main,
    snapshot,
    start,
)
from tests.support.documents import assert_documented
from tests.support.kernels import RELEASE, FakeModule, bzimage, module_bytes
from tests.support.openwrt import openwrt_root, write_archive
from tests.support.releases import OTHER_KEY, RELEASE_KEY, Published, content, old_release, release
from tests.support.signing import gpg_home
from tests.support.web import Site, serving

NEW, OLD = release(), old_release()
ROOT, KERNEL = "openwrt-23.05.5-x86-64-rootfs.tar.gz", "openwrt-23.05.5-x86-64-generic-kernel.bin"
MANIFEST = "openwrt-23.05.5-x86-64.manifest"
WANTED = {ROOT, KERNEL, MANIFEST, "profiles.json"}
LISTS = {"sha256sums", "sha256sums.sig"}


class Scene:
    """A server, a key, a cache of its own and an output folder."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.out = folder / "out"
        self.key = folder / "release.pub"
        self.key.write_bytes(RELEASE_KEY.public)
        self.other = folder / "other.pub"
        self.other.write_bytes(OTHER_KEY.public)
        self.env = {"XDG_CACHE_HOME": str(folder / "cache"), "LIVEBUILDER_OPENWRT_URL": site.address}

    def words(
        self, *more: str | Path, version: str = "23.05.5", target: str = "x86/64", key: Path | None = None
    ) -> tuple[str | Path, ...]:
        trust = () if "--hash-only" in more or "--key" in more else ("--key", key or self.key)
        return ("openwrt", "fetch", "--version", version, "--target", target, "--output", self.out, *trust, *more)

    def fetch(self, *more: str | Path, **how: str | Path) -> Outcome:
        """Run the command in this process."""
        return run_main(*self.words(*more, **how), env=self.env)  # type: ignore[arg-type]

    def assert_nothing_made(self) -> None:
        assert not self.out.exists()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    site = Site()
    NEW.on(site)
    OLD.on(site)
    with serving(site) as served:
        yield Scene(served, tmp_path)


def test_a_release_of_the_new_layout(scene: Scene) -> None:
    outcome = scene.fetch()
    assert outcome.status == 0, outcome.stderr
    assert hashes(scene.out).keys() == WANTED | LISTS
    run(["sha256sum", "--check", "--strict", "--quiet", "--ignore-missing", "sha256sums"], cwd=scene.out)
    for name in WANTED:
        assert (scene.out / name).read_bytes() == NEW.files[name]
    assert f"signed with usign by {RELEASE_KEY.key_id.hex()} ({scene.key})" in outcome.stdout
    assert "initramfs" not in outcome.stdout


def test_the_profile_it_prints_is_toml_that_names_the_files(scene: Scene) -> None:
    outcome = scene.fetch("--json")
    profile = tomllib.loads(outcome.json["profile"])
    assert profile == {
        "root": {"source": "openwrt", "rootfs": str(scene.out / ROOT)},
        "kernel": {"image": str(scene.out / KERNEL)},
    }
    printed = scene.fetch().stdout.partition("in the profile:\n\n")[2]
    assert tomllib.loads(printed) == profile


@pytest.mark.network
def test_the_profile_it_prints_builds(scene: Scene, small_system: SmallSystem) -> None:
    """From a folder of the user's, with the folder it makes itself: the paths are right where the profile is."""
    root = openwrt_root("procd")
    root.remove("lib/modules/4.14.63")
    root.add(file(f"lib/modules/{RELEASE}/tun.ko", module_bytes(FakeModule("tun"))))
    archive = write_archive(root, scene.folder / "root.tar.gz").read_bytes()
    Published(NEW.folder, {ROOT: archive, KERNEL: bzimage(config=None)}).on(scene.site)
    words = [word for word in scene.words() if word not in ("--output", scene.out)]
    outcome = run_command(*words, env=scene.env, cwd=scene.folder)
    assert outcome.status == 0, outcome.stderr
    (scene.folder / "attic.toml").write_text(outcome.stdout.partition("in the profile:\n\n")[2])
    busybox = f"initramfs.busybox={small_system.root}/bin/busybox"
    plan = run_main("build", scene.folder / "attic.toml", "--dry-run", "--json", "--offline", "--set", busybox)
    assert plan.status == 0, plan.stderr
    assert plan.json["openwrt"]["release"]["version"] == "23.05.5"
    assert plan.json["kernel"]["source"] == str(scene.folder / "openwrt-23.05.5-x86-64" / KERNEL)


def test_a_release_of_the_old_layout(scene: Scene) -> None:
    outcome = scene.fetch(version="18.06.9", target="x86/generic")
    assert outcome.status == 0, outcome.stderr
    names = {
        "openwrt-18.06.9-x86-generic-generic-rootfs.tar.gz", "openwrt-18.06.9-x86-generic-vmlinuz",
        "openwrt-18.06.9-x86-generic.manifest",
    }  # fmt: skip
    assert hashes(scene.out).keys() == names | LISTS
    assert "vmlinuz" in outcome.stdout.partition("[kernel]")[2]


def test_a_snapshot(scene: Scene) -> None:
    names = ("openwrt-x86-64-rootfs.tar.gz", "openwrt-x86-64-generic-kernel.bin")
    Published("snapshots/targets/x86/64", {name: content(name) for name in names}).on(scene.site)
    outcome = scene.fetch(version="snapshot")
    assert outcome.status == 0, outcome.stderr
    assert hashes(scene.out).keys() == {*names, *LISTS}


def test_the_folder_is_named_after_the_release(scene: Scene) -> None:
    words = [word for word in scene.words() if word not in ("--output", scene.out)]
    outcome = run_command(*words, env=scene.env, cwd=scene.folder)
    assert outcome.status == 0, outcome.stderr
    assert hashes(scene.folder / "openwrt-23.05.5-x86-64").keys() == WANTED | LISTS
    assert 'rootfs = "openwrt-23.05.5-x86-64/openwrt-' in outcome.stdout


def test_without_a_kernel_the_profile_takes_debian_s(scene: Scene) -> None:
    Published(NEW.folder, {ROOT: NEW.files[ROOT]}).on(scene.site)
    assert tomllib.loads(scene.fetch("--json").json["profile"])["kernel"] == {"source": "debian"}


# --- who signed it


def test_a_signature_by_gpg(scene: Scene) -> None:
    with gpg_home() as gpg:
        gpg.make_key("release@openwrt.example")
        scene.site.files[NEW.path("sha256sums.asc")] = gpg.sign(NEW.hashes, "release@openwrt.example")
        key = scene.folder / "release.asc"
        key.write_bytes(gpg.public("release@openwrt.example"))
        fingerprint = gpg.fingerprint("release@openwrt.example")
    outcome = scene.fetch("--json", "--key", key)
    assert outcome.json["signature"] == {"scheme": "gpg", "key_id": fingerprint, "key": str(key)}
    assert hashes(scene.out).keys() == WANTED | LISTS | {"sha256sums.asc"}
    gpg_here: list[str | Path] = ["gpg", "--no-autostart", "--homedir", scene.folder]
    run([*gpg_here, "--import", key])
    run([*gpg_here, "--verify", "sha256sums.asc", "sha256sums"], cwd=scene.out)


def test_the_name_the_signature_had_up_to_17_01(scene: Scene) -> None:
    with gpg_home() as gpg:
        gpg.make_key("release@openwrt.example")
        for name in ("sha256sums", "sha256sums.sig"):
            del scene.site.files[NEW.path(name)]
        NEW.on(scene.site, key=None)
        scene.site.files[NEW.path("sha256sums.gpg")] = gpg.sign(NEW.hashes, "release@openwrt.example")
        scene.key.write_bytes(gpg.public("release@openwrt.example"))
    assert scene.fetch().status == 0
    assert hashes(scene.out).keys() == WANTED | {"sha256sums", "sha256sums.gpg"}


def test_without_a_key_it_refuses_and_asks_nobody(scene: Scene) -> None:
    words = [word for word in scene.words() if word not in ("--key", scene.key)]
    outcome = run_main(*words, env=scene.env)
    assert_refused(outcome, "without a key nobody can tell", "--key FILE", "--hash-only", status=2)
    assert scene.site.requests == []


def test_hash_only_says_what_that_means(scene: Scene) -> None:
    del scene.site.files[NEW.path("sha256sums.sig")]
    outcome = scene.fetch("--hash-only")
    assert outcome.status == 0
    assert "warning: the signature is not checked" in outcome.stderr
    assert "came from the same server as the files, over a connection that anyone on the way" in outcome.stderr
    assert "nobody vouches for these files" in outcome.stdout
    data = scene.fetch("--hash-only", "--json").json
    assert data["signature"] is None and "came from the same server" in data["warnings"][0]


def test_another_s_signature(scene: Scene) -> None:
    NEW.on(scene.site, key=OTHER_KEY)
    ids = (OTHER_KEY.key_id.hex(), RELEASE_KEY.key_id.hex())
    assert_refused(scene.fetch(), f"was signed by the key {ids[0]}, not by {ids[1]}")
    scene.assert_nothing_made()
    assert scene.fetch("--key", scene.key, "--key", scene.other).status == 0


def test_a_list_that_was_changed_after_it_was_signed(scene: Scene) -> None:
    """The attack: other files, and a list of hashes that fits them."""
    signature = scene.site.files[NEW.path("sha256sums.sig")]
    Published(NEW.folder, {**NEW.files, ROOT: b"evil"}).on(scene.site)
    scene.site.files[NEW.path("sha256sums.sig")] = signature
    assert_refused(scene.fetch(), "is not what the key", "signed")
    assert_refused(scene.fetch("--dry-run"), "is not what the key")
    scene.assert_nothing_made()
    assert scene.site.asked(NEW.path(ROOT)) == []
    assert scene.fetch("--hash-only").status == 0, "and nothing but the signature would have told"
    assert (scene.out / ROOT).read_bytes() == b"evil"


def test_an_old_release_in_the_place_of_a_new_one(scene: Scene) -> None:
    older = release("22.03.0")
    Published(NEW.folder, older.files).on(scene.site)
    assert_refused(scene.fetch(), "names no rootfs.tar of OpenWrt 23.05.5")


def test_no_signature(scene: Scene) -> None:
    del scene.site.files[NEW.path("sha256sums.sig")]
    assert_refused(scene.fetch(), "there is no signature of", "sha256sums")


@pytest.mark.parametrize("data", [b"<html>not found</html>", b"", RELEASE_KEY.sign(b"x")[:60]])
def test_a_damaged_signature(scene: Scene, data: bytes) -> None:
    scene.site.files[NEW.path("sha256sums.sig")] = data
    assert_refused(scene.fetch(), "the signature of", "is damaged")


def test_a_file_that_is_no_key(scene: Scene) -> None:
    scene.key.write_text("my key\n")
    assert_refused(scene.fetch(), f"{scene.key} is not a public key")
    assert_refused(scene.fetch("--key", scene.folder / "none.pub"), "none.pub cannot be read")
    assert scene.site.requests == []


# --- what the server does


@pytest.mark.parametrize("wrong", [content(ROOT)[:-1], content("another"), b""])
def test_a_truncated_or_swapped_file(scene: Scene, wrong: bytes) -> None:
    scene.site.files[NEW.path(ROOT)] = wrong
    assert_refused(scene.fetch(), f"{ROOT} is not the file it should be", hashlib.sha256(wrong).hexdigest())
    scene.assert_nothing_made()


def test_a_file_that_is_listed_and_not_there(scene: Scene) -> None:
    del scene.site.files[NEW.path(KERNEL)]
    assert_refused(scene.fetch(), f"{KERNEL} cannot be fetched: the server answers 404")
    scene.assert_nothing_made()


@pytest.mark.parametrize("indices", [True, False])
def test_a_version_that_is_not_there(scene: Scene, indices: bool) -> None:
    scene.site.indices = indices
    if not indices:
        scene.site.files[".versions.json"] = b'{"versions_list": ["18.06.9", "23.05.5"]}'
    outcome = scene.fetch(version="23.05.55")
    assert_refused(outcome, "there is no OpenWrt 23.05.55 for x86/64 at", "--version 23.05.5")


@pytest.mark.parametrize("indices", [True, False])
def test_a_target_that_is_not_there(scene: Scene, indices: bool) -> None:
    scene.site.indices = indices
    if not indices:
        scene.site.files["releases/23.05.5/.targets.json"] = b'{"x86/64": "x86_64", "ath79/generic": "mips_24kc"}'
    outcome = scene.fetch(target="x86/legacy")
    assert_refused(outcome, "there is no OpenWrt 23.05.5 for x86/legacy at", "--target x86/64\n")


def test_a_server_that_is_not_openwrt_s(scene: Scene) -> None:
    scene.site.files.clear()
    scene.site.answers["releases/"] = [403]
    assert_refused(scene.fetch(), "there is no OpenWrt 23.05.5", "is the address right?")
    assert_refused(scene.fetch(version="snapshot"), "there is no OpenWrt snapshot", "is the address right?")


def test_a_page_where_the_list_should_be(scene: Scene) -> None:
    scene.site.files[NEW.path("sha256sums")] = b"<html>welcome</html>\n"
    assert_refused(scene.fetch("--hash-only"), "sha256sums is damaged, or is none", "<html>welcome")


def test_a_cut_connection_and_a_redirect(scene: Scene) -> None:
    scene.site.files["mirror/root"] = scene.site.files.pop(NEW.path(ROOT))
    scene.site.redirects[NEW.path(ROOT)] = "/mirror/root"
    scene.site.cuts["mirror/root"] = [1000]
    outcome = scene.fetch()
    assert outcome.status == 0 and "trying again" in outcome.stderr
    assert scene.site.asked("mirror/root") == ["", "bytes=1000-"]


@pytest.mark.parametrize(("number", "ranges"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_interrupted_it_leaves_nothing_and_goes_on_later(scene: Scene, number: signal.Signals, ranges: bool) -> None:
    scene.site.ranges = ranges
    scene.site.stalls[NEW.path(ROOT)] = 1000
    with start(*scene.words(), env=scene.env) as child:
        assert scene.site.stalled.wait(60)
        child.send_signal(number)
        _, stderr = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert "Traceback" not in stderr
    scene.assert_nothing_made()
    downloads = scene.folder / "cache/livebuilder/downloads"
    assert [path for path in downloads.iterdir() if path.stat().st_size == len(NEW.files[ROOT])] == []
    del scene.site.stalls[NEW.path(ROOT)]
    assert scene.fetch().status == 0
    begun = "bytes=1000-" if scene.site.asked(NEW.path(ROOT))[-1] else ""
    assert scene.site.asked(NEW.path(ROOT)) == ["", begun]
    assert (scene.out / ROOT).read_bytes() == NEW.files[ROOT]


# --- the second time


def test_the_second_time_there_is_nothing_to_do(scene: Scene) -> None:
    assert scene.fetch().status == 0
    before = snapshot(scene.out)
    scene.site.requests.clear()
    outcome = scene.fetch()
    assert "nothing to do, all of it was there already" in outcome.stdout
    assert snapshot(scene.out) == before
    asked = {path.rpartition("/")[2] for _, path, _ in scene.site.requests}
    assert asked == {"sha256sums", "sha256sums.sig", "sha256sums.asc", "sha256sums.gpg"}


def test_what_is_missing_or_spoilt_comes_from_the_cache(scene: Scene) -> None:
    assert scene.fetch().status == 0
    (scene.out / ROOT).unlink()
    (scene.out / KERNEL).write_bytes(b"spoilt")
    (scene.out / "mine.txt").write_text("stays")
    scene.site.requests.clear()
    origins = {file["name"]: file["origin"] for file in scene.fetch("--json").json["files"]}
    assert origins == {ROOT: "cache", KERNEL: "cache", **dict.fromkeys({*WANTED, *LISTS} - {ROOT, KERNEL}, "folder")}
    assert scene.site.asked(NEW.path(ROOT)) == []
    assert (scene.out / KERNEL).read_bytes() == NEW.files[KERNEL]
    assert (scene.out / "mine.txt").read_text() == "stays"


def test_what_is_in_the_folder_is_not_the_cache_s_own(scene: Scene) -> None:
    assert scene.fetch().status == 0
    (scene.out / ROOT).write_bytes(b"spoilt, in place")
    assert scene.fetch("--offline").status == 0
    assert (scene.out / ROOT).read_bytes() == NEW.files[ROOT]


def test_offline(scene: Scene, tmp_path: Path) -> None:
    assert_refused(scene.fetch("--offline"), "OpenWrt 23.05.5 for x86/64", "is not in the cache", "without --offline")
    assert scene.fetch("--dry-run").status == 0
    assert_refused(scene.fetch("--offline"), "not in the cache: ", ROOT, KERNEL)
    scene.assert_nothing_made()
    assert scene.fetch().status == 0
    scene.site.requests.clear()
    scene.out = tmp_path / "again"
    outcome = scene.fetch("--offline", "--json")
    assert outcome.status == 0
    assert {file["origin"] for file in outcome.json["files"]} == {"cache"}
    assert hashes(scene.out).keys() == WANTED | LISTS
    assert scene.site.requests == []
    assert_refused(scene.fetch("--offline", "--key", scene.other), "was signed by the key")


def test_lists_of_different_servers_are_kept_apart(scene: Scene) -> None:
    assert scene.fetch().status == 0
    outcome = scene.fetch("--offline", "--url", "https://another.example/")
    assert_refused(outcome, "of https://another.example/releases/23.05.5/targets/x86/64 is not in the cache")


def test_a_dry_run_tells_names_and_sizes(scene: Scene) -> None:
    outcome = scene.fetch("--dry-run")
    assert outcome.status == 0
    assert f"rootfs    {ROOT}  2.9 KiB  sha256 {hashlib.sha256(NEW.files[ROOT]).hexdigest()}" in outcome.stdout
    total = sum(len(NEW.files[name]) for name in WANTED)
    assert f"to fetch: {total / 1024:.1f} KiB" in outcome.stdout
    assert scene.site.asked(NEW.path(ROOT)) == []
    scene.assert_nothing_made()
    scene.site.answers[NEW.path(ROOT)] = [405]
    assert "size unknown" in scene.fetch("--dry-run").stdout


def test_a_folder_that_cannot_be_written(scene: Scene) -> None:
    scene.out.write_text("a file")
    assert_refused(scene.fetch(), "cannot be written")
    assert scene.out.read_text() == "a file"
    assert scene.site.asked(NEW.path(ROOT)) == []


# --- the command line


def test_the_server_has_to_be_named(scene: Scene) -> None:
    scene.env["LIVEBUILDER_OPENWRT_URL"] = ""
    assert_refused(scene.fetch(), "which server", "--url", "LIVEBUILDER_OPENWRT_URL", status=2)
    assert scene.fetch("--url", f"{scene.site.address}/").status == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--url", "openwrt.example"], "'openwrt.example' is not the address of a server"),
        (["--version", "../x"], "'../x' is not a version"),
        (["--version", "12.09"], "MD5 sums alone"),
        (["--target", "ath79/generic"], "'ath79/generic' is not a target for PCs"),
    ],
)
def test_wrong_words(scene: Scene, words: list[str], said: str) -> None:
    assert_refused(scene.fetch(*words), said, status=2)
    assert scene.site.requests == []


def test_a_key_and_hash_only_exclude_each_other(scene: Scene) -> None:
    assert_refused(scene.fetch("--hash-only", "--key", scene.key), "exclude each other", status=2)


@pytest.mark.parametrize(("begun", "offered"), [("", {"x86/generic", "x86/legacy", "x86/64"}), ("x86/6", {"x86/64"})])
def test_the_shell_completes_targets(begun: str, offered: set[str]) -> None:
    words = ["openwrt", "fetch", "--target", begun]
    env = {
        "_LIVEBUILDER_COMPLETE": "complete_bash", "COMP_WORDS": " ".join(["livebuilder", *words]),
        "COMP_CWORD": str(len(words)),
    }  # fmt: skip
    assert offered <= set(run_command(env=env).stdout.split())


def test_the_json_is_as_documented(scene: Scene) -> None:
    outputs = [scene.fetch("--json", "--dry-run").json, scene.fetch("--json").json]
    (scene.out / ROOT).unlink()
    outputs += [scene.fetch("--json", "--hash-only").json, scene.fetch("--json", "--offline").json]
    assert_documented("openwrt fetch", *outputs)
    assert {*outputs[1]} - {*outputs[0]} == {"profile", "unchanged", "seconds"}
    assert_documented("openwrt fetch", outputs[0], may_lack={"profile", "unchanged", "seconds"})
