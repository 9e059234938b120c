"""What the user sees while we work: loguru set up once, one line per step, everything on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from loguru import logger

Progress = Callable[[int, int], None]  # how many bytes are done, and of how many

_BAR_CELLS = 30
_DRAW_EVERY_SECONDS = 0.2
_bars_wanted = False


def setup(*, verbose: bool = False, quiet: bool = False) -> None:
    """Send log lines to stderr: steps by default, commands and timings with `verbose`, warnings only with `quiet`."""
    global _bars_wanted
    _bars_wanted = not quiet and sys.stderr.isatty()
    level = "WARNING" if quiet else "DEBUG" if verbose else "INFO"
    logger.remove()
    logger.add(sys.stderr, level=level, format=_format, colorize=None, diagnose=False, backtrace=False)


def _format(record: object) -> str:
    level = record["level"].name  # type: ignore[index]
    prefix = {"DEBUG": "<dim>  ", "INFO": "", "WARNING": "<yellow>warning: ", "ERROR": "<red>error: "}.get(level, "")
    suffix = {"DEBUG": "</dim>", "WARNING": "</yellow>", "ERROR": "</red>"}.get(level, "")
    return prefix + "{message}" + suffix + "\n{exception}"


def no_progress(_done: int, _total: int) -> None:
    """Nobody is told how far it is."""


@contextmanager
def step(title: str) -> Iterator[None]:
    """One thing a person would recognise: said when it starts, its seconds at DEBUG when it ends."""
    logger.opt(colors=False).info("{}", title)
    started = time.monotonic()
    yield
    logger.debug("{} took {:.2f} s", title, time.monotonic() - started)


@contextmanager
def measured_step(title: str) -> Iterator[Progress]:
    """A step whose progress is told in bytes: a bar below its line on a terminal, which is gone when it ends."""
    started = last = time.monotonic()

    def draw(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if _bars_wanted and (now - last >= _DRAW_EVERY_SECONDS or done == total):
            last = now
            sys.stderr.write(f"\r{render_bar(done, total, seconds=now - started)}\x1b[K")
            sys.stderr.flush()

    with step(title):
        try:
            yield draw
        finally:
            if _bars_wanted:
                sys.stderr.write("\r\x1b[K")
                sys.stderr.flush()


def render_bar(done: int, total: int, *, seconds: float) -> str:
    """A bar of how far it is: `[######....]  60 %, 12.3 MiB/s, 0:31 left`."""
    share = done / total if total else 1.0
    cells = int(share * _BAR_CELLS)
    text = f"[{'#' * cells}{'.' * (_BAR_CELLS - cells)}] {int(share * 100):3d} %"
    if done == 0 or seconds <= 0:
        return text
    left = round(seconds * (total - done) / done)
    return f"{text}, {done / seconds / 2**20:.1f} MiB/s, {left // 60}:{left % 60:02d} left"
