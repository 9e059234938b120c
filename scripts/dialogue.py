"""The pictures of docs/usb.md: real commands on real USB sticks, in a guest, and what its terminal shows, drawn as SVG.

python -m scripts.dialogue ISO FOLDER
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from html import escape
from pathlib import Path

from livebuilder.sizes import MIB
from livebuilder.vm.machine import Stick
from tests.support.usb_guest import SECONDS, UsbGuest, make_initramfs, usb_guest

_COLUMNS = 120
_CELL, _LINE, _EDGE = 8, 18, 12  # pixels
_PHOTOS = (
    "d=$(lsblk -no PATH,SERIAL | sed -n 's/ *{}$//p'); mkfs.vfat -I -n PHOTOS $d && mount $d /media; udevadm settle"
)


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


def show(guest: UsbGuest, path: Path, command: str, *typed: tuple[str, str], until: str = r"\n# \Z") -> None:
    """Type `command`, and for each of `typed` what is waited for and what is typed then; draw what it shows then."""
    session = guest.session
    session.forget()
    before = session.log.stat().st_size
    session.type_line(command)
    for question, answer in typed:
        session.wait_for(question, timeout_seconds=SECONDS)
        session.type_line(answer)
    session.wait_for(until, timeout_seconds=SECONDS)
    raw = session.log.read_bytes()[before:].decode().removesuffix("# ").rstrip()
    path.write_text(render_svg(screen("# " + raw)))
    if not until.endswith(r"\Z"):
        session.wait_for(r"\n# \Z", timeout_seconds=SECONDS)


def main(iso: Path, folder: Path) -> None:
    """Draw all of them."""
    with tempfile.TemporaryDirectory(prefix="livebuilder-pictures-") as name:
        work = Path(name)
        sticks = []
        for serial in ("4C530001230101116332", "070B4E6C9A41", "AA00000000000489", "LOCKED0001"):
            image = work / serial
            with image.open("wb") as stream:
                stream.truncate(512 * MIB)
            sticks.append(Stick(image, serial=serial, read_only=serial.startswith("LOCKED")))
        with usb_guest(make_initramfs(work), work / "share", log=work / "log", sticks=sticks) as guest:
            shutil.copy(iso, work / "share")
            guest.run(_PHOTOS.format("4C530001230101116332"))
            guest.shell.run(f"cd /mnt; stty echo columns {_COLUMNS}")
            show(guest, folder / "usb-list.svg", "livebuilder usb list")
            guest.run("umount /media")
            question = "Type the serial number.*go on"
            devices = guest.run("lsblk --nodeps --noheadings --output SERIAL,PATH").output.split()
            node = dict(zip(devices[::2], devices[1::2], strict=True))
            first, second = node["4C530001230101116332"], node["070B4E6C9A41"]
            show(
                guest,
                folder / "usb-prepare.svg",
                f"livebuilder usb prepare {first}",
                (question, "y"),
                (question, "6332"),
            )
            show(guest, folder / "usb-check.svg", f"livebuilder usb check {first}")
            words = f"livebuilder usb write {iso.name} {second} --storage"
            show(
                guest,
                folder / "usb-write.svg",
                words,
                (question, "9A41"),
                until=r"#\] +100 %|(Reading(.|\n)*[5-9]\d %)",
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
