"""A machine for /init, once per shell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.init import SHELLS, InitMachine, make_machine


@pytest.fixture(params=SHELLS)
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> InitMachine:
    return make_machine(tmp_path, request.param)
