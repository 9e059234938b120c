"""Kernels made by code: files of the shape of a bzImage and of its modules. Nothing here can run."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import zstandard

RELEASE = "6.1.0-test-686"

CONFIG = """# Linux/x86 6.1.0 Kernel Configuration
CONFIG_RD_GZIP=y
CONFIG_RD_XZ=y
# CONFIG_RD_ZSTD is not set
CONFIG_DEFAULT_HOSTNAME="(none)"
CONFIG_EXT4_FS=m
"""


def pack(data: bytes, packing: str) -> bytes:
    """`data` packed as a kernel's build would."""
    match packing:
        case "gzip":
            return gzip.compress(data, mtime=0)
        case "xz":
            return lzma.compress(data, lzma.FORMAT_XZ, check=lzma.CHECK_CRC32, preset=0)
        case "lzma":
            return lzma.compress(data, lzma.FORMAT_ALONE, preset=0)
        case "bzip2":
            return bz2.compress(data)
        case "zstd":
            return zstandard.ZstdCompressor(write_checksum=True).compress(data)
        case "lz4":
            return b"\x02\x21\x4c\x18" + data
        case _:
            return data


def vmlinux(config: str | None = CONFIG) -> bytes:
    """What a kernel unpacks to: the marker of CONFIG_IKCONFIG stands somewhere in the middle."""
    embedded = b"" if config is None else b"IKCFG_ST" + gzip.compress(config.encode(), mtime=0) + b"IKCFG_ED"
    code = bytes(range(256)) * 40
    return b"\x7fELF" + code + b"the marker is IKCFG_ST, says a message" + embedded + code


def bzimage(
    *,
    release: str = RELEASE,
    packing: str = "gzip",
    config: str | None = CONFIG,
    protocol: int = 0x020F,
    loadflags: int = 1,
    xloadflags: int = 0,
    payload: bytes | None = None,
) -> bytes:
    """A kernel image: four sectors of setup, then 64 bytes of "code", then the payload and its size."""
    setup_sects, text_at = 3, 0x400
    packed = pack(vmlinux(config), packing) if payload is None else payload
    packed += struct.pack("<I", len(vmlinux(config)))
    protected = bytes(64) + packed
    protected += bytes(-len(protected) % 16)
    setup = bytearray((setup_sects + 1) * 512)
    setup[0x1F1] = setup_sects
    struct.pack_into("<I", setup, 0x1F4, len(protected) // 16)
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    struct.pack_into("<H", setup, 0x20E, text_at - 0x200)
    setup[0x211] = loadflags
    struct.pack_into("<H", setup, 0x236, xloadflags)
    struct.pack_into("<II", setup, 0x248, 64, len(packed))
    text = f"{release} (someone@example.org) #1 SMP\0".encode()
    setup[text_at : text_at + len(text)] = text
    return bytes(setup) + protected


@dataclass(frozen=True)
class FakeModule:
    """A module to write: its path below lib/modules/RELEASE without `.ko`, and what its .modinfo says."""

    path: str
    depends: Sequence[str] = ()
    aliases: Sequence[str] = ()
    softdeps: Sequence[str] = ()


def module_bytes(module: FakeModule, *, release: str = RELEASE, bits: int = 32) -> bytes:
    """An ELF file with the sections .modinfo and .shstrtab."""
    words = [f"alias={alias}" for alias in module.aliases] + [f"softdep={softdep}" for softdep in module.softdeps]
    words += [f"depends={','.join(module.depends)}", f"vermagic={release} SMP preempt mod_unload 686 "]
    modinfo = b"".join(word.encode() + b"\0" for word in words)
    names = b"\0.modinfo\0.shstrtab\0"
    header_size, section_size = (52, 40) if bits == 32 else (64, 64)
    table = header_size + len(modinfo) + len(names)
    header = bytearray(header_size)
    header[:7] = b"\x7fELF" + bytes([1 if bits == 32 else 2, 1, 1])
    struct.pack_into("<I" if bits == 32 else "<Q", header, 0x20 if bits == 32 else 0x28, table)
    struct.pack_into("<3H", header, 0x2E if bits == 32 else 0x3A, section_size, 3, 2)
    sections = [(0, 0, 0, 0, 0, 0), (1, 1, 2, 0, header_size, len(modinfo))]
    sections.append((10, 3, 0, 0, header_size + len(modinfo), len(names)))
    shape = "<6I" if bits == 32 else "<2I4Q"
    rows = b"".join(struct.pack(shape, *section).ljust(section_size, b"\0") for section in sections)
    return bytes(header) + modinfo + names + rows


# What ext4, uhci-hcd, r8169 and uas look like in Debian 12, cut down: hard and soft dependencies, an alias that two
# modules answer to, one of which wants a processor of its own.
MODULES = (
    FakeModule("kernel/drivers/block/loop", aliases=["block-major-7-*"]),
    FakeModule("kernel/crypto/crc32c_generic", aliases=["crc32c", "crypto-crc32c", "crypto-crc32c-generic"]),
    FakeModule(
        "kernel/arch/x86/crypto/crc32c-intel",
        aliases=["crc32c", "crypto-crc32c", "cpu:type:x86,ven*fam*mod*:feature:*0094*"],
    ),
    FakeModule("kernel/fs/mbcache"),
    FakeModule("kernel/fs/jbd2/jbd2", softdeps=["pre: crypto-crc32c"]),
    FakeModule(
        "kernel/fs/ext4/ext4",
        depends=["jbd2", "mbcache"],
        aliases=["fs-ext4", "fs-ext2"],
        softdeps=["pre: crypto-crc32c"],
    ),
    FakeModule("kernel/drivers/usb/core/usbcore"),
    FakeModule("kernel/drivers/usb/host/ehci-hcd", depends=["usbcore"]),
    FakeModule("kernel/drivers/usb/host/ehci-pci", depends=["ehci-hcd", "usbcore"], aliases=["pci:v*d*sv*sd*bc0Ci20*"]),
    FakeModule("kernel/drivers/usb/host/uhci-hcd", depends=["usbcore"], softdeps=["pre: ehci_pci"]),
    FakeModule("kernel/drivers/net/phy/libphy"),
    FakeModule("kernel/drivers/net/phy/realtek", depends=["libphy"]),
    FakeModule("kernel/drivers/net/ethernet/realtek/r8169", depends=["libphy"], softdeps=["pre: realtek"]),
    FakeModule("kernel/drivers/net/ethernet/realtek/8139too"),
    FakeModule("kernel/net/mpls/mpls_iptunnel", softdeps=["post: mpls_gso nosuch"]),
    FakeModule("kernel/net/mpls/mpls_gso", softdeps=["post: mpls_iptunnel"]),
)
BUILTIN = ("kernel/drivers/input/serio/i8042.ko", "kernel/crypto/sha256_generic.ko")
BUILTIN_MODINFO = b"i8042.license=GPL\0sha256_generic.alias=crypto-sha256\0sha256_generic.file=crypto/sha256_generic\0"


def write_modules(
    folder: Path,
    *,
    modules: Sequence[FakeModule] = MODULES,
    release: str = RELEASE,
    suffix: str = ".ko",
    bits: int = 32,
    extra: Mapping[str, str] | None = None,
) -> Path:
    """Debian's folder lib/modules/RELEASE, as the package has it: without what depmod makes. Returns `folder`."""
    packing = {".ko": "none", ".ko.xz": "xz", ".ko.gz": "gzip", ".ko.zst": "zstd"}[suffix]
    for module in modules:
        path = folder / f"{module.path}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pack(module_bytes(module, release=release, bits=bits), packing))
    texts = {
        "modules.order": "".join(f"{module.path}.ko\n" for module in reversed(modules)),
        "modules.builtin": "".join(f"{path}\n" for path in BUILTIN),
        **(extra or {}),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "modules.builtin.modinfo").write_bytes(BUILTIN_MODINFO)
    return folder


def write_kernel(folder: Path, *, release: str = RELEASE, suffix: str = ".ko", **image: object) -> tuple[Path, Path]:
    """`boot/vmlinuz` and `lib/modules/RELEASE` in `folder`."""
    vmlinuz = folder / "boot/vmlinuz"
    vmlinuz.parent.mkdir(parents=True, exist_ok=True)
    vmlinuz.write_bytes(bzimage(release=release, **image))  # type: ignore[arg-type]
    return vmlinuz, write_modules(folder / "lib/modules" / release, release=release, suffix=suffix)
