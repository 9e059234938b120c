"""An OpenWrt root and its own kernel, from the files that OpenWrt hands out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.kernel.config import parse_config
from livebuilder.kernel.image import Kernel, embedded_config, read_bzimage
from livebuilder.kernel.modinfo import is_module
from livebuilder.openwrt.change import Change
from livebuilder.openwrt.eras import Era, era_of
from livebuilder.openwrt.modules import HOME
from livebuilder.openwrt.packages import PackagesReport
from livebuilder.openwrt.release import Release, read_release
from livebuilder.sources.image import root_from_image
from livebuilder.tree import Content, RootTree


@dataclass(frozen=True)
class OpenwrtRoot:
    """A root as OpenWrt's build left it, and what is known of its release.

    `kernel` is that of the same disk image, where the root came in one. `added` says which packages were put into the
    root since, and `changes` what had to be done to it before that.
    """

    tree: RootTree
    release: Release
    era: Era
    warnings: tuple[str, ...]
    kernel: Content | None = None
    added: PackagesReport | None = None
    changes: tuple[Change, ...] = ()


def read_openwrt_root(rootfs: Path, *, cache: Cache) -> OpenwrtRoot:
    """The root in the file `rootfs`, an archive or any image `root_from_image` knows.

    Raises `LivebuilderError` when it cannot be read or is no OpenWrt.
    """
    image = root_from_image(rootfs, cache=cache)
    release = read_release(image.tree)
    if release is None:
        raise LivebuilderError(
            f"{rootfs} ({image.found}) is no OpenWrt: it has neither /etc/openwrt_release nor another sign of one",
            hint="for any other root: --set root.source=archive --set root.path=…",
        )
    era, warning = era_of(release)
    return OpenwrtRoot(image.tree, release, era, (warning,) if warning else (), image.kernel)


def kernel_of_root(image: Path, root: OpenwrtRoot, *, content: Content | None = None) -> Kernel:
    """OpenWrt's own kernel `image`, with the modules that the root has for it; `content` when it is only part of that.

    Its configuration is the file `config-RELEASE` beside it or the one inside, else what the era's kernels are known
    to have linked in. Raises `LivebuilderError` when it is no kernel, or the root's modules are those of another one.
    """
    try:
        content = content or Content.from_file(image)
        data = content.read()
    except OSError as error:
        raise LivebuilderError(f"the kernel {image} cannot be read: {error.strerror}") from error
    release = read_bzimage(data, source=str(image)).release
    others = {entry.path.split("/")[2] for entry in root.tree if entry.path.startswith(f"{HOME}/")} - {release}
    home = f"{HOME}/{release}/"
    modules = RootTree(
        replace(entry, path=entry.path.removeprefix(home))
        for entry in root.tree
        if entry.path.startswith(home) and is_module(entry.path)
    )
    if others and not len(modules):
        raise LivebuilderError(
            f"the root has the modules of Linux {', '.join(sorted(others))}, but {image} is Linux {release}",
            hint="take the kernel from the same build, or leave kernel.image out: Debian's brings its own modules",
        )
    beside = image.with_name(f"config-{release}")
    if beside.is_file():
        config: dict[str, str] | None = parse_config(beside.read_text("utf-8", "replace"))
    else:
        config = embedded_config(data, source=str(image))
    return Kernel(content, release, modules, config or root.era.kernel_config, str(image))
