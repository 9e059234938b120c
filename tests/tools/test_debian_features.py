"""Our features against the kernel they are written for: every line of every feature means something to it."""

import pytest

from livebuilder.cache import Cache, cache_root
from livebuilder.kernel.config import setting_of
from livebuilder.kernel.image import Kernel
from livebuilder.kernel.modinfo import module_name
from livebuilder.kernel.modules import ModuleIndex, feature_names, read_feature
from livebuilder.sources.debian import DebianArchive

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    return DebianArchive(cache=Cache(cache_root())).kernel("686").kernel


@pytest.fixture(scope="module")
def index(kernel: Kernel) -> ModuleIndex:
    return ModuleIndex.from_kernel(kernel)


def test_every_line_of_every_feature_names_a_module_or_what_is_built_in(index: ModuleIndex) -> None:
    unknown = {
        f"{feature}: {pattern.text}"
        for feature in feature_names()
        for pattern in read_feature(feature)
        if not index.find(pattern.text) and not index.is_builtin(pattern.text)
    }
    assert unknown == set()
    assert not index.find("no-such-driver")


def test_the_configuration_says_the_same_of_every_line(kernel: Kernel, index: ModuleIndex) -> None:
    """Or a kernel that has a driver linked in and no `modules.builtin` would be refused."""
    names = {module_name(pattern.text) for feature in feature_names() for pattern in read_feature(feature)}
    assert kernel.config
    told = {name: setting_of(name, kernel.config) for name in names}
    listed = ModuleIndex.from_tree(kernel.modules)
    assert told == {name: "y" if listed.is_builtin(name) else "m" for name in names}
    assert set(told.values()) == {"y", "m"}


def test_what_is_loaded_first_comes_first(index: ModuleIndex) -> None:
    wanted = [path for feature in feature_names() for path in index.expand(feature)]
    order = index.closure(wanted)
    for path in order:
        assert all(order.index(needed) < order.index(path) for needed in index.depends[path])
    assert "kernel/crypto/crc32c_generic.ko" in index.closure(["ext4"])


def test_the_kernel_for_64_bits_has_all_that_no_kernel_may_lack() -> None:
    kernel = DebianArchive(cache=Cache(cache_root()), architecture="amd64").kernel("amd64").kernel
    index = ModuleIndex.from_kernel(kernel)
    for feature in feature_names():
        assert index.expand(feature), feature
