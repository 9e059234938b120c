"""What the default root is told by the profile: its addresses, its clock, who may log in."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, ip_address

_SMALLEST_LAN = 30  # a prefix; room for the router and one more
_DEFAULT_LAN = IPv4Interface("192.168.1.1/24")
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_CARD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
# crypt(5): what busybox's login and dropbear both take.
_HASH = re.compile(r"\$(5\$(rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43}"
                   r"|6\$(rounds=\d+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86})")  # fmt: skip


@dataclass(frozen=True)
class DhcpRange:
    """Addresses to give out, by their place in the lan's network: a move of the lan moves them along."""

    start: int
    limit: int

    def fits(self, lan: IPv4Interface) -> bool:
        """Whether all of them are addresses of the lan that a device can have."""
        return self.start >= 1 and self.start + self.limit <= lan.network.num_addresses - 1


@dataclass(frozen=True, kw_only=True)
class RouterSettings:
    """The settings, ready to be written: `timezone` as POSIX has it, each of `ssh_keys` a line of authorized_keys."""

    hostname: str = "router"
    timezone: str = "UTC0"
    lan: IPv4Interface = _DEFAULT_LAN
    wan: str = "auto"
    dhcp_range: DhcpRange = DhcpRange(100, 150)
    dns: tuple[str, ...] = ()
    ssh_keys: tuple[str, ...] = ()
    root_password_hash: str | None = None


def host_name(name: str) -> str:
    """`name` as a host name (RFC 1123): letters, digits and hyphens, at most 63 of them."""
    return re.sub(r"[^A-Za-z0-9-]+", "-", name)[:63].strip("-") or "livebuilder"


def parse_lan(text: str) -> IPv4Interface:
    """`192.168.1.1/24`: the router's own address, and how long the network's part is. Raises `ValueError`."""
    try:
        lan = IPv4Interface(text)
    except ValueError:
        lan = None
    if lan is None or not re.search(r"/\d+$", text):
        raise ValueError(f"{text!r} is no address with the length of its network, as in 192.168.1.1/24")
    if not 8 <= lan.network.prefixlen <= _SMALLEST_LAN:
        raise ValueError(f"{text}: the network's length is 8 to {_SMALLEST_LAN}")
    if lan.ip in (lan.network.network_address, lan.network.broadcast_address):
        raise ValueError(f"{lan.ip} names the whole network {lan.network}, not the router in it: take {lan.network[1]}")
    if lan.is_loopback or lan.is_multicast or lan.is_reserved or lan.is_link_local or lan.ip in _THIS_NETWORK:
        raise ValueError(f"{lan.ip} cannot be the address of a router")
    return lan


def parse_dhcp_range(text: str, lan: IPv4Interface | None) -> DhcpRange:
    """`100-249` counts from the lan's network on; `192.168.1.100-192.168.1.249` says the same. Raises `ValueError`.

    Without a `lan` (that of the profile is wrong) nobody can say whether it fits.
    """
    first, _, last = (part.strip() for part in text.partition("-"))
    try:
        if first.isdecimal() and last.isdecimal():
            start, end = int(first), int(last)
        else:
            base = int((lan or _DEFAULT_LAN).network.network_address)
            start, end = int(IPv4Address(first)) - base, int(IPv4Address(last)) - base
    except ValueError:
        raise ValueError(f"{text!r} is no range: write 100-249, or two addresses of the lan with a - between") from None
    if end < start:
        raise ValueError(f"{text!r} ends before it begins")
    found = DhcpRange(start, end - start + 1)
    if lan is not None and not found.fits(lan):
        numbers = f"1-{lan.network.num_addresses - 2}"
        raise ValueError(f"{text!r} is not inside the lan {lan.network}, which has the addresses {numbers}")
    return found


def parse_wan(text: str) -> str:
    """`auto`, or how the card is known: by its MAC address, driver or name. Raises `ValueError`."""
    if ":" in text:
        mac = text.lower()
        if not _MAC.fullmatch(mac) or int(mac[:2], 16) & 1 or not mac.strip("0:"):
            raise ValueError(f"{text!r} is no MAC address of a network card, as in 00:0d:b9:12:34:56")
        return mac
    if not _CARD.fullmatch(text):
        raise ValueError(f"{text!r} is neither auto nor a MAC address, a driver (e100) or a name (eth1) of a card")
    return text


def parse_dns(text: str) -> str:
    """The address of a server. Raises `ValueError`."""
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError(f"{text!r} is no address of a server, as in 192.0.2.53") from None


def parse_host_name(text: str) -> str:
    """A name as RFC 1123 has it. Raises `ValueError`."""
    if not text or host_name(text) != text:
        raise ValueError(f"{text!r} is no host name: letters, digits and - inside; at most 63")
    return text


def parse_password_hash(text: str) -> str:
    """A hash of crypt(5), SHA-256 or SHA-512. Raises `ValueError`, which does not tell what was written."""
    if not _HASH.fullmatch(text):
        raise ValueError("no password hash ($5$… or $6$…) is written here; openssl passwd -6   # asks and prints one")
    return text
