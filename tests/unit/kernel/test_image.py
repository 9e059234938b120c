"""Kernel images are read by their header; whatever is wrong with one is an error a person can act on."""

import random
from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.kernel.image import (
    Kernel,
    architectures,
    embedded_config,
    is_64_bit,
    kernel_from_files,
    lacks_for_squashfs,
    read_bzimage,
    unpackable_compressions,
)
from livebuilder.tree import Content, RootTree
from tests.support.kernels import CONFIG, RELEASE, bzimage, module_bytes, pack, vmlinux, write_kernel, write_modules
from tests.support.kernels import MODULES as FAKE_MODULES

PARSED = {
    "CONFIG_RD_GZIP": "y",
    "CONFIG_RD_XZ": "y",
    "CONFIG_DEFAULT_HOSTNAME": '"(none)"',
    "CONFIG_EXT4_FS": "m",
}


def test_the_header_gives_version_and_payload() -> None:
    image = read_bzimage(bzimage(packing="xz"))
    assert (image.release, image.protocol, image.compression) == (RELEASE, (2, 15), "xz")
    assert image.version_text == f"{RELEASE} (someone@example.org) #1 SMP"
    assert image.payload.startswith(pack(vmlinux(), "xz"))


@pytest.mark.parametrize("packing", ["gzip", "xz", "lzma", "bzip2", "zstd", "none"])
def test_the_embedded_config_is_found_however_the_kernel_is_packed(packing: str) -> None:
    assert embedded_config(bzimage(packing=packing)) == PARSED


@pytest.mark.parametrize(("packing", "config"), [("gzip", None), ("lz4", CONFIG)])
def test_no_config_and_a_packing_python_lacks_are_told_as_none(packing: str, config: str | None) -> None:
    assert embedded_config(bzimage(packing=packing, config=config)) is None


def test_a_kernel_from_files(tmp_path: Path) -> None:
    image, modules = write_kernel(tmp_path)
    (modules / "build").symlink_to(tmp_path)  # a link to sources must not be followed
    (modules / "modules.dep.bin").write_bytes(b"for kmod")
    kernel = kernel_from_files(image, modules)
    assert kernel.release == RELEASE
    assert kernel.config == PARSED
    assert kernel.image.read() == image.read_bytes()
    assert kernel.source == str(image)
    paths = {entry.path for entry in kernel.modules if entry.content.size}
    assert paths == {f"{module.path}.ko" for module in FAKE_MODULES} | {
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    }
    assert kernel.modules["kernel/fs/ext4/ext4.ko"].content.read() == module_bytes(
        next(module for module in FAKE_MODULES if module.path.endswith("/ext4"))
    )


@pytest.mark.parametrize("where", ["boot/config-{release}", "lib/modules/{release}/config"])
def test_a_config_file_beside_the_kernel_serves_when_none_is_embedded(tmp_path: Path, where: str) -> None:
    image, modules = write_kernel(tmp_path, config=None)
    assert kernel_from_files(image, modules).config is None
    (tmp_path / where.format(release=RELEASE)).write_text("CONFIG_RD_ZSTD=y\n# CONFIG_RD_XZ is not set\n")
    assert unpackable_compressions(kernel_from_files(image, modules)) == frozenset({"none", "zstd"})


def test_what_the_kernel_can_unpack(tmp_path: Path) -> None:
    image, modules = write_kernel(tmp_path)
    assert unpackable_compressions(kernel_from_files(image, modules)) == frozenset({"none", "gzip", "xz"})
    image.write_bytes(bzimage(config=None))
    assert unpackable_compressions(kernel_from_files(image, modules)) is None


@pytest.mark.parametrize(
    ("header", "is_64"),
    [
        ({"config": "CONFIG_X86_64=y\n"}, True),
        ({"config": "CONFIG_X86_32=y\n", "xloadflags": 1}, False),
        ({"config": None, "xloadflags": 0x3F}, True),
        ({"config": None, "xloadflags": 2}, False),
        ({"config": None, "xloadflags": 1, "protocol": 0x020B}, False),  # before there was such a field
    ],
)
def test_whether_it_is_for_64_bits(tmp_path: Path, header: dict[str, object], is_64: bool) -> None:
    assert is_64_bit(kernel_from_files(*write_kernel(tmp_path, **header))) is is_64  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "runs"),
    [
        ({"config": "CONFIG_X86_32=y\n"}, ("i386",)),
        ({"config": "CONFIG_X86_64=y\nCONFIG_IA32_EMULATION=y\n"}, ("amd64", "i386")),
        ({"config": "CONFIG_X86_64=y\n"}, ("amd64",)),
        ({"config": None, "xloadflags": 1}, ("amd64", "i386")),  # nobody can tell
    ],
)
def test_whose_programs_it_runs(tmp_path: Path, header: dict[str, object], runs: tuple[str, ...]) -> None:
    assert architectures(kernel_from_files(*write_kernel(tmp_path, **header))) == runs  # type: ignore[arg-type]


def test_what_a_configuration_leaves_open_the_header_says(tmp_path: Path) -> None:
    """As with OpenWrt's own kernels, of whose configuration only some words are known."""
    kernel = kernel_from_files(*write_kernel(tmp_path, config=None, xloadflags=1))
    assert architectures(replace(kernel, config={"CONFIG_EXT4_FS": "y"})) == ("amd64",)


@pytest.mark.parametrize(
    ("release", "config", "lacking"),
    [
        ("6.1.0-50-686", {"CONFIG_SQUASHFS": "m", "CONFIG_SQUASHFS_XZ": "y"}, None),
        ("5.15.150", {"CONFIG_SQUASHFS": "y", "CONFIG_SQUASHFS_XZ": "y"}, None),
        ("5.15.150", {"CONFIG_SQUASHFS": "y"}, "cannot read a squashfs packed with xz: without CONFIG_SQUASHFS_XZ"),
        ("6.1.0", {}, "without CONFIG_SQUASHFS and CONFIG_SQUASHFS_XZ"),
        ("6.1.0", None, ""),
        ("3.18.23", None, "Linux 3.18.23 has no overlay of several layers, which came with 4.0"),
        ("3.18.23", {"CONFIG_SQUASHFS": "y", "CONFIG_SQUASHFS_XZ": "y"}, "has no overlay of several layers"),
    ],
)
def test_what_a_kernel_lacks_for_a_squashfs(release: str, config: dict[str, str] | None, lacking: str | None) -> None:
    kernel = Kernel(Content.from_bytes(b""), release, RootTree(), config, "test")
    found = lacks_for_squashfs(kernel)
    assert found == lacking if not lacking else found is not None and lacking in found


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is not a Linux kernel"),
        (b"MZ" + bytes(4000), "is not a Linux kernel"),
        (vmlinux(), "is not a Linux kernel"),
        (bzimage(loadflags=0), "protocol 2.15"),
        (bzimage(protocol=0x0207), "protocol 2.07"),
        (bzimage()[:-2000], "is cut short"),
        (bzimage()[:0x24C] + b"\xff\xff\xff\x7f" + bzimage()[0x250:], "is damaged"),
        (bzimage()[:0x20E] + b"\0\0" + bzimage()[0x210:], "does not say which version"),
    ],
)
def test_what_is_no_kernel_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    image, modules = write_kernel(tmp_path)
    image.write_bytes(data)
    with pytest.raises(LivebuilderError, match=words) as refused:
        kernel_from_files(image, modules)
    assert str(image) in refused.value.message


def test_a_damaged_payload_is_refused(tmp_path: Path) -> None:
    data = bytearray(bzimage(packing="xz"))
    data[len(data) - 200] ^= 0xFF
    with pytest.raises(LivebuilderError, match="is damaged"):
        embedded_config(bytes(data))


def test_missing_files_are_named(tmp_path: Path) -> None:
    image, modules = write_kernel(tmp_path)
    with pytest.raises(LivebuilderError, match=r"nothing cannot be read: No such file"):
        kernel_from_files(tmp_path / "nothing", modules)
    with pytest.raises(LivebuilderError, match="cannot be read: Is a directory"):
        kernel_from_files(tmp_path, modules)
    with pytest.raises(LivebuilderError, match=r"nothing are not there"):
        kernel_from_files(image, tmp_path / "nothing")


def test_modules_of_another_version_are_refused(tmp_path: Path) -> None:
    image, _modules = write_kernel(tmp_path)
    other = write_modules(tmp_path / "lib/modules/5.10.0-1-686", release="5.10.0-1-686")
    with pytest.raises(
        LivebuilderError, match=r"are for Linux 5\.10\.0-1-686, but .* is Linux 6\.1\.0-test"
    ) as refused:
        kernel_from_files(image, other)
    assert refused.value.hint == f"give the folder lib/modules/{RELEASE}"


def test_the_modules_themselves_decide_not_the_name_of_their_folder(tmp_path: Path) -> None:
    image, _modules = write_kernel(tmp_path)
    assert kernel_from_files(image, write_modules(tmp_path / "my-modules")).release == RELEASE
    lying = write_modules(tmp_path / "elsewhere" / RELEASE, release="5.10.0-1-686")
    with pytest.raises(LivebuilderError, match=r"are for Linux 5\.10\.0-1-686"):
        kernel_from_files(image, lying)


def test_without_any_module_the_folder_must_have_the_name(tmp_path: Path) -> None:
    image, _modules = write_kernel(tmp_path)
    assert kernel_from_files(image, write_modules(tmp_path / "m" / RELEASE, modules=())).release == RELEASE
    with pytest.raises(LivebuilderError, match="are for Linux empty"):
        kernel_from_files(image, write_modules(tmp_path / "empty", modules=()))


@pytest.mark.parametrize("packing", ["gzip", "xz", "zstd", "bzip2", "lzma"])
def test_mutated_images_give_errors_never_tracebacks(packing: str) -> None:
    chance = random.Random(f"kernel {packing}")
    whole = bzimage(packing=packing)
    refused = 0
    for _ in range(200):
        data = bytearray(whole)
        if chance.random() < 0.3:
            del data[chance.randrange(len(data)) :]
        else:
            first, last = chance.choice([(0x1F1, 0x250), (0x1F1, 0x250), (4 * 512, len(data))])
            for _ in range(chance.randint(1, 8)):
                data[chance.randrange(first, last)] = chance.randrange(256)
        try:
            embedded_config(bytes(data))
        except LivebuilderError:
            refused += 1
    assert refused > 60
