"""A kernel that only says what it was given: quick to load, and all a boot loader has to be judged by."""

from __future__ import annotations

import struct

# Real-mode code for byte 0x280 of a bzImage, where %ds is the segment it was loaded to (Linux: Documentation/
# arch/x86/boot.rst, fields cmd_line_ptr at 0x228 and ramdisk_size at 0x21c). It says
# "KERNEL <command line>" and "INITRD <size in hex>" on COM1 and powers the machine off (ACPI, board `pc`).
_CODE = """
be0003 e84500               mov si, 0x300 · call print
66a12802 89c6 83e60f        mov eax, [0x228] · mov si, ax · and si, 15
66c1e804 1e 8ed8            shr eax, 4 · push ds · mov ds, ax
e83200 1f                   call print · pop ds
be0803 e82b00               mov si, 0x308 · call print
b90800 668b1e1c02           mov cx, 8 · mov ebx, [0x21c]
66c1c304 88d8 240f   digit: rol ebx, 4 · mov al, bl · and al, 15
3c0a 7202 0427              cmp al, 10 · jb +2 · add al, 'a' - '9' - 1
0430 e81b00 e2eb            add al, '0' · call putc · loop digit
be1403 e80800               mov si, 0x314 · call print
ba0406 b80020 ef f4         mov dx, 0x604 · mov ax, 0x2000 · out dx, ax · hlt
ac 84c0 7405         print: lodsb · test al, al · jz done
e80300 ebf6 c3              call putc · jmp print · done: ret
50 bafd03 ec a820     putc: push ax · mov dx, 0x3fd · in al, dx · test al, 0x20
74fb 58 baf803 ee c3        jz -5 · pop ax · mov dx, 0x3f8 · out dx, al · ret
"""


def echo_kernel() -> bytes:
    """A bzImage of boot protocol 2.04 with one sector of set-up code and a page of nothing for protected mode."""
    image = bytearray(0x400 + 4096)
    code = bytes.fromhex("".join(line[:20] for line in _CODE.strip().splitlines()))
    image[0x280 : 0x280 + len(code)] = code
    for place, text in ((0x300, b"KERNEL "), (0x308, b"\r\nINITRD "), (0x314, b"\r\n")):
        image[place : place + len(text) + 1] = text + b"\0"
    image[0x1F1] = 1  # sectors of set-up code
    struct.pack_into("<I", image, 0x1F4, 4096 // 16)
    image[0x1FE:0x202] = b"\x55\xaa\xeb\x7e"  # jmp 0x280
    image[0x202:0x208] = b"HdrS\x04\x02"
    image[0x211] = 1  # loaded high
    struct.pack_into("<I", image, 0x214, 0x100000)
    struct.pack_into("<I", image, 0x22C, 0x37FFFFFF)
    return bytes(image)
