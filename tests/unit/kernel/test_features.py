"""The features that travel with us: data that every kernel is measured against."""

import re
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.kernel.image import read_modules
from livebuilder.kernel.modinfo import module_name
from livebuilder.kernel.modules import ModuleIndex, feature_names, read_feature
from tests.support.kernels import FakeModule, write_modules

# What a kernel must have for a feature to be one; everything else depends on the hardware and the kernel's age.
REQUIRED = {
    "base": {"loop", "ext4"},
    "btrfs": {"btrfs"},
    "cdrom": {"sr_mod", "isofs"},
    "console": set(),
    "extroot": {"overlay", "sd_mod", "ext4"},
    "f2fs": {"f2fs"},
    "nic": set(),
    "router": {"bridge", "nf_tables", "nf_conntrack", "nf_nat"},
    "squashfs": {"loop", "squashfs"},
    "usb-storage": {"usb-storage", "sd_mod"},
}


def test_which_features_there_are() -> None:
    assert set(feature_names()) == set(REQUIRED)


@pytest.mark.parametrize("feature", REQUIRED)
def test_the_lines_of_a_feature(feature: str) -> None:
    patterns = read_feature(feature)
    texts = [pattern.text for pattern in patterns]
    assert {pattern.text for pattern in patterns if not pattern.optional} == REQUIRED[feature]
    # Names only: a glob would find nothing in OpenWrt's flat folder.
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", text) for text in texts)
    assert len({module_name(text) for text in texts}) == len(texts)


@pytest.mark.parametrize("feature", REQUIRED)
def test_a_feature_finds_its_modules_whole_or_flat(feature: str, tmp_path: Path) -> None:
    names = [pattern.text for pattern in read_feature(feature)]
    for below in ("kernel/drivers/x/", ""):
        modules = [FakeModule(f"{below}{name}") for name in names]
        folder = write_modules(tmp_path / f"m{len(below)}", modules=modules, extra={"modules.builtin": ""})
        index = ModuleIndex.from_tree(read_modules(folder))
        assert index.expand(feature) == tuple(f"{below}{name}.ko" for name in names)


@pytest.mark.parametrize("feature", REQUIRED)
def test_a_kernel_without_any_of_it_is_refused(feature: str, tmp_path: Path) -> None:
    folder = write_modules(tmp_path, modules=[FakeModule("kernel/other")], extra={"modules.builtin": ""})
    (folder / "modules.builtin.modinfo").unlink()
    index = ModuleIndex.from_tree(read_modules(folder), release="6.1.0")
    with pytest.raises(LivebuilderError, match=rf"kernel 6\.1\.0 lacks .* the feature {feature} needs"):
        index.expand(feature)


@pytest.mark.parametrize("feature", [feature for feature, required in REQUIRED.items() if not required])
def test_a_feature_that_may_be_empty(feature: str, tmp_path: Path) -> None:
    index = ModuleIndex.from_tree(read_modules(tmp_path))
    assert index.expand(feature, may_be_empty=True) == ()
    with pytest.raises(LivebuilderError):
        index.expand("base", may_be_empty=True)


def test_an_unknown_feature_is_told_the_nearest() -> None:
    with pytest.raises(LivebuilderError, match="no feature 'usbstorage'") as refused:
        read_feature("usbstorage")
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("did you mean usb-storage?")
    assert "nic" in refused.value.hint
