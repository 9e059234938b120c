"""A port scanner on the far end of a guest's Ethernet cable, which its neighbour is unplugged from meanwhile.

    with plugged_in(cable, mac="52:54:00:00:01:02", address="198.18.0.1") as scanner:
        assert scanner.scan("52:54:00:00:01:01", "198.18.0.150") == Found(tcp=set(), udp=set())

It speaks raw Ethernet, as a stranger on the provider's network could: a SYN to every port of TCP (and a RST to whoever
answers), and to ports of UDP a packet that what usually listens there would answer. A port is open when its
answer comes; silence and refusals are not told apart. Now and then it waits for the answer to an ARP request, so that
no frame is lost because the guest is slower.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from livebuilder.vm.machine import Cable

ALL_PORTS = range(1, 65536)
# The well-known ports, and others that are often open.
UDP_PORTS = (
    *range(1, 1024), 1194, 1434, 1645, 1646, 1701, 1812, 1813, 1900, 2049, 2222, 3283, 3456, 3478, 3702, 4444, 4500,
    5000, 5004, 5060, 5061, 5353, 5355, 5683, 10000, 11211, 17185, 20031, 26000, 27015, 30718, 31337, 32768, 32769,
    33434, 49152, 49153, 49154, 49156, 49181, 49182, 49185, 49186, 49188, 49190, 49191, 49192, 49193, 49194, 49200,
    51820, 65024,
)  # fmt: skip
_FRAME_BYTES = 65536
_BURST = 32  # frames that any card's ring holds
_SOURCE_PORT = 40000
_PATIENT = 30
_IPV4, _ARP = b"\x08\x00", b"\x08\x06"
_TCP, _UDP = 6, 17
_SYN, _RST = 2, 4
# A question that a DNS server answers, whatever it knows: the addresses of provider.test. Others take it for nonsense.
_DNS = bytes.fromhex("1234 0100 0001 0000 0000 0000 0870726f7669646572 0474657374 00 0001 0001")
_PAYLOADS = {
    69: b"\0\1file\0octet\0",  # TFTP: read a file
    123: b"\x1b" + bytes(47),  # NTP: a client's question, version 3
    137: bytes.fromhex("1234 0000 0001 0000 0000 0000") + b"\x20CK" + 30 * b"A" + b"\0\0\x21\0\1",  # NetBIOS
    161: bytes.fromhex("302602010104067075626c6963a019020400000001020100020100300b300906052b060102010500"),  # SNMP
    1900: b'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ssdp:all\r\n\r\n',
}  # fmt: skip


@dataclass
class Found:
    """The ports that answered."""

    tcp: set[int] = field(default_factory=set)
    udp: set[int] = field(default_factory=set)


class Scanner:
    """Made by `plugged_in`."""

    def __init__(self, line: socket.socket, *, router: Path, mac: str, address: str) -> None:
        self._line, self._router = line, str(router)
        self._mac, self._address = _mac(mac), _ip(address)

    def scan(
        self, mac: str, address: str, *,
        tcp: Iterable[int] = ALL_PORTS, udp: Iterable[int] = UDP_PORTS, patience: float = 3.0,
    ) -> Found:  # fmt: skip
        """What answers at `address`; `patience` is how many seconds the last answers may take."""
        found = Found()
        target, host = _mac(mac), _ip(address)
        probes = [*((_TCP, port) for port in tcp), *((_UDP, port) for port in udp)]
        for number, (protocol, port) in enumerate(probes):
            self._send(self._packet(target, host, protocol, port, _SYN))
            if number % _BURST == 0:
                self._catch_up(found, target, host)
        deadline = time.monotonic() + patience
        while (left := deadline - time.monotonic()) > 0:
            self._listen(found, target, host, wait=left)
        return found

    def _catch_up(self, found: Found, target: bytes, host: bytes) -> None:
        """Wait until the guest has taken all frames: it answers them in order, and an ARP request always."""
        ask = self._arp(target, 1, to=bytes(6), host=host)
        for _ in range(_PATIENT):
            self._send(ask)
            while frame := self._listen(found, target, host, wait=1.0):
                if frame[12:14] == _ARP and frame[20:22] == b"\0\2" and frame[28:32] == host:
                    return
        raise TimeoutError(f"{ipaddress.IPv4Address(host)} does not answer ARP")

    def _send(self, frame: bytes) -> None:
        self._line.settimeout(60)
        self._line.sendto(frame, self._router)

    def _listen(self, found: Found, target: bytes, host: bytes, *, wait: float) -> bytes:
        """Take in one frame, which is given back; none comes within `wait` seconds: empty."""
        self._line.settimeout(wait)
        try:
            frame = self._line.recv(_FRAME_BYTES)
        except TimeoutError:
            return b""
        if frame[12:14] == _ARP and frame[20:22] == b"\0\1" and frame[38:42] == self._address:
            self._send(self._arp(frame[6:12], 2, to=frame[22:28], host=frame[28:32]))
        if frame[12:14] == _IPV4 and frame[26:34] == host + self._address:
            start = 14 + (frame[14] & 15) * 4
            port, to = struct.unpack_from("!HH", frame, start)
            if to == _SOURCE_PORT and frame[23] == _UDP:
                found.udp.add(port)
            elif to == _SOURCE_PORT and frame[23] == _TCP and frame[start + 13] & (_SYN | _RST) == _SYN:
                found.tcp.add(port)
                self._send(self._packet(target, host, _TCP, port, _RST, sequence=1))
        return frame

    def _arp(self, target: bytes, operation: int, *, to: bytes, host: bytes) -> bytes:
        head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation)
        return target + self._mac + _ARP + head + self._mac + self._address + to + host

    def _packet(self, target: bytes, host: bytes, protocol: int, port: int, flags: int, *, sequence: int = 0) -> bytes:
        if protocol == _TCP:
            body = struct.pack("!HHIIBBHHH", _SOURCE_PORT, port, sequence, 0, 0x50, flags, 1024, 0, 0)
            check = 16
        else:
            payload = _PAYLOADS.get(port, _DNS)
            body = struct.pack("!HHHH", _SOURCE_PORT, port, 8 + len(payload), 0) + payload
            check = 6
        pseudo = self._address + host + struct.pack("!BBH", 0, protocol, len(body))
        body = _summed(body, check, before=pseudo)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0) + self._address + host
        return target + self._mac + _IPV4 + _summed(head, 10) + body


@contextmanager
def plugged_in(cable: Cable, *, mac: str, address: str) -> Iterator[Scanner]:
    """Take the place of the guest at the end `cable.here`, and give it back when the block ends.

    QEMU looks a socket up by its name for every frame: who has the name has the cable.
    """
    aside = cable.here.with_name(f"{cable.here.name}-unplugged")
    cable.here.rename(aside)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
            line.bind(str(cable.here))
            yield Scanner(line, router=cable.there, mac=mac, address=address)
    finally:
        aside.replace(cable.here)


def _summed(data: bytes, place: int, *, before: bytes = b"") -> bytes:
    """`data` with the Internet checksum (RFC 1071) of `before` and itself at `place`."""
    whole = before + data + bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return data[:place] + struct.pack("!H", ~total & 0xFFFF or 0xFFFF) + data[place + 2 :]


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _ip(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed
