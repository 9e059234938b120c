"""Choosing modules: the closure and its order, features, and the index files of the tree that is written."""

import shutil
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.kernel.image import Kernel, kernel_from_files, read_modules
from livebuilder.kernel.modules import FeaturePattern, ModuleIndex, indexed, module_tree, parse_feature
from livebuilder.tree import RootTree
from tests.support.kernels import BUILTIN, RELEASE, FakeModule, write_kernel, write_modules

HOME = f"lib/modules/{RELEASE}"


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    return kernel_from_files(*write_kernel(tmp_path))


@pytest.fixture
def index(kernel: Kernel) -> ModuleIndex:
    return ModuleIndex.from_kernel(kernel)


def text(tree: RootTree, name: str) -> str:
    return tree[f"{HOME}/modules.{name}"].content.read().decode()


def dependencies(tree: RootTree) -> dict[str, list[str]]:
    """modules.dep as busybox reads it: what each module has loaded before it, in that order."""
    found = {}
    for line in text(tree, "dep").splitlines():
        path, _colon, needed = line.partition(":")
        found[ModuleIndex.names([path])[0]] = list(ModuleIndex.names(reversed(needed.split())))
    return found


def test_hard_and_soft_dependencies_come_first(index: ModuleIndex) -> None:
    names = index.names(index.closure(["ext4"]))
    assert set(names) == {"crc32c_generic", "crc32c_intel", "jbd2", "mbcache", "ext4"}
    assert names[-1] == "ext4"
    assert names.index("crc32c_generic") < names.index("jbd2")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["loop"], ["loop"]),
        (["uhci-hcd"], ["usbcore", "ehci_hcd", "ehci_pci", "uhci_hcd"]),
        (["uhci_hcd", "ehci_hcd"], ["usbcore", "ehci_hcd", "ehci_pci", "uhci_hcd"]),
        (["r8169"], ["libphy", "realtek", "r8169"]),
        (["fs-ext4", "loop"], ["crc32c_generic", "crc32c_intel", "jbd2", "mbcache", "ext4", "loop"]),
        (["kernel/drivers/block/loop.ko"], ["loop"]),
        (["i8042", "crypto-sha256", "sha256-generic"], []),
        (["mpls_iptunnel"], ["mpls_iptunnel", "mpls_gso"]),  # post; and round in a circle
        (["mpls_gso"], ["mpls_gso", "mpls_iptunnel"]),
        ([], []),
    ],
)
def test_closures(index: ModuleIndex, wanted: list[str], expected: list[str]) -> None:
    got = list(index.names(index.closure(wanted)))
    assert sorted(got) == sorted(expected)
    pairs = [("usbcore", "ehci_hcd"), ("ehci_pci", "uhci_hcd"), ("libphy", "realtek"), ("realtek", "r8169")]
    pairs += [("jbd2", "ext4")]
    assert all(got.index(a) < got.index(b) for a, b in pairs if a in got and b in got)
    if wanted[:1] == ["mpls_iptunnel"]:
        assert got == expected


def test_what_the_kernel_lacks_is_named_with_the_kernel_and_near_names(index: ModuleIndex) -> None:
    with pytest.raises(LivebuilderError) as refused:
        index.closure(["ext4", "8139to", "nonsense"])
    assert refused.value.message == (
        f"the kernel {RELEASE} lacks these modules, loadable or built in: 8139to, nonsense"
    )
    assert refused.value.hint is not None
    assert "8139too" in refused.value.hint


def patterns(lines: str) -> tuple[FeaturePattern, ...]:
    return parse_feature(lines)


def test_feature_lines() -> None:
    assert patterns("# words\n\nloop # why\n?uas\n? ohci-pci\ndrivers/net/*\n") == (
        FeaturePattern("loop"),
        FeaturePattern("uas", optional=True),
        FeaturePattern("ohci-pci", optional=True),
        FeaturePattern("drivers/net/*"),
    )


def test_features_expand_to_what_they_name(index: ModuleIndex) -> None:
    assert index.names(index.expand("f", patterns("uhci-hcd\ni8042\n?nosuch\nloop"))) == ("uhci_hcd", "loop")
    assert index.names(index.expand("f", patterns("drivers/net/ethernet/realtek/*"))) == ("8139too", "r8169")
    assert index.expand("f", patterns("drivers/input/serio/*")) == ()  # built in


@pytest.mark.parametrize(
    ("lines", "lacking"),
    [
        ("loop\nnosuch", "this module the feature f needs, loadable or built in: nosuch"),
        ("loop\ndrivers/gpu/*", "this module the feature f needs, loadable or built in: drivers/gpu/*"),
        ("?one\n?two", "these modules the feature f needs, loadable or built in: one, two"),
    ],
)
def test_a_feature_the_kernel_lacks_is_refused(index: ModuleIndex, lines: str, lacking: str) -> None:
    with pytest.raises(LivebuilderError) as refused:
        index.expand("f", patterns(lines))
    assert refused.value.message == f"the kernel {RELEASE} lacks {lacking}"


def test_the_tree_holds_the_closure_and_nothing_else(kernel: Kernel, index: ModuleIndex) -> None:
    tree = module_tree(kernel, index, ["ext4", "loop"])
    modules = {path for path in (entry.path for entry in tree if entry.content.size) if path.endswith(".ko")}
    assert modules == {f"{HOME}/{path}" for path in index.closure(["ext4", "loop"])}
    assert tree[f"{HOME}/kernel/fs/ext4/ext4.ko"].content == kernel.modules["kernel/fs/ext4/ext4.ko"].content
    assert text(tree, "builtin").split() == list(BUILTIN)
    assert text(tree, "order").split() == [
        path
        for path in kernel.modules["modules.order"].content.read().decode().split()
        if path in index.closure(["ext4", "loop"])
    ]
    assert "alias crypto-crc32c crc32c_generic\n" in text(tree, "alias")
    assert text(tree, "softdep") == "softdep ext4 pre: crypto-crc32c\nsoftdep jbd2 pre: crypto-crc32c\n"
    assert "ehci" not in text(tree, "alias") + text(tree, "dep")


def test_soft_dependencies_become_hard_ones_where_they_can_never_fail(kernel: Kernel, index: ModuleIndex) -> None:
    needed = dependencies(module_tree(kernel, index, ["ext4", "uhci-hcd", "r8169"]))
    # crc32c_intel, which refuses to load without SSE4.2, would take ext4 down with it.
    assert sorted(needed["ext4"]) == ["crc32c_generic", "jbd2", "mbcache"]
    assert needed["ext4"].index("crc32c_generic") < needed["ext4"].index("jbd2")
    assert needed["jbd2"] == ["crc32c_generic"]
    assert needed["uhci_hcd"] == ["usbcore", "ehci_hcd", "ehci_pci"]
    assert needed["r8169"] == ["libphy", "realtek"]
    assert needed["crc32c_intel"] == []


@pytest.mark.parametrize("suffix", [".ko.xz", ".ko.gz", ".ko.zst"])
def test_packed_modules(tmp_path: Path, suffix: str) -> None:
    kernel = kernel_from_files(*write_kernel(tmp_path, suffix=suffix))
    index = ModuleIndex.from_kernel(kernel)
    assert index.names(index.expand("f", patterns("drivers/net/phy/*"))) == ("libphy", "realtek")
    tree = module_tree(kernel, index, ["ext4"])
    kept = ".ko" if suffix == ".ko.zst" else suffix  # busybox unpacks the other two itself
    content = tree[f"{HOME}/kernel/fs/ext4/ext4{kept}"].content.read()
    assert content[:4] == (
        b"\x7fELF" if kept == ".ko" else kernel.modules[f"kernel/fs/ext4/ext4{kept}"].content.read()[:4]
    )
    assert dependencies(tree)["ext4"].count("jbd2") == 1
    assert all(line.partition(":")[0].endswith(kept) for line in text(tree, "dep").splitlines())


def test_a_flat_folder_without_any_index_works(tmp_path: Path) -> None:
    flat = [FakeModule("usbcore"), FakeModule("usb-storage", depends=["usbcore"]), FakeModule("ehci-hcd")]
    folder = write_modules(tmp_path / RELEASE, modules=flat)
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        (folder / name).unlink()
    index = ModuleIndex.from_tree(read_modules(folder), release=RELEASE)
    assert index.closure(["usb_storage"]) == ("usbcore.ko", "usb-storage.ko")


def test_an_index_that_is_there_is_used_as_it_is(tmp_path: Path) -> None:
    dep = "kernel/drivers/block/loop.ko: kernel/fs/mbcache.ko\nkernel/fs/mbcache.ko:\n"
    folder = write_modules(tmp_path / RELEASE, extra={"modules.dep": dep})
    modules = read_modules(folder)
    assert indexed(modules) is modules
    assert ModuleIndex.from_tree(modules).names(ModuleIndex.from_tree(modules).closure(["loop"])) == ("mbcache", "loop")


def test_an_index_that_names_a_missing_file_is_an_error(tmp_path: Path) -> None:
    image, folder = write_kernel(tmp_path)
    (folder / "modules.dep").write_text("kernel/fs/gone.ko:\n")
    kernel = kernel_from_files(image, folder)
    with pytest.raises(LivebuilderError, match=r"names kernel/fs/gone\.ko, but that file is not there"):
        module_tree(kernel, ModuleIndex.from_kernel(kernel), ["gone"])


BUILT_IN_CONFIG = "CONFIG_BLK_DEV_LOOP=y\nCONFIG_EXT4_FS=y\nCONFIG_OVERLAY_FS=y\nCONFIG_BLK_DEV_SD=y\nCONFIG_NFSD=m\n"


@pytest.mark.parametrize("without", [(), ("modules.builtin",), ("modules.builtin", "modules.builtin.modinfo")])
@pytest.mark.parametrize("where", ["in the image", "beside it"])
def test_what_only_the_configuration_calls_built_in(tmp_path: Path, where: str, without: tuple[str, ...]) -> None:
    image, folder = write_kernel(tmp_path, config=BUILT_IN_CONFIG if where == "in the image" else None)
    if where == "beside it":
        (tmp_path / f"boot/config-{RELEASE}").write_text(BUILT_IN_CONFIG)
    shutil.rmtree(folder / "kernel")
    for name in without:
        (folder / name).unlink()
    kernel = kernel_from_files(image, folder)
    index = ModuleIndex.from_kernel(kernel)
    assert index.expand("base") == index.expand("extroot") == ()
    assert index.closure(["sd-mod", "overlay"]) == ()
    with pytest.raises(LivebuilderError, match=r"lacks these modules, loadable or built in: nfsd, f2fs$"):
        index.closure(["nfsd", "loop", "f2fs"])  # nfsd is configured as a module, and no file
    builtin = text(module_tree(kernel, index, []), "builtin").split()
    assert {"kernel/loop.ko", "kernel/ext4.ko", "kernel/overlay.ko", "kernel/sd_mod.ko"} <= set(builtin)


def test_what_is_listed_as_built_in_is_not_listed_again(tmp_path: Path) -> None:
    kernel = kernel_from_files(*write_kernel(tmp_path, config="CONFIG_SERIO_I8042=y\nCONFIG_KEYBOARD_ATKBD=y\n"))
    builtin = text(module_tree(kernel, ModuleIndex.from_kernel(kernel), []), "builtin").split()
    assert builtin == [*BUILTIN, "kernel/atkbd.ko"]


def test_a_module_that_is_a_file_is_not_linked_in(tmp_path: Path) -> None:
    modules = read_modules(write_modules(tmp_path))
    index = ModuleIndex.from_tree(modules, config={"CONFIG_BLK_DEV_LOOP": "y", "CONFIG_OVERLAY_FS": "y"})
    assert "overlay" in index.builtin and "loop" not in index.builtin
