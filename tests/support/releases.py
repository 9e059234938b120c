"""Releases as OpenWrt publishes them, of the old layout and the new, signed by keys of the tests."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.signing import UsignPair
from tests.support.web import Site

RELEASE_KEY, OTHER_KEY = UsignPair.of("release"), UsignPair.of("other")


@dataclass(frozen=True)
class Published:
    """A release on a site: the folder it is in and its files by name."""

    folder: str
    files: Mapping[str, bytes]

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def on(self, site: Site, *, key: UsignPair | None = RELEASE_KEY) -> Published:
        """Put it on a site, with its list of hashes, signed."""
        site.files |= {self.path(name): data for name, data in self.files.items()}
        site.files[self.path("sha256sums")] = self.hashes
        if key:
            site.files[self.path("sha256sums.sig")] = key.sign(self.hashes)
        return self

    @property
    def hashes(self) -> bytes:
        rows = [f"{hashlib.sha256(data).hexdigest()} *{name}\n" for name, data in sorted(self.files.items())]
        return "".join(rows).encode()


def content(name: str, size: int = 3000) -> bytes:
    """Bytes of its own for a file."""
    return (hashlib.sha256(name.encode()).digest() * (size // 32 + 1))[:size]


def release(version: str = "23.05.5", target: str = "x86/64") -> Published:
    """The new layout (21.02 and later): profiles.json, kernel.bin, the root's archive without a profile in its name."""
    board = target.replace("/", "-")
    prefix = f"openwrt-{version}-{board}"
    names = [
        f"{prefix}-rootfs.tar.gz", f"{prefix}-generic-kernel.bin", f"{prefix}-generic-initramfs-kernel.bin",
        f"{prefix}-generic-ext4-combined.img.gz", f"{prefix}-generic-squashfs-rootfs.img.gz", f"{prefix}.manifest",
        f"openwrt-imagebuilder-{version}-{board}.Linux-x86_64.tar.xz", "config.buildinfo",
    ]  # fmt: skip
    profiles = {"metadata_version": 1, "target": target, "version_number": version, "profiles": {}}
    files = {name: content(name) for name in names} | {"profiles.json": json.dumps(profiles).encode()}
    return Published(f"releases/{version}/targets/{target}", files)


def old_release(version: str = "18.06.9", target: str = "x86/generic") -> Published:
    """The old layout (18.06, 19.07): no profiles.json, vmlinuz, the profile in the name of the root's archive."""
    prefix = f"openwrt-{version}-{target.replace('/', '-')}"
    names = [
        f"{prefix}-generic-rootfs.tar.gz", f"{prefix}-vmlinuz", f"{prefix}-combined-ext4.img.gz",
        f"{prefix}-rootfs-squashfs.img.gz", f"{prefix}.manifest", "config.seed",
    ]  # fmt: skip
    return Published(f"releases/{version}/targets/{target}", {name: content(name) for name in names})
