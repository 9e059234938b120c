"""The boot menu: what can be started, and the texts ISOLINUX shows, on the screen and on a serial line alike.

The menu is a text that ISOLINUX prints before its prompt, not menu.c32: it needs no module but ldlinux.c32,
starts at once on a 486, and a serial line or its log shows words instead of cursor movements. The codes in such
a text are those of https://wiki.syslinux.org/wiki/index.php?title=Display_file_format.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template

from livebuilder.assets import asset
from livebuilder.errors import LivebuilderError

KERNEL_PATH = "boot/vmlinuz"
INITRAMFS_PATH = "boot/initramfs"
CONFIG_PATH = "isolinux/isolinux.cfg"
# Where ISOLINUX looks for its configuration, in this order.
SEARCHED_CONFIGS = tuple(
    f"{folder}{name}"
    for folder in ("boot/isolinux/", "isolinux/", "boot/syslinux/", "syslinux/", "")
    for name in ("isolinux.cfg", "syslinux.cfg")
)
SCREENS = ("help.msg", "params.msg", "stick.msg", "menu.msg")
_HELP_KEYS = ("help", "boot parameters", "the stick", "menu")

# A key stops the countdown. Noise on an open serial line is a key too, and must not stop a router for ever.
_TOTAL_TIMEOUT_SECONDS = 300
# Linux takes 2,047 characters on i386 (COMMAND_LINE_SIZE); the rest is for BOOT_IMAGE=, initrd= and typed words.
_APPEND_LIMIT = 1700
_COLUMNS = 80
# Errors and what /init prints; 7, the kernel's own default, costs seconds at 9600 baud and hides the summary.
_LOGLEVEL = "loglevel=4"
_DEFAULT_SERIAL = "ttyS0,115200n8"

# ISOLINUX 6 sends every character of a coloured text over a serial line with its colours, thirteen bytes for one.
# So a screen is written twice: plain for serial lines, then with colours for the screen.
_SERIAL_ONLY, _SCREEN_ONLY, _EVERYWHERE = "\x14", "\x13", "\x17"
# It drops carriage returns and sends bare line feeds; a VT100's "80 to the left" takes a line back to its start.
_SERIAL_NEWLINE = "\x1b[80D\n"
_COLOURS = {
    "clear": "\x0f07\x0c",
    "bar": "\x0f1f",
    "text": "\x0f07",
    "bright": "\x0f0f",
    "dim": "\x0f03",
}
_NO_COLOURS = dict.fromkeys(_COLOURS, "")


@dataclass(frozen=True)
class SerialLine:
    """A serial port ISOLINUX prints to: its number (ttyS0 is 0) and its baud rate."""

    port: int
    baud: int


@dataclass(frozen=True)
class MenuEntry:
    """One thing to start: the name to type, one line that says what it does, the words for Linux."""

    label: str
    title: str
    append: str


@dataclass(frozen=True)
class BootMenu:
    """The menu of one disc; its first entry starts by itself. `timeout_seconds` 0 waits for ever."""

    title: str
    version: str
    storage_label: str
    timeout_seconds: int
    serial: SerialLine | None
    entries: tuple[MenuEntry, ...]


def menu_for(
    name: str,
    *,
    version: str,
    storage_label: str,
    consoles: Sequence[str] = ("tty0", _DEFAULT_SERIAL),
    timeout_seconds: int = 3,
    cmdline: str = "",
) -> BootMenu:
    """The menu of the router `name`: start, start without the stick, rescue shell, serial console, failsafe, reset.

    `consoles` are as the kernel wants them after console=, the last one becoming /dev/console; `cmdline` goes
    after our own words, so that it wins. In the serial entry the serial lines are the only consoles.
    Raises `LivebuilderError` for what cannot stand in a line of isolinux.cfg, or is too long for Linux.
    """
    if cmdline != _plain(cmdline):
        raise LivebuilderError(f"the kernel command line {cmdline!r} has characters other than plain ASCII")
    if timeout_seconds < 0:
        raise LivebuilderError(f"a boot menu cannot wait {timeout_seconds} seconds")
    lines = [console for console in consoles if console.startswith("ttyS")]

    def words(*extra: str, on: Sequence[str] = consoles, loglevel: str = _LOGLEVEL) -> str:
        return " ".join([*(f"console={console}" for console in on), loglevel, *cmdline.split(), *extra])

    entries = (
        MenuEntry("start", "Start the router", words()),
        MenuEntry("nostick", "Start without the stick: settings last until power-off", words("lb.storage=off")),
        MenuEntry("rescue", "Rescue shell before the stick is touched",
                  words("lb.rescue", loglevel="loglevel=7")),
        MenuEntry("serial", "Serial console: every message on the serial line only",
                  words(on=lines or [_DEFAULT_SERIAL])),
        MenuEntry("failsafe", "Failsafe: start without your settings, to repair them", words("lb.failsafe")),
        MenuEntry("reset", "Reset: ask, then put all settings aside and start afresh", words("lb.reset")),
    )  # fmt: skip
    for entry in entries:
        if len(entry.append) > _APPEND_LIMIT:
            raise LivebuilderError(
                f"the kernel command line is {len(entry.append) - _APPEND_LIMIT} characters too long:"
                f" Linux takes {_APPEND_LIMIT} beside what the boot loader adds",
                hint="shorten boot.cmdline in the profile",
            )
    serial = _serial_line(lines[0]) if lines else None
    return BootMenu(_plain(name), version, storage_label, timeout_seconds, serial, entries)


def render_isolinux_cfg(menu: BootMenu, *, kernel: str = KERNEL_PATH, initramfs: str = INITRAMFS_PATH) -> str:
    """The text of isolinux.cfg; `kernel` and `initramfs` are paths on the disc.

    Every entry stands there twice, under its number and under its name, so that either can be typed.
    """
    head = _template("isolinux.cfg").substitute(
        title=menu.title,
        version=menu.version,
        # ISOLINUX wants SERIAL before everything else.
        serial=f"SERIAL {menu.serial.port} {menu.serial.baud}\n" if menu.serial else "",
        default=menu.entries[0].label,
        timeout=menu.timeout_seconds * 10,
        total_timeout=_TOTAL_TIMEOUT_SECONDS * 10 if menu.timeout_seconds else 0,
    )
    stanzas = [
        f"\nLABEL {label}\n  KERNEL /{kernel.lstrip('/')}\n  INITRD /{initramfs.lstrip('/')}\n  APPEND {entry.append}\n"
        for number, entry in enumerate(menu.entries, start=1)
        for label in (entry.label, str(number))
    ]
    return head + "".join(stanzas)


def render_screen(menu: BootMenu, name: str) -> str:
    """The text of one of `SCREENS`, with the codes ISOLINUX understands; at most 80 columns and 24 lines."""
    template = _template(name)
    serial = template.substitute(_fields(menu, _NO_COLOURS)).rstrip() + "\n"
    screen = template.substitute(_fields(menu, _COLOURS))
    return _SERIAL_ONLY + serial.replace("\n", _SERIAL_NEWLINE) + _SCREEN_ONLY + screen + _EVERYWHERE


def boot_files(menu: BootMenu, *, kernel: str = KERNEL_PATH, initramfs: str = INITRAMFS_PATH) -> dict[str, bytes]:
    """The menu as files on the disc, by path: isolinux.cfg and its screens."""
    files = {CONFIG_PATH: render_isolinux_cfg(menu, kernel=kernel, initramfs=initramfs).encode("ascii")}
    return files | {f"isolinux/{name}": render_screen(menu, name).encode("ascii") for name in SCREENS}


def _fields(menu: BootMenu, codes: Mapping[str, str]) -> Mapping[str, str]:
    bright, text, bar = codes["bright"], codes["text"], codes["bar"]
    width = _COLUMNS - 1  # a character in the last column would break the line by itself
    name, made = f"  {menu.title}", f"livebuilder {menu.version}  "
    keys = "  " + "   ".join(f"F{number} {what}" for number, what in enumerate(_HELP_KEYS, start=1))
    seconds = "1 second" if menu.timeout_seconds == 1 else f"{menu.timeout_seconds} seconds"
    alone = f"Without a key, {bright}1{text} starts in {seconds}; any key stops the clock."
    if not menu.timeout_seconds:
        alone = f"{bright}Enter{text} alone starts {bright}1{text}."
    numbered = list(enumerate(menu.entries, start=1))
    return dict(codes) | {
        "label": menu.storage_label,
        "head": f"{bar}{(name + made.rjust(width - len(name)))[:width]}{text}",
        "foot": f"{bar}{keys.ljust(width)}{text}",
        "alone": alone,
        "entries": "\n".join(f"    {bright}{number}{text}  {entry.title}" for number, entry in numbered),
        "names": "\n".join(
            f"      {bright}{number}{text} or {bright}{entry.label:<9}{text} {entry.title}"
            for number, entry in numbered
        ),
    }


def _template(name: str) -> Template:
    return Template(asset(f"isolinux/{name}").read_text(encoding="ascii"))


def _plain(text: str) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in text)


def _serial_line(console: str) -> SerialLine | None:
    match = re.fullmatch(r"ttyS(\d+)(?:,(\d+).*)?", console)
    if match is None:
        raise LivebuilderError(f"{console!r} is not a serial console", hint="write it as ttyS0,115200n8")
    # The BIOS data area, where ISOLINUX looks a port's address up, has four; Linux's own default is 9600 baud.
    return SerialLine(int(match[1]), int(match[2] or 9600)) if int(match[1]) < 4 else None
