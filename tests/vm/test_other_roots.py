"""Roots of other systems, with an init of their own and no preinit: the same loop device, overlay and record.

LIVEBUILDER_DEBIAN_ROOTFS may name an archive that debootstrap or mmdebstrap made, with sysvinit-core in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from livebuilder.cache import Cache, cache_root
from livebuilder.sources.image import root_from_image
from livebuilder.vm.machine import Stick
from tests.support.boots import booting, observe, power_off
from tests.support.builds import BuiltImage, run_command
from tests.support.debian_root import CONSOLE, debian_root
from tests.support.openwrt import busybox_root, write_archive
from tests.support.sticks import read_file, stick_image

pytestmark = [pytest.mark.vm, pytest.mark.network]


def build(archive: Path, folder: Path, *settings: str) -> BuiltImage:
    common = ("root.source=archive", f"root.path={archive}", "modules.features=['usb-storage']",
              "output.compression=gzip")  # fmt: skip
    words = [word for setting in (*common, *settings) for word in ("--set", setting)]
    outcome = run_command("build", "-o", folder, *words, timeout_seconds=900)
    assert outcome.status == 0, outcome.stderr
    return BuiltImage(folder)


ROM = {"ext2": "/dev/root /rom ext", "squashfs": "overlay /rom overlay ro,"}


def two_days(images: Sequence[BuiltImage], folder: Path, *, machine: str) -> tuple[str, str]:
    """A file made on the first day is there on the second; what process 1 is, and the processor the kernel is for."""
    stick = stick_image(folder / "stick.img")
    for day, image in enumerate(images, 1):
        with booting(image, machine=machine, sticks=[Stick(stick)], log=folder / f"{day}.log") as session:
            boot, shell = observe(session)
            root = boot.record.root
            assert (root.mode, root.device) == (image.manifest["root"]["mode"], "/dev/loop7")
            assert boot.record.storage.state == "persistent"
            mounts = shell.run("cat /proc/mounts").output
            assert re.search(r"^overlayfs:/overlay / overlay ", mounts, re.MULTILINE)
            assert re.search(rf"^{ROM[root.mode]}", mounts, re.MULTILINE)
            assert re.search(r"^/dev/sda1 /overlay ext4 ", mounts, re.MULTILINE)
            said = shell.run("tr '\\0' ' ' </proc/1/cmdline; uname -m; ls /rom/etc/kept; cat /etc/kept").output
            if day == 1:
                assert shell.run("echo kept >/etc/kept; sync").status == 0
                power_off(session)
    assert "No such file" in said and said.endswith("kept\n")
    assert read_file(stick, "upper/etc/kept") == b"kept\n"
    first, processor = said.splitlines()[0].rsplit(maxsplit=1)
    return first, processor


def test_a_debian_with_sysvinit(tmp_path: Path) -> None:
    given = os.environ.get("LIVEBUILDER_DEBIAN_ROOTFS")
    archive = Path(given).absolute() if given else write_archive(debian_root(), tmp_path / "debian.tar.gz")
    inittab = root_from_image(archive, cache=Cache(cache_root())).tree["etc/inittab"].content.read()
    (tmp_path / "files/etc").mkdir(parents=True)
    (tmp_path / "files/etc/inittab").write_bytes(inittab + CONSOLE.encode())
    image = build(archive, tmp_path / "out", f"root.files={tmp_path / 'files'}")
    first, _ = two_days([image, image], tmp_path, machine="pc-modern" if given else "pc-2000")
    assert first.startswith("init [2]")


def test_busybox_on_a_64_bit_processor_as_ext2_and_then_as_squashfs(tmp_path: Path) -> None:
    archive = write_archive(busybox_root("amd64"), tmp_path / "root.tar.gz")
    images = [
        build(archive, tmp_path / mode, "kernel.flavour=amd64", f"root.mode={mode}") for mode in ("ext2", "squashfs")
    ]
    for image in images:
        assert {package["architecture"] for package in image.manifest["packages"]} == {"amd64"}
    assert two_days(images, tmp_path, machine="pc-modern") == ("init", "x86_64")
