"""A time server at the other end of a guest's network cable, which says what time a test wants it to be."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livebuilder.vm.machine import Cable

ADDRESS = "192.168.1.2"
_MAC = bytes.fromhex("525400000002")
_SINCE_1900 = 2_208_988_800  # NTP counts from there


@contextmanager
def time_server(cable: Cable, *, ahead_seconds: int) -> Iterator[None]:
    """Answer ARP and NTP for `ADDRESS` with a clock that is so much ahead; `cable` is the guest's card's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wire:
        wire.bind(str(cable.there))
        answering = threading.Thread(target=_answer, args=(wire, Path(cable.here), ahead_seconds), daemon=True)
        answering.start()
        yield
        wire.shutdown(socket.SHUT_RD)
        answering.join()


def _answer(wire: socket.socket, guest: Path, ahead_seconds: int) -> None:
    while frame := wire.recv(2048):
        answer = _arp(frame) or _ntp(frame, time.time() + ahead_seconds)
        if answer:
            wire.sendto(answer.ljust(60, b"\0"), str(guest))


def _arp(frame: bytes) -> bytes | None:
    """Our address, to who asks for it (RFC 826)."""
    if frame[12:14] != b"\x08\x06" or frame[20:22] != b"\0\1" or frame[38:42] != socket.inet_aton(ADDRESS):
        return None
    return frame[6:12] + _MAC + frame[12:20] + b"\0\2" + _MAC + frame[38:42] + frame[22:32]


def _ntp(frame: bytes, now: float) -> bytes | None:
    """The time, to a client (RFC 5905) that sends no options of IP; a UDP checksum of 0 is none."""
    ip, udp, query = frame[14:34], frame[34:42], frame[42:90]
    if frame[12:14] != b"\x08\x00" or ip[0] != 0x45 or ip[9] != 17 or udp[2:4] != b"\0\x7b":
        return None
    stamp = struct.pack("!Q", int((now + _SINCE_1900) * 2**32))
    message = struct.pack("!BBbb", 0x24, 1, 6, -20) + bytes(8) + b"TEST" + stamp + query[40:48] + stamp + stamp
    header = struct.pack("!HHHBBH", 28 + len(message), 0, 0, 64, 17, 0) + ip[16:20] + ip[12:16]
    header = b"\x45\0" + header
    header = header[:10] + struct.pack("!H", _checksum(header)) + header[12:]
    return (
        frame[6:12]
        + _MAC
        + frame[12:14]
        + header
        + b"\0\x7b"
        + udp[0:2]
        + struct.pack("!HH", 8 + len(message), 0)
        + message
    )


def _checksum(header: bytes) -> int:
    total: int = sum(struct.unpack("!10H", header))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
