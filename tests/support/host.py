"""Tests that ask this host's own kernel, block devices, mounts, or for a file that only its user can give.

Where it gives them to nobody (an ordinary user, a container) such tests are left out of the run: what they show is
shown in a guest as well, by tests/vm/test_usb_stack.py, which every run has.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import MIB


@cache
def offers(need: str) -> bool:
    """Whether `need` can be had: "loop" is a loop device and a mount of it, "networks" are networks of our own with a
    firewall, a word in capitals a variable of the environment that names a file, everything else a file system of this
    kernel.
    """
    if need.isupper():
        return bool(os.environ.get(need))
    if need == "networks":
        words = "ip link add one type veth peer name two && ip link add three type bridge && nft add table inet four"
        return run(["unshare", "--net", "--mount", "sh", "-c", words], check=False).returncode == 0
    if need != "loop":
        return offers("loop") and any(
            line.split()[-1] == need for line in Path("/proc/filesystems").read_text().splitlines()
        )
    with tempfile.TemporaryDirectory() as folder:
        image, mounted = Path(folder, "image"), Path(folder, "mounted")
        mounted.mkdir()
        with image.open("wb") as stream:
            stream.truncate(MIB)
        try:
            run(["mke2fs", "-q", "-F", image])
            run(["mount", "-o", "loop", image, mounted])
            run(["umount", mounted])
        except LivebuilderError:
            return False
    return True


@contextmanager
def loop_device(image: Path, *, read_only: bool = False) -> Iterator[Path]:
    """A block device that is `image`; for tests that are marked `host("loop")`."""
    options = ["--read-only"] if read_only else []
    name = run(["losetup", "--find", "--show", *options, image]).stdout.strip()
    try:
        yield Path(name)
    finally:
        run(["losetup", "--detach", name])


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `host(NEED…)` and cannot be had."""
    missing = [
        item for item in items if not all(offers(need) for mark in item.iter_markers("host") for need in mark.args)
    ]
    if missing:
        config.hook.pytest_deselected(items=missing)
        items[:] = [item for item in items if item not in missing]
