"""What a build is made of: the kernel, the root, busybox, the boot loader, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from livebuilder.build.openwrt import is_own_kernel
from livebuilder.cache import Cache
from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.image.router import chosen_packages, set_aside_var
from livebuilder.iso.loader import Loader, find_loader
from livebuilder.kernel.image import Kernel, architectures, kernel_from_files
from livebuilder.openwrt.change import ChangeKind
from livebuilder.openwrt.ownership import repair_owners
from livebuilder.openwrt.packages import install_packages, named_feeds, plan_packages
from livebuilder.openwrt.signature import read_key_file
from livebuilder.profile import Profile
from livebuilder.sources.busybox import busybox_from_file
from livebuilder.sources.copyright import HostPackage, host_copyrights, host_packages
from livebuilder.sources.debian import DebianArchive, DebianPackage
from livebuilder.sources.directory import root_tree_from_directory
from livebuilder.sources.image import root_from_image
from livebuilder.sources.openwrt import OpenwrtRoot, kernel_of_root, read_openwrt_root
from livebuilder.tree import Content, RootTree


@dataclass(frozen=True)
class BuildRequest:
    """What the user asked for. `epoch` in seconds since 1970 (SOURCE_DATE_EPOCH), None: that of the inputs."""

    profile: Profile
    output: Path
    cache: Cache
    offline: bool = False
    refresh: bool = False
    strict: bool = False
    epoch: int | None = None


@dataclass(frozen=True)
class Inputs:
    """What was gathered, before it is put together. `copyrights` holds the texts that are to travel, by package.

    `openwrt` is set when the root is an OpenWrt.
    """

    kernel: Kernel
    root: RootTree
    busybox: Content
    packages: tuple[DebianPackage, ...]
    loader: Loader
    loader_packages: tuple[HostPackage, ...]
    copyrights: Mapping[str, bytes]
    warnings: tuple[str, ...]
    openwrt: OpenwrtRoot | None = None

    @property
    def newest(self) -> int:
        """The time of the newest input: the same inputs give the same image, whenever it is built."""
        return max((entry.mtime for tree in (self.root, self.kernel.modules) for entry in tree), default=0)


def gather_inputs(request: BuildRequest) -> Inputs:
    """Fetch and read all a build needs; writes to the cache only. Raises `LivebuilderError`."""
    profile = request.profile
    loader = find_loader()
    packages: dict[str, DebianPackage] = {}
    warnings: dict[str, None] = {}
    openwrt: OpenwrtRoot | None = None
    root = RootTree()
    if profile.root.source == "openwrt":
        assert profile.root.rootfs
        with step(f"Reading {profile.root.rootfs}"), _hinted("ls -l " + profile.root.rootfs):
            openwrt = read_openwrt_root(Path(profile.root.rootfs), cache=request.cache)
        if profile.root.packages:
            openwrt = _with_packages(openwrt, request)
        root = openwrt.tree
        warnings |= dict.fromkeys(openwrt.warnings)
    elif profile.root.source != "debian":
        assert profile.root.path
        path = Path(profile.root.path)
        looked_at = "ls -l" if profile.root.source == "directory" else "file"
        with step(f"Reading {path}"), _hinted(f"{looked_at} {path}   # shows what it is"):
            if profile.root.source == "directory":
                root = root_tree_from_directory(path)
            else:
                root = root_from_image(path, cache=request.cache).tree
    if profile.kernel.source == "debian":
        flavour = profile.kernel.flavour
        debian_kernel = _archive(request, "amd64" if flavour.endswith("amd64") else "i386").kernel(flavour)
        kernel = debian_kernel.kernel
        packages |= {package.name: package for package in debian_kernel.packages}
        warnings |= dict.fromkeys(debian_kernel.warnings)
    elif profile.kernel.modules is None:
        assert openwrt
        kernel = _own_kernel(profile, openwrt)
    else:
        assert profile.kernel.image
        kernel = kernel_from_files(Path(profile.kernel.image), Path(profile.kernel.modules))
    archive = _archive(request, architectures(kernel)[0])
    if profile.root.source == "debian":
        debian_root = archive.root(chosen_packages(profile.root.packages))
        root = set_aside_var(debian_root.tree)
        packages |= {package.name: package for package in debian_root.packages}
        warnings |= dict.fromkeys(debian_root.warnings)
    if profile.initramfs.busybox:
        try:
            busybox = busybox_from_file(Path(profile.initramfs.busybox), architectures=architectures(kernel))
        except LivebuilderError as error:
            raise profile.problem("initramfs.busybox", error.message, hint=error.hint) from error
    else:
        debian_busybox = archive.busybox()
        busybox = debian_busybox.content
        packages.setdefault(debian_busybox.package.name, debian_busybox.package)
    listed = tuple(packages[name] for name in sorted(packages))
    from_host = host_packages([loader.isolinux_bin, *loader.modules.values()], cache=request.cache)
    return Inputs(
        kernel=kernel,
        root=root,
        busybox=busybox,
        packages=listed,
        loader=loader,
        loader_packages=from_host,
        copyrights=archive.copyrights(listed) | host_copyrights(from_host),
        warnings=tuple(warnings),
        openwrt=openwrt,
    )


def _archive(request: BuildRequest, architecture: str) -> DebianArchive:
    return DebianArchive(
        cache=request.cache, architecture=architecture,
        offline=request.offline, strict=request.strict, refresh=request.refresh,
    )  # fmt: skip


def _with_packages(root: OpenwrtRoot, request: BuildRequest) -> OpenwrtRoot:
    """The root with the packages the profile asks for, which are 0:0's; so all of it has to be, if it is to be."""
    profile = request.profile
    keep_owners = ChangeKind.OWNERS in profile.openwrt.keep
    tree, changes = (root.tree, ()) if keep_owners else repair_owners(root.tree)
    # Reports go along with the disc, and have no paths of this machine.
    keys = [replace(read_key_file(path), source=path.name) for path in map(Path, profile.openwrt.keys)]
    newest = max((entry.mtime for entry in tree), default=0)
    plan = plan_packages(
        tree, profile.root.packages, cache=request.cache,
        feeds=named_feeds(profile.openwrt.feeds, tree) if profile.openwrt.feeds else None,
        keys=keys, hash_only=profile.openwrt.hash_only, foreign_kernel=not is_own_kernel(profile),
        offline=request.offline, refresh=request.refresh, strict=request.strict,
    )  # fmt: skip
    epoch = request.epoch if request.epoch is not None else newest
    tree, added = install_packages(tree, plan, cache=request.cache, epoch=epoch, offline=request.offline)
    warnings = (*root.warnings, *(change.text for change in changes), *added.warnings)
    return replace(root, tree=tree, added=added, changes=changes, warnings=warnings)


def _own_kernel(profile: Profile, root: OpenwrtRoot) -> Kernel:
    """The kernel the root's modules are for: the profile's, or that of the disk image the root is from."""
    assert profile.root.rootfs
    rootfs = Path(profile.root.rootfs)
    image = Path(profile.kernel.image) if profile.kernel.image else rootfs
    if not image.samefile(rootfs):
        return kernel_of_root(image, root)
    if root.kernel is None:
        raise profile.problem(
            "kernel",
            f"no kernel is in {rootfs}, which is no image of a whole disk",
            hint='kernel.image = "…-vmlinuz", kernel.source = "debian", or the *-combined*.img.gz as root.rootfs',
        )
    return kernel_of_root(rootfs, root, content=root.kernel)


@contextmanager
def _hinted(hint: str) -> Iterator[None]:
    """Give errors that have no hint of their own this one."""
    try:
        yield
    except LivebuilderError as error:
        error.hint = error.hint or hint
        raise
