"""What a build does for an OpenWrt root: the decisions between its sources and its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from livebuilder.image.initramfs import root_uuid
from livebuilder.kernel.image import Kernel
from livebuilder.kernel.modinfo import module_name
from livebuilder.kernel.modules import ModuleIndex, module_tree
from livebuilder.openwrt.change import Change, ChangeKind
from livebuilder.openwrt.eras import Era
from livebuilder.openwrt.modules import (
    LINKED_IN,
    ForeignModules,
    flatten,
    loadable_names,
    module_layer,
    wanted_by_root,
)
from livebuilder.openwrt.packages import PackagesReport
from livebuilder.openwrt.release import Release
from livebuilder.openwrt.root import PreparedRoot, prepare_root
from livebuilder.profile import Profile
from livebuilder.sources.openwrt import OpenwrtRoot
from livebuilder.tree import RootTree

# What preinit may need: a stick put in later, a keyboard for failsafe. /init has loaded most of it by then.
_EARLY_FEATURES = ("base", "extroot", "usb-storage", "console")
# Loaded when they are mounted, or, a disk's controller, by /init, which asks the PCI bus which one there is.
_NOT_LISTED = ("f2fs", "btrfs", "cdrom")


@dataclass(frozen=True)
class OpenwrtPlan:
    """An OpenWrt root ready to travel. `modules` is the layer of kernel modules, `early_modules` what /init itself has.

    `changes` is all that was done to the root, in words; `added` the packages that were put into it before that.
    """

    release: Release
    era: Era
    prepared: PreparedRoot
    modules: RootTree
    early_modules: RootTree
    changes: tuple[Change, ...]
    warnings: tuple[str, ...]
    added: PackagesReport | None = None

    @property
    def uses_banner(self) -> bool:
        """Whether /init may write into the root's /etc/banner."""
        return any(change.kind is ChangeKind.BANNER for change in self.changes)

    @property
    def uses_fstab(self) -> bool:
        """Whether /etc/config/fstab speaks of the stick, and /init has to keep it true."""
        return any(change.kind is ChangeKind.FSTAB for change in self.changes)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the plan and in the manifest."""
        return {
            "release": self.release.to_json(),
            "era": self.era.name,
            "changes": [change.to_json() for change in self.changes],
            "packages": self.added.to_json() if self.added else None,
        }


def plan_openwrt(
    profile: Profile,
    root: OpenwrtRoot,
    kernel: Kernel,
    index: ModuleIndex,
    *,
    chosen: Sequence[str],
    base: Sequence[str],
) -> OpenwrtPlan:
    """Decide what becomes of the root and of the kernel's modules: `chosen` for the root, `base` for /init."""
    keep = profile.openwrt.keep
    foreign = not is_own_kernel(profile)
    prepared = prepare_root(
        root.tree, era=root.era, label=profile.storage.label, uuid=root_uuid(profile.name), keep=keep,
        foreign_kernel=foreign,
    )  # fmt: skip
    changes = (*root.changes, *prepared.changes)
    if ChangeKind.MODULES in keep:
        plain = module_tree(kernel, index, chosen), module_tree(kernel, index, base)
        return OpenwrtPlan(root.release, root.era, prepared, *plain, changes, prepared.warnings, root.added)
    limit = root.era.name_limit
    wanted = (*wanted_by_root(root.tree), *LINKED_IN) if foreign else ()
    found = {name: index.find(name) for name in wanted}
    more = [path for paths in found.values() for path in paths]
    tree, dropped = flatten(module_tree(kernel, index, [*chosen, *more]), kernel.release, name_limit=limit)
    early, _ = flatten(module_tree(kernel, index, base), kernel.release, name_limit=limit)
    warnings = [*prepared.warnings]
    if dropped:
        warnings.append(f"OpenWrt's kmodloader cannot hold the names of these modules, left out: {', '.join(dropped)}")
    if foreign:
        # No list of the root has these by the names they have here, and old ones of kmodloader know no aliases.
        unlisted = [
            module_name(path)
            for name, paths in found.items()
            for path in paths
            if name in LINKED_IN or module_name(path) != name
        ]
        tree, listed = module_layer(_foreign(profile, kernel, index, tree, unlisted), era=root.era)
        changes += listed + _lacking([name for name, paths in found.items() if not paths], index, kernel)
    return OpenwrtPlan(root.release, root.era, prepared, tree, early, changes, tuple(warnings), root.added)


def is_own_kernel(profile: Profile) -> bool:
    """Whether the kernel is the one that the root's own modules are for."""
    return profile.root.source == "openwrt" and profile.kernel.source == "files" and profile.kernel.modules is None


def _foreign(
    profile: Profile, kernel: Kernel, index: ModuleIndex, tree: RootTree, unlisted: Sequence[str]
) -> ForeignModules:
    early = [path for name in _EARLY_FEATURES for path in index.expand(name, may_be_empty=True)]
    listed = [name for name in profile.modules.features if name not in (*_EARLY_FEATURES, *_NOT_LISTED)]
    late = [path for name in listed for path in index.expand(name)]
    extra = (*profile.modules.extra, *unlisted)
    return ForeignModules(
        kernel.release,
        tree,
        early=loadable_names(index, early, named=[module_name(path) for path in early]),
        late=loadable_names(index, [*late, *index.closure(extra)], named=extra),
    )


def _lacking(not_found: Sequence[str], index: ModuleIndex, kernel: Kernel) -> tuple[Change, ...]:
    lacking = [name for name in not_found if not index.is_builtin(name)]
    if not lacking:
        return ()
    text = f"Linux {kernel.release} has no {', '.join(lacking)}, which the root wants"
    return (Change(ChangeKind.MODULES, text),)
