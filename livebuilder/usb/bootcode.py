"""The boot code of a stick that only keeps settings: it says so and hands the start to the next drive.

A BIOS that has the stick first in its order loads sector 0 to 0000:7C00 (some to 07C0:0000) and jumps there, without a
look at what it is but for the mark 55 AA at its end. Zeros are the instruction `add %al,(%bx,%si)`: the machine runs
through its memory and hangs. INT 18h means "not bootable" to a BIOS with a boot order (Compaq, Phoenix, Intel: BIOS
Boot Specification 1.01, appendix D): it tries the next entry.

The code lies in the first 440 bytes of sector 0, both with a DOS table and with the protective one of a GPT (UEFI
2.10, 5.2.3); firmware that starts from a GPT itself takes no notice of it.
"""

from __future__ import annotations

from pathlib import Path

AREA_BYTES = 440  # then the disk's id, the table and 55 AA
MESSAGE = "This is a livebuilder settings stick: nothing to boot from here, going on."

# The machine code, and the line of GNU as (AT&T syntax, .code16) that gives it.
LISTING = (
    ("FC      ", "start:  cld"),
    ("0E      ", "        push %cs"),  # wherever it was loaded to, the message is in the same segment
    ("1F      ", "        pop %ds"),
    ("E80000  ", "        call here"),
    ("5E      ", "here:   pop %si"),
    ("81C61800", "        add $(message - here), %si"),
    ("AC      ", "next:   lodsb"),
    ("84C0    ", "        test %al, %al"),
    ("7409    ", "        jz done"),
    ("B40E    ", "        mov $0x0e, %ah"),  # INT 10h, teletype output: page 0, light grey
    ("BB0700  ", "        mov $0x0007, %bx"),
    ("CD10    ", "        int $0x10"),
    ("EBF2    ", "        jmp next"),
    ("CD18    ", "done:   int $0x18"),
    ("F4      ", "halt:   hlt"),  # a BIOS so old that it comes back: Ctrl-Alt-Del still works
    ("EBFD    ", "        jmp halt"),
)  # fmt: skip
BOOT_CODE = bytes.fromhex("".join(code for code, _ in LISTING)) + f"{MESSAGE}\r\n\0".encode("ascii")


def has_boot_code(sector: bytes) -> bool:
    """Whether sector 0 of a disk begins with this code and has the mark that makes a BIOS start it."""
    return sector.startswith(BOOT_CODE) and sector[510:512] == b"\x55\xaa"


def write_boot_code(image: Path) -> None:
    """Put the code into sector 0 of the file `image`; its partition table stays as it is."""
    with image.open("r+b") as stream:
        stream.write(BOOT_CODE.ljust(AREA_BYTES, b"\0"))
