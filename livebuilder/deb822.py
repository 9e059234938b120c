"""Control files, as Debian's and OpenWrt's package managers have them (deb822(5))."""

from __future__ import annotations

import re
from collections.abc import Iterator

# An empty line ends a paragraph; so does one of blanks, unless a field goes on after it, as in OpenWrt's descriptions.
_END = re.compile(r"\n(?:\n|[ \t]+\n(?=[^ \t\n]))")


def split_paragraphs(text: str) -> list[str]:
    """The texts of the paragraphs of a control file."""
    return _END.split(text)


def parse_paragraphs(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file (deb822(5)): fields by name, continuation lines joined by line ends."""
    for block in split_paragraphs(text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t") and name:
                fields[name] += "\n" + line.strip()
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip()
                fields[name] = value.strip()
        if fields:
            yield fields
