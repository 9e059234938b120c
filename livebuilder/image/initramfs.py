"""The initramfs: the programs that build the root on the other machine, and the root's packed layers.

Several newc archives in one file, which the kernel unpacks one after the other: busybox and the modules for a
loop-mounted ext2; /init, its library and its configuration, apart because they change with every build; and the
payload, which is compressed already and so stands in a plain archive: the pieces of the layers, or a squashfs. (With
zstd, which busybox cannot unpack, the pieces are plain and the kernel unpacks them: one archive a layer.)
"""

from __future__ import annotations

import hashlib
import shlex
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from livebuilder import cpio
from livebuilder.assets import asset
from livebuilder.cache import Cache
from livebuilder.compression import NONE, ZSTD, Compression
from livebuilder.image.ext2 import Ext2Plan
from livebuilder.image.payload import Layer, PackedLayer, compress_cached, link_owners, pack_layers, piece_name
from livebuilder.image.squashfs import IMAGE_PATH, SquashfsRoot
from livebuilder.sizes import KIB, align_up
from livebuilder.tree import Content, Entry, RootTree, device, directory, file, symlink

# Names of images are hashed within this namespace, so that a rebuilt image keeps its root's UUID: OpenWrt's own
# extroot refuses a stick that was used with another root (OpenWrt fstools, block.c, check_extroot).
_UUID_NAMESPACE = uuid.UUID("5c9a2a52-6f0b-5a2c-9d3a-6c6976656275")
# Loop device 0 shares its number with /dev/vcs, which OpenWrt 17.01 to 23.05 take for the root device.
ROOT_LOOP = 7


@dataclass(frozen=True)
class ImageFacts:
    """What /init is told about the image it is in: /etc/livebuilder/image.conf.

    `root_source` is the mount source of the root; `overlay_by` who lays the overlay, `init` or a `hook` in preinit.
    `build` names the image's files, and `release` the system they are, for a stick that meets another image.
    `system_bytes` of memory are for what runs in the root.
    `banner`: /etc/banner is shown at login, and may be added to; `fstab`: /etc/config/fstab names the stick.
    """

    version: str
    name: str
    kernel_release: str
    root_mode: str
    root: Ext2Plan | SquashfsRoot
    root_init: str
    label: str
    settle_seconds: int
    modules_root: tuple[str, ...]
    modules_storage: tuple[str, ...]
    modules_filesystems: tuple[str, ...]
    shared: tuple[str, ...] = ()
    root_source: str = "/dev/root"
    overlay_by: str = "init"
    banner: bool = False
    fstab: bool = False
    build: str = ""
    release: str = ""
    system_bytes: int = 0


@dataclass(frozen=True)
class Initramfs:
    """The finished file's bytes and what it is made of."""

    data: bytes
    layers: tuple[PackedLayer, ...]

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file, in hex."""
        return hashlib.sha256(self.data).hexdigest()


def root_uuid(name: str) -> str:
    """The UUID of the root file system of the image `name`, the same for every build of it."""
    return str(uuid.uuid5(_UUID_NAMESPACE, name))


def render_image_conf(facts: ImageFacts) -> str:
    """The assignments /init reads, as POSIX shell."""
    values = {
        "LB_VERSION": facts.version,
        "LB_NAME": facts.name,
        "LB_KERNEL": facts.kernel_release,
        "LB_ROOT_MODE": facts.root_mode,
        "LB_ROOT_KIB": str(facts.root.size_bytes // KIB),
        "LB_ROOT_ENTRIES": str(facts.root.entries),
        "LB_ROOT_DATA_KIB": str(facts.root.data_bytes // KIB),
        "LB_SYSTEM_KIB": str(facts.system_bytes // KIB),
        **_image_settings(facts.root, name=facts.name),
        "LB_ROOT_LOOP": str(ROOT_LOOP),
        "LB_ROOT_SOURCE": facts.root_source,
        "LB_ROOT_INIT": facts.root_init,
        "LB_STORAGE_LABEL": facts.label,
        "LB_STORAGE_SETTLE": str(facts.settle_seconds),
        "LB_MODULES_ROOT": " ".join(facts.modules_root),
        "LB_MODULES_STORAGE": " ".join(facts.modules_storage),
        "LB_MODULES_FILESYSTEMS": " ".join(facts.modules_filesystems),
        "LB_SHARED": " ".join(facts.shared),
        "LB_OVERLAY_BY": facts.overlay_by,
        "LB_BANNER": "yes" if facts.banner else "no",
        "LB_FSTAB": "yes" if facts.fstab else "no",
        "LB_BUILD": facts.build,
        "LB_RELEASE": facts.release,
    }
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())


def _image_settings(root: Ext2Plan | SquashfsRoot, *, name: str) -> Mapping[str, str]:
    """What is of one kind of image only."""
    if isinstance(root, SquashfsRoot):
        return {
            "LB_ROOT_USED_KIB": str(align_up(root.bytes_used, KIB) // KIB),
            "LB_ROOT_NEEDED_KIB": str(align_up(root.needed_bytes, KIB) // KIB),
        }
    return {
        "LB_ROOT_BLOCK_SIZE": str(root.block_size),
        "LB_ROOT_BYTES_PER_INODE": str(root.bytes_per_inode),
        "LB_ROOT_UUID": root_uuid(name),
    }


def init_scripts() -> Mapping[str, str]:
    """The shell programs of the initramfs, by their path in it."""
    scripts = {"init": asset("initramfs/init").read_text()}
    for path in sorted(asset("initramfs/lib").glob("*.sh")):
        scripts[f"lib/livebuilder/{path.name}"] = path.read_text()
    return scripts


def tools_tree(*, busybox: Content, modules: RootTree) -> RootTree:
    """What is the same in every build with one kernel: busybox, the first device nodes, the modules for the root."""
    tree = RootTree(
        [
            directory("dev"),
            device("dev/console", char=(5, 1)),
            device("dev/null", char=(1, 3), mode=0o666),
            directory("proc"),
            directory("sys"),
            file("bin/busybox", busybox, mode=0o755, source="busybox"),
            symlink("bin/sh", "busybox"),
        ]
    )
    tree.overlay(modules)
    return tree


def init_tree(*, image_conf: str) -> RootTree:
    """/init, its library, and the facts about this image."""
    tree = RootTree([file("etc/livebuilder/image.conf", image_conf)])
    for path, text in init_scripts().items():
        tree.add(file(path, text, mode=0o755 if path == "init" else 0o644, source="initramfs/"))
    return tree


def make_initramfs(
    early: Sequence[RootTree],
    layers: Sequence[Layer],
    root: RootTree,
    *,
    compression: Compression,
    epoch: int,
    cache: Cache,
    image: Content | None = None,
) -> Initramfs:
    """Pack the layers, put all archives together; `image` is a squashfs that travels as it is.

    `epoch` is the latest time any entry keeps (seconds since 1970).
    """
    pieces_as = piece_compression(compression)

    def pack(tree: RootTree) -> bytes:
        data = b"".join(cpio.archive(tree, mtime_limit=epoch))
        return compress_cached(data, compression=compression, cache=cache)[0]

    with ThreadPoolExecutor(max(1, len(early))) as pool:  # beside the layers: they alone do not keep every core busy
        jobs = [pool.submit(pack, tree) for tree in early]
        packed = pack_layers(layers, root, compression=pieces_as, epoch=epoch, cache=cache)
        parts = [job.result() for job in jobs]
    payload = [RootTree(_pieces(layer, pieces_as)) for layer in packed]
    if pieces_as is compression:
        parts += [b"".join(cpio.archive(tree)) for tree in payload]
    else:
        parts += [pack(tree) for tree in payload]
    owners = RootTree(link_owners(layers))
    if len(owners):
        parts.append(pack(owners))
    if image is not None:
        # Last: when memory is too short for it, Linux has unpacked all that can say so.
        parts.append(b"".join(cpio.archive(RootTree([file(IMAGE_PATH, image, mode=0o400)]))))
    # The kernel wants a plain archive to begin at a multiple of 4, and skips zeros before any archive.
    return Initramfs(b"".join(part + b"\0" * (-len(part) % 4) for part in parts), packed)


def _pieces(layer: PackedLayer, compression: Compression) -> Iterator[Entry]:
    for number, piece in enumerate(layer.pieces):
        yield file(piece_name(layer.name, number, compression), piece, mode=0o400)


def piece_compression(compression: Compression) -> Compression:
    """How payload pieces are compressed when the initramfs is: busybox unpacks xz and gzip, not zstd."""
    return NONE if compression is ZSTD else compression
