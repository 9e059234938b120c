"""What a build is made of: the kernel, the root, busybox, the boot loader, and whose they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from livebuilder.cache import Cache
from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.iso.loader import Loader, find_loader
from livebuilder.kernel.image import Kernel, kernel_from_files
from livebuilder.profile import Profile
from livebuilder.sources.archive import root_tree_from_archive
from livebuilder.sources.busybox import busybox_from_file
from livebuilder.sources.copyright import HostPackage, host_copyrights, host_packages
from livebuilder.sources.debian import DebianArchive, DebianPackage
from livebuilder.sources.directory import root_tree_from_directory
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
    archive = DebianArchive(
        cache=request.cache, offline=request.offline, strict=request.strict, refresh=request.refresh
    )
    packages: dict[str, DebianPackage] = {}
    warnings: dict[str, None] = {}
    openwrt: OpenwrtRoot | None = None
    if profile.root.source == "debian":
        debian_root = archive.root(profile.root.packages)
        root = debian_root.tree
        packages |= {package.name: package for package in debian_root.packages}
        warnings |= dict.fromkeys(debian_root.warnings)
    elif profile.root.source == "openwrt":
        assert profile.root.rootfs
        with step(f"Reading {profile.root.rootfs}"), _hinted("ls -l " + profile.root.rootfs):
            openwrt = read_openwrt_root(Path(profile.root.rootfs), cache=request.cache)
        root = openwrt.tree
        warnings |= dict.fromkeys(openwrt.warnings)
    else:
        assert profile.root.path
        path = Path(profile.root.path)
        looked_at = f"ls -l {path}" if profile.root.source == "directory" else f"tar -tvf {path}"
        with step(f"Reading {path}"), _hinted(f"{looked_at}   # shows what is in it"):
            if profile.root.source == "directory":
                root = root_tree_from_directory(path)
            else:
                root = root_tree_from_archive(path, cache=request.cache)
    if profile.kernel.source == "debian":
        debian_kernel = archive.kernel(profile.kernel.flavour)
        kernel = debian_kernel.kernel
        packages |= {package.name: package for package in debian_kernel.packages}
        warnings |= dict.fromkeys(debian_kernel.warnings)
    elif profile.kernel.modules is None:
        assert profile.kernel.image and openwrt
        kernel = kernel_of_root(Path(profile.kernel.image), openwrt)
    else:
        assert profile.kernel.image
        kernel = kernel_from_files(Path(profile.kernel.image), Path(profile.kernel.modules))
    if profile.initramfs.busybox:
        try:
            busybox = busybox_from_file(Path(profile.initramfs.busybox))
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


@contextmanager
def _hinted(hint: str) -> Iterator[None]:
    """Give errors that have no hint of their own this one."""
    try:
        yield
    except LivebuilderError as error:
        error.hint = error.hint or hint
        raise
