"""docs/man/livebuilder.1 is made from docs/commands.md, and has all of it."""

from __future__ import annotations

import re
from pathlib import Path

from livebuilder.process import run

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/man/livebuilder.1"


def test_the_page_is_up_to_date() -> None:
    run([REPOSITORY / "scripts/man", "--check"])


def test_the_page_has_every_command_and_every_option() -> None:
    text = PAGE.read_text().replace("\\-", "-")
    manual = (REPOSITORY / "docs/commands.md").read_text()
    commands = re.findall(r"^## (.+)$", manual, re.MULTILINE)
    assert len(commands) > 10
    for command in commands:
        assert f'.SH "{command.upper()}"' in text
    for option in set(re.findall(r"^\| `(--[a-z-]+)", manual, re.MULTILINE)):
        assert f"\\fB{option}" in text


def test_nothing_of_markdown_is_left() -> None:
    lines = PAGE.read_text().splitlines()
    assert lines[0].startswith(".TH LIVEBUILDER 1 ")
    assert not [line for line in lines if line.startswith(("|", "#", "```")) or "](" in line]
