from pathlib import Path

import pytest

from livebuilder.iso.loader import (
    PLACES,
    LoaderError,
    find_loader,
    isolinux_version,
    module_problem,
    read_loader,
    unpacked_core,
    wanted_names,
)

HOST = find_loader()
CORE = HOST.isolinux_bin.read_bytes()
LDLINUX = HOST.modules["ldlinux.c32"].read_bytes()


def place(root: Path, folders: tuple[str | Path, str | Path]) -> tuple[Path, Path]:
    first, second = (root / str(folder).lstrip("/") for folder in folders)
    for folder in {first, second}:
        folder.mkdir(parents=True)
    (first / "isolinux.bin").write_bytes(CORE)
    (second / "ldlinux.c32").write_bytes(LDLINUX)
    return first, second


def test_the_host_has_one_and_says_which() -> None:
    assert HOST.version.split()[0] >= "5"
    assert f"ISOLINUX {HOST.version}".encode() in CORE


@pytest.mark.parametrize("folders", PLACES)
def test_it_is_found_where_each_distribution_keeps_it(tmp_path: Path, folders: tuple[str, str]) -> None:
    first, second = place(tmp_path, folders)
    search = [(tmp_path / a.lstrip("/"), tmp_path / b.lstrip("/")) for a, b in PLACES]
    found = find_loader(search)
    assert (found.isolinux_bin, found.modules["ldlinux.c32"]) == (first / "isolinux.bin", second / "ldlinux.c32")
    assert found.version == HOST.version


def test_four_distributions_are_searched() -> None:
    folders = {folder for pair in PLACES for folder in pair}
    assert folders == {
        "/usr/lib/ISOLINUX", "/usr/lib/syslinux/modules/bios",  # Debian
        "/usr/share/syslinux",  # Fedora, Alpine
        "/usr/lib/syslinux/bios",  # Arch
    }  # fmt: skip


def test_none_at_all_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(LoaderError, match="not installed") as caught:
        find_loader([(tmp_path, tmp_path)])
    for package in ("isolinux syslinux-common", "syslinux-nonlinux", "pacman -S syslinux", "apk add syslinux"):
        assert package in (caught.value.hint or "")


def test_half_of_one_says_which_half_is_missing(tmp_path: Path) -> None:
    first, second = place(tmp_path, PLACES[0])
    (second / "ldlinux.c32").unlink()
    with pytest.raises(LoaderError, match=rf"incomplete: {second}/ldlinux.c32 is missing"):
        find_loader([(first, second)])


def test_a_complete_one_is_preferred_to_half_of_another(tmp_path: Path) -> None:
    half = place(tmp_path / "half", PLACES[0])
    (half[1] / "ldlinux.c32").unlink()
    whole = place(tmp_path / "whole", PLACES[2])
    assert find_loader([half, whole]).isolinux_bin.is_relative_to(whole[0])


def test_a_file_that_is_no_isolinux_is_refused(tmp_path: Path) -> None:
    first, second = place(tmp_path, PLACES[0])
    (first / "isolinux.bin").write_bytes(b"GRUB " * 1000)
    with pytest.raises(LoaderError, match=r"isolinux.bin is not ISOLINUX"):
        find_loader([(first, second)])


def test_a_module_of_another_build_is_refused(tmp_path: Path) -> None:
    """Made by renaming one of the names the module wants, which is what another version's module does."""
    first, second = place(tmp_path, PLACES[0])
    assert LDLINUX.count(b"\0syslinux_banner\0") == 1
    (second / "ldlinux.c32").write_bytes(LDLINUX.replace(b"\0syslinux_banner\0", b"\0syslinux_bannir\0"))
    with pytest.raises(LoaderError, match=r"does not belong to .*: it wants syslinux_bannir") as caught:
        find_loader([(first, second)])
    assert "same version" in (caught.value.hint or "")


def test_a_module_that_needs_another_module_is_not_ldlinux() -> None:
    menu = (HOST.modules["ldlinux.c32"].parent / "menu.c32").read_bytes()
    assert module_problem(menu, core=CORE) is not None
    assert module_problem(LDLINUX, core=CORE) is None


@pytest.mark.parametrize(
    "module",
    [
        b"",
        b"\x7fELF",
        LDLINUX[:4] + b"\2" + LDLINUX[5:],  # 64-bit, as EFI's ldlinux.e64 is
        LDLINUX[:18] + b"\x3e\0" + LDLINUX[20:],  # x86-64
        LDLINUX[: len(LDLINUX) // 2],
    ],
)
def test_a_module_that_is_none_is_a_problem_and_no_traceback(module: bytes) -> None:
    assert module_problem(module, core=CORE) == "it is not a module for a BIOS (a 32-bit ELF library)"


def test_an_isolinux_from_before_modules_is_refused(tmp_path: Path) -> None:
    old = b"\xfa" * 100 + b"ISOLINUX 4.05 2011-12-09 \0" + b"\x90" * 20000
    (tmp_path / "isolinux.bin").write_bytes(old)
    (tmp_path / "ldlinux.c32").write_bytes(LDLINUX)
    with pytest.raises(LoaderError, match=r"ISOLINUX 4.05 2011-12-09\): that ISOLINUX is not one that loads modules"):
        read_loader(tmp_path / "isolinux.bin", {"ldlinux.c32": tmp_path / "ldlinux.c32"})


def test_the_core_has_the_names_that_its_module_wants() -> None:
    core = unpacked_core(CORE)
    assert core is not None
    names = wanted_names(LDLINUX)
    assert b"syslinux_banner" in names
    assert b"inflateValidate" not in names, "which the module itself defines"
    assert all(name + b"\0" in core for name in names)


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (b"\0" * 64 + b"ISOLINUX 6.03 20171017 \0 Copyright", "6.03 20171017"),
        (b"ISOLINUX 3.86 2010-04-01 \r\n", "3.86 2010-04-01"),
        (b"ISOLINUX 6.04 lwIP \0", "6.04 lwIP"),
        (b"GRUB \0", None),
        (b"", None),
        (b"\0" * 0x5000 + b"ISOLINUX 6.03 \0", None),
    ],
)
def test_version(data: bytes, version: str | None) -> None:
    assert isolinux_version(data) == version
