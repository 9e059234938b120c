"""A squashfs for a root, on the memory it is for: what is set is kept, and everything is there as it was packed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from livebuilder.sizes import MIB
from livebuilder.vm.machine import Stick
from tests.support.boots import booting, observe, power_off
from tests.support.builds import BuiltImage
from tests.support.sticks import ext4_state, list_folder, read_file, stick_image
from tests.vm.conftest import build_small

pytestmark = pytest.mark.vm

_MOUNTS = r"""
/dev/sda1 /overlay ext4 rw,noatime .*
overlayfs:/overlay / overlay rw,noatime,lowerdir=/recordlayer:/newroot,upperdir=/stick/upper,workdir=/stick/work .*
overlay /rom overlay ro,.*
"""


def test_two_boots_of_a_squashfs_on_64_mb(tmp_path: Path) -> None:
    data = bytes(n * 7 % 251 for n in range(600_000))
    files = tmp_path / "files"
    for name, content, mode in (("srv/my dir/data", data, 0o640), ("srv/set", b"", 0o6755), ("root/key", b"k", 0o600)):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_bytes(content)
        (files / name).chmod(mode)
    (files / "root").chmod(0o700)
    owners = '{"/srv/my dir" = "1000:70000"}'
    build_small(tmp_path / "image", "root.mode=squashfs", f"root.files={files}", f"root.owners={owners}")
    image = BuiltImage(tmp_path / "image")
    stick = stick_image(tmp_path / "stick.img", table="dos")

    with booting(image, sticks=[Stick(stick)], memory_bytes=64 * MIB, log=tmp_path / "first.log") as session:
        boot, shell = observe(session)
        mounts = shell.run("grep -E ' (/|/rom|/overlay) ' /proc/mounts").output
        seen = shell.run("cd /; stat -c '%A %u:%g %n' 'srv/my dir' 'srv/my dir/data' srv/set root root/key dev").output
        digest = shell.run("sha256sum '/rom/srv/my dir/data'").output.split()[0]
        loop = shell.run("cat /sys/block/loop7/ro /sys/block/loop7/loop/backing_file").output.split()
        device = shell.run("stat -c %d /rom").output.strip()
        assert shell.run("echo kept >/etc/config/kept && rm /srv/set && chmod 600 '/srv/my dir/data'").status == 0
        power_off(session)
    root = boot.record.root
    assert (root.mode, root.device, root.uuid, root.attempts, root.reason) == ("squashfs", "/dev/loop7", None, 1, None)
    assert root.size_bytes == image.manifest["root"]["image_bytes"] and 0 < root.used_bytes < root.size_bytes
    assert boot.summary.startswith("root=squashfs storage=persistent device=/dev/sda1 label=rootfs_data ")
    assert boot.record.memory.needed_kib < boot.record.memory.available_kib < 40 * 1024
    assert boot.record.warnings == []
    assert re.fullmatch(_MOUNTS.strip(), mounts.strip()), mounts
    # OpenWrt's mount_root would lay an overlay in memory over ours if it found the squashfs by the device of /rom.
    assert int(device) < 256, "no block device has major number 0"
    assert seen.splitlines() == [
        "drwxr-xr-x 1000:70000 srv/my dir", "-rw-r----- 1000:70000 srv/my dir/data", "-rwsr-sr-x 0:0 srv/set",
        "drwx------ 0:0 root", "-rw------- 0:0 root/key", "drwxr-xr-x 0:0 dev",
    ]  # fmt: skip
    assert digest == hashlib.sha256(data).hexdigest()
    assert loop[0] == "1", "nobody writes into the image"
    assert "Settings are kept on /dev/sda1" in boot.login

    with booting(image, sticks=[Stick(stick)], memory_bytes=64 * MIB, log=tmp_path / "second.log") as session:
        boot, shell = observe(session)
        again = shell.run("cat /etc/config/kept; ls /srv; stat -c %a '/srv/my dir/data' '/rom/srv/my dir/data'").output
        power_off(session)
    assert boot.record.storage.state == "persistent"
    assert again.split("\n")[:5] == ["kept", "my dir", "600", "640", ""]
    assert ext4_state(stick).unmounted
    assert read_file(stick, "upper/etc/config/kept") == b"kept\n"
    assert "boot.json" not in list_folder(stick, "upper/etc/livebuilder")
