"""Whose system an image is, and what the files of its build are called by that.

OpenWrt's names begin with DIST-[VERSION-][EXTRA-]x86-SUBTARGET-PROFILE and go on with what the file is
(include/image.mk of OpenWrt: IMG_PREFIX, IMAGE_PREFIX, KERNEL_IMAGE and the artifact image.iso). Short names are for
roots that are no OpenWrt: NAME.iso, vmlinuz, initramfs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from livebuilder import __version__
from livebuilder.kernel.image import Kernel, is_64_bit
from livebuilder.openwrt.release import Release
from livebuilder.tree import Kind, RootTree

BOARD = "x86"
_OS_RELEASE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Identity:
    """Whose system a root is: `OpenWrt`, `23.05.5`, `r24106-10cc5fcd00`, for `generic`, packages for `i386_pentium4`.

    `version` and `revision` may be empty.
    """

    distribution: str
    version: str
    revision: str
    subtarget: str
    architecture: str

    @property
    def target(self) -> str:
        """As in `x86/generic`."""
        return f"{BOARD}/{self.subtarget}"


@dataclass(frozen=True)
class OutputNames:
    """What the files of a build are called, and the folder below the output folder that they are in (may be empty)."""

    prefix: str
    folder: str
    kernel: str
    initramfs: str
    iso: str
    packages: str


def identify(root: RootTree, kernel: Kernel, *, release: Release | None, version: str = "") -> Identity:
    """Whose system `root` is: `release` when it is an OpenWrt, else what its os-release(5) says, else our own.

    `version` is the user's word for it and comes first. What the root does not say of the PC is asked of the kernel.
    """
    subtarget, architecture = ("64", "x86_64") if is_64_bit(kernel) else ("generic", "i386")
    if release is not None:
        board, _, made_for = release.target.partition("/")
        return Identity(
            release.distribution,
            version or release.version,
            release.revision,
            made_for if board == BOARD and made_for else subtarget,
            release.architecture or architecture,
        )
    said = _os_release(root)
    built_by = f"livebuilder-{__version__}"
    if said.get("ID"):
        return Identity(
            said["ID"], version or said.get("VERSION_ID", ""), said.get("BUILD_ID") or built_by, subtarget, architecture
        )
    return Identity("livebuilder", version or __version__, built_by, subtarget, architecture)


def openwrt_names(identity: Identity, *, name: str, extra: str = "", nested: bool = False) -> OutputNames:
    """The names OpenWrt's own build would give; `name` is the profile's. With `nested` in its folders too."""
    words = (identity.distribution, identity.version, extra, BOARD, identity.subtarget)
    prefix = "-".join([*filter(None, map(sanitized, words)), name])
    return OutputNames(
        prefix=prefix,
        folder=f"bin/targets/{BOARD}/{sanitized(identity.subtarget)}" if nested else "",
        kernel=f"{prefix}-kernel.bin",
        initramfs=f"{prefix}-initramfs.bin",
        iso=f"{prefix}-image.iso",
        packages=f"{prefix}.manifest",
    )


def short_names(*, name: str, extra: str = "") -> OutputNames:
    """The names of a build whose root is no OpenWrt."""
    prefix = "-".join(filter(None, [name, sanitized(extra)]))
    return OutputNames(prefix, "", "vmlinuz", "initramfs", f"{prefix}.iso", f"{prefix}.manifest")


def sanitized(word: str) -> str:
    """A part of a name as OpenWrt writes it (include/image.mk, sanitize): small letters, no underscores.

    A root may call itself anything, so whatever could not stand in a file name of OpenWrt's becomes a hyphen too.
    """
    return re.sub(r"[^a-z0-9.+~]+", "-", word.lower()).strip("-.")


def _os_release(root: RootTree) -> Mapping[str, str]:
    """The assignments of the root's os-release(5); none of them when it has no such file, or no sound one."""
    for path in ("etc/os-release", "usr/lib/os-release"):
        entry = root.resolve(path)
        if entry is None or entry.kind not in (Kind.FILE, Kind.HARDLINK):
            continue
        content = root.content_of(entry)
        if content.size > _OS_RELEASE_BYTES:
            continue
        try:
            words = shlex.split(content.read().decode(), comments=True)
        except ValueError:  # not UTF-8, or a quotation without an end
            continue
        return dict(word.split("=", 1) for word in words if "=" in word)
    return {}
