"""An OpenWrt root made ready for the disc: pure, a tree in, a tree and the list of changes out."""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Collection
from dataclasses import dataclass

from livebuilder.assets import asset
from livebuilder.openwrt.change import Change, Changed, ChangeKind
from livebuilder.openwrt.eras import Era, FstabStyle, OverlayBy
from livebuilder.openwrt.fstab import PATH as FSTAB_PATH
from livebuilder.openwrt.fstab import add_extroot, find_extroot
from livebuilder.openwrt.modules import without_modules
from livebuilder.openwrt.ownership import repair_devices, repair_modes, repair_owners
from livebuilder.openwrt.services import service_links
from livebuilder.tree import Kind, RootTree, file, symlink

HOOK_PATH = "lib/preinit/75_mount_extroot"
# 10.03.1 and 12.09 make a random one, which with a root that is made anew at every boot never matches the stick's.
MD5_STAMP_PATH = ".extroot.md5sum"
TABLES_PATH = "etc/init.d/livebuilder-iptables"
BANNER_PATH = "etc/banner"
_SOURCE = "livebuilder"


@dataclass(frozen=True)
class PreparedRoot:
    """The root as it travels, what of it we wrote (`generated`, already in `root`), and what was done."""

    root: RootTree
    generated: RootTree
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]


def prepare_root(
    root: RootTree, *, era: Era, label: str, uuid: str, keep: Collection[ChangeKind] = (), foreign_kernel: bool = True
) -> PreparedRoot:
    """`root` made ready for a boot by /init: what is in `keep` is left as it is.

    `label` is the stick's, `uuid` that of the root's file system. With a `foreign_kernel` the root's own modules leave.
    """
    generated = RootTree()

    def hook(tree: RootTree) -> Changed:
        return _add_hook(tree, generated, uuid=uuid)

    def tables(tree: RootTree) -> Changed:
        return _add_tables(tree, generated)

    steps: list[tuple[ChangeKind, Callable[[RootTree], Changed]]] = [
        (ChangeKind.OWNERS, repair_owners),
        (ChangeKind.MODES, repair_modes),
        (ChangeKind.DEVICES, repair_devices),
        (ChangeKind.FSTAB, lambda tree: add_extroot(tree, era=era, label=label)),
        (ChangeKind.BANNER, _use_banner),
    ]
    if foreign_kernel:
        steps += [(ChangeKind.MODULES, without_modules), (ChangeKind.FIREWALL, tables)]
    if era.overlay_by is OverlayBy.HOOK:
        steps.append((ChangeKind.PREINIT, hook))
    changes: list[Change] = []
    for kind, step in steps:
        if kind not in keep:
            root, done = step(root)
            changes += done
    return PreparedRoot(root, generated, tuple(changes), tuple(_warnings(root, changes, era)))


def _add_hook(root: RootTree, generated: RootTree, *, uuid: str) -> Changed:
    hook = asset("initramfs/preinit/75_mount_extroot").read_bytes()
    stamp = hashlib.md5(uuid.encode(), usedforsecurity=False).hexdigest()
    generated.add(file(HOOK_PATH, hook, source=_SOURCE))
    generated.add(file(MD5_STAMP_PATH, f"{stamp}\n", source=_SOURCE))
    changed = RootTree(root)
    changed.overlay(generated)
    return changed, (
        Change(ChangeKind.PREINIT, f"/{HOOK_PATH} lays the overlay in preinit"),
        Change(ChangeKind.PREINIT, f"/{MD5_STAMP_PATH} stays the same from boot to boot"),
    )


def _add_tables(root: RootTree, generated: RootTree) -> Changed:
    """For fw3, which 14.07 to 21.02 have; later /sbin/fw3 is a link to fw4, which has no use for such tables."""
    fw3 = root.resolve("sbin/fw3")
    if fw3 is None or fw3.kind is not Kind.FILE or fw3.path != "sbin/fw3":
        return root, ()
    script = asset("initramfs/openwrt/iptables").read_text()
    service = RootTree([file(TABLES_PATH, script, mode=0o755, source=_SOURCE)])
    for path, target in (service_links(posixpath.basename(TABLES_PATH), script) or {}).items():
        service.add(symlink(path, target, source=_SOURCE))
    generated.overlay(service)
    changed = RootTree(root)
    changed.overlay(service)
    return changed, (Change(ChangeKind.FIREWALL, f"/{TABLES_PATH} has iptables' tables made before fw3 fills them"),)


def _use_banner(root: RootTree) -> Changed:
    """/etc/profile of every era shows /etc/banner at login."""
    entry = root.resolve(BANNER_PATH)
    if entry is None or entry.kind is not Kind.FILE:
        return root, ()
    return root, (Change(ChangeKind.BANNER, f"/{BANNER_PATH} will say so in a boot that keeps no settings"),)


def _warnings(root: RootTree, changes: list[Change], era: Era) -> list[str]:
    warnings = [change.text for change in changes if change.kind is ChangeKind.OWNERS]
    entry = root.get(FSTAB_PATH)
    if era.fstab is FstabStyle.BLOCK_OFF and entry is not None and entry.kind is Kind.FILE:
        found = find_extroot(entry.content.read().decode("utf-8", "replace"))
        if found and "enabled 1" in found:
            warnings.append(
                f"/{FSTAB_PATH} of the root enables OpenWrt's own extroot ({found}), which in {era.name} lays a second"
                " overlay over ours: set its option enabled to '0'"
            )
    return warnings
