"""The root is built on kernels and in memories that make it hard, and where it cannot be, a person is told why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livebuilder.sizes import MIB
from livebuilder.vm.machine import Stick
from livebuilder.vm.shell import GuestShell
from tests.support.boots import RESCUE_PROMPT, SECONDS, booting, observe, power_off
from tests.support.builds import BuiltImage
from tests.support.kernel_patch import kernel_without_devtmpfs
from tests.support.linked_in import kernel_with
from tests.support.sticks import ext4_state, read_file, stick_image
from tests.vm.conftest import build_small

pytestmark = pytest.mark.vm


def test_without_devtmpfs_there_is_a_dev_all_the_same(small_image: BuiltImage, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(kernel_without_devtmpfs(small_image.kernel.read_bytes()))
    stick = stick_image(tmp_path / "stick.img")
    with booting(small_image, kernel=kernel, sticks=[Stick(stick)], log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        assert not re.search(r"\bdevtmpfs\b", shell.run("cat /proc/filesystems").output), "the kernel still has it"
        dev = shell.run("grep ' /dev ' /proc/mounts; ls /dev").output
        power_off(session)
    assert "the kernel has no devtmpfs" in boot.steps
    assert (boot.record.root.mode, boot.record.root.device) == ("ext2", "/dev/loop7")
    assert (boot.record.storage.state, boot.record.storage.device) == ("persistent", "/dev/sda1")
    assert "dev /dev tmpfs" in dev
    assert {"console", "kmsg", "null", "loop7", "sda1", "tty1", "ttyS0", "urandom"} <= set(dev.split())
    assert "Settings are kept on /dev/sda1" in boot.login


def test_loop_devices_and_ext4_may_be_linked_into_the_kernel(tmp_path: Path) -> None:
    features = ["base", "extroot", "console", "usb-storage"]
    kernel = kernel_with(["loop", "ext4"], features=features, folder=tmp_path / "kernel")
    build_small(
        tmp_path / "image", "kernel.source=files", f"kernel.image={kernel.image}", f"kernel.modules={kernel.modules}",
        'modules.features=["usb-storage"]',
    )  # fmt: skip
    image = BuiltImage(tmp_path / "image")
    with image.initramfs.open("ab") as stream:
        stream.write(kernel.archive)
    stick = stick_image(tmp_path / "stick.img")
    with booting(image, kernel.rdinit, sticks=[Stick(stick)], log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        files = shell.run("find /lib/modules -name '*.ko'").output
        power_off(session)
    there = {Path(line).stem.replace("-", "_") for line in files.splitlines()}
    assert {"loop", "ext4", "jbd2"} <= set(kernel.names), "what the kernel is to have without a file"
    assert "overlay" in there and not there & set(kernel.names)
    assert (boot.record.root.mode, boot.record.root.device, boot.record.root.attempts) == ("ext2", "/dev/loop7", 1)
    assert (boot.record.storage.state, boot.record.storage.fstype) == ("persistent", "ext4")
    assert boot.record.warnings == []


def test_without_loop_devices_the_root_is_a_tmpfs_and_the_stick_is_used(
    small_image: BuiltImage, tmp_path: Path
) -> None:
    stick = stick_image(tmp_path / "stick.img")
    words = "module_blacklist=loop"
    with booting(small_image, words, sticks=[Stick(stick)], log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        lower = shell.run("grep ' /rom ' /proc/mounts").output
        assert shell.run("echo kept > /etc/config/kept").status == 0
        power_off(session)
    root = boot.record.root
    assert (root.mode, root.device, root.uuid, root.attempts) == ("tmpfs", "tmpfs", None, 2)
    assert root.reason and "losetup /dev/loop7 failed" in root.reason
    assert boot.summary.startswith("root=tmpfs storage=persistent device=/dev/sda1 label=rootfs_data ")
    assert lower.split()[2] == "tmpfs"
    assert read_file(stick, "upper/etc/config/kept") == b"kept\n"
    assert ext4_state(stick).unmounted


def test_a_profile_may_ask_for_a_tmpfs(tmp_path: Path) -> None:
    build_small(tmp_path / "image", "root.mode=tmpfs")
    with booting(BuiltImage(tmp_path / "image"), "lb.storage=off", log=tmp_path / "boot.log") as session:
        boot, shell = observe(session)
        mounts = shell.run("cat /proc/mounts").output
        assert not shell.run("lsmod | grep '^loop'").output, "nobody needs it"
    root = boot.record.root
    assert (root.mode, root.device, root.uuid, root.reason, root.attempts) == ("tmpfs", "tmpfs", None, None, 1)
    assert re.search(r"^\S+ / tmpfs rw", mounts, re.MULTILINE)
    assert 0 < root.used_bytes < root.size_bytes


def test_an_image_that_memory_cannot_hold_is_not_begun(tmp_path: Path) -> None:
    """The tree would fit, the free space that the profile asks for would not: the tmpfs has the tree."""
    build_small(tmp_path / "image", "root.free=96M")
    with booting(
        BuiltImage(tmp_path / "image"), "lb.storage=off", memory_bytes=80 * MIB, log=tmp_path / "boot.log"
    ) as session:
        boot, _ = observe(session)
    root = boot.record.root
    assert (root.mode, root.device) == ("tmpfs", "tmpfs")
    found = re.search(r"not enough memory[^:]*: need (\d+) KiB, have (\d+) KiB", root.reason or "")
    assert found, root.reason
    assert int(found[1]) > 96 * 1024 and int(found[2]) < 80 * 1024
    assert "not enough memory" in boot.steps
    assert "Out of memory" not in boot.text


def test_too_little_memory_for_any_root_ends_in_a_shell_that_says_so(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "large").write_bytes(bytes(128 * MIB))
    build_small(tmp_path / "image", f"root.files={files}")
    with booting(BuiltImage(tmp_path / "image"), memory_bytes=96 * MIB, log=tmp_path / "boot.log") as session:
        said = session.wait_for(r"livebuilder: cannot go on: (.*)\n", timeout_seconds=SECONDS)[1]
        session.wait_for(RESCUE_PROMPT, timeout_seconds=SECONDS)
        available = GuestShell(session).run("grep MemAvailable /proc/meminfo").output
        assert "cannot go on" in session.screen_text(), "the monitor shows it as well"
    found = re.findall(r"not enough memory[^:]*: need (\d+) KiB, have (\d+) KiB", said)
    assert len(found) == 2, f"ext2 and tmpfs: {said}"
    assert all(int(need) > 128 * 1024 and int(have) < 96 * 1024 for need, have in found)
    # Nothing was taken before it was counted: what there was is still there.
    assert int(available.split()[1]) > int(found[-1][1]) - 4096
    assert "panic" not in session.text and "Out of memory" not in session.text
