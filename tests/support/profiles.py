"""profiles.json as OpenWrt publishes it: made up, with the keys and types of real ones.

They are of our type for it, so that mypy refuses one that a real file would not fit.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from livebuilder.build.profiles_json import Image, ProfilesJson


def _image(name: str, kind: str, filesystem: str, digit: str) -> Image:
    return {
        "filesystem": filesystem,
        "name": name,
        "sha256": digit * 64,
        "sha256_unsigned": digit * 64,
        "type": kind,
    }


# A release as 23.05 has them: openwrt/asu keeps one in its tests, tests/upstream/releases/23.05.5/targets/x86/64.
RELEASE: ProfilesJson = {
    "arch_packages": "i386_pentium4",
    "default_packages": ["base-files", "busybox", "dropbear"],
    "metadata_version": 1,
    "profiles": {
        "generic": {
            "device_packages": ["kmod-e1000", "kmod-r8169"],
            "image_prefix": "openwrt-23.05.9-x86-generic-generic",
            "images": [
                _image("openwrt-23.05.9-x86-generic-generic-ext4-combined.img.gz", "combined", "ext4", "a"),
                _image("openwrt-23.05.9-x86-generic-generic-squashfs-rootfs.img.gz", "rootfs", "squashfs", "b"),
            ],
            "supported_devices": [],
            "titles": [{"model": "x86/generic", "vendor": "Generic"}],
        }
    },
    "source_date_epoch": 1_700_000_000,
    "target": "x86/generic",
    "version_code": "r99999-0123456789",
    "version_number": "23.05.9",
}
# What later ones add.
SNAPSHOT: ProfilesJson = {
    **RELEASE,
    "linux_kernel": {"release": "1", "vermagic": "0123456789abcdef" * 2, "version": "6.6.1"},
    "profiles": {
        "one_board": {
            "device_packages": ["kmod-usb2"],
            "image_prefix": "openwrt-some-target-one_board",
            "images": [_image("openwrt-some-target-one_board-initramfs-kernel.bin", "kernel", "initramfs", "c")],
            "supported_devices": ["one,board"],
            "titles": [{"model": "Board", "vendor": "One"}],
        }
    },
    "target": "some/target",
    "version_number": "SNAPSHOT",
}


def anonymous(whole: Mapping[str, Any]) -> dict[str, Any]:
    """The same with its one profile called NAME, as docs/json.md calls it."""
    (profile,) = whole["profiles"].values()
    return {**whole, "profiles": {"NAME": profile}}
