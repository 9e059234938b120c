"""The build: a profile in, an output folder with a bootable ISO out.

`plan_build()` gathers and decides everything and writes nothing but the cache; `run_build()` packs, writes and reads
back. A failed or interrupted run leaves the output folder as it was.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loguru import logger

from livebuilder import __version__, cpio
from livebuilder.cache import Cache
from livebuilder.compression import COMPRESSIONS, Compression
from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.image.busybox import applets_of
from livebuilder.image.ext2 import Ext2Plan, plan_ext2
from livebuilder.image.initramfs import (
    ImageFacts,
    Initramfs,
    init_tree,
    make_initramfs,
    piece_compression,
    render_image_conf,
    tools_tree,
)
from livebuilder.image.lint import lint_image, place_of, texts_of
from livebuilder.image.payload import Layer, shared_paths, split_layers, without_paths
from livebuilder.image.router import router_tree, service_links
from livebuilder.iso.loader import Loader, find_loader
from livebuilder.iso.menu import INITRAMFS_PATH, KERNEL_PATH, boot_files, menu_for
from livebuilder.iso.plan import IMAGE_FACTS, IsoPlan, volume_id_for
from livebuilder.iso.writer import write_iso
from livebuilder.kernel.image import Kernel, kernel_from_files, unpackable_compressions
from livebuilder.kernel.modinfo import is_module, module_name
from livebuilder.kernel.modules import ModuleIndex, module_tree
from livebuilder.profile import Profile
from livebuilder.report import (
    MANIFEST_VERSION,
    BuildReport,
    OutputFile,
    check_budget,
    layer_to_json,
    package_to_json,
    render_sha256sums,
)
from livebuilder.sizes import render_size
from livebuilder.sources.archive import root_tree_from_archive
from livebuilder.sources.debian import DebianArchive, DebianPackage
from livebuilder.sources.directory import root_tree_from_directory
from livebuilder.staging import staged_folder, verify_writable
from livebuilder.tree import Content, Kind, RootTree, device, directory

# On the ISO; /boot/vmlinuz and /boot/initramfs are what isolinux.cfg names.
_OUTPUT_NAMES = ("vmlinuz", "initramfs", "manifest.json", "sha256sums")
_ROOT_FOLDERS = ("dev", "etc/livebuilder", "overlay", "proc", "rom", "sys", "tmp")
_FEATURE_BASE = "base"
_FEATURE_STICK = "usb-storage"
# In every image: what the storage step needs, and keyboards, which a USB host driver takes away from the BIOS.
_FEATURES_ALWAYS = (_FEATURE_BASE, "extroot", "console")
_FILE_SYSTEM_FEATURES = ("f2fs", "btrfs")


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
class Sources:
    """What was gathered, before it is put together."""

    kernel: Kernel
    root: RootTree
    busybox: Content
    packages: tuple[DebianPackage, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class BuildPlan:
    """All decisions of a build: nothing in `run_build()` asks anything again."""

    profile: Profile
    output: Path
    cache: Cache
    kernel: Kernel
    loader: Loader
    early: tuple[RootTree, ...]
    root: RootTree
    layers: tuple[Layer, ...]
    image: Ext2Plan
    compression: Compression
    packages: tuple[DebianPackage, ...]
    warnings: tuple[str, ...]
    epoch: int

    @property
    def iso_name(self) -> str:
        """The name of the ISO in the output folder."""
        return f"{self.profile.name}.iso"

    def to_json(self) -> dict[str, Any]:
        """The stable form that `build --dry-run --json` prints."""
        return {
            "name": self.profile.name,
            "output": str(self.output),
            "files": [self.iso_name, *_OUTPUT_NAMES],
            "kernel": {"release": self.kernel.release, "source": self.kernel.source},
            "loader": self.loader.version,
            "packages": [package_to_json(package) for package in self.packages],
            "layers": [{"name": layer.name, "entries": len(layer.entries)} for layer in self.layers],
            "root": {
                "bytes": self.root.size_bytes(),
                "entries": len(self.root),
                "image_bytes": self.image.size_bytes,
                "image_inodes": self.image.inodes,
            },
            "compression": self.compression.name,
            "epoch": self.epoch,
            "warnings": list(self.warnings),
        }

    def render(self) -> str:
        """The plan for a reader."""
        layers = ", ".join(f"{layer.name} ({len(layer.entries)} entries)" for layer in self.layers)
        lines = [
            f"{self.output / self.iso_name}, and beside it {', '.join(_OUTPUT_NAMES)}",
            f"  kernel    {self.kernel.release} from {self.kernel.source}",
            f"  packages  {' '.join(f'{p.name}={p.version}' for p in self.packages) or 'none'}",
            f"  root      {render_size(self.root.size_bytes())} in {len(self.root)} entries: {layers}",
            f"  in memory ext2 of {render_size(self.image.size_bytes)}, {self.image.inodes} inodes",
            f"  loader    ISOLINUX {self.loader.version}",
        ]
        return "\n".join(lines)


def plan_build(request: BuildRequest) -> BuildPlan:
    """Gather the sources and decide everything; writes to the cache only.

    Raises `LivebuilderError` for whatever would make the image fail on the other machine.
    """
    profile = request.profile
    loader = find_loader()
    sources = _gather(request)
    with step("Putting the root together"):
        epoch = request.epoch if request.epoch is not None else _newest(sources)
        index = ModuleIndex.from_kernel(sources.kernel)
        chosen = _chosen_modules(profile, index)
        base = index.expand(_FEATURE_BASE)
        packed = _check_compression(profile, sources.kernel)
        generated = _generated_tree(profile, sources.root, epoch=epoch)
        layers = [
            ("10-packages", sources.root),
            ("20-modules", module_tree(sources.kernel, index, chosen)),
            ("30-generated", generated),
        ]
        if profile.root.files:
            files = _user_files(profile)
            if profile.root.source == "debian":
                _enable_services(generated, files, epoch=epoch)
            layers.append(("40-files", files))
        root, split = split_layers(layers)
        root.verify()
        _check_init(root, profile)
        image = plan_ext2(root, free_bytes=profile.root.free)
        tools = tools_tree(busybox=sources.busybox, modules=module_tree(sources.kernel, index, base))
        shared = shared_paths(tools, root)
        tools.overlay(RootTree(root[path] for path in shared))  # with the root's modes, owners and times
        facts = _image_facts(profile, sources.kernel, index, image, shared)
        early = (tools, init_tree(image_conf=render_image_conf(facts, piece_compression=piece_compression(packed))))
        _lint(early, root, generated, index)
    warnings = (*sources.warnings, *_xattr_warnings(root))
    for warning in warnings:
        logger.warning("{}", warning)
    return BuildPlan(
        profile=profile,
        output=request.output,
        cache=request.cache,
        kernel=sources.kernel,
        loader=loader,
        early=early,
        root=root,
        layers=without_paths(split, shared),
        image=image,
        compression=packed,
        packages=sources.packages,
        warnings=warnings,
        epoch=epoch,
    )


def _gather(request: BuildRequest) -> Sources:
    profile = request.profile
    archive = DebianArchive(
        cache=request.cache, offline=request.offline, strict=request.strict, refresh=request.refresh
    )
    packages: dict[str, DebianPackage] = {}
    warnings: dict[str, None] = {}
    if profile.kernel.source == "debian":
        debian_kernel = archive.kernel(profile.kernel.flavour)
        kernel = debian_kernel.kernel
        packages |= {package.name: package for package in debian_kernel.packages}
        warnings |= dict.fromkeys(debian_kernel.warnings)
    else:
        assert profile.kernel.image and profile.kernel.modules
        kernel = kernel_from_files(Path(profile.kernel.image), Path(profile.kernel.modules))
    if profile.root.source == "debian":
        debian_root = archive.root(profile.root.packages)
        root = debian_root.tree
        packages |= {package.name: package for package in debian_root.packages}
        warnings |= dict.fromkeys(debian_root.warnings)
    else:
        assert profile.root.path
        path = Path(profile.root.path)
        looked_at = f"ls -l {path}" if profile.root.source == "directory" else f"tar -tvf {path}"
        with step(f"Reading {path}"), _hinted(f"{looked_at}   # shows what is in it"):
            if profile.root.source == "directory":
                root = root_tree_from_directory(path)
            else:
                root = root_tree_from_archive(path, cache=request.cache)
    busybox = archive.busybox()
    packages.setdefault(busybox.package.name, busybox.package)
    listed = tuple(packages[name] for name in sorted(packages))
    return Sources(kernel, root, busybox.content, listed, tuple(warnings))


@contextmanager
def _hinted(hint: str) -> Iterator[None]:
    """Give errors that have no hint of their own this one."""
    try:
        yield
    except LivebuilderError as error:
        error.hint = error.hint or hint
        raise


def _chosen_modules(profile: Profile, index: ModuleIndex) -> tuple[str, ...]:
    features = dict.fromkeys((*_FEATURES_ALWAYS, *profile.modules.features))
    chosen = dict.fromkeys(path for feature in features for path in index.expand(feature))
    chosen |= dict.fromkeys(index.closure(profile.modules.extra))
    return tuple(chosen)


def _check_compression(profile: Profile, kernel: Kernel) -> Compression:
    wanted = COMPRESSIONS[profile.output.compression]
    possible = unpackable_compressions(kernel)
    if possible is None:
        logger.warning(
            "kernel {} does not say what it can unpack (no embedded config); {} is taken on trust",
            kernel.release,
            wanted.name,
        )
    elif wanted.name not in possible:
        raise LivebuilderError(
            f"output.compression: kernel {kernel.release} cannot unpack {wanted.name}"
            f" ({wanted.kernel_option} is not set)",
            hint=f"choose one of {', '.join(sorted(possible))}, as in --set output.compression=gzip",
        )
    return wanted


def _generated_tree(profile: Profile, packages: RootTree, *, epoch: int) -> RootTree:
    """The folders every root needs, and for a Debian root the files that make it an OpenWrt-shaped router."""
    tree = RootTree()
    if profile.root.source == "debian":
        tree.overlay(router_tree(name=profile.name, epoch=epoch, consoles=profile.boot.console))
    for path in _ROOT_FOLDERS:
        if packages.resolve(path) is None and path not in tree:
            tree.add(directory(path, mode=0o1777 if path == "tmp" else 0o755, source="livebuilder"))
    if packages.resolve("dev/console") is None:
        tree.add(device("dev/console", char=(5, 1), source="livebuilder"))
    return tree


def _user_files(profile: Profile) -> RootTree:
    assert profile.root.files
    tree = root_tree_from_directory(Path(profile.root.files), owner=(0, 0))
    for path, text in profile.root.owners.items():
        uid, _, gid = text.partition(":")
        owned = [entry for entry in tree if f"/{entry.path}/".startswith(f"{path.rstrip('/')}/")]
        if not owned:
            raise LivebuilderError(
                f"root.owners: {path} is not in {profile.root.files}", hint=f"find {profile.root.files}"
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


def _check_init(root: RootTree, profile: Profile) -> None:
    entry = root.resolve(profile.root.init)
    if entry is None or entry.kind not in (Kind.FILE, Kind.HARDLINK):
        raise LivebuilderError(
            f"the root has no {profile.root.init}, which is to be started in it",
            hint="name its init with --set root.init=/sbin/init",
        )
    mode = root[entry.target].mode if entry.kind is Kind.HARDLINK else entry.mode
    if not mode & 0o111:
        raise LivebuilderError(
            f"{profile.root.init} in the root is not executable (mode {mode:04o})",
            hint="chmod +x the file, or put one that is into root.files",
        )


def _newest(sources: Sources) -> int:
    """The time of the newest input: the same inputs give the same image, whenever it is built."""
    return max((entry.mtime for tree in (sources.root, sources.kernel.modules) for entry in tree), default=0)


def _image_facts(
    profile: Profile, kernel: Kernel, index: ModuleIndex, image: Ext2Plan, shared: tuple[str, ...]
) -> ImageFacts:
    file_systems = [name for name in _FILE_SYSTEM_FEATURES if name in profile.modules.features]
    return ImageFacts(
        version=__version__,
        name=profile.name,
        kernel_release=kernel.release,
        root_mode=profile.root.mode,
        root=image,
        root_init=profile.root.init,
        label=profile.storage.label,
        settle_seconds=profile.storage.settle,
        modules_root=("loop", "ext4"),
        modules_storage=index.names(index.expand(_FEATURE_STICK)) if _FEATURE_STICK in profile.modules.features else (),
        modules_filesystems=("overlay", "ext4", *file_systems),
        shared=shared,
    )


def _lint(early: Sequence[RootTree], root: RootTree, generated: RootTree, index: ModuleIndex) -> None:
    """Raises `LivebuilderError` naming all that our scripts name and that is not there: applets, programs, modules."""
    image = RootTree()
    for tree in early:
        image.overlay(tree)
    modules = {module_name(entry.path) for entry in (*image, *root) if is_module(entry.path)} | index.builtin
    busybox = applets_of(image["bin/busybox"].content.read())
    initramfs = place_of(image, name="initramfs", applets=busybox)
    in_root = place_of(root, name="root", applets=frozenset())
    findings = lint_image(texts_of(image, image), place=initramfs, modules=modules, other_root=in_root)
    findings += lint_image(texts_of(generated, root), place=in_root, modules=modules)
    if findings:
        raise LivebuilderError(
            "the image lacks what its scripts name:\n" + "\n".join(f"  {finding}" for finding in findings),
            hint="add what is missing with root.packages or root.files, or take out of root.files what names it",
        )


def _xattr_warnings(root: RootTree) -> tuple[str, ...]:
    lost = cpio.unkept_xattrs(root)
    if not lost:
        return ()
    shown = ", ".join(lost[:5]) + (f" and {len(lost) - 5} more" if len(lost) > 5 else "")
    return (f"extended attributes and capabilities do not travel in an initramfs; these files lose theirs: {shown}",)


def run_build(plan: BuildPlan, *, started: float) -> BuildReport:
    """Pack, write, read back. `started` is the monotonic time the build began at.

    When the output folder already holds this very build, nothing is written.
    """
    verify_writable(plan.output)
    with step("Packing the initramfs"):
        initramfs = make_initramfs(
            plan.early, plan.layers, plan.root, compression=plan.compression, epoch=plan.epoch, cache=plan.cache
        )
    files = _iso_files(plan, initramfs)
    boot_sizes = {name: content.size for name, content in files.items()}
    disc = _iso_plan(plan, files)
    manifest = _manifest(plan, initramfs, disc)
    known = _known_build(plan, manifest)
    if known is not None:
        return BuildReport(str(plan.output), known, manifest, plan.warnings, time.monotonic() - started, unchanged=True)
    with staged_folder(plan.output) as stage:
        with step(f"Writing {plan.output / plan.iso_name}"):
            iso = stage / plan.iso_name
            write_iso(disc, iso)
            check_budget(iso.stat().st_size, plan.profile.output.max_size, root=plan.root, boot_files=boot_sizes)
        (stage / "vmlinuz").write_bytes(plan.kernel.image.read())
        (stage / "initramfs").write_bytes(initramfs.data)
        (stage / "manifest.json").write_text(_render_manifest(manifest))
        written = tuple(_output_file(path) for path in sorted(stage.iterdir()))
        (stage / "sha256sums").write_text(render_sha256sums(written))
    plan.cache.prune()
    return BuildReport(str(plan.output), written, manifest, plan.warnings, time.monotonic() - started, unchanged=False)


def _iso_files(plan: BuildPlan, initramfs: Initramfs) -> Mapping[str, Content]:
    profile = plan.profile
    menu = menu_for(
        profile.name,
        version=__version__,
        storage_label=profile.storage.label,
        consoles=profile.boot.console,
        timeout_seconds=profile.boot.timeout,
        cmdline=profile.boot.cmdline,
    )
    facts = {
        "livebuilder": __version__,
        "name": profile.name,
        "kernel": plan.kernel.release,
        "label": profile.storage.label,
        "settle": profile.storage.settle,
        "packages": [package_to_json(package) for package in plan.packages],
    }
    files = {path: Content.from_bytes(data) for path, data in boot_files(menu).items()}
    files[IMAGE_FACTS] = Content.from_bytes(_render_manifest(facts).encode())
    files[KERNEL_PATH] = plan.kernel.image
    files[INITRAMFS_PATH] = Content.from_bytes(initramfs.data)
    return files


def _iso_plan(plan: BuildPlan, files: Mapping[str, Content]) -> IsoPlan:
    return IsoPlan(volume_id=volume_id_for(plan.profile.name), files=files, loader=plan.loader, epoch=plan.epoch)


def _manifest(plan: BuildPlan, initramfs: Initramfs, disc: IsoPlan) -> dict[str, Any]:
    from_debian = plan.profile.kernel.source == "debian"
    return {
        "version": MANIFEST_VERSION,
        "livebuilder": __version__,
        "name": plan.profile.name,
        "profile": plan.profile.model_dump(
            mode="json", exclude={"kernel": {"image", "modules"}, "root": {"path", "files"}}
        ),
        "source_date_epoch": plan.epoch,
        "kernel": {
            "release": plan.kernel.release,
            "source": plan.kernel.source if from_debian else Path(plan.kernel.source).name,
            "size": plan.kernel.image.size,
            "sha256": plan.kernel.image.sha256,
        },
        "loader": {"name": "ISOLINUX", "version": plan.loader.version},
        "initramfs": {
            "size": len(initramfs.data),
            "sha256": initramfs.sha256,
            "compression": plan.compression.name,
            "layers": [layer_to_json(layer) for layer in initramfs.layers],
        },
        "root": {
            "entries": len(plan.root),
            "bytes": plan.root.size_bytes(),
            "image_bytes": plan.image.size_bytes,
            "image_inodes": plan.image.inodes,
        },
        "disc": [
            {"path": path, "size": content.size, "sha256": content.sha256}
            for path, content in sorted(disc.all_files().items())
        ],
        "packages": [package_to_json(package) for package in plan.packages],
        "warnings": list(plan.warnings),
    }


def _render_manifest(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def _known_build(plan: BuildPlan, manifest: Mapping[str, Any]) -> tuple[OutputFile, ...] | None:
    """The files of the output folder when they are this very build, whole and unharmed."""
    try:
        if (plan.output / "manifest.json").read_bytes() != _render_manifest(manifest).encode():
            return None
        names = [plan.iso_name, *(name for name in _OUTPUT_NAMES if name != "sha256sums")]
        files = tuple(_output_file(plan.output / name) for name in sorted(names))
        same = (plan.output / "sha256sums").read_bytes() == render_sha256sums(files).encode()
    except OSError:
        return None
    return files if same else None


def _output_file(path: Path) -> OutputFile:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return OutputFile(path.name, path.stat().st_size, digest)
