"""The eras of OpenWrt: what each release wants of the system below it. docs/openwrt.md shows the same table.

Sources, by era: package/block-extroot and package/block-mount (10.03, 12.09), fstools (block.c, mount_root.c,
libfstools/), procd (initd/early.c), ubox (kmodloader.c), target/linux/x86/config-* and generic/config-*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from livebuilder.openwrt.release import Release

# Loop device 0 has the number of /dev/vcs, (7, 0), which fstools up to 23.05 takes for the root device.
LOOP_MINOR = 7
# kmodloader copies "NAME.ko" into 32 bytes and cuts it at ".ko"; a longer name is not found again.
_KMODLOADER_NAME_LIMIT = 29


class OverlayBy(StrEnum):
    """Who lays the overlay: /init before the root starts, or our hook in the root's own preinit."""

    INIT = "init"
    HOOK = "hook"


class FstabStyle(StrEnum):
    """How /etc/config/fstab says extroot: the keys of shell scripts, those of `block`, or those but switched off."""

    SHELL = "shell"
    BLOCK = "block"
    BLOCK_OFF = "block-off"


@dataclass(frozen=True)
class Era:
    """One era. `first` is the first (year, month) it holds for.

    `root_source` is the mount source that the root has in /proc/mounts, `overlay_fstype` what the era's own kernel
    calls its overlay, and `work_directory` whether that wants one. `stamps` are the files on a stick by which the
    era's own extroot knows it again. `boot_modules` is the folder of lists that are loaded in preinit, None
    where there is none. `name_limit` bounds a module's name. `kernel_config` holds the options of the era's own x86
    kernel that nobody can read out of it.
    """

    name: str
    first: tuple[int, int]
    overlay_by: OverlayBy
    root_source: str
    overlay_fstype: str
    work_directory: bool
    stamps: tuple[str, ...]
    fstab: FstabStyle
    boot_modules: str | None
    name_limit: int | None
    kernel_config: Mapping[str, str]
    cmdline: str = ""


def _built_in(*names: str) -> Mapping[str, str]:
    return MappingProxyType({f"CONFIG_{name}": "y" for name in names})


_LOOP = f"/dev/loop{LOOP_MINOR}"
# What every x86 kernel of OpenWrt has had linked in; an initramfs can be packed with gzip only.
_ALWAYS = (
    "BLK_DEV_INITRD", "RD_GZIP", "EXT4_FS", "SERIO_I8042", "KEYBOARD_ATKBD", "CRYPTO_CRC32C",
)  # fmt: skip
_SINCE_14_07 = (
    *_ALWAYS, "USB_STORAGE", "BLK_DEV_SD", "USB_EHCI_HCD", "USB_EHCI_PCI", "USB_OHCI_HCD", "USB_OHCI_HCD_PCI",
    "USB_UHCI_HCD", "ISO9660_FS", "BLK_DEV_SR", "ATA_PIIX", "SATA_AHCI",
)  # fmt: skip
_SINCE_15_05 = (*_SINCE_14_07, "OVERLAY_FS")
_SINCE_17_01 = (*_SINCE_15_05, "BLK_DEV_LOOP", "F2FS_FS", "SQUASHFS")
_SINCE_19_07 = (*_SINCE_17_01, "USB_XHCI_HCD", "USB_XHCI_PCI")
# mount_root would take, and first empty, a GPT partition named rootfs_data that /init left alone (fstools, partname.c).
_NOT_BY_NAME = "fstools_ignore_partname=1"

ERAS = (
    Era(
        "10.03", (0, 0), OverlayBy.HOOK, "/dev/root", "mini_fo", False, (),
        FstabStyle.SHELL, None, None, _built_in(*_ALWAYS),
    ),
    Era(
        "10.03.1, 12.09", (11, 0), OverlayBy.HOOK, "/dev/root", "overlayfs", False, ("etc/extroot.md5sum",),
        FstabStyle.SHELL, "etc/modules-boot.d", None, _built_in(*_ALWAYS),
    ),
    Era(
        "14.07", (14, 0), OverlayBy.INIT, _LOOP, "overlayfs", False, ("etc/.extroot-uuid",),
        FstabStyle.BLOCK, "etc/modules-boot.d", _KMODLOADER_NAME_LIMIT, _built_in(*_SINCE_14_07),
    ),
    Era(
        "15.05", (15, 0), OverlayBy.INIT, _LOOP, "overlay", True, ("etc/.extroot-uuid",),
        FstabStyle.BLOCK, "etc/modules-boot.d", _KMODLOADER_NAME_LIMIT, _built_in(*_SINCE_15_05),
    ),
    Era(
        "17.01, 18.06", (17, 0), OverlayBy.INIT, _LOOP, "overlay", True, ("etc/.extroot-uuid",),
        FstabStyle.BLOCK, "etc/modules-boot.d", _KMODLOADER_NAME_LIMIT, _built_in(*_SINCE_17_01),
    ),
    Era(
        "19.07, 21.02", (19, 0), OverlayBy.INIT, _LOOP, "overlay", True, ("etc/.extroot-uuid",),
        FstabStyle.BLOCK, "etc/modules-boot.d", _KMODLOADER_NAME_LIMIT, _built_in(*_SINCE_19_07),
    ),
    Era(
        "22.03, 23.05", (22, 0), OverlayBy.INIT, _LOOP, "overlay", True, ("etc/.extroot-uuid", ".fs_state"),
        FstabStyle.BLOCK, "etc/modules-boot.d", _KMODLOADER_NAME_LIMIT, _built_in(*_SINCE_19_07), _NOT_BY_NAME,
    ),
    # Its `block extroot` finds the root on /rom and would lay a second overlay over ours (fstools, block.c).
    Era(
        "24.10 and later", (24, 0), OverlayBy.INIT, _LOOP, "overlay", True, ("etc/.extroot-default", ".fs_state"),
        FstabStyle.BLOCK_OFF, "etc/modules-boot.d", _KMODLOADER_NAME_LIMIT, _built_in(*_SINCE_19_07), _NOT_BY_NAME,
    ),
)  # fmt: skip


def find_era(release: Release) -> Era | None:
    """The era of a release; None for one that has no number, or one that nobody has heard of yet."""
    numbers = release.numbers
    if numbers is None or numbers[0] > _NEWEST_KNOWN[0]:
        return None
    if release.version.startswith("10.03.") and release.version[6:7].isdigit():
        return ERAS[1]
    return next(era for era in reversed(ERAS) if numbers >= era.first)


# The last release this table was made for; a later one is treated as the newest era, and said so.
_NEWEST_KNOWN = (25, 12)
NEWEST = ERAS[-1]


def era_of(release: Release) -> tuple[Era, str | None]:
    """The era of a release, and a warning where it is only the likeliest one."""
    era = find_era(release)
    if era is not None:
        return era, None
    return NEWEST, (f"{release} is a release that livebuilder does not know; it is treated as OpenWrt {NEWEST.name}")


def render_table() -> str:
    """The table of docs/openwrt.md, in Markdown."""
    heads = (
        "release",
        "overlay by",
        "root mounted from",
        "own kernel's overlay",
        "stamps on the stick",
        "fstab",
        "preinit modules",
    )
    rows = [
        (
            era.name,
            {"init": "`/init`", "hook": "hook in preinit"}[era.overlay_by],
            f"`{era.root_source}`",
            f"`{era.overlay_fstype}`{'' if era.work_directory else ', no work folder'}",
            ", ".join(f"`{stamp}`" for stamp in era.stamps) or "none",
            {"shell": "`enabled_fsck`", "block": "`check_fs`", "block-off": "`check_fs`, not enabled"}[era.fstab],
            f"`/{era.boot_modules}`" if era.boot_modules else "none",
            f"`{era.cmdline}`" if era.cmdline else "nothing",
        )
        for era in ERAS
    ]  # fmt: skip
    return "".join(f"| {' | '.join(row)} |\n" for row in (heads, ("---",) * len(heads), *rows))
