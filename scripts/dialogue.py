"""The pictures of docs/usb.md: real commands on real USB sticks, in a guest, and what its terminal shows, drawn as SVG.

python -m scripts.dialogue ISO FOLDER
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path

from livebuilder.sizes import MIB
from livebuilder.vm.machine import Stick
from livebuilder.vm.session import Session
from tests.support.usb_guest import SECONDS, make_initramfs, usb_guest

_COLUMNS = 120
_CELL, _LINE, _EDGE = 8, 18, 12  # pixels
SERIALS = ("4C530001230101116332", "070B4E6C9A41", "AA00000000000489", "LOCKED-0001")
_PHOTOS = """\
echo type=c | sfdisk --quiet {0} && udevadm settle && mkfs.vfat -n PHOTOS {0}1 >/dev/null
mkdir -p /media/PHOTOS && udevadm settle && mount {0}1 /media/PHOTOS"""


def screen(raw: str) -> list[str]:
    """The lines on a terminal of `_COLUMNS` that got `raw`, of which it knows what our commands use: CR, LF and EL."""
    lines, column = [""], 0
    for part in re.findall(r"\r|\n|\x1b\[K|\x1b\[[0-9;?]*[a-z]|[^\r\n\x1b]", raw):
        if part == "\r":
            column = 0
        elif part == "\n":
            lines.append("")
        elif part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        elif len(part) == 1:
            if column == _COLUMNS:
                lines, column = [*lines, ""], 0
            lines[-1] = lines[-1][:column].ljust(column) + part + lines[-1][column + 1 :]
            column += 1
    return lines


def render_svg(lines: list[str]) -> str:
    """A picture of a terminal's lines; what stands behind a prompt is bold."""
    width, height = max(map(len, lines)) * _CELL + 2 * _EDGE, len(lines) * _LINE + 2 * _EDGE
    size = f'width="{width}" height="{height}"'
    drawn = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}">',
        f'<rect {size} rx="6" fill="#1b1f24"/>',
        '<g fill="#e6edf3" font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="13">',
    ]
    for number, line in enumerate(lines):
        weight = ' font-weight="bold"' if line.startswith("# ") else ""
        place = f'x="{_EDGE}" y="{_EDGE + 13 + number * _LINE}" textLength="{len(line) * _CELL}"'
        drawn += [f'<text {place}{weight} xml:space="preserve">{escape(line)}</text>'] if line else []
    return "\n".join((*drawn, "</g>", "</svg>", ""))


@dataclass(frozen=True)
class Terminal:
    """A shell on a terminal in the guest; `script` keeps every byte that is shown there in the file `record`."""

    session: Session
    record: Path

    def show(self, command: str, *typed: tuple[str, str], until: str = "") -> str:
        """Type `command`, and for each of `typed` what is waited for and what is typed then; a picture of the end.

        With `until` the picture is of the moment when that was first said.
        """
        before = self.await_prompt(0)
        self.session.type_line(command)
        for question, answer in typed:
            self.session.wait_for(question, timeout_seconds=SECONDS)
            self.session.type_line(answer)
        self.await_prompt(before)
        raw = self.record.read_bytes()[before:].decode().removesuffix("# ").rstrip()
        if until:
            found = re.search(until, raw)
            assert found, f"{until!r} was not said in {raw!r}"
            raw = raw[: found.end()]
        return render_svg(screen(f"# {raw}"))

    def await_prompt(self, before: int) -> int:
        """How much there is in the record once the shell asks for a command, behind its first `before` bytes."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            said = self.record.read_bytes()[before:] if self.record.exists() else b""
            if said.endswith(b"\n# ") or (before == 0 and said == b"# "):
                return before + len(said)
            self.session.read(0.1)
        raise self.session.failure("the shell does not ask for a command")


def main(iso: Path, folder: Path) -> None:
    """Draw all of them."""
    with tempfile.TemporaryDirectory(prefix="livebuilder-pictures-") as name:
        work, sticks = Path(name), list[Stick]()
        for serial in SERIALS:
            with (work / serial).open("wb") as stream:
                stream.truncate(512 * MIB)
            sticks.append(Stick(work / serial, serial=serial, read_only=serial.startswith("LOCKED")))
        with usb_guest(make_initramfs(work), work / "share", log=work / "log", sticks=sticks) as guest:
            shutil.copy(iso, work / "share")
            devices = guest.run("lsblk --nodeps --noheadings --output SERIAL,PATH").output.split()
            node = dict(zip(devices[::2], devices[1::2], strict=True))
            first, second = node[SERIALS[0]], node[SERIALS[1]]
            assert guest.run(_PHOTOS.format(first)).status == 0
            guest.shell.run("mkdir -p /dev/pts && mount -t devpts devpts /dev/pts")
            guest.shell.run(f"cd /mnt; stty echo columns {_COLUMNS}; export TERM=linux PS1='# '")
            guest.session.type_line("exec script --quiet --flush --command 'sh -i' /mnt/record")
            show = Terminal(guest.session, work / "share/record").show
            question = "Type the serial number.*, to go on: "
            drawn = {"list": show("livebuilder usb list")}
            show("umount /media/PHOTOS")
            drawn["prepare"] = show(f"livebuilder usb prepare {first}", (question, "y"), (question, SERIALS[0][-4:]))
            drawn["check"] = show(f"livebuilder usb check {first}")
            words = f"livebuilder usb write {iso.name} {second} --storage"
            half_way = r"Reading [^\n]*\n[^\n]*?\] +[5-9]\d %[^\x1b]*"
            drawn["write"] = show(words, (question, SERIALS[1][-4:]), until=half_way)
    for what, picture in drawn.items():
        (folder / f"usb-{what}.svg").write_text(picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
