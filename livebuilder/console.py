"""What the user sees while we work: loguru set up once, one line per step, everything on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger


def setup(*, verbose: bool = False, quiet: bool = False) -> None:
    """Send log lines to stderr: steps by default, commands and timings with `verbose`, warnings only with `quiet`."""
    level = "WARNING" if quiet else "DEBUG" if verbose else "INFO"
    logger.remove()
    logger.add(sys.stderr, level=level, format=_format, colorize=None, diagnose=False, backtrace=False)


def _format(record: object) -> str:
    level = record["level"].name  # type: ignore[index]
    prefix = {"DEBUG": "<dim>  ", "INFO": "", "WARNING": "<yellow>warning: ", "ERROR": "<red>error: "}.get(level, "")
    suffix = {"DEBUG": "</dim>", "WARNING": "</yellow>", "ERROR": "</red>"}.get(level, "")
    return prefix + "{message}" + suffix + "\n{exception}"


@contextmanager
def step(title: str) -> Iterator[None]:
    """One thing a person would recognise: said when it starts, its seconds at DEBUG when it ends."""
    logger.opt(colors=False).info("{}", title)
    started = time.monotonic()
    yield
    logger.debug("{} took {:.2f} s", title, time.monotonic() - started)
