"""Builds of OpenWrt roots, as far as files tell: what is decided, said and undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from livebuilder.openwrt.change import ChangeKind
from livebuilder.tree import RootTree, file
from tests.support.builds import SmallSystem, assert_refused, run_main
from tests.support.documents import assert_documented
from tests.support.kernels import RELEASE, FakeModule, bzimage, module_bytes
from tests.support.openwrt import openwrt_root, write_archive

pytestmark = pytest.mark.network  # busybox and kernel are Debian's, from the cache once that has them

_PROFILE = """
[root]
source = "openwrt"
rootfs = "openwrt-*-rootfs.tar.gz"
[modules]
features = []
"""
_FOREIGN = """
[kernel]
image = "{system.kernel}"
modules = "{system.modules}"
[initramfs]
busybox = "{system.root}/bin/busybox"
"""
_OWN = """
[kernel]
image = "vmlinuz"
[initramfs]
busybox = "{system.root}/bin/busybox"
"""


@pytest.fixture
def folder(small_system: SmallSystem, tmp_path: Path) -> Path:
    write_archive(openwrt_root("procd"), tmp_path / "openwrt-23.05.5-rootfs.tar.gz", owner=1000)
    (tmp_path / "foreign.toml").write_text(_PROFILE + _FOREIGN.format(system=small_system))
    return tmp_path


def plan(profile: Path, *words: str) -> dict[str, Any]:
    outcome = run_main("build", profile, "--dry-run", "--json", "-o", profile.parent / "out", *words)
    assert outcome.status == 0, outcome.stderr
    return outcome.json  # type: ignore[no-any-return]


def test_what_is_done_to_a_root_is_shown_and_can_be_forbidden(folder: Path) -> None:
    facts = plan(folder / "foreign.toml")
    assert_documented("build --dry-run", facts)
    assert facts["openwrt"]["release"]["version"] == "23.05.5"
    assert facts["openwrt"]["era"] == "22.03, 23.05"
    kinds = {change["kind"] for change in facts["openwrt"]["changes"]}
    assert kinds == {"owners", "devices", "modules", "fstab", "banner"}
    assert any("belonged to 1000:1000" in warning for warning in facts["warnings"])
    keep = f"openwrt.keep={[kind.value for kind in ChangeKind]}"
    assert plan(folder / "foreign.toml", "--set", keep)["openwrt"]["changes"] == []


def test_people_read_the_same(folder: Path) -> None:
    outcome = run_main("build", folder / "foreign.toml", "--dry-run", "-o", folder / "out")
    assert "openwrt   OpenWrt 23.05.5 (r24106-10cc5fcd00) for x86/generic, treated as 22.03, 23.05" in outcome.stdout
    assert "owners    all " in outcome.stdout and "leave" in outcome.stdout


def test_root_on_the_command_line_is_refused(folder: Path) -> None:
    outcome = run_main("build", folder / "foreign.toml", "--dry-run", "--set", "boot.cmdline=root=/dev/sda1")
    assert_refused(outcome, "boot.cmdline", "root= makes OpenWrt look for its settings")


def test_its_own_kernel_takes_gzip_and_the_roots_modules(small_system: SmallSystem, tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(bzimage(config=None))
    root = openwrt_root("procd", version="18.06.1")
    root.remove("lib/modules/4.14.63")
    root.add(file(f"lib/modules/{RELEASE}/tun.ko", module_bytes(FakeModule("tun"))))
    write_archive(RootTree(root), tmp_path / "openwrt-18.06.1-rootfs.tar.gz")
    profile = tmp_path / "own.toml"
    profile.write_text(_PROFILE + _OWN.format(system=small_system))
    facts = plan(profile, "--set", 'modules.extra=["tun"]')
    assert facts["compression"] == "gzip"
    assert not [change for change in facts["openwrt"]["changes"] if change["kind"] == "modules"]
    refused = run_main("build", profile, "--dry-run", "--set", "output.compression=xz")
    assert_refused(refused, "cannot unpack xz")
    assert_refused(run_main("build", profile, "--dry-run", "--set", 'modules.features=["btrfs"]'), "btrfs")
