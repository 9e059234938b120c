"""A machine for /init and a router, once per shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import router as routers
from tests.support.init import SHELLS, InitMachine, make_machine


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> InitMachine:
    return make_machine(tmp_path, request.param)


@pytest.fixture(params=routers.SHELLS)
def router(request: pytest.FixtureRequest, tmp_path: Path) -> routers.Router:
    return routers.make_router(tmp_path, request.param)
