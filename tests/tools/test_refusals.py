"""`livebuilder build` with input that cannot be built: an error that names the thing, and nothing left behind."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from livebuilder.cache import cache_root
from livebuilder.iso.loader import find_loader, wanted_names
from tests.support.builds import (
    NO_NETWORK,
    Outcome,
    SmallSystem,
    assert_refused,
    private_cache,
    run_command,
    run_main,
    snapshot,
)
from tests.support.elves import elf_of
from tests.support.kernels import write_modules

# Builds here are offline: what they need from the network is in the cache once the default image was built.
pytestmark = [pytest.mark.network, pytest.mark.usefixtures("default_image")]


class Bench:
    """A small system of the test's own to break, and the folder a build is to leave alone."""

    def __init__(self, system: SmallSystem, folder: Path) -> None:
        self.folder = folder
        self.release = system.release
        for name in ("boot", "root"):
            shutil.copytree(system.folder / name, folder / name, symlinks=True)
        (folder / "lib").symlink_to(system.folder / "lib")
        shutil.copy(system.profile, folder)
        self.out = folder / "out"

    def build(self, *words: str) -> Outcome:
        before = snapshot(self.folder, folder_times=False)
        outcome = run_main("build", "--offline", self.folder / "small.toml", *words, "-o", self.out)
        assert snapshot(self.folder, folder_times=False) == before, "something was left behind"
        return outcome

    def tar(self, *members: tuple[str, dict[str, object]]) -> str:
        """An archive of the root and, behind it, `members`; returns the words that build from it."""
        with tarfile.open(self.folder / "root.tar", "w") as tar:
            tar.add(self.folder / "root", ".")
            for name, facts in members:
                member = tarfile.TarInfo(name)
                for key, value in facts.items():
                    setattr(member, key, value)
                tar.addfile(member, io.BytesIO(b"x" * member.size))
        return "root.tar"


@pytest.fixture
def bench(small_system: SmallSystem, tmp_path: Path) -> Bench:
    return Bench(small_system, tmp_path)


def test_the_bench_builds(bench: Bench) -> None:
    """Or every refusal below would have another reason."""
    outcome = run_main("build", "--offline", bench.folder / "small.toml", "-o", bench.out)
    assert outcome.status == 0, outcome.stderr
    assert (bench.out / "small.iso").exists()
    bench.tar()
    archive = ("--set", "root.source=archive", "--set", "root.path=root.tar")
    archived = run_main("build", "--offline", bench.folder / "small.toml", *archive, "-o", bench.out)
    assert archived.status == 0, archived.stderr


# Kernels


def broken_kernel(data: bytes) -> Callable[[Bench], None]:
    return lambda bench: (bench.folder / "boot/vmlinuz").write_bytes(data)  # type: ignore[return-value]


def shortened_kernel(bench: Bench) -> None:
    path = bench.folder / "boot/vmlinuz"
    path.write_bytes(path.read_bytes()[:20_000])


def foreign_modules(bench: Bench) -> None:
    (bench.folder / "lib").unlink()
    write_modules(bench.folder / "lib/modules" / bench.release, release="5.10.0-8-686")


def no_modules(bench: Bench) -> None:
    (bench.folder / "lib").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda bench: (bench.folder / "boot/vmlinuz").unlink(), ["kernel.image: there is no file", "vmlinuz"]),
        (broken_kernel(b""), ["boot/vmlinuz"]),
        (broken_kernel(b"\x7fELF" + bytes(5000)), ["boot/vmlinuz", "bzImage"]),
        (broken_kernel(b"#!/bin/sh\n" * 1000), ["boot/vmlinuz", "bzImage"]),
        (shortened_kernel, ["boot/vmlinuz"]),
        (foreign_modules, ["5.10.0-8-686", "vmlinuz"]),
        (no_modules, ["kernel.modules: there is no folder"]),
    ],
    ids=["none", "empty", "elf", "script", "short", "modules of another", "no modules"],
)
def test_a_kernel_that_is_none(bench: Bench, spoil: Callable[[Bench], object], said: list[str]) -> None:
    spoil(bench)
    assert_refused(bench.build(), *said)


@pytest.mark.parametrize(("compression", "option"), [("xz", "CONFIG_RD_XZ"), ("zstd", "CONFIG_RD_ZSTD")])
def test_a_compression_the_kernel_cannot_unpack(bench: Bench, compression: str, option: str) -> None:
    config = bench.folder / f"boot/config-{bench.release}"
    text = config.read_text()
    assert f"{option}=y\n" in text
    config.write_text(text.replace(f"{option}=y\n", f"# {option} is not set\n"))
    outcome = bench.build("--set", f"output.compression={compression}")
    assert_refused(
        outcome, f"{bench.folder}/small.toml: output.compression: ", compression, option, bench.release, "gzip"
    )


@pytest.mark.parametrize(
    ("option", "value"), [("CONFIG_SQUASHFS", "m"), ("CONFIG_SQUASHFS_XZ", "y")], ids=["squashfs", "xz"]
)
def test_a_squashfs_that_the_kernel_cannot_read(bench: Bench, option: str, value: str) -> None:
    config = bench.folder / f"boot/config-{bench.release}"
    text = config.read_text()
    assert f"{option}={value}\n" in text
    config.write_text(text.replace(f"{option}={value}\n", f"# {option} is not set\n"))
    outcome = bench.build("--set", "root.mode=squashfs")
    assert_refused(
        outcome, f"{bench.folder}/small.toml: root.mode: ", bench.release, f"without {option}", "root.mode=ext2"
    )


def test_a_kernel_that_does_not_say_whether_it_reads_a_squashfs_is_trusted_with_a_warning(bench: Bench) -> None:
    (bench.folder / f"boot/config-{bench.release}").unlink()
    outcome = run_main(
        "build", "--offline", bench.folder / "small.toml", "--set", "root.mode=squashfs", "--dry-run", "-o", bench.out
    )
    assert outcome.status == 0, outcome.stderr
    assert f"kernel {bench.release} does not say whether it reads squashfs with xz" in outcome.stderr


# Roots


def test_a_root_without_its_init(bench: Bench) -> None:
    (bench.folder / "root/etc/preinit").unlink()
    assert_refused(bench.build(), "/etc/preinit", "root.init=")


def test_an_init_that_is_not_executable(bench: Bench) -> None:
    (bench.folder / "root/etc/preinit").chmod(0o644)
    assert_refused(bench.build(), "/etc/preinit", "not executable", "0644")


def test_an_init_that_is_a_folder(bench: Bench) -> None:
    assert_refused(bench.build("--set", "root.init=/etc"), "/etc")


def test_an_init_behind_a_dead_link(bench: Bench) -> None:
    (bench.folder / "root/init").symlink_to("nowhere")
    assert_refused(bench.build("--set", "root.init=/init"), "/init")


@pytest.mark.parametrize(
    ("machine", "said"), [(62, "--set kernel.flavour=amd64"), (40, "not for a PC (ELF machine 40)")]
)
def test_programs_for_another_processor(bench: Bench, machine: int, said: str) -> None:
    busybox = bench.folder / "root/bin/busybox"
    busybox.write_bytes(busybox.read_bytes()[:18] + machine.to_bytes(2, "little") + busybox.read_bytes()[20:])
    assert_refused(bench.build(), said)


def test_a_root_that_is_not_there(bench: Bench) -> None:
    assert_refused(bench.build("--set", "root.path=nowhere"), "root.path: there is no folder", "nowhere")


@pytest.mark.parametrize("cut", [0, 100, 5000, 1_000_000])
def test_an_archive_cut_short(bench: Bench, cut: int) -> None:
    path = bench.folder / bench.tar()
    path.write_bytes(path.read_bytes()[:cut])
    assert_refused(bench.build("--set", "root.source=archive", "--set", "root.path=root.tar"), "root.tar")


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([("../escaped", {"size": 1})], "../escaped"),
        ([("etc/../../escaped", {"size": 1})], "escaped"),
        ([("dev/x", {"type": tarfile.CHRTYPE}), ("dev/x/below", {"size": 1})], "dev/x"),
        ([("etc/preinit", {"size": 1})], "etc/preinit"),
        ([("hard", {"type": tarfile.LNKTYPE, "linkname": "nowhere"})], "hard"),
        ([("long/" + "n" * 256, {"size": 1})], "nnnn"),
    ],
    ids=["dots", "dots inside", "device as a parent", "given twice", "link to nothing", "name too long"],
)
def test_a_hostile_archive(bench: Bench, members: list[tuple[str, dict[str, object]]], said: str) -> None:
    bench.tar(*members)
    assert_refused(bench.build("--set", "root.source=archive", "--set", "root.path=root.tar"), said)
    assert not list(bench.folder.parent.glob("escaped"))


def test_owners_of_what_is_not_there(bench: Bench) -> None:
    (bench.folder / "files").mkdir()
    outcome = bench.build("--set", "root.files=files", "--set", 'root.owners={"/srv" = "1:1"}')
    assert_refused(outcome, f"error: {bench.folder}/small.toml: root.owners: /srv is not in {bench.folder}/files\n")


# Profiles


def test_all_problems_of_a_profile_at_once(bench: Bench) -> None:
    profile = bench.folder / "small.toml"
    profile.write_text(
        'nmae = "x"\n[storage]\nlabel = "seventeen-letters"\nsetle = 3\n[output]\ncompression = "lzma"\n'
    )
    outcome = bench.build("--set", "boot.timeout=-1")
    assert_refused(
        outcome, f"{profile}: nmae: unknown key; did you mean name?", "storage.setle: unknown key", "storage.settle",
        "'seventeen-letters' has 17 bytes", "'lzma' is not one of", "boot.timeout",
    )  # fmt: skip
    assert len(outcome.stderr.splitlines()) == 6, "five problems and a hint"


@pytest.mark.parametrize(
    "data", [b"name = ", b"\xff\xfe", b"x = " + b"[" * 20_000, b"x = " + b"9" * 5_000],
    ids=["cut", "bytes", "deep", "long"],
)  # fmt: skip
def test_a_profile_that_is_not_toml(bench: Bench, data: bytes) -> None:
    (bench.folder / "small.toml").write_bytes(data)
    assert_refused(bench.build(), str(bench.folder / "small.toml"), "not TOML")


def test_a_profile_that_cannot_be_read(bench: Bench) -> None:
    (bench.folder / "small.toml").unlink()
    assert_refused(bench.build(), "small.toml", "No such file or directory")
    (bench.folder / "small.toml").mkdir()
    assert_refused(bench.build(), "small.toml", "Is a directory")


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("storage.label=seventeen-letters", "17 bytes"),
        ("nme=x", "did you mean name?"),
        ("root.free=lots", "'lots' is not a size"),
        ("storage.settle=never", "storage.settle"),
        ("root.init=init", "absolute path"),
        ("boot.cmdline=\x07", "one line of plain ASCII"),
        ("name=" + "[" * 5000, "name"),
        ("modules.features=['cdromm']", "cdromm"),
        ("modules.features=['cdrom']", "cdrom"),  # which the few modules of the small kernel do not make up
        ("modules.extra=['no_such_module']", "no_such_module"),
    ],
)
def test_a_setting_that_cannot_be(bench: Bench, setting: str, said: str) -> None:
    assert_refused(bench.build("--set", setting), said)


@pytest.mark.parametrize("setting", ["name", "=x", ".=x", "root..free=1M", "name.first=x"])
def test_a_setting_that_is_none(bench: Bench, setting: str) -> None:
    outcome = run_main("build", "--offline", bench.folder / "small.toml", "--set", setting)
    assert_refused(outcome, setting, "try: --set storage.label", status=2)


def test_a_feature_s_nearest_name(bench: Bench) -> None:
    assert_refused(bench.build("--set", "modules.features=['cdromm']"), "did you mean cdrom?")
    assert_refused(bench.build("--set", "modules.extra=['overlai']"), "like name: overlay")


# What the host has not


@pytest.fixture
def loader_places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The one folder where the loader is looked for, as on a host that has it there; empty at first."""
    place = tmp_path_factory.mktemp("syslinux")
    usual = find_loader.__defaults__
    find_loader.__defaults__ = (((place, place),),)
    yield place
    find_loader.__defaults__ = usual


def test_no_loader(bench: Bench, loader_places: Path) -> None:
    assert list(loader_places.iterdir()) == []
    assert_refused(bench.build(), "ISOLINUX", "apt-get install isolinux", "dnf", "pacman", "apk")


def test_a_loader_without_its_module(bench: Bench, small_system: SmallSystem, loader_places: Path) -> None:
    for place in ("/usr/lib/ISOLINUX", "/usr/share/syslinux", "/usr/lib/syslinux/bios"):
        if (Path(place) / "isolinux.bin").exists():
            shutil.copy(Path(place) / "isolinux.bin", loader_places)
    assert_refused(bench.build(), f"{loader_places}/ldlinux.c32", "missing")


def test_a_module_of_another_loader(bench: Bench, loader_places: Path) -> None:
    defaults = find_loader.__defaults__
    find_loader.__defaults__ = None
    from livebuilder.iso.loader import PLACES

    loader = find_loader(PLACES)
    find_loader.__defaults__ = defaults
    shutil.copy(loader.isolinux_bin, loader_places)
    module = loader.modules["ldlinux.c32"].read_bytes()
    name = wanted_names(module)[0]
    (loader_places / "ldlinux.c32").write_bytes(module.replace(name + b"\0", name[:-1] + b"?\0"))
    assert_refused(bench.build(), "ldlinux.c32 does not belong to", "same version")
    (loader_places / "ldlinux.c32").write_bytes(module)
    assert bench.out.exists() is False
    assert run_main("build", "--offline", bench.folder / "small.toml", "-o", bench.out).status == 0


def test_no_network_and_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), **NO_NETWORK}
    outcome = run_command("build", "-o", tmp_path / "out", env=env)
    assert_refused(outcome, "no package lists of Debian's can be had", "network")
    assert not (tmp_path / "out").exists()
    outcome = run_command("build", "--offline", "-o", tmp_path / "out", env=env)
    assert_refused(outcome, "no package lists", "without --offline")


def test_no_apt(tmp_path: Path) -> None:
    """PATH without it; our own interpreter is found all the same."""
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": str(tmp_path)}
    outcome = run_command("build", "-o", tmp_path / "out", env=env)
    assert_refused(outcome, "this host has no apt", "[initramfs] busybox")
    assert not (tmp_path / "out").exists()


def test_nothing_is_asked_of_apt_when_all_is_the_user_s(bench: Bench, tmp_path: Path) -> None:
    """No apt, no network, and nothing in the cache: what the hint of the refusal above says is true."""
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": str(tmp_path), **NO_NETWORK}
    own = ("--verbose", "build", bench.folder / "small.toml", "-o", bench.out)
    assert_refused(run_command(*own, env=env), "this host has no apt", "[initramfs] busybox")
    outcome = run_command(*own, "--set", "initramfs.busybox=root/bin/busybox", "--json", env=env)
    assert outcome.status == 0, outcome.stderr
    assert "$ " not in outcome.stderr, "it ran a program"
    assert outcome.json["manifest"]["packages"] == []
    assert (bench.out / "small.iso").exists()


def test_a_cache_that_cannot_be(bench: Bench) -> None:
    (bench.folder / "taken").write_text("a file")
    env = {"XDG_CACHE_HOME": str(bench.folder / "taken")}
    outcome = run_command("build", bench.folder / "small.toml", "-o", bench.out, env=env)
    assert_refused(outcome, f"{bench.folder}/taken/livebuilder")
    assert not bench.out.exists()


def test_a_package_nobody_has(tmp_path: Path) -> None:
    packages = 'root.packages=["dropbear-bni"]'
    outcome = run_main("build", "--offline", "--set", packages, "-o", tmp_path / "out")
    assert_refused(outcome, "no package dropbear-bni", "did you mean dropbear-bin?")
    assert not (tmp_path / "out").exists()


def busybox_without(bench: Bench, applet: str) -> bytes:
    """Debian's busybox, whose table of applets has another name in the place of one of the same length before it."""
    data = (bench.folder / "root/bin/busybox").read_bytes()
    assert data.count(f"\0{applet}\0".encode()) >= 1
    return data.replace(f"\0{applet}\0".encode(), f"\0{applet[:-1]}1\0".encode())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: b"", "is not a program for i386"),
        (lambda _: b"#!/bin/sh\n", "is not a program for i386"),
        (lambda _: elf_of(kind=2, bits=64, machine=62), "is not a program for i386"),
        (lambda _: elf_of(kind=2, interpreter="/lib/ld-linux.so.2"), "is not static: it needs /lib/ld-linux.so.2"),
        (lambda _: elf_of(needed=["libc.so.6", "libm.so.6"]), "is not static: it needs libc.so.6, libm.so.6"),
        (lambda _: elf_of(kind=2), "this is not a busybox"),
        (lambda bench: (bench.folder / "root/bin/busybox").read_bytes()[:20000], "this is not a busybox"),
        (lambda _: elf_of(kind=2)[:100], "is a damaged program"),
    ],
)
def test_a_busybox_that_cannot_run_init(bench: Bench, make: Callable[[Bench], bytes], said: str) -> None:
    path = bench.folder / "mine"
    path.write_bytes(make(bench))
    outcome = bench.build("--set", f"initramfs.busybox={path}")
    assert_refused(outcome, f"{bench.folder}/small.toml: initramfs.busybox: ", str(path), said)


def test_a_busybox_for_32_bits_with_a_kernel_that_runs_none(bench: Bench) -> None:
    (bench.folder / f"boot/config-{bench.release}").write_text("CONFIG_X86_64=y\nCONFIG_RD_XZ=y\n")
    outcome = bench.build("--set", f"initramfs.busybox={bench.folder}/root/bin/busybox")
    assert_refused(outcome, "initramfs.busybox: ", "is not a program for amd64", "busybox for amd64")


def test_a_busybox_that_lacks_an_applet(bench: Bench) -> None:
    path = bench.folder / "mine"
    path.write_bytes(busybox_without(bench, "switch_root"))
    outcome = bench.build("--set", f"initramfs.busybox={path}")
    assert_refused(outcome, "switch_root is neither a program of the initramfs nor an applet", "initramfs.busybox")


def test_a_busybox_that_is_not_there(bench: Bench) -> None:
    assert_refused(bench.build("--set", "initramfs.busybox=nosuch"), "initramfs.busybox: there is no file", "nosuch")


# What would fail on the other machine


@pytest.mark.parametrize(
    ("path", "text", "mode", "said"),
    [
        ("bin/busybox", "", 0o644, ["busybox"]),
        ("lib/functions.sh", "frobnicate --now\n", 0o644, ["lib/functions.sh: frobnicate"]),
        ("etc/preinit", "#!/bin/bash\nexec /sbin/init\n", 0o755, ["/bin/bash is not in the root"]),
        ("etc/inittab", "::sysinit:/etc/init.d/nosuch boot\n", 0o644, ["/etc/init.d/nosuch"]),
    ],
)
def test_user_files_that_break_what_the_scripts_name(
    tmp_path: Path, path: str, text: str, mode: int, said: list[str]
) -> None:
    file = tmp_path / "files" / path
    file.parent.mkdir(parents=True)
    file.write_text(text)
    file.chmod(mode)
    outcome = run_main("build", "--offline", "--set", f"root.files={tmp_path / 'files'}", "-o", tmp_path / "out")
    assert_refused(outcome, "the image lacks what its scripts name", *said)
    assert not (tmp_path / "out").exists()


def parse_size_shown(line: str) -> float:
    number, unit, *_ = line.split()
    return float(number) * {"B": 1, "KiB": 1024, "MiB": 1024**2}[unit]


@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_over_the_budget(bench: Bench, compression: str) -> None:
    settings = ("--set", f"output.compression={compression}")
    sound = run_main("build", "--offline", bench.folder / "small.toml", *settings, "-o", bench.folder / "sound")
    assert sound.status == 0
    size = (bench.folder / "sound/small.iso").stat().st_size
    outcome = bench.build(*settings, "--set", f"output.max_size={size - 12345}")
    assert_refused(outcome, f"the ISO has {size} bytes, 12345 more than", "max_size")
    listed = [line for line in outcome.stderr.splitlines() if line.startswith("  ") and "try:" not in line]
    assert len(listed) == 10
    assert sorted(line.split()[-1] for line in listed[:2]) == ["boot/initramfs", "boot/vmlinuz"]
    sizes = [parse_size_shown(line) for line in listed]
    assert sizes == sorted(sizes, reverse=True)
    assert any("/bin/busybox (before compression)" in line for line in listed)
    enough = run_main(
        "build",
        "--offline",
        bench.folder / "small.toml",
        *settings,
        "--set",
        f"output.max_size={size}",
        "-o",
        bench.out,
    )
    assert enough.status == 0, enough.stderr


def test_over_the_budget_what_was_there_stays(bench: Bench) -> None:
    bench.out.mkdir()
    (bench.out / "small.iso").write_text("an older one")
    assert bench.build("--set", "output.max_size=1M").status == 1
    assert [path.name for path in bench.out.iterdir()] == ["small.iso"]


def test_offline_what_no_build_fetched(tmp_path: Path) -> None:
    env = private_cache(tmp_path / "cache", cache_root(), without=("deb-data", "debs", "debian"))
    outcome = run_main("build", "--offline", "-o", tmp_path / "out", env=env)
    assert_refused(outcome, "not in the cache", "without --offline")
    assert not (tmp_path / "out").exists()
