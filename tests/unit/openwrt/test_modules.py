"""Another kernel's modules in OpenWrt's layout: flat, in order, listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.kernel.image import Kernel, kernel_from_files
from livebuilder.kernel.modules import ModuleIndex, module_tree
from livebuilder.openwrt.eras import ERAS, Era
from livebuilder.openwrt.modules import (
    ForeignModules,
    flatten,
    loadable_names,
    module_layer,
    wanted_by_root,
    without_modules,
)
from livebuilder.tree import RootTree, file, symlink
from tests.support.kernels import RELEASE, write_kernel

HOME = f"lib/modules/{RELEASE}"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return kernel_from_files(*write_kernel(tmp_path, suffix=".ko.xz"))


def test_modules_lie_flat_and_unpacked(kernel: Kernel) -> None:
    index = ModuleIndex.from_kernel(kernel)
    flat, dropped = flatten(module_tree(kernel, index, ["uhci-hcd", "r8169"]), RELEASE, name_limit=29)
    modules = [entry for entry in flat if entry.path.endswith(".ko")]
    assert [entry.path for entry in modules] == [
        f"{HOME}/{name}.ko" for name in ("ehci-hcd", "ehci-pci", "libphy", "r8169", "realtek", "uhci-hcd", "usbcore")
    ]
    assert all(entry.content.read().startswith(b"\x7fELF") for entry in modules)
    dep = flat[f"{HOME}/modules.dep"].content.read().decode().splitlines()
    assert (
        "uhci-hcd.ko: usbcore.ko ehci-pci.ko ehci-hcd.ko" in dep
        or "uhci-hcd.ko: ehci-pci.ko ehci-hcd.ko usbcore.ko" in dep
    )
    assert all("/" not in line for line in dep)
    assert dropped == ()


def test_what_is_flat_already_stays(kernel: Kernel) -> None:
    flat, _ = flatten(module_tree(kernel, ModuleIndex.from_kernel(kernel), ["ext4"]), RELEASE, name_limit=None)
    assert list(flatten(flat, RELEASE, name_limit=None)[0]) == list(flat)


def test_names_that_the_loader_cannot_hold_are_left_out_and_said(kernel: Kernel) -> None:
    tree = module_tree(kernel, ModuleIndex.from_kernel(kernel), ["crc32c_generic", "ext4"])
    flat, dropped = flatten(tree, RELEASE, name_limit=13)
    assert dropped == ("crc32c_generic",)
    assert f"{HOME}/ext4.ko" in flat and f"{HOME}/crc32c_generic.ko" not in flat


def test_a_list_is_in_the_order_of_loading_with_soft_dependencies(kernel: Kernel) -> None:
    index = ModuleIndex.from_kernel(kernel)
    paths = index.closure(["uhci-hcd", "8139too"])
    # ehci-pci has an alias for hardware; uhci-hcd and 8139too, in this test's kernel, have none.
    assert loadable_names(index, paths) == ("usbcore", "ehci-hcd", "ehci-pci")
    named = loadable_names(index, paths, named=["uhci_hcd"])
    assert named.index("ehci-pci") < named.index("uhci-hcd") and "8139too" not in named


def test_modules_bound_to_a_processor_are_in_no_list(kernel: Kernel) -> None:
    index = ModuleIndex.from_kernel(kernel)
    assert loadable_names(index, index.closure(["ext4"]), named=["ext4"]) == (
        "crc32c_generic",
        "jbd2",
        "mbcache",
        "ext4",
    )


def test_what_the_root_loads_itself() -> None:
    root = RootTree(
        [
            file("etc/modules.d/25-nf-conntrack", "nf_conntrack hashsize=8\nnf-defrag-ipv4\n\n# no\n"),
            file("etc/modules.d/ppp", "ppp_generic"),
            symlink("etc/modules-boot.d/30-fs", "../modules.d/30-fs"),
        ]
    )
    assert wanted_by_root(root) == ("nf_conntrack", "nf_defrag_ipv4", "ppp_generic")


def test_the_old_kernels_modules_leave_and_firmware_stays() -> None:
    root = RootTree(
        [
            file("lib/modules/4.14.63/a.ko", b""),
            file("lib/modules/4.14.63/b.ko", b""),
            file("lib/firmware/e100/x.bin", b""),
        ]
    )
    changed, (change,) = without_modules(root)
    assert [entry.path for entry in changed] == ["lib", "lib/firmware", "lib/firmware/e100", "lib/firmware/e100/x.bin",
                                                "lib/modules"]  # fmt: skip
    assert change.text == "2 modules leave: of Linux 4.14.63, which does not run here"
    assert without_modules(changed)[1] == ()


@pytest.mark.parametrize(("era", "early"), [(ERAS[0], False), (ERAS[-1], True)])
def test_the_lists_of_an_era(era: Era, early: bool) -> None:
    tree = RootTree([file(f"{HOME}/{name}.ko", b"") for name in ("usbcore", "ehci-pci", "r8169")])
    tree.overlay(RootTree([file(f"{HOME}/modules.{name}", "") for name in ("builtin", "dep")]))
    foreign = ForeignModules(RELEASE, tree, early=("usbcore", "ehci-pci"), late=("usbcore", "r8169"))
    layer, changes = module_layer(foreign, era=era)
    lists = {entry.path: entry.content.read().decode() for entry in layer if entry.parent.startswith("etc/modules")}
    if early:
        assert lists == {
            "etc/modules-boot.d/10-livebuilder": "usbcore\nehci-pci\n", "etc/modules.d/10-livebuilder": "r8169\n"
        }  # fmt: skip
    else:
        assert lists == {"etc/modules.d/10-livebuilder": "usbcore\nehci-pci\nr8169\n"}
    assert f"{HOME}/modules.builtin" not in layer and f"{HOME}/modules.dep" in layer
    assert changes[0].text == f"3 modules of Linux {RELEASE} are in /{HOME}, flat"
