"""Guests made by code: small enough to boot in a moment, real enough to talk, listen and power off."""

from __future__ import annotations

from pathlib import Path

# A boot sector. It says READY on COM1 and on the screen; then says "heard X" for every character X it gets on
# COM1 and "pressed X" for every key; after a `p`, however it came, it powers the machine off (ACPI).
_TALKER = """
31c0 8ed8 fc            start:  xor ax, ax · mov ds, ax · cld
be5d7c e83900                   mov si, banner · call print
bafd03 ec a801          loop:   mov dx, 0x3fd · in al, dx · test al, 1
7409                            jz keyboard
baf803 ec                       mov dx, 0x3f8 · in al, dx
be657c eb0d                     mov si, heard · jmp answer
b401 cd16 74e9        keyboard: mov ah, 1 · int 0x16 · jz loop
b400 cd16 be6c7c                mov ah, 0 · int 0x16 · mov si, pressed
a2597c e81500         answer:   mov [char], al · call print
be597c e80f00                   mov si, char · call print
803e597c70 75cf                 cmp byte [char], 'p' · jne loop
ba0406 b80020 ef f4             mov dx, 0x604 · mov ax, 0x2000 · out dx, ax · hlt   (PM1a control: S5, SLP_EN)
ac 84c0 740f            print:  lodsb · test al, al · jz done
50 baf803 ee                    push ax · mov dx, 0x3f8 · out dx, al
b40e bb0700 cd10                mov ah, 0x0e · mov bx, 7 · int 0x10
58 ebec c3              done:   pop ax · jmp print · ret
000d0a00                char:   db 0, 13, 10, 0
52454144590d0a00        banner: db "READY", 13, 10, 0
686561726420 00         heard:  db "heard ", 0
7072657373656420 00   pressed:  db "pressed ", 0
"""


def talker(folder: Path) -> Path:
    """A disk image with the talking boot sector, in `folder`."""
    code = bytes.fromhex("".join(line[:22] for line in _TALKER.strip().splitlines()))
    path = folder / "talker.img"
    path.write_bytes(code.ljust(510, b"\0") + b"\x55\xaa" + bytes(1024 * 1024 - 512))
    return path
