"""What a build will be: gathered and decided in full before anything is written but the cache."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loguru import logger

from livebuilder import __version__, cpio
from livebuilder.build.inputs import BuildRequest, gather_inputs
from livebuilder.build.naming import Identity, OutputNames, identify, openwrt_names, short_names
from livebuilder.build.openwrt import OpenwrtPlan, is_own_kernel, plan_openwrt
from livebuilder.build.report import MANIFEST_JSON, PROFILES_JSON, SHA256SUMS, package_to_json
from livebuilder.cache import Cache
from livebuilder.compression import COMPRESSIONS, Compression
from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.image.busybox import applets_of
from livebuilder.image.ext2 import Ext2Plan, plan_ext2
from livebuilder.image.files import FILES_PATH, build_id, render_files
from livebuilder.image.initramfs import ImageFacts, init_tree, render_image_conf, tools_tree
from livebuilder.image.lint import lint_image, place_of, texts_of
from livebuilder.image.payload import Layer, shared_paths, split_layers, without_paths
from livebuilder.image.router import ROUTER_BYTES, router_tree, service_links
from livebuilder.image.squashfs import SquashfsRoot, make_squashfs
from livebuilder.iso.loader import Loader
from livebuilder.iso.menu import BootMenu, menu_for
from livebuilder.kernel.image import Kernel, architectures, lacks_for_squashfs, unpackable_compressions
from livebuilder.kernel.modinfo import is_module, module_name
from livebuilder.kernel.modules import FeaturePattern, ModuleIndex, module_tree, read_feature
from livebuilder.openwrt.change import ChangeKind
from livebuilder.openwrt.eras import OverlayBy
from livebuilder.openwrt.release import Release, read_release
from livebuilder.openwrt.root import HOOK_PATH
from livebuilder.profile import Profile
from livebuilder.sizes import render_size
from livebuilder.sources.copyright import HostPackage
from livebuilder.sources.debian import DebianPackage
from livebuilder.sources.directory import root_tree_from_directory
from livebuilder.sources.elf import EM_X86_64, MACHINES, elf_machine
from livebuilder.sources.installed import installed_packages
from livebuilder.sources.openwrt import OpenwrtRoot
from livebuilder.tree import Kind, RootTree, device, directory, file

_OTHER_INIT = "/sbin/init"
_ROOT_FOLDERS = ("dev", "etc/livebuilder", "overlay", "proc", "rom", "sys", "tmp")
_FEATURE_BASE = "base"
_FEATURE_SQUASHFS = "squashfs"  # in its place, before there is a root, where that is one
_FEATURE_STICK = "usb-storage"
# In every image: what the storage step needs, and the keyboards the kernel has drivers for, which a USB host driver
# takes away from the BIOS.
_FEATURE_KEYBOARDS = "console"
_FEATURES_ALWAYS = (_FEATURE_BASE, "extroot", _FEATURE_KEYBOARDS)
# How the initramfs is packed when the profile does not say: the first of these that the kernel unpacks.
_LIKED = ("xz", "gzip", "none")
_FILE_SYSTEM_FEATURES = ("f2fs", "btrfs")


@dataclass(frozen=True)
class BuildPlan:
    """All decisions of a build: nothing in `run_build()` asks anything again."""

    profile: Profile
    output: Path
    cache: Cache
    identity: Identity
    names: OutputNames
    installed: Mapping[str, str]
    kernel: Kernel
    loader: Loader
    loader_packages: tuple[HostPackage, ...]
    copyrights: Mapping[str, bytes]
    menu: BootMenu
    early: tuple[RootTree, ...]
    root: RootTree
    layers: tuple[Layer, ...]
    image: Ext2Plan | SquashfsRoot
    compression: Compression
    packages: tuple[DebianPackage, ...]
    warnings: tuple[str, ...]
    epoch: int
    openwrt: OpenwrtPlan | None = None

    @property
    def folder(self) -> Path:
        """Where the files go: the output folder, or with OpenWrt's layout one below it."""
        return self.output / self.names.folder

    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files that are written, the disc first."""
        names = self.names
        own = (names.iso, names.kernel, names.initramfs, names.packages)
        return (*own, PROFILES_JSON, MANIFEST_JSON, SHA256SUMS)

    @property
    def requested(self) -> tuple[str, ...]:
        """The packages that the profile asked for."""
        return tuple(name for name in self.profile.root.packages if not name.startswith("-"))

    def to_json(self) -> dict[str, Any]:
        """The stable form that `build --dry-run --json` prints."""
        return {
            "name": self.profile.name,
            "output": str(self.folder),
            "files": list(self.files),
            "kernel": {"release": self.kernel.release, "source": self.kernel.source},
            "loader": self.loader.version,
            "packages": [package_to_json(package) for package in self.packages],
            "layers": [{"name": layer.name, "entries": len(layer.entries)} for layer in self.layers],
            "root": {
                "mode": self.profile.root.mode,
                "bytes": self.root.size_bytes(),
                "entries": len(self.root),
                "image_bytes": self.image.size_bytes,
                "image_inodes": self.image.inodes,
            },
            "openwrt": self.openwrt.to_json() if self.openwrt else None,
            "compression": self.compression.name,
            "epoch": self.epoch,
            "warnings": list(self.warnings),
        }

    def render(self) -> str:
        """The plan for a reader."""
        layers = ", ".join(f"{layer.name} ({len(layer.entries)} entries)" for layer in self.layers) or "one image"
        iso, *others = self.files
        lines = [
            f"{self.folder / iso}, and beside it {', '.join(others)}",
            f"  kernel    {self.kernel.release} from {self.kernel.source}",
            f"  packages  {' '.join(f'{p.name}={p.version}' for p in self.packages) or 'none'}",
            f"  root      {render_size(self.root.size_bytes())} in {len(self.root)} entries: {layers}",
            f"  in memory {_described(self.image)}",
            f"  loader    ISOLINUX {self.loader.version}",
        ]
        if self.openwrt:
            lines.append(f"  openwrt   {self.openwrt.release}, treated as {self.openwrt.era.name}")
            lines += [f"    {change.kind:8}  {change.text}" for change in self.openwrt.changes]
            if self.openwrt.added:
                lines += [f"    {line}" for line in self.openwrt.added.render().splitlines()]
        return "\n".join(lines)


def _described(image: Ext2Plan | SquashfsRoot) -> str:
    if isinstance(image, SquashfsRoot):
        return f"squashfs of {render_size(image.size_bytes)}, blocks of {render_size(image.block_size)}"
    return f"ext2 of {render_size(image.size_bytes)}, {image.inodes} inodes"


def plan_build(request: BuildRequest) -> BuildPlan:
    """Gather the sources and decide everything; writes to the cache only.

    Raises `LivebuilderError` for whatever would make the image fail on the other machine.
    """
    profile = request.profile
    sources = gather_inputs(request)
    menu = menu_for(
        profile.name,
        version=__version__,
        storage_label=profile.storage.label,
        consoles=profile.boot.console,
        timeout_seconds=profile.boot.timeout,
        cmdline=_cmdline(profile, sources.openwrt),
    )
    with step("Putting the root together"):
        epoch = request.epoch if request.epoch is not None else sources.newest
        index = ModuleIndex.from_kernel(sources.kernel)
        lenient = is_own_kernel(profile)
        chosen, lacking = _chosen_modules(profile, index, lenient=lenient)
        is_squashfs = profile.root.mode == "squashfs"
        first = _FEATURE_SQUASHFS if is_squashfs else _FEATURE_BASE
        base = index.expand(first, _patterns(first, lenient=lenient), may_be_empty=lenient)
        packed, unsure = _check_compression(profile, sources.kernel)
        unsure += _check_squashfs(profile, sources.kernel) if is_squashfs else ()
        openwrt = None
        source_root = sources.root
        modules, early_modules = (module_tree(sources.kernel, index, paths) for paths in (chosen, base))
        if sources.openwrt:
            _check_overlay(profile, sources.openwrt)
            openwrt = plan_openwrt(profile, sources.openwrt, sources.kernel, index, chosen=chosen, base=base)
            source_root, modules, early_modules = openwrt.prepared.root, openwrt.modules, openwrt.early_modules
        # In Debian and others /lib is a link to usr/lib: what comes in goes where the root's own paths lead.
        modules = modules.placed_in(source_root)
        generated = _generated_tree(profile, source_root, epoch=epoch)
        layers = [("10-packages", source_root), ("20-modules", modules), ("30-generated", generated)]
        if profile.root.files:
            files = _user_files(profile).placed_in(source_root)
            if profile.root.source == "debian":
                _enable_services(generated, files, epoch=epoch)
            layers.append(("40-files", files))
        listed = render_files(split_layers(layers)[0])
        generated.add(replace(file(FILES_PATH, listed, source="livebuilder"), mtime=epoch))
        root, split = split_layers(layers)
        root.verify()
        root_init = _root_init(root, profile)
        _check_init(root, root_init)
        _check_processor(profile, root, root_init, sources.kernel)
        image = _root_image(profile, root, early_modules, epoch=epoch, cache=request.cache)
        tools = tools_tree(busybox=sources.busybox, modules=early_modules)
        shared = () if is_squashfs else shared_paths(tools, root)
        tools.overlay(RootTree(root[path] for path in shared))  # with the root's modes, owners and times
        facts = replace(
            _image_facts(profile, sources.kernel, index, image, shared),
            root_init=root_init,
            build=build_id(listed),
            release=str(openwrt.release) if openwrt else __version__,
            **_openwrt_facts(openwrt),
        )
        release = read_release(sources.root)
        identity = identify(sources.root, sources.kernel, release=release, version=profile.output.version)
        early = (tools, init_tree(image_conf=render_image_conf(facts)))
        _lint(profile, early, root, generated, index)
    about_root = openwrt.warnings if openwrt else ()
    unkept = () if is_squashfs else _xattr_warnings(root)
    warnings = (*sources.warnings, *about_root, *lacking, *unsure, *unkept)
    for warning in warnings:
        logger.warning("{}", warning)
    return BuildPlan(
        profile=profile,
        output=request.output,
        cache=request.cache,
        identity=identity,
        names=_names(profile, identity, release),
        installed=_installed(root, sources.packages),
        kernel=sources.kernel,
        loader=sources.loader,
        loader_packages=sources.loader_packages,
        copyrights=sources.copyrights,
        menu=menu,
        early=early,
        root=root,
        layers=() if is_squashfs else without_paths(split, shared),
        image=image,
        compression=packed,
        packages=sources.packages,
        warnings=warnings,
        epoch=epoch,
        openwrt=openwrt,
    )


def _names(profile: Profile, identity: Identity, release: Release | None) -> OutputNames:
    """OpenWrt's names for an OpenWrt, and for every root in OpenWrt's folders; else short ones."""
    output = profile.output
    if release is None and output.layout == "flat":
        return short_names(name=profile.name, extra=output.extra)
    return openwrt_names(identity, name=profile.name, extra=output.extra, nested=output.layout == "openwrt")


def _installed(root: RootTree, packages: Sequence[DebianPackage]) -> Mapping[str, str]:
    """The packages of the root by its own word; of a root that has none to say, those the image was made from."""
    said = installed_packages(root)
    return said if said is not None else {package.name: package.version for package in packages}


def _chosen_modules(profile: Profile, index: ModuleIndex, *, lenient: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The paths of the modules that travel, and what is said of those that do not.

    A `lenient` choice takes what there is: of OpenWrt's own kernels nobody can tell all that is linked in.
    """
    lacking = []
    chosen: dict[str, None] = {}
    for feature in dict.fromkeys((*_FEATURES_ALWAYS, *profile.features)):
        may_be_empty = feature == _FEATURE_KEYBOARDS
        try:
            chosen |= dict.fromkeys(index.expand(feature, may_be_empty=may_be_empty))
        except LivebuilderError as error:
            if not lenient or (feature in profile.features and profile.says("modules.features")):
                raise
            lacking.append(f"{error.message}; /init will do without where it can")
            chosen |= dict.fromkeys(index.expand(feature, _patterns(feature, lenient=True), may_be_empty=True))
    chosen |= dict.fromkeys(index.closure(profile.modules.extra))
    return tuple(chosen), tuple(lacking)


def _patterns(feature: str, *, lenient: bool) -> tuple[FeaturePattern, ...]:
    return tuple(replace(pattern, optional=pattern.optional or lenient) for pattern in read_feature(feature))


def _openwrt_facts(openwrt: OpenwrtPlan | None) -> dict[str, Any]:
    """What an OpenWrt root needs to be told to /init."""
    if openwrt is None:
        return {}
    hook = openwrt.era.overlay_by is OverlayBy.HOOK and HOOK_PATH in openwrt.prepared.generated
    return {
        "root_source": openwrt.era.root_source,
        "overlay_by": OverlayBy.HOOK if hook else OverlayBy.INIT,
        "banner": openwrt.uses_banner,
        "fstab": openwrt.uses_fstab,
    }


def _check_compression(profile: Profile, kernel: Kernel) -> tuple[Compression, tuple[str, ...]]:
    """How the initramfs is packed, and a warning when nobody can tell whether the kernel unpacks that."""
    wanted = COMPRESSIONS[profile.output.compression]
    possible = unpackable_compressions(kernel)
    if not profile.says("output.compression") and possible is not None:
        return next(COMPRESSIONS[name] for name in _LIKED if name in possible), ()
    if possible is None:
        unsure = f"kernel {kernel.release} does not say what it can unpack (no config in it or beside it)"
        return wanted, (f"{unsure}; {wanted.name} is taken on trust",)
    if wanted.name not in possible:
        raise profile.problem(
            "output.compression",
            f"kernel {kernel.release} cannot unpack {wanted.name} ({wanted.kernel_option} is not set)",
            hint=f"choose one of {', '.join(sorted(possible))}, as in --set output.compression=gzip",
        )
    return wanted, ()


def _check_squashfs(profile: Profile, kernel: Kernel) -> tuple[str, ...]:
    """A warning when nobody can tell whether the kernel reads a squashfs packed with xz."""
    lacking = lacks_for_squashfs(kernel)
    if lacking:
        raise profile.problem("root.mode", lacking, hint="--set root.mode=ext2   # or another kernel")
    return () if lacking is None else (f"kernel {kernel.release} does not say whether it reads squashfs with xz",)


def _check_overlay(profile: Profile, root: OpenwrtRoot) -> None:
    """A squashfs wants its overlay from /init; up to 12.09 the root's own preinit makes it."""
    if profile.root.mode == "squashfs" and root.era.overlay_by is OverlayBy.HOOK:
        raise profile.problem(
            "root.mode",
            f"OpenWrt {root.era.name} lays the overlay in its own preinit, which wants a root it can write to",
            hint="--set root.mode=ext2",
        )


def _root_image(
    profile: Profile, root: RootTree, modules: RootTree, *, epoch: int, cache: Cache
) -> Ext2Plan | SquashfsRoot:
    if profile.root.mode != "squashfs":
        return plan_ext2(root, free_bytes=profile.root.free)
    drivers = [entry for entry in modules if is_module(entry.path)]
    return make_squashfs(root, block_size=profile.root.squashfs_block, epoch=epoch, drivers=drivers, cache=cache)


def _generated_tree(profile: Profile, packages: RootTree, *, epoch: int) -> RootTree:
    """The folders every root needs, and for a Debian root the files that make it an OpenWrt-shaped router."""
    tree = RootTree()
    if profile.root.source == "debian":
        tree.overlay(router_tree(profile.router_settings(), epoch=epoch, consoles=profile.boot.console))
    for path in _ROOT_FOLDERS:
        if packages.resolve(path) is None and path not in tree:
            tree.add(directory(path, mode=0o1777 if path == "tmp" else 0o755, source="livebuilder"))
    if packages.resolve("dev/console") is None and ChangeKind.DEVICES not in profile.openwrt.keep:
        tree.add(device("dev/console", char=(5, 1), source="livebuilder"))
    return tree


def _user_files(profile: Profile) -> RootTree:
    assert profile.root.files
    tree = root_tree_from_directory(Path(profile.root.files), owner=(0, 0))
    for path, text in profile.root.owners.items():
        uid, _, gid = text.partition(":")
        owned = [entry for entry in tree if f"/{entry.path}/".startswith(f"{path.rstrip('/')}/")]
        if not owned:
            raise profile.problem(
                "root.owners", f"{path} is not in {profile.root.files}", hint=f"find {profile.root.files}"
            )
        tree.overlay(RootTree(replace(entry, uid=int(uid), gid=int(gid)) for entry in owned))
    return tree


def _enable_services(generated: RootTree, files: RootTree, *, epoch: int) -> None:
    """Link the services as they are once `files` lie over the generated tree; its own links give way."""
    for entry in list(generated):
        if entry.parent == "etc/rc.d":
            generated.remove(entry.path)
    together = RootTree(generated)
    together.overlay(files)
    for link in service_links(together):
        generated.add(replace(link, mtime=epoch))


def _root_init(root: RootTree, profile: Profile) -> str:
    """What the profile says, else /etc/preinit, else, in a root that has no such thing, /sbin/init."""
    if not profile.says("root.init") and root.resolve(profile.root.init) is None and root.resolve(_OTHER_INIT):
        return _OTHER_INIT
    return profile.root.init


def _check_init(root: RootTree, init: str) -> None:
    entry = root.resolve(init)
    if entry is None or entry.kind not in (Kind.FILE, Kind.HARDLINK):
        raise LivebuilderError(
            f"the root has no {init}, which is to be started in it",
            hint="name its init with --set root.init=/sbin/init",
        )
    mode = root.inode_of(entry).mode
    if not mode & 0o111:
        raise LivebuilderError(
            f"{init} in the root is not executable (mode {mode:04o})",
            hint="chmod +x the file, or put one that is into root.files",
        )


def _check_processor(profile: Profile, root: RootTree, init: str, kernel: Kernel) -> None:
    """The kernel has to run what the root starts with."""
    head = _head(root, init)
    if head.startswith(b"#!"):
        interpreter = os.fsdecode(head[2:].split(b"\n", 1)[0].strip().split(b" ", 1)[0])
        head = _head(root, interpreter)
    machine = elf_machine(head)
    if machine is None:
        return
    if machine not in MACHINES:
        raise LivebuilderError(
            f"the programs of the root are not for a PC (ELF machine {machine})", hint="take a root for x86"
        )
    if MACHINES[machine] not in architectures(kernel):
        bits, flavour = (64, "amd64") if machine == EM_X86_64 else (32, "686")
        cure = f"--set kernel.flavour={flavour}   # Debian's kernel for them"
        raise LivebuilderError(
            f"the programs of the root are for {bits}-bit processors, and Linux {kernel.release} runs none of those",
            hint=cure if profile.kernel.source == "debian" else f"without kernel.image: {cure}",
        )


def _head(root: RootTree, path: str) -> bytes:
    entry = root.resolve(path)
    if entry is None or entry.kind not in (Kind.FILE, Kind.HARDLINK):
        return b""
    return next(root.content_of(entry).pieces(piece_bytes=256), b"")


def _cmdline(profile: Profile, root: OpenwrtRoot | None) -> str:
    """The profile's words, and those the era wants. OpenWrt takes `root=` for where it was installed, and it is not."""
    words = profile.boot.cmdline.split()
    if root is None:
        return profile.boot.cmdline
    if any(word.startswith("root=") for word in words):
        raise profile.problem(
            "boot.cmdline",
            "root= makes OpenWrt look for its settings and its upgrades on that disk",
            hint="leave root= out: /init knows where the root is",
        )
    return " ".join([*words, *root.era.cmdline.split()])


def _image_facts(
    profile: Profile,
    kernel: Kernel,
    index: ModuleIndex,
    image: Ext2Plan | SquashfsRoot,
    shared: tuple[str, ...],
) -> ImageFacts:
    file_systems = [name for name in _FILE_SYSTEM_FEATURES if name in profile.features]
    sticks: tuple[str, ...] = ()
    if _FEATURE_STICK in profile.features:
        lenient = is_own_kernel(profile)
        sticks = index.expand(_FEATURE_STICK, _patterns(_FEATURE_STICK, lenient=lenient), may_be_empty=lenient)

    def known(*names: str) -> tuple[str, ...]:
        return tuple(name for name in names if index.find(name) or index.is_builtin(name))

    return ImageFacts(
        version=__version__,
        name=profile.name,
        kernel_release=kernel.release,
        root_mode=profile.root.mode,
        root=image,
        root_init=profile.root.init,
        label=profile.storage.label,
        settle_seconds=profile.storage.settle,
        system_bytes=ROUTER_BYTES if profile.root.source == "debian" else 0,
        modules_root=known("loop", "squashfs" if isinstance(image, SquashfsRoot) else "ext4"),
        modules_storage=index.names(sticks),
        modules_filesystems=known("overlay", "ext4", *file_systems),
        shared=shared,
    )


def _lint(profile: Profile, early: Sequence[RootTree], root: RootTree, generated: RootTree, index: ModuleIndex) -> None:
    """Raises `LivebuilderError` naming all that our scripts name and that is not there: applets, programs, modules."""
    image = RootTree()
    for tree in early:
        image.overlay(tree)
    modules = {module_name(entry.path) for entry in (*image, *root) if is_module(entry.path)} | index.builtin
    busybox = applets_of(image["bin/busybox"].content.read())
    initramfs = place_of(image, name="initramfs", applets=busybox)
    in_root = place_of(root, name="root", applets=frozenset())
    before = lint_image(texts_of(image, image), place=initramfs, modules=modules, other_root=in_root)
    after = lint_image(texts_of(generated, root), place=in_root, modules=modules)
    hint = "add what is missing with root.packages or root.files, or take out of root.files what names it"
    if before and profile.initramfs.busybox:
        hint = "give another initramfs.busybox, or leave the key out and have Debian's"
    if before or after:
        raise LivebuilderError(
            "the image lacks what its scripts name:\n" + "\n".join(f"  {finding}" for finding in (*before, *after)),
            hint=hint,
        )


def _xattr_warnings(root: RootTree) -> tuple[str, ...]:
    lost = cpio.unkept_xattrs(root)
    if not lost:
        return ()
    kept_out = "extended attributes and capabilities do not travel in an initramfs; these files lose theirs"
    return (f"{kept_out}: {', '.join(lost)}",)
