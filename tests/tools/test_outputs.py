"""What a build's files are called and where they lie: OpenWrt's conventions for an OpenWrt, or when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder import __version__
from livebuilder.process import run
from tests.support.builds import (
    OUTPUTS,
    BuiltImage,
    SmallSystem,
    assert_refused,
    hashes,
    run_main,
    snapshot,
)
from tests.support.documents import assert_documented
from tests.support.profiles import RELEASE, SNAPSHOT, anonymous

# Builds here are offline: what they need from the network is in the cache once the default image was built.
pytestmark = [pytest.mark.network, pytest.mark.usefixtures("default_image")]

PREFIX = "openwrt-23.05.9-x86-legacy-small"
NAMES = {f"{PREFIX}{end}" for end in ("-image.iso", "-kernel.bin", "-initramfs.bin", ".manifest")}
METADATA = {"profiles.json", "manifest.json", "sha256sums"}
STATUS = """Package: procd
Version: 2023-06-25-2db83655-2
Status: install user installed

Package: base-files
Version: 1551-r24106-10cc5fcd00
Status: install user installed
"""


@pytest.fixture
def openwrt(small_system: SmallSystem, tmp_path: Path) -> tuple[str | Path, ...]:
    """The words that build a root which says it is an OpenWrt."""
    root = tmp_path / "openwrt-root"
    run(["cp", "-a", small_system.root, root])
    (root / "usr/lib/opkg").mkdir(parents=True)
    (root / "usr/lib/opkg/status").write_text(STATUS)
    (root / "etc/openwrt_release").write_text(
        "DISTRIB_ID='OpenWrt'\nDISTRIB_RELEASE='23.05.9'\nDISTRIB_REVISION='r99999-0123456789'\n"
        "DISTRIB_TARGET='x86/legacy'\nDISTRIB_ARCH='i386_pentium-mmx'\n"
    )
    return ("build", "--offline", small_system.profile, "--set", f"root.path={root}")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_an_openwrt_is_named_as_openwrt_would(openwrt: tuple[str | Path, ...], tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_main(*openwrt, "-o", out).status == 0
    assert names(out) == NAMES | METADATA
    checked = run(["sha256sum", "--check", "--strict", "sha256sums"], cwd=out).stdout.splitlines()
    assert checked == [f"{name}: OK" for name in sorted(NAMES | METADATA - {"sha256sums"})]
    assert (out / f"{PREFIX}.manifest").read_text() == (
        "base-files - 1551-r24106-10cc5fcd00\nprocd - 2023-06-25-2db83655-2\n"
    )
    whole = BuiltImage(out).profiles
    assert_documented("profiles.json", *map(anonymous, (whole, RELEASE, SNAPSHOT)))
    assert anonymous(whole).keys() == RELEASE.keys()
    (profile,) = whole["profiles"].values()
    sums = hashes(out)
    assert {image["type"]: image["name"] for image in profile["images"]} == {
        "kernel": f"{PREFIX}-kernel.bin", "initramfs": f"{PREFIX}-initramfs.bin", "image.iso": f"{PREFIX}-image.iso",
    }  # fmt: skip
    assert all(image["sha256"] == sums[image["name"]] for image in profile["images"])
    assert (whole["target"], whole["version_number"], whole["version_code"], whole["arch_packages"]) == (
        "x86/legacy", "23.05.9", "r99999-0123456789", "i386_pentium-mmx",
    )  # fmt: skip
    assert (whole["default_packages"], profile["device_packages"]) == (["base-files", "procd"], [])
    for kind, found in {"image.iso": "iso", "initramfs": "initramfs", "kernel": "kernel"}.items():
        assert run_main("inspect", BuiltImage(out).image(kind), "--json").json["kind"] == found
    before = snapshot(out)
    assert "nothing to do" in run_main(*openwrt, "-o", out).stdout
    assert snapshot(out) == before


def test_openwrt_s_layout_is_the_same_files_in_its_folders(openwrt: tuple[str | Path, ...], tmp_path: Path) -> None:
    flat, nested = tmp_path / "flat", tmp_path / "nested"
    assert run_main(*openwrt, "-o", flat).status == 0
    outcome = run_main(*openwrt, "--layout", "openwrt", "-o", nested, "--json")
    folder = nested / "bin/targets/x86/legacy"
    assert (outcome.json["folder"], outcome.json["unchanged"]) == (str(folder), False)
    assert [path for path in sorted(nested.rglob("*")) if path.is_file() and path.parent != folder] == []
    differ = {name for name, digest in hashes(folder).items() if hashes(flat)[name] != digest}
    assert differ == {"manifest.json", "sha256sums"}, "the profile in it says which layout"
    assert run_main(*openwrt, "--set", "output.layout=openwrt", "-o", nested, "--json").json["unchanged"] is True
    (folder / f"{PREFIX}.manifest").write_text("nothing\n")
    assert run_main(*openwrt, "--layout", "openwrt", "-o", nested, "--json").json["unchanged"] is False
    assert (folder / f"{PREFIX}.manifest").read_text() == (flat / f"{PREFIX}.manifest").read_text()


def test_any_root_in_openwrt_s_layout(small_system: SmallSystem, tmp_path: Path) -> None:
    words = ("build", "--offline", small_system.profile, "--layout", "openwrt", "-o", tmp_path / "out", "--json")
    folder = tmp_path / "out/bin/targets/x86/generic"
    plan = run_main(*words, "--dry-run").json
    assert (plan["output"], plan["files"][0]) == (str(folder), f"livebuilder-{__version__}-x86-generic-small-image.iso")
    assert not (tmp_path / "out").exists()
    named = run_main(*words, "--set", "output.extra=Kiosk_1", "--set", "output.version=2.0-rc1").json
    prefix = "livebuilder-2.0-rc1-kiosk-1-x86-generic-small"
    assert {file["name"] for file in named["files"]} == {
        name.replace(PREFIX, prefix) for name in NAMES | METADATA - {"sha256sums"}
    }
    whole = BuiltImage(folder).profiles
    assert (whole["version_number"], whole["profiles"]["small"]["image_prefix"]) == ("2.0-rc1", prefix)


def test_a_build_that_fails_leaves_no_folders(openwrt: tuple[str | Path, ...], tmp_path: Path) -> None:
    words = (*openwrt, "--layout", "openwrt", "-o", tmp_path / "out", "--set", "output.max_size=1K")
    assert_refused(run_main(*words), "more than output.max_size")
    assert not (tmp_path / "out").exists()


def test_flat_is_the_default_and_short_where_it_is_no_openwrt(small_system: SmallSystem, tmp_path: Path) -> None:
    words = ("build", "--offline", small_system.profile, "-o", tmp_path, "--set", "output.layout=openwrt")
    assert run_main(*words, "--layout", "flat", "--set", "output.extra=two").status == 0
    assert names(tmp_path) == {name.replace("router", "small-two") for name in OUTPUTS}


def test_the_packages_of_a_debian_root_are_those_it_was_made_from(default_image: BuiltImage) -> None:
    lines = (default_image.folder / "router.manifest").read_text().splitlines()
    assert lines == [f"{package['name']} - {package['version']}" for package in default_image.manifest["packages"]]
    whole = default_image.profiles
    assert whole["profiles"]["router"]["device_packages"] == [], "none that the profile adds"
    assert whole["default_packages"] == [line.split(" - ")[0] for line in lines]
    assert (whole["target"], whole["arch_packages"], whole["source_date_epoch"]) == (
        "x86/generic", "i386", default_image.manifest["source_date_epoch"],
    )  # fmt: skip
