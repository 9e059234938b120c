"""Our features against the kernel they are written for: every line of every feature means something to it."""

import pytest

from livebuilder.cache import Cache, cache_root
from livebuilder.kernel.modules import ModuleIndex, feature_names, read_feature
from livebuilder.sources.debian import DebianArchive

pytestmark = pytest.mark.network


@pytest.fixture(scope="module")
def index() -> ModuleIndex:
    return ModuleIndex.from_kernel(DebianArchive(cache=Cache(cache_root())).kernel("686").kernel)


def test_every_line_of_every_feature_names_a_module_or_what_is_built_in(index: ModuleIndex) -> None:
    unknown = {
        f"{feature}: {pattern.text}"
        for feature in feature_names()
        for pattern in read_feature(feature)
        if not index.find(pattern.text) and not index.is_builtin(pattern.text)
    }
    assert unknown == set()
    assert not index.find("no-such-driver")


def test_what_is_loaded_first_comes_first(index: ModuleIndex) -> None:
    wanted = [path for feature in feature_names() for path in index.expand(feature)]
    order = index.closure(wanted)
    for path in order:
        assert all(order.index(needed) < order.index(path) for needed in index.depends[path])
    assert "kernel/crypto/crc32c_generic.ko" in index.closure(["ext4"])
