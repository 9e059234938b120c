"""A folder to be the root of a program of this host: what it needs to start there, and how to get in."""

from __future__ import annotations

import os
from pathlib import Path

from livebuilder.process import run


def libraries(program: Path) -> set[Path]:
    """The program's interpreter and all the shared libraries it needs, as this system has them."""
    told = run(["ldd", program], check=False).stdout
    return {Path(word) for line in told.splitlines() for word in line.split() if word.startswith("/")}


def enter(folder: Path) -> list[str]:
    """The words before a command that runs it with `folder` as its root; as an ordinary user in a user namespace."""
    return ["chroot", str(folder)] if os.geteuid() == 0 else ["unshare", "-r", "chroot", str(folder)]


def put_program(root: Path, program: Path) -> None:
    """Copy a program of this host and its libraries into `root`, each where it is here."""
    for path in {program, *libraries(program)}:
        place = root / str(path).lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.read_bytes())
        place.chmod(0o755)
