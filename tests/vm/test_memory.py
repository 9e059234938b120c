"""The default router below the memory it needs: it says so. What it runs in as a squashfs is in test_routing.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livebuilder.sizes import MIB
from tests.support.boots import RESCUE_PROMPT, SECONDS, booting
from tests.support.builds import BuiltImage

pytestmark = [pytest.mark.vm, pytest.mark.network]


def test_below_what_the_router_needs_it_says_need_and_have(default_image: BuiltImage, tmp_path: Path) -> None:
    with booting(default_image, memory_bytes=72 * MIB, log=tmp_path / "boot.log") as session:
        said = session.wait_for(r"livebuilder: cannot go on: (.*)\n", timeout_seconds=SECONDS)[1]
        session.wait_for(RESCUE_PROMPT, timeout_seconds=SECONDS)
    found = [(int(need), int(have)) for need, have in re.findall(r"need (\d+) KiB, have (\d+) KiB", said)]
    assert len(found) == 2, f"ext2 and tmpfs: {said}"
    assert all(have < need < 64 * 1024 for need, have in found)
    assert "panic" not in session.text and "Out of memory" not in session.text
