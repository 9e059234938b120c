"""A Linux kernel to boot: its image, its modules, and what it can unpack.

An x86 image (Documentation/arch/x86/boot.rst) is a real-mode part of `setup_sects + 1` sectors, which holds the setup
header, and a protected-mode part of `syssize` paragraphs, which holds the compressed kernel as its payload:

    0x1f1  setup_sects      u8   sectors of 512 bytes after the first; 0 means 4
    0x1f4  syssize          u32  protected-mode part in units of 16 bytes
    0x1fe  boot_flag        u16  0xaa55
    0x202  header           4    "HdrS"
    0x206  version          u16  boot protocol, 0x0208 or later has a payload
    0x20e  kernel_version   u16  where the version text is, less 0x200; 0 when there is none
    0x211  loadflags        u8   bit 0: loaded high, that is a bzImage
    0x236  xloadflags       u16  bit 0: has a 64-bit entry point (protocol 0x020c, Linux 3.8)
    0x248  payload_offset   u32  from the start of the protected-mode part
    0x24c  payload_length   u32
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.kernel.config import parse_config
from livebuilder.kernel.modinfo import is_module, read_modinfo
from livebuilder.tree import Content, Entry, Kind, RootTree
from livebuilder.unpacking import PackingError, packing_of, unpack

# How an initramfs may be packed, and the kernel option that says it can be unpacked (usr/Kconfig).
COMPRESSION_OPTIONS = {"gzip": "CONFIG_RD_GZIP", "xz": "CONFIG_RD_XZ", "zstd": "CONFIG_RD_ZSTD"}

_SECTOR = 512
_CONFIG_START = b"IKCFG_ST"  # kernel/configs.c: this marker, then a gzip stream
_MOST_BYTES = 256 * 1024 * 1024  # of an unpacked kernel; Debian's has 30 MB
# The texts beside the modules that we read; the rest there (.bin files, links to sources) is for other programs.
_INDEX_NAMES = re.compile(r"modules\.(dep|alias|softdep|order|builtin|builtin\.modinfo)")


@dataclass(frozen=True)
class BzImage:
    """What the header of a kernel image says. `payload` is the compressed kernel, not yet unpacked."""

    protocol: tuple[int, int]
    version_text: str  # "6.1.0-50-686 (debian-kernel@lists.debian.org) #1 SMP …"
    payload: bytes
    compression: str  # of the payload: gzip xz zstd bzip2 lzma lz4 lzo none, or "unknown"

    @property
    def release(self) -> str:
        """What `uname -r` will print."""
        return self.version_text.split(" ", 1)[0]


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot. `modules` is relative to lib/modules/RELEASE (`modules.dep`, `kernel/fs/ext4/ext4.ko`).

    `config` is None when nobody can tell it; `source` says in the manifest where the kernel came from.
    """

    image: Content
    release: str
    modules: RootTree
    config: Mapping[str, str] | None
    source: str


def read_bzimage(data: bytes, *, source: str = "the kernel image") -> BzImage:
    """The header of a kernel image; raises `LivebuilderError` naming `source` when it is none, or is cut short."""
    if len(data) < 0x250 or data[0x202:0x206] != b"HdrS" or data[0x1FE:0x200] != b"\x55\xaa":
        raise LivebuilderError(
            f"{source} is not a Linux kernel for x86: it has no boot header",
            hint="give the bzImage that a boot loader loads, usually called vmlinuz, not vmlinux or an archive",
        )
    (version,) = struct.unpack_from("<H", data, 0x206)
    if not data[0x211] & 1 or version < 0x0208:
        raise LivebuilderError(
            f"{source} is an x86 kernel of boot protocol {version >> 8}.{version & 0xFF:02},"
            " and livebuilder needs a bzImage of 2.08 or later (Linux 2.6.25)"
        )
    protected = ((data[0x1F1] or 4) + 1) * _SECTOR
    paragraphs, text_at = struct.unpack_from("<I", data, 0x1F4)[0], struct.unpack_from("<H", data, 0x20E)[0]
    offset, length = struct.unpack_from("<II", data, 0x248)
    if len(data) < protected + 16 * paragraphs:
        raise LivebuilderError(
            f"{source} is cut short: it should have {protected + 16 * paragraphs} bytes and has {len(data)}",
            hint="copy or download it again",
        )
    if offset + length > 16 * paragraphs:
        raise LivebuilderError(f"{source} is damaged: its compressed kernel would lie outside of it")
    text = data[text_at + 0x200 : protected].split(b"\0", 1)[0] if text_at else b""
    if not text or not text.isascii() or not text.decode().isprintable():
        raise LivebuilderError(f"{source} does not say which version it is, so its modules cannot be told")
    payload = data[protected + offset : protected + offset + length]
    return BzImage((version >> 8, version & 0xFF), text.decode(), payload, packing_of(payload))


def embedded_config(data: bytes, *, source: str = "the kernel image") -> dict[str, str] | None:
    """The configuration inside an image built with CONFIG_IKCONFIG, as `parse_config` gives it.

    None when it holds none, or is packed with lz4 or lzo, which Python cannot unpack. Raises `LivebuilderError`
    when the image is damaged.
    """
    image = read_bzimage(data, source=source)
    try:
        plain = unpack(image.payload, most_bytes=_MOST_BYTES) or b""
        start = plain.find(_CONFIG_START + b"\x1f\x8b")
        if start < 0:
            return None
        config = unpack(plain[start + len(_CONFIG_START) :], most_bytes=_MOST_BYTES) or b""
    except PackingError as error:
        raise LivebuilderError(f"{source} is damaged: {error.message}") from error
    return parse_config(config.decode("utf-8", "replace"))


def is_64_bit(kernel: Kernel) -> bool:
    """Whether it runs on 64-bit processors only: by its configuration, or by the header of its image."""
    config = kernel.config or {}
    for option, answer in (("CONFIG_X86_64", True), ("CONFIG_X86_32", False)):
        if config.get(option) == "y":
            return answer
    header = kernel.image.read()[:0x250]
    version, flags = struct.unpack_from("<H", header, 0x206)[0], struct.unpack_from("<H", header, 0x236)[0]
    return version >= 0x020C and bool(flags & 1)


def architectures(kernel: Kernel) -> tuple[str, ...]:
    """Whose programs it runs, by Debian's names (`i386`, `amd64`), its own first."""
    if not is_64_bit(kernel):
        return ("i386",)
    can_tell, emulates = kernel.config is not None, (kernel.config or {}).get("CONFIG_IA32_EMULATION") == "y"
    return ("amd64",) if can_tell and not emulates else ("amd64", "i386")


def unpackable_compressions(kernel: Kernel) -> frozenset[str] | None:
    """How an initramfs for this kernel may be packed: `none` and those of gzip, xz, zstd it has; None = cannot tell."""
    config = kernel.config
    if config is None:
        return None
    return frozenset({"none"} | {name for name, option in COMPRESSION_OPTIONS.items() if config.get(option) == "y"})


def lacks_for_squashfs(kernel: Kernel) -> str | None:
    """Why this kernel cannot have a squashfs packed with xz, under an overlay, as its root; None when it can.

    Empty when it does not say: its version will do, and it has no configuration.
    """
    version = re.match(r"(\d+)", kernel.release)
    if version is None or int(version[1]) < 4:
        return f"Linux {kernel.release} has no overlay of several layers, which came with 4.0"
    if kernel.config is None:
        return ""
    lacking = [
        option
        for option, values in (("CONFIG_SQUASHFS", ("y", "m")), ("CONFIG_SQUASHFS_XZ", ("y",)))
        if kernel.config.get(option) not in values
    ]
    return (
        f"kernel {kernel.release} cannot read a squashfs packed with xz: without {' and '.join(lacking)}"
        if lacking
        else None
    )


def kernel_from_files(image: Path, modules: Path) -> Kernel:
    """A kernel the user has: an image, and its modules as they lie in lib/modules/RELEASE.

    The configuration is `config-RELEASE` beside the image, or `config` among the modules, else the one embedded in
    the image. Raises `LivebuilderError` when the image is missing or no kernel, or the modules are of another version.
    """
    content = _existing_file(image)
    data = content.read()
    release = read_bzimage(data, source=str(image)).release
    tree = read_modules(modules)
    _verify_release(tree, release, image=image, modules=modules)
    for beside in (image.with_name(f"config-{release}"), modules / "config"):
        if beside.is_file():
            config: dict[str, str] | None = parse_config(beside.read_text("utf-8", "replace"))
            break
    else:
        config = embedded_config(data, source=str(image))
    return Kernel(content, release, tree, config, str(image))


def read_modules(folder: Path) -> RootTree:
    """The modules below a folder and the texts that index them; raises `LivebuilderError` when it is no folder."""
    if not folder.is_dir():
        raise LivebuilderError(
            f"the kernel modules {folder} are not there", hint="give the folder lib/modules/VERSION of the kernel"
        )
    try:
        return RootTree(_module_files(os.fspath(folder), ""))
    except OSError as error:
        raise LivebuilderError(f"the kernel modules {folder} cannot be read: {error.strerror}") from error


def _module_files(folder: str, below: str) -> Iterator[Entry]:
    with os.scandir(folder) as found:
        for item in found:
            path = f"{below}{item.name}"
            if item.is_dir(follow_symlinks=False):
                yield from _module_files(item.path, f"{path}/")
            elif (is_module(path) or _INDEX_NAMES.fullmatch(path)) and item.is_file():
                content = Content(item.stat().st_size, None, Path(item.path))
                yield Entry(path, Kind.FILE, 0o644, content=content, source=item.path)


def _existing_file(image: Path) -> Content:
    try:
        with image.open("rb"):
            return Content.from_file(image)
    except OSError as error:
        raise LivebuilderError(
            f"the kernel {image} cannot be read: {error.strerror}", hint="name a kernel image (bzImage, vmlinuz)"
        ) from error


def _verify_release(tree: RootTree, release: str, *, image: Path, modules: Path) -> None:
    """Ask one module which kernel it was made for; a folder without any (all built in) goes by its name."""
    first = next((entry for entry in tree if is_module(entry.path)), None)
    made_for = modules.resolve().name
    if first is not None:
        vermagic = read_modinfo(first.content.read(), source=first.source).get("vermagic", ("",))[0]
        made_for = vermagic.split(" ", 1)[0] or made_for
    if made_for != release:
        raise LivebuilderError(
            f"the modules in {modules} are for Linux {made_for}, but {image} is Linux {release}",
            hint=f"give the folder lib/modules/{release}",
        )
