"""What to type at a disc's `boot:` prompt, so that its own first entry talks on the serial line.

Any disc of ours shows the prompt on the screen, and whatever it was built for, words behind an entry's name go to
Linux after the entry's own. The last console= is /dev/console, where a root's shell is.
"""

from __future__ import annotations

import re
from pathlib import Path

from livebuilder.errors import LivebuilderError
from livebuilder.iso.iso9660 import open_disc
from livebuilder.iso.report import read_file, read_iso

PROMPT = "^boot:"
SERIAL_CONSOLE = "console=ttyS0,115200n8"
_CONFIG_BYTES = 256 * 1024


def read_config(image: Path) -> str:
    """The text of the isolinux.cfg on a disc; raises `LivebuilderError` when `image` is no disc that has one."""
    report = read_iso(image)
    config = report.config
    if config is None:
        raise LivebuilderError(f"{image} has no boot menu of ISOLINUX", hint=f"livebuilder inspect {image}")
    (file,) = (file for file in report.files if file.path == config.path)
    with open_disc(image) as disc:
        return read_file(disc, file, limit=_CONFIG_BYTES).decode("ascii", "replace")


def answer_at_prompt(config: str) -> str:
    """Nothing (Enter alone starts the default entry) where that entry's /dev/console is ttyS0; else the entry's name
    and `SERIAL_CONSOLE`.

    Raises `LivebuilderError` when the configuration has no default entry.
    """
    name, lines = _default_entry(config)
    consoles = re.findall(r"\sconsole=(\w+)", lines)
    return "" if consoles[-1:] == ["ttyS0"] else f"{name} {SERIAL_CONSOLE}"


def label_asked_for(config: str) -> str | None:
    """The label that the default entry's own `lb.label=` asks for, or None when it has no such word."""
    _, lines = _default_entry(config)
    asked = re.findall(r'\slb\.label=("[^"]*"|\S+)', lines)
    return asked[-1].strip('"') if asked else None


def _default_entry(config: str) -> tuple[str, str]:
    """The name of the entry that starts by default, and its lines."""
    default = re.search(r"^\s*DEFAULT\s+(\S+)", config, re.IGNORECASE | re.MULTILINE)
    # Before the first LABEL stands what is for all entries; then each one's name, and its lines.
    _, *parts = re.split(r"^\s*LABEL\s+(\S+)", config, flags=re.IGNORECASE | re.MULTILINE)
    entries = dict(zip(parts[::2], parts[1::2], strict=True))
    if default is None or default[1] not in entries:
        raise LivebuilderError("the disc's isolinux.cfg names no entry that starts by default")
    return default[1], entries[default[1]]
