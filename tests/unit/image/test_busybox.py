"""The applet table is read from the binary as busybox itself tells it."""

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.image.busybox import applets_of
from livebuilder.process import require_tool, run


def test_the_table_says_what_busybox_says() -> None:
    binary = require_tool("busybox").read_bytes()
    told = frozenset(run(["busybox", "--list"]).stdout.split())
    assert len(told) > 100
    assert applets_of(binary) == told


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (b"\0[\0[[\0ash\0cat\0xz\0\0gzip\0", {"[", "[[", "ash", "cat", "xz"}),
        (b"\0[\0[[\0ash\0cat\0Usage: cat\0", {"[", "[[", "ash", "cat"}),
        (b"\0[\0[[\0ash\0cat\0bunzip2\0", {"[", "[[", "ash", "cat"}),  # the order breaks: other text follows
        (b"\0[\0[[\0no\0" + b"\0[\0[[\0ash\0cat\0ls\0\0", {"[", "[[", "ash", "cat", "ls"}),
    ],
)
def test_the_table_ends_where_it_ends(table: bytes, expected: set[str]) -> None:
    assert applets_of(b"\x7fELF" + bytes(50) + table + bytes(50)) == expected


@pytest.mark.parametrize("binary", [b"", b"\x7fELF" + bytes(100), b"\0[\0[[\0", b"\0[\0[[\0ash"])
def test_another_program_is_refused(binary: bytes) -> None:
    with pytest.raises(LivebuilderError, match="not a busybox"):
        applets_of(binary)
