"""Debian's real archive, as this host is set up for it. Everything is fetched into a cache of the tests' own."""

import os
import posixpath
import re
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from loguru import logger

from livebuilder import process
from livebuilder.cache import Cache
from livebuilder.deb822 import parse_paragraphs
from livebuilder.errors import LivebuilderError
from livebuilder.kernel.image import read_bzimage
from livebuilder.kernel.modules import ModuleIndex
from livebuilder.process import run
from livebuilder.sources.apt import Suite, read_sources
from livebuilder.sources.debian import BUSYBOX, DebianArchive, DebianRoot
from livebuilder.tree import Entry, Kind, RootTree
from tests.support.trees import facts

pytestmark = [pytest.mark.network, pytest.mark.xdist_group("debian")]

PROGRAMS = ("dropbear-bin", "e2fsprogs")
NOWHERE = "http://127.0.0.1:9/debian"  # the discard service's port: nothing listens


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(tmp_path_factory.mktemp("debian"))


@pytest.fixture(scope="module")
def root(cache: Cache) -> DebianRoot:
    return DebianArchive(cache=cache).root(PROGRAMS)


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take all programs away: what works now starts none, and so reaches no network either."""
    monkeypatch.setattr(process, "SEARCH_PATH", "/nowhere")


@pytest.fixture
def warned() -> Iterator[list[str]]:
    messages: list[str] = []
    handler = logger.add(lambda message: messages.append(message.record["message"]), level="WARNING")
    yield messages
    logger.remove(handler)


def host_suites() -> tuple[Suite, ...]:
    suites = [suite for suite in read_sources(Path("/etc/apt")) if suite.has_debian_keyring or not suite.signed_by]
    assert suites, "this host has no Debian source"
    return tuple(suites)


def etc_with(folder: Path, *texts: str) -> Path:
    """A folder like /etc/apt with these sources in it, and the host's keyrings."""
    (folder / "sources.list.d").mkdir(parents=True)
    for number, text in enumerate(texts):
        kind = "sources" if ":" in text.splitlines()[0].split()[0] else "list"
        (folder / "sources.list.d" / f"{number}.{kind}").write_text(text)
    if Path("/etc/apt/trusted.gpg.d").is_dir():
        shutil.copytree("/etc/apt/trusted.gpg.d", folder / "trusted.gpg.d")
    return folder


def written(suite: Suite, *, uri: str = "", name: str = "") -> str:
    return Suite(uri or suite.uri, name or suite.name, suite.components, suite.signed_by, suite.options).render(())


def elf_files(tree: RootTree) -> dict[str, Entry]:
    return {entry.path: entry for entry in tree if entry.kind is Kind.FILE and entry.content.read()[:4] == b"\x7fELF"}


def readelf(entry: Entry, folder: Path) -> tuple[list[str], str | None]:
    """The libraries and the loader a program asks for, as binutils reads them."""
    path = folder / "program"
    path.write_bytes(entry.content.read())
    text = run(["readelf", "--dynamic", "--program-headers", "--wide", path]).stdout
    loader = re.search(r"Requesting program interpreter: ([^]]+)]", text)
    return re.findall(r"\(NEEDED\).*\[(.+)]", text), loader[1] if loader else None


def test_what_was_asked_for_is_there(root: DebianRoot) -> None:
    for path, mode in {
        "usr/sbin/dropbear": 0o755, "usr/bin/dropbearkey": 0o755, "sbin/e2fsck": 0o755, "etc/mke2fs.conf": 0o644,
        "bin/busybox": 0o755,
    }.items():  # fmt: skip
        entry = root.tree.resolve(path) or root.tree.resolve(f"usr/{path}")
        assert entry is not None and (entry.kind, entry.mode, entry.uid, entry.gid) == (Kind.FILE, mode, 0, 0), path
        assert entry.mtime > 1_500_000_000
    for path in (
        "usr/share/doc",
        "usr/share/man",
        "usr/share/lintian",
        "sbin/e2scrub",
        "lib/systemd",
        "usr/lib/systemd",
    ):
        assert path not in root.tree
    root.tree.verify()


def test_every_program_finds_its_libraries_and_loader_inside(root: DebianRoot, tmp_path: Path) -> None:
    programs = elf_files(root.tree)
    assert len(programs) > 20
    for path, entry in programs.items():
        libraries, loader = readelf(entry, tmp_path)
        for library in libraries:
            places = [f"{folder}/{library}" for folder in ("lib/i386-linux-gnu", "usr/lib/i386-linux-gnu", "lib")]
            assert any(root.tree.resolve(place) for place in places), f"{path} lacks {library}"
        if loader:
            assert root.tree.resolve(loader), f"{path} lacks {loader}"
            assert root.tree.resolve(loader).mode & 0o111  # type: ignore[union-attr]


def test_without_one_library_the_check_above_would_fail(root: DebianRoot, tmp_path: Path) -> None:
    libraries, loader = readelf(elf_files(root.tree)["usr/sbin/dropbear"], tmp_path)
    assert "libtomcrypt.so.1" in libraries and loader == "/lib/ld-linux.so.2"
    tree = RootTree(entry for entry in root.tree if "libtomcrypt" not in entry.path)
    assert tree.resolve("usr/lib/i386-linux-gnu/libtomcrypt.so.1") is None


def test_libraries_come_without_the_rest_of_their_packages(root: DebianRoot) -> None:
    from_libc = {entry.path for entry in root.tree if entry.source.startswith("libc6 ")}
    assert len(from_libc) < 12, from_libc
    assert not any("gconv" in path or "ld.so.conf" in path for path in from_libc)


def test_the_closure_is_far_smaller_than_apt_s(cache: Cache) -> None:
    asked = ("dropbear-bin", "e2fsprogs", "nftables", "dnsmasq-base")
    archive = DebianArchive(cache=cache)
    ours = {package.name for package in archive.root(asked).packages}
    with archive.apt.lock():
        command = archive.apt.command("apt-get", archive.apt.usable_suites())
        done = run([*command, "install", "--simulate", "--no-install-recommends", *asked, BUSYBOX, "linux-image-686"])
    theirs = {line.split()[1] for line in done.stdout.splitlines() if line.startswith("Inst ")}
    assert {"coreutils", "udev", "debconf"} <= theirs
    assert {"coreutils", "udev", "debconf", "passwd", "dpkg", "perl-base", "tar"}.isdisjoint(ours)
    assert len(ours) + 1 <= 0.6 * len(theirs)


def test_every_applet_has_a_link_and_no_link_hides_a_program(root: DebianRoot) -> None:
    links = {entry.path for entry in root.tree if entry.kind is Kind.SYMLINK and entry.target.endswith("bin/busybox")}
    assert {"bin/sh", "bin/ls", "sbin/init", "sbin/modprobe", "bin/mount"} <= links
    assert len(links) > 250
    assert "bin/mke2fs" not in links and "sbin/mke2fs" not in links and "bin/lsattr" not in links
    for path in links:
        found = root.tree.resolve(path)
        assert found is not None and found.name == "busybox", path


def test_what_is_known_of_the_packages(root: DebianRoot, cache: Cache) -> None:
    packages = {package.name: package for package in root.packages}
    assert {*PROGRAMS, BUSYBOX, "libc6", "libtomcrypt1", "zlib1g"} <= packages.keys()
    assert list(packages) == sorted(packages)
    assert packages["libc6"].source == "glibc"
    assert packages["dropbear-bin"].source == "dropbear"
    assert any(word.startswith("glibc (= ") for word in packages[BUSYBOX].built_using)
    listed = {}
    for file in (cache.root / "apt" / "i386" / "lists").glob("*_Packages"):
        for entry in parse_paragraphs(file.read_text()):
            if entry["Package"] in packages:
                listed[entry["Package"], entry["Version"]] = entry
    for package in root.packages:
        entry = listed[package.name, package.version]
        assert (package.architecture, package.sha256, package.size_bytes) == (
            entry["Architecture"], entry["SHA256"], int(entry["Size"]),
        )  # fmt: skip
        deb = cache.root / "debs" / package.sha256
        printed = run(["sha256sum", deb]).stdout.split()[0]
        assert printed == package.sha256
        assert deb.stat().st_size == package.size_bytes


def test_the_files_are_those_dpkg_unpacks(root: DebianRoot, cache: Cache, tmp_path: Path) -> None:
    (package,) = (one for one in root.packages if one.name == "e2fsprogs")
    run(["bsdtar", "-xf", cache.root / "debs" / package.sha256, "-C", tmp_path])
    data = next(tmp_path.glob("data.tar*"))
    (tmp_path / "files").mkdir()
    run(["bsdtar", "-xf", data, "-C", tmp_path / "files"])
    compared = 0
    for entry in root.tree:
        path = tmp_path / "files" / entry.path
        if entry.source != str(package) or entry.kind is Kind.DIRECTORY:
            continue
        if entry.kind is Kind.FILE:
            assert path.read_bytes() == entry.content.read()
            assert stat.S_IMODE(path.stat().st_mode) == entry.mode
            assert int(path.stat().st_mtime) == entry.mtime
        else:
            assert os.readlink(path) == entry.target  # noqa: PTH115
        compared += 1
    assert compared > 20


@pytest.mark.usefixtures("root", "no_programs")
def test_again_without_network_and_without_apt(root: DebianRoot, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    for offline in (True, False):
        again = DebianArchive(cache=cache, offline=offline).root(PROGRAMS)
        assert facts(again.tree) == facts(root.tree)
        assert (again.packages, again.warnings) == (root.packages, root.warnings)


@pytest.mark.usefixtures("root")
def test_another_request_offline_says_what_is_missing(cache: Cache) -> None:
    with pytest.raises(LivebuilderError, match=r"not in the cache.*: sl ") as caught:
        DebianArchive(cache=cache, offline=True).root(["sl"])
    assert "without --offline" in str(caught.value.hint)


@pytest.mark.usefixtures("root")
def test_a_smaller_request_offline_works_from_what_is_there(cache: Cache, root: DebianRoot) -> None:
    smaller = DebianArchive(cache=cache, offline=True).root(["dropbear-bin"])
    assert {entry.path for entry in smaller.tree if entry.kind is Kind.FILE} < {
        entry.path for entry in root.tree if entry.kind is Kind.FILE
    }


def test_offline_with_an_empty_cache(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match="no package lists") as caught:
        DebianArchive(cache=Cache(tmp_path), offline=True).root(PROGRAMS)
    assert "without --offline" in str(caught.value.hint)


def test_the_busybox_is_static_and_the_one_of_the_root(root: DebianRoot, cache: Cache, tmp_path: Path) -> None:
    busybox = DebianArchive(cache=cache).busybox()
    entry = root.tree.resolve("bin/busybox")
    assert entry is not None and busybox.content.read() == entry.content.read()
    assert readelf(entry, tmp_path) == ([], None)
    assert busybox.package in root.packages


def test_the_kernel_and_its_modules(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    found = DebianArchive(cache=cache).kernel("686")
    kernel = found.kernel
    assert read_bzimage(kernel.image.read()).release == kernel.release
    assert kernel.release.endswith("-686")
    assert kernel.config is not None and kernel.config["CONFIG_RD_XZ"] == "y"
    modules = [entry.path for entry in kernel.modules if entry.path.endswith(".ko")]
    assert len(modules) > 3000
    assert kernel.modules["kernel/fs/ext4/ext4.ko"].content.read()[:4] == b"\x7fELF"
    index = ModuleIndex.from_kernel(kernel)
    assert [posixpath.basename(path) for path in index.closure(["ext4"])][-1] == "ext4.ko"
    (package,) = found.packages
    assert package.name == f"linux-image-{kernel.release}"
    assert package.source.startswith("linux")
    monkeypatch.setattr(process, "SEARCH_PATH", "/nowhere")
    again = DebianArchive(cache=cache, offline=True).kernel("686")
    assert list(again.kernel.modules) == list(kernel.modules)
    assert (again.kernel.image, again.kernel.config, again.packages) == (kernel.image, kernel.config, found.packages)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("flavour", "hint"), [("683", "686"), ("armmp", "686"), ("6.1", "686")]
)  # fmt: skip
def test_a_flavour_debian_has_not(cache: Cache, flavour: str, hint: str) -> None:
    with pytest.raises(LivebuilderError, match=f"no linux-image-{flavour}") as caught:
        DebianArchive(cache=cache).kernel(flavour)
    assert hint in str(caught.value.hint)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("dropbear-bni", "no package dropbear-bni", "did you mean dropbear-bin?"),
        ("awk", "no package awk", "mawk"),  # virtual
        ("Dropbear", "'Dropbear' cannot be", "lower-case"),
        ("--version", "'--version' cannot be", "lower-case"),
        ("busybox", "/bin/busybox is given twice", "leave one of them out"),
    ],
)
def test_packages_that_cannot_be(cache: Cache, name: str, message: str, hint: str) -> None:
    with pytest.raises(LivebuilderError, match=re.escape(message)) as caught:
        DebianArchive(cache=cache).root([name])
    assert hint in str(caught.value.hint)


@pytest.mark.usefixtures("root")
def test_a_package_without_a_program_names_the_one_that_has_it(cache: Cache) -> None:
    warnings = DebianArchive(cache=cache).root(["dropbear"]).warnings
    assert any("dropbear has no program; dropbear-bin" in warning for warning in warnings)


@pytest.mark.usefixtures("root")
def test_a_script_without_its_interpreter_is_named(cache: Cache) -> None:
    warnings = DebianArchive(cache=cache).root(["iptables"]).warnings
    assert any("iptables-apply" in warning and "/bin/bash" in warning for warning in warnings)


@pytest.mark.usefixtures("root")
def test_one_suite_that_is_not_there(cache: Cache, root: DebianRoot, tmp_path: Path) -> None:
    suites = host_suites()
    texts = [written(suite) for suite in suites]
    etc = etc_with(tmp_path / "etc", *texts, written(suites[0], name="no-such-suite"))
    found = DebianArchive(cache=cache, apt_etc=etc).root(PROGRAMS)
    (warning,) = (one for one in found.warnings if "no-such-suite" in one)
    assert "packages that are only there are missing" in warning
    assert facts(found.tree) == facts(root.tree)
    assert warning in DebianArchive(cache=cache, apt_etc=etc, offline=True).root(PROGRAMS).warnings
    good = etc_with(tmp_path / "good", texts[0])
    assert not any("no-such-suite" in one for one in DebianArchive(cache=cache, apt_etc=good).root(PROGRAMS).warnings)
    bad = etc_with(tmp_path / "bad", texts[0], written(suites[0], name="no-such-suite"))
    with pytest.raises(LivebuilderError, match="no-such-suite") as caught:
        DebianArchive(cache=cache, apt_etc=bad, strict=True).root(PROGRAMS)
    assert "--strict" in str(caught.value.hint)


def test_no_suite_at_all(tmp_path: Path) -> None:
    etc = etc_with(tmp_path / "etc", *(written(suite, uri=NOWHERE) for suite in host_suites()))
    with pytest.raises(LivebuilderError, match="no package lists of Debian's can be had") as caught:
        DebianArchive(cache=Cache(tmp_path / "cache"), apt_etc=etc).root(PROGRAMS)
    assert "network" in str(caught.value.hint)


@pytest.fixture
def fake_apt_get(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put an apt-get first in PATH that runs a line of shell instead of (or around) one of the real one's actions."""

    def make(action: str, shell: str) -> None:
        real = process.require_tool("apt-get")
        folder = tmp_path / "fake"
        folder.mkdir()
        script = folder / "apt-get"
        script.write_text(f'#!/bin/sh\nreal={real}\ncase " $* " in *" {action} "*) {shell} ;; esac\nexec $real "$@"\n')
        script.chmod(0o755)
        monkeypatch.setattr(process, "SEARCH_PATH", f"{folder}{os.pathsep}{process.SEARCH_PATH}")

    return make


def test_old_lists_are_used_and_their_date_is_told(
    cache: Cache, root: DebianRoot, tmp_path: Path, fake_apt_get: Callable[[str, str], None]
) -> None:
    mine = Cache(tmp_path / "cache")
    shutil.copytree(cache.root, mine.root, symlinks=True, ignore=shutil.ignore_patterns("*.bin"))
    fake_apt_get("update", "echo 'E: it burns' >&2; exit 100")
    found = DebianArchive(cache=mine, refresh=True).root(PROGRAMS)
    assert len(found.warnings) == len(DebianArchive(cache=mine).apt.suites)
    assert any(re.search(r"it burns; those of .* \d{4} .* are used", warning) for warning in found.warnings)
    assert (facts(found.tree), found.packages) == (facts(root.tree), root.packages)


@pytest.fixture
def mirror(root: DebianRoot, cache: Cache, tmp_path: Path) -> tuple[Path, Suite]:
    """A mirror on disk of the smallest suite we have, with Debian's own signature, and a source that names it."""
    archive = DebianArchive(cache=cache, offline=True)
    lists = cache.root / "apt" / "i386" / "lists"
    choices = []
    for suite in archive.apt.usable_suites():
        stem = archive.apt.state(suite).release.removesuffix("Release").removesuffix("In")
        choices += [(file.stat().st_size, file, suite, stem) for file in lists.glob(f"{stem}main_*_Packages")]
    _, packages, suite, stem = min(choices, key=lambda choice: choice[0])
    home = tmp_path / "mirror" / "dists" / suite.name
    (home / "main" / "binary-i386").mkdir(parents=True)
    shutil.copy(packages, home / "main" / "binary-i386" / "Packages")
    shutil.copy(lists / f"{stem}InRelease", home / "InRelease")
    return home, Suite(f"copy:{tmp_path}/mirror", suite.name, ("main",))


def suites_in_use(tmp_path: Path, *texts: str) -> list[str]:
    archive = DebianArchive(cache=Cache(tmp_path / "cache"), apt_etc=etc_with(tmp_path / "etc", *texts))
    return [suite.name for suite in archive.apt.usable_suites()]


def test_a_source_that_does_not_say_who_signs_it_is_debian_s_by_its_signature(
    mirror: tuple[Path, Suite], tmp_path: Path
) -> None:
    suite = mirror[1]
    line = f"deb [arch=amd64 trusted=yes] {suite.uri} {suite.name} main\n"
    assert suites_in_use(tmp_path, line) == [suite.name]


@pytest.mark.parametrize("damage", ["InRelease", "main/binary-i386/Packages"])
def test_a_signature_or_hash_that_does_not_fit_is_refused_though_the_host_trusts_it(
    mirror: tuple[Path, Suite], tmp_path: Path, damage: str
) -> None:
    home, suite = mirror
    text = (home / damage).read_text()
    changed = text.replace("Label: Debian", "Label: Debiam", 1) if damage == "InRelease" else text.replace("a", "b", 1)
    assert changed != text
    (home / damage).write_text(changed)
    with pytest.raises(LivebuilderError, match="no package lists of Debian's can be had") as caught:
        suites_in_use(tmp_path, f"deb [trusted=yes allow-insecure=yes] {suite.uri} {suite.name} main\n")
    assert suite.uri in caught.value.message


@pytest.mark.parametrize(("origin", "stranger"), [("Elsewhere", True), ("Debian", False)])
def test_a_stranger_s_source_is_left_out_and_one_that_only_says_to_be_debian_s_is_named(
    mirror: tuple[Path, Suite], tmp_path: Path, origin: str, stranger: bool
) -> None:
    suite = mirror[1]
    other = tmp_path / "other" / "dists" / "sid"
    other.mkdir(parents=True)
    (other / "Release").write_text(f"Origin: {origin}\nSuite: sid\nDate: Sat, 11 Jul 2026 09:05:42 UTC\nSHA256:\n")
    etc = etc_with(
        tmp_path / "etc",
        f"deb {suite.uri} {suite.name} main\n",
        f"deb [trusted=yes] copy:{tmp_path}/other sid main\n",
    )
    apt = DebianArchive(cache=Cache(tmp_path / "cache"), apt_etc=etc).apt
    assert [one.name for one in apt.usable_suites()] == [suite.name]
    assert [problem for problem in apt.problems() if "other" in problem] == ([] if stranger else list(apt.problems()))
    assert bool(apt.problems()) is not stranger


def test_a_package_file_that_was_tampered_with(
    root: DebianRoot, cache: Cache, tmp_path: Path, warned: list[str]
) -> None:
    mine = Cache(tmp_path / "cache")
    shutil.copytree(cache.root, mine.root, symlinks=True)
    (package,) = (one for one in root.packages if one.name == "dropbear-bin")
    deb = mine.root / "debs" / package.sha256
    data = bytearray(deb.read_bytes())
    data[len(data) // 2] ^= 1
    deb.write_bytes(data)
    shutil.rmtree(mine.root / "deb-data" / package.sha256)
    with pytest.raises(LivebuilderError, match=r"not in the cache.*dropbear-bin"):
        DebianArchive(cache=mine, offline=True).root(PROGRAMS)
    again = DebianArchive(cache=mine).root(PROGRAMS)
    assert facts(again.tree) == facts(root.tree)
    assert any("dropbear-bin" in message and "damaged" in message for message in warned)


@pytest.mark.parametrize(
    ("then", "message"),
    [
        ("echo 'E: connection lost' >&2; exit 100", "failed: connection lost"),
        ("exit 0", "not what its signed lists say"),
    ],
)
def test_an_interrupted_download_leaves_nothing(
    root: DebianRoot,
    cache: Cache,
    tmp_path: Path,
    then: str,
    message: str,
    fake_apt_get: Callable[[str, str], None],
) -> None:
    mine = Cache(tmp_path / "cache")
    shutil.copytree(cache.root / "apt", mine.root / "apt", symlinks=True)
    fake_apt_get("download", f'$real "$@"; for deb in *.deb; do truncate -s 1000 "$deb"; done; {then}')
    with pytest.raises(LivebuilderError, match=message):
        DebianArchive(cache=mine).root(PROGRAMS)
    assert not list(mine.root.glob("deb*/*"))


def test_two_builds_at_once(tmp_path: Path, root: DebianRoot) -> None:
    cache = Cache(tmp_path)
    found: list[DebianRoot] = []
    threads = [
        threading.Thread(target=lambda: found.append(DebianArchive(cache=cache).root(PROGRAMS))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [facts(one.tree) for one in found] == [facts(root.tree)] * 2
