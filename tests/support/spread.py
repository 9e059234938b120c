"""How pytest-xdist shares the tests out among its processes.

The tests of a class in tests/vm look at one and the same boot, so they stay together; the other tests there are a boot
each and go wherever there is room. Everywhere else a file is what stays together. (pytest-xdist's own "loadgroup" does
nothing under pytest 9.2: it writes into `Item._nodeid`, which nobody reads any more.)
"""

from __future__ import annotations

from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]


class Spread(LoadScopeScheduling):  # type: ignore[misc]
    """What `_split_scope` gives the same name is run by the same process, in order."""

    def _split_scope(self, nodeid: str) -> str:
        path, *names = nodeid.split("::")
        if not path.startswith("tests/vm/"):
            return path
        return "::".join([path, names[0]])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Spread:
    """Whatever --dist says."""
    return Spread(config, log)
