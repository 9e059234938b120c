"""Where the program starts: Ctrl-C while Python still imports is answered with one line and 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.builds import COMMAND, run_command

STARTS: dict[str, list[str | Path]] = {"command": [COMMAND], "module": [sys.executable, "-m", "livebuilder"]}
# Python says every import on stderr when it is done; the first that `livebuilder.cli` waits for, to the last.
MOMENTS = ("json", "inspect", "typer.models", "typer.main", "typer", "livebuilder.errors")


def start(words: list[str | Path], prepare: Callable[[], object] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*words, "doctor"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}, preexec_fn=prepare,
    )  # fmt: skip


def import_in(line: str) -> str:
    """The module that a line `import time: self | cumulative | name` is about; "" for any other line."""
    return line.rpartition("|")[2].strip() if line.startswith("import time:") else ""


def interrupt_at(child: subprocess.Popen[str], moment: str) -> str:
    """Send SIGINT once `moment` is imported; what the child says then, but for further imports."""
    assert child.stdout and child.stderr
    for line in child.stderr:
        if import_in(line) == moment:
            child.send_signal(signal.SIGINT)
            break
    else:
        pytest.fail(f"{moment} was never imported")
    return "".join(line for line in child.stderr if not import_in(line))


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("how", STARTS)
def test_an_interrupt_while_it_loads(how: str, moment: str) -> None:
    with start(STARTS[how]) as child:
        said = interrupt_at(child, moment)
        assert child.stdout and child.stdout.read() == ""
    assert (child.returncode, said) == (130, "interrupted\n")


def test_a_job_in_the_background_does_not_hear_the_terminal() -> None:
    """A shell has the jobs it starts with `&` ignore SIGINT, and so they must stay."""
    with start(STARTS["command"], prepare=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) as child:
        assert interrupt_at(child, "typer.models") == ""
        assert child.stdout and "isolinux" in child.stdout.read().lower()
    assert child.returncode in (0, 1), "what doctor found"


def test_the_module_is_the_command() -> None:
    by_module = run_command("-m", "livebuilder", "--version", command=sys.executable)
    assert by_module == run_command("--version")
    assert by_module.status == 0
