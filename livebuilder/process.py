"""The only door to other programs: every command is logged as a line one can paste into a shell."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from loguru import logger

from livebuilder.errors import CommandError, LivebuilderError

Child = subprocess.Popen[bytes]

# Tools for mending file systems live in sbin, which an ordinary user's PATH leaves out.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


@dataclass(frozen=True)
class Completed:
    """What a program printed; bytes, because not every program prints text."""

    returncode: int
    stdout_bytes: bytes
    stderr_bytes: bytes

    @property
    def stdout(self) -> str:
        """Standard output as text."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """Standard error as text."""
        return self.stderr_bytes.decode("utf-8", "replace")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The small fixed environment programs run in: ours, plus proxies and cache folders of the caller."""
    kept = ("HOME", "TMPDIR", "XDG_CACHE_HOME", "DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "XAUTHORITY")
    proxies = [name for name in os.environ if name.lower().endswith("_proxy")]
    env = {name: os.environ[name] for name in (*kept, *proxies) if name in os.environ}
    return {**env, "PATH": SEARCH_PATH, "LC_ALL": "C.UTF-8", **(extra or {})}


def find_tool(name: str) -> Path | None:
    """Where the program `name` is, or None."""
    found = shutil.which(name, path=SEARCH_PATH)
    return Path(found) if found else None


def require_tool(name: str) -> Path:
    """Where the program `name` is; raises `LivebuilderError` that says how to get it."""
    found = find_tool(name)
    if found is None:
        raise LivebuilderError(
            f"the program {name} is not installed",
            hint="livebuilder doctor   # names the package that holds it",
        )
    return found


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    input_bytes: bytes | None = None,
    input_file: IO[bytes] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
    timeout_seconds: float | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program to its end and return what it printed; it has our descriptors `pass_fds` under the same numbers.

    It reads `input_bytes`, or `input_file` from where that stands, or nothing.
    Raises `CommandError` when `check` is set and it fails, `LivebuilderError` when it is not installed or
    takes longer than `timeout_seconds`.
    """
    words = [os.fspath(word) for word in argv]
    program = require_tool(words[0])
    started = time.monotonic()
    logger.debug("$ {}", shlex.join(words))
    try:
        done = subprocess.run(
            [os.fspath(program), *words[1:]],
            input=input_bytes,
            stdin=input_file or (subprocess.DEVNULL if input_bytes is None else None),
            capture_output=True,
            cwd=cwd,
            env=environment(env),
            timeout=timeout_seconds,
            pass_fds=pass_fds,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LivebuilderError(f"{words[0]} did not end within {timeout_seconds:.0f} seconds") from error
    completed = Completed(done.returncode, done.stdout, done.stderr)
    logger.debug("  {} ended with {} after {:.2f} s", words[0], done.returncode, time.monotonic() - started)
    if check and done.returncode != 0:
        raise CommandError(words, done.returncode, completed.stderr or completed.stdout)
    return completed


def spawn(argv: Sequence[str | os.PathLike[str]], *, stdout: IO[bytes] | int, stderr: IO[bytes] | int) -> Child:
    """Start a program and return at once; the caller waits for it and reaps it."""
    words = [os.fspath(word) for word in argv]
    program = require_tool(words[0])
    logger.debug("$ {} &", shlex.join(words))
    return subprocess.Popen(
        [os.fspath(program), *words[1:]],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=environment(),
        start_new_session=True,  # a Ctrl-C at our terminal is for us; we end the child ourselves
    )


def wait(child: Child, *, timeout_seconds: float) -> int | None:
    """The status `child` ended with, or None when it still runs after `timeout_seconds`."""
    try:
        return child.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        return None


def end(child: Child, *, grace_seconds: float = 5) -> int:
    """Ask `child` to end, then insist; it is reaped in any case, and its status returned."""
    if child.poll() is None:
        child.terminate()
        if wait(child, timeout_seconds=grace_seconds) is None:
            child.kill()
    return child.wait()


def become(argv: Sequence[str | os.PathLike[str]]) -> NoReturn:
    """Let a program take our place: our terminal, our process and our exit status are its own from here on."""
    words = [os.fspath(word) for word in argv]
    program = require_tool(words[0])
    logger.debug("$ exec {}", shlex.join(words))
    sys.stdout.flush()
    os.execve(program, words, environment({"TERM": os.environ.get("TERM", "dumb")}))
