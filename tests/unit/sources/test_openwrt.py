"""OpenWrt's own files: a root that is one, and the kernel that its modules are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.eras import ERAS, NEWEST
from livebuilder.openwrt.release import Release
from livebuilder.sources.openwrt import OpenwrtRoot, kernel_of_root, read_openwrt_root
from livebuilder.tree import Content, RootTree, file
from tests.support.kernels import RELEASE, FakeModule, bzimage, module_bytes
from tests.support.openwrt import write_archive

LIES_FLAT = f"lib/modules/{RELEASE}/usb-storage.ko"


def read(tree: RootTree, folder: Path) -> OpenwrtRoot:
    return read_openwrt_root(write_archive(tree, folder / "root.tar.gz"), cache=Cache(folder / "cache"))


def own_root(*paths: str) -> OpenwrtRoot:
    modules = [file(path, module_bytes(FakeModule("x"))) for path in paths]
    return OpenwrtRoot(RootTree(modules), Release("OpenWrt", "18.06.1"), ERAS[4], ())


def kernel_image(folder: Path, *, config: str | None = None) -> Path:
    path = folder / "vmlinuz"
    path.write_bytes(bzimage(config=config))
    return path


def test_a_root_and_its_era(tmp_path: Path) -> None:
    root = read(RootTree([file("etc/openwrt_release", "DISTRIB_RELEASE=14.07\n")]), tmp_path)
    assert (root.release.version, root.era.name, root.warnings) == ("14.07", "14.07", ())
    assert "etc/openwrt_release" in root.tree


def test_a_snapshot_is_treated_as_the_newest_era_with_a_warning(tmp_path: Path) -> None:
    root = read(RootTree([file("etc/openwrt_version", "r25998-1d62d63\n")]), tmp_path)
    assert root.era is NEWEST
    assert "is a release that livebuilder does not know" in root.warnings[0]


def test_another_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match="is no OpenWrt") as caught:
        read(RootTree([file("etc/os-release", "ID=alpine\n")]), tmp_path)
    assert caught.value.hint and "root.source=archive" in caught.value.hint


def test_its_own_kernel_has_the_roots_modules_and_the_eras_options(tmp_path: Path) -> None:
    kernel = kernel_of_root(kernel_image(tmp_path), own_root(LIES_FLAT))
    assert kernel.release == RELEASE
    assert [entry.path for entry in kernel.modules] == ["usb-storage.ko"]
    assert kernel.config == ERAS[4].kernel_config


def test_a_configuration_that_can_be_read_counts_more(tmp_path: Path) -> None:
    image = kernel_image(tmp_path, config="CONFIG_RD_XZ=y\n")
    assert kernel_of_root(image, own_root()).config == {"CONFIG_RD_XZ": "y"}
    (tmp_path / f"config-{RELEASE}").write_text("CONFIG_RD_GZIP=y\n")
    assert kernel_of_root(image, own_root()).config == {"CONFIG_RD_GZIP": "y"}


def test_a_kernel_that_is_only_part_of_the_file(tmp_path: Path) -> None:
    image = tmp_path / "combined.img"
    kernel = kernel_of_root(image, own_root(LIES_FLAT), content=Content.from_bytes(bzimage(config=None)))
    assert (kernel.release, kernel.source) == (RELEASE, str(image))


def test_modules_of_another_kernel_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match=r"the modules of Linux 4\.14\.63, but .* is Linux 6\.1\.0-test-686"):
        kernel_of_root(kernel_image(tmp_path), own_root("lib/modules/4.14.63/ext4.ko"))


def test_a_kernel_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match="cannot be read"):
        kernel_of_root(tmp_path / "vmlinuz", own_root())
