from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest
from loguru import logger

from livebuilder import console
from livebuilder.console import measured_step, render_bar


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def afterwards() -> Iterator[None]:
    """Loguru and the bars as they were."""
    yield
    logger.remove()
    console._bars_wanted = False


@pytest.mark.parametrize(
    ("done", "total", "seconds", "bar"),
    [
        (0, 100, 0.0, "[..............................]   0 %"),
        (50 << 20, 100 << 20, 10.0, "[###############...............]  50 %, 5.0 MiB/s, 0:10 left"),
        (1 << 20, 100 << 20, 1.0, "[..............................]   1 %, 1.0 MiB/s, 1:39 left"),
        (99, 100, 0.0, "[#############################.]  99 %"),
        (100 << 20, 100 << 20, 4.0, "[##############################] 100 %, 25.0 MiB/s, 0:00 left"),
        (0, 0, 1.0, "[##############################] 100 %"),
    ],
)
def test_a_bar(done: int, total: int, seconds: float, bar: str) -> None:
    assert render_bar(done, total, seconds=seconds) == bar


def _said(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *, quiet: bool) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    console.setup(quiet=quiet)
    with measured_step("Writing") as progress:
        progress(1, 2)
        progress(2, 2)
    return stream.getvalue()


def test_a_terminal_sees_the_bar_and_keeps_the_line(monkeypatch: pytest.MonkeyPatch, afterwards: None) -> None:
    said = _said(_Terminal(), monkeypatch, quiet=False)
    assert "Writing" in said.splitlines()[0]
    assert "100 %" in said
    assert said.endswith("\r\x1b[K"), "the bar is gone at the end"


def test_a_file_has_the_line_alone(monkeypatch: pytest.MonkeyPatch, afterwards: None) -> None:
    assert _said(io.StringIO(), monkeypatch, quiet=False) == "Writing\n"


def test_quiet_is_quiet(monkeypatch: pytest.MonkeyPatch, afterwards: None) -> None:
    assert _said(_Terminal(), monkeypatch, quiet=True) == ""
