"""profiles.json: what OpenWrt's tools read, with the keys and types that OpenWrt writes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from livebuilder.build.naming import Identity, openwrt_names
from livebuilder.build.profiles_json import ProfilesJson, linux_kernel, profiles_json, render_profiles_json
from tests.support.documents import keys_of
from tests.support.profiles import RELEASE, SNAPSHOT, anonymous

IDENTITY = Identity("OpenWrt", "23.05.5", "r24106-10cc5fcd00", "generic", "i386_pentium4")
NAMES = openwrt_names(IDENTITY, name="attic-pc")
SUMS = {NAMES.kernel: "1" * 64, NAMES.initramfs: "2" * 64, NAMES.iso: "3" * 64}
MD5 = "8d8ba0f47a2b1d3c3a2a37a8f7c8a4a0"
INSTALLED = {"busybox": "1.36.1-1", "base-files": "1-r2", "kernel": f"5.15.167-1-{MD5}", "block-mount": "1-2"}


def made(**changes: Any) -> ProfilesJson:
    facts = {
        "profile": "attic-pc", "names": NAMES, "sha256": SUMS, "installed": INSTALLED, "requested": ("block-mount",),
        "kernel_release": "6.1.0-50-686", "epoch": 1_727_094_886,
    }  # fmt: skip
    return profiles_json(IDENTITY, **{**facts, **changes})


def keys(whole: object) -> set[tuple[str, str]]:
    """Every key with its type, however the one profile is called."""
    return set(keys_of(anonymous(json.loads(json.dumps(whole))), opaque=set()))


def test_it_has_the_keys_and_types_of_openwrt_s() -> None:
    assert keys(made()) == keys(RELEASE)
    assert keys(made(kernel_release="5.15.167")) ^ keys(SNAPSHOT) == {
        ("profiles.NAME.supported_devices[]", "nothing"), ("profiles.NAME.supported_devices[]", "string"),
    }  # fmt: skip


def test_what_it_says() -> None:
    whole = made()
    profile = whole["profiles"]["attic-pc"]
    assert profile["image_prefix"] == "openwrt-23.05.5-x86-generic-attic-pc"
    assert [(image["type"], image["name"], image["sha256"]) for image in profile["images"]] == [
        ("kernel", "openwrt-23.05.5-x86-generic-attic-pc-kernel.bin", "1" * 64),
        ("initramfs", "openwrt-23.05.5-x86-generic-attic-pc-initramfs.bin", "2" * 64),
        ("image.iso", "openwrt-23.05.5-x86-generic-attic-pc-image.iso", "3" * 64),
    ]
    assert [image.get("filesystem") for image in profile["images"]] == [None, "initramfs", None]
    assert all(image["sha256"] == image["sha256_unsigned"] for image in profile["images"])
    assert whole["default_packages"] == ["base-files", "busybox", "kernel"]
    assert profile["device_packages"] == ["block-mount"]
    assert (whole["target"], whole["version_number"], whole["version_code"], whole["arch_packages"]) == (
        "x86/generic", "23.05.5", "r24106-10cc5fcd00", "i386_pentium4",
    )  # fmt: skip
    assert (whole["metadata_version"], whole["source_date_epoch"]) == (1, 1_727_094_886)


def test_the_text_is_one_line_in_openwrt_s_order() -> None:
    text = render_profiles_json(made())
    assert json.loads(text) == made()
    assert "\n" not in text and '": ' not in text and '", ' not in text
    order = [text.index(f'"{key}"') for key in sorted(made())]
    assert order == sorted(order)


@pytest.mark.parametrize(
    ("package", "release", "found"),
    [
        (f"5.15.167-1-{MD5}", "5.15.167", {"release": "1", "vermagic": MD5, "version": "5.15.167"}),
        (f"6.6.73~{MD5}-r2", "6.6.73", {"release": "2", "vermagic": MD5, "version": "6.6.73"}),
        (f"5.15.167-1-{MD5}", "6.1.0-50-686", None),
        (f"5.15.167-1-{MD5}", "5.15.16", None),
        ("2.6.32.10-1", "2.6.32.10", None),
        ("", "", None),
    ],
)
def test_modules_of_openwrt_s_are_named_for_openwrt_s_kernel_only(
    package: str, release: str, found: object
) -> None:  # fmt: skip
    assert linux_kernel({"kernel": package} if package else {}, release=release) == found
