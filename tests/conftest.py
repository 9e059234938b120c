"""Fixtures every room of tests may use."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.builds import (
    BuiltImage,
    SmallSystem,
    run_command,
    shared_folder,
    small_system_in,
    write_small_system,
)
from tests.support.host import pytest_collection_modifyitems
from tests.support.spread import pytest_xdist_make_scheduler
from tests.support.strict import pytest_sessionfinish

__all__ = ["pytest_collection_modifyitems", "pytest_sessionfinish", "pytest_xdist_make_scheduler"]

# How long an example takes says more about the machine than about the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def default_image(tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    """The router of the built-in profile, built once for all tests by the command; nobody writes into its folder.

    Debian's packages come from the user's cache, and get there from the network when they are not in it.
    """

    def build(folder: Path) -> None:
        outcome = run_command("build", "--output", folder, timeout_seconds=900)
        assert outcome.status == 0, outcome.stderr

    return BuiltImage(shared_folder(tmp_path_factory, "default-image", build))


@pytest.fixture(scope="session")
def small_system(tmp_path_factory: pytest.TempPathFactory) -> SmallSystem:
    """A profile that is built in a moment, and all it names; nobody writes into its folder."""
    return small_system_in(shared_folder(tmp_path_factory, "small-system", write_small_system))
