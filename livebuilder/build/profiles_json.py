"""profiles.json: what a build made, in the form that OpenWrt's tools read.

The form is that of OpenWrt's scripts/json_add_image_info.py and scripts/json_overview_image_info.py, metadata version
1: one line, keys sorted. Where OpenWrt has the device of a router we have a profile; images that OpenWrt builds per
file system say which, all others do not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import NotRequired, TypedDict

from livebuilder.build.naming import Identity, OutputNames

METADATA_VERSION = 1
# The version of OpenWrt's package "kernel": 5.15.167-1-MD5 up to 23.05, 6.6.73~MD5-r1 from 24.10 on.
_KERNEL_PACKAGE = re.compile(
    r"(?P<version>\d[\d.]*)(?:-(?P<old>\d+)-(?P<md5>[0-9a-f]{32})|~(?P<hash>[0-9a-f]{32})-r(?P<new>\d+))"
)


class Image(TypedDict):
    """A file to boot from, or a part of it; `sha256_unsigned` is that before a signature was appended to it."""

    filesystem: NotRequired[str]
    name: str
    sha256: str
    sha256_unsigned: str
    type: str


class Title(TypedDict):
    """What people call it."""

    vendor: str
    model: str


class DeviceProfile(TypedDict):
    """What was built of one profile."""

    device_packages: list[str]
    image_prefix: str
    images: list[Image]
    supported_devices: list[str]
    titles: list[Title]


class LinuxKernel(TypedDict):
    """Which of OpenWrt's kernels it is, so that modules can be found that fit it."""

    release: str
    vermagic: str
    version: str


class ProfilesJson(TypedDict):
    """The whole file. `source_date_epoch` in seconds since 1970."""

    arch_packages: str
    default_packages: list[str]
    linux_kernel: NotRequired[LinuxKernel]
    metadata_version: int
    profiles: dict[str, DeviceProfile]
    source_date_epoch: int
    target: str
    version_code: str
    version_number: str


def profiles_json(
    identity: Identity,
    *,
    profile: str,
    names: OutputNames,
    sha256: Mapping[str, str],
    installed: Mapping[str, str],
    requested: Sequence[str],
    kernel_release: str,
    epoch: int,
) -> ProfilesJson:
    """What the build of the profile called `profile` made; `sha256` has the sums of its files by their names.

    `installed` are the packages of the root with their versions, `requested` those the profile asked for.
    """
    images = [
        _image(names.kernel, "kernel", sha256),
        _image(names.initramfs, "initramfs", sha256, filesystem="initramfs"),
        _image(names.iso, "image.iso", sha256),
    ]
    whole: ProfilesJson = {
        "arch_packages": identity.architecture,
        "default_packages": sorted(installed.keys() - set(requested)),
        "metadata_version": METADATA_VERSION,
        "profiles": {
            profile: {
                "device_packages": list(requested),
                "image_prefix": names.prefix,
                "images": images,
                "supported_devices": [],
                "titles": [{"vendor": "livebuilder", "model": profile}],
            }
        },
        "source_date_epoch": epoch,
        "target": identity.target,
        "version_code": identity.revision,
        "version_number": identity.version,
    }
    if (kernel := linux_kernel(installed, release=kernel_release)) is not None:
        whole["linux_kernel"] = kernel
    return whole


def linux_kernel(installed: Mapping[str, str], *, release: str) -> LinuxKernel | None:
    """The kernel package of an OpenWrt; None when the kernel that boots, `release`, is another one."""
    match = _KERNEL_PACKAGE.fullmatch(installed.get("kernel", ""))
    if match is None or match["version"] != release:
        return None
    return {
        "release": match["old"] or match["new"],
        "vermagic": match["md5"] or match["hash"],
        "version": match["version"],
    }


def render_profiles_json(whole: ProfilesJson) -> str:
    """The text of the file, byte for byte as Python's json writes it for OpenWrt: no blanks, no end of line."""
    return json.dumps(whole, sort_keys=True, separators=(",", ":"))


def _image(name: str, kind: str, sha256: Mapping[str, str], *, filesystem: str = "") -> Image:
    image: Image = {"name": name, "sha256": sha256[name], "sha256_unsigned": sha256[name], "type": kind}
    if filesystem:
        image["filesystem"] = filesystem
    return image
