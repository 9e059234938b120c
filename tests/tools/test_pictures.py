"""`scripts/pictures`: a terminal's bytes become what stands on it, and docs/usb.md shows every picture there is."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scripts.dialogue import render_svg, screen

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = sorted(DOCS.glob("images/usb-*.svg"))


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        ("# id\r\nroot\r\n# ", ["# id", "root", "# "]),
        ("\r[##..]  50 %\x1b[K\r[####] 100 %\x1b[K\r\x1b[KDone\r\n", ["Done", ""]),
        ("\r[##..]  50 %\x1b[K\r[###.]  75 %\x1b[K", ["[###.]  75 %"]),
        ("x" * 130, ["x" * 120, "x" * 10]),
        ("\x1b[1mbold\x1b[0m", ["bold"]),
    ],
)
def test_a_terminal(raw: str, lines: list[str]) -> None:
    assert screen(raw) == lines


def test_a_picture_has_every_line_in_its_place() -> None:
    root = ElementTree.fromstring(render_svg(["# echo '<&>'", "", "<&>"]))
    texts = [element for element in root.iter() if element.tag.endswith("text")]
    assert [element.text for element in texts] == ["# echo '<&>'", "<&>"]
    assert float(texts[1].attrib["y"]) < float(root.attrib["height"])


def test_the_page_shows_them_all_and_they_are_small() -> None:
    shown = re.findall(r"!\[[^]]+\]\(images/(usb-[a-z]+\.svg)\)", (DOCS / "usb.md").read_text())
    assert PICTURES and sorted(shown) == [path.name for path in PICTURES]
    for path in PICTURES:
        assert path.stat().st_size <= 60 * 1024
        text = "\n".join(ElementTree.fromstring(path.read_text()).itertext())
        assert f"# livebuilder usb {path.stem.removeprefix('usb-')}" in text and "Traceback" not in text
