"""livebuilder.image.settings: what a profile may say of the default root."""

from __future__ import annotations

from ipaddress import IPv4Interface

import pytest

from livebuilder.image.settings import (
    DhcpRange,
    RouterSettings,
    parse_dhcp_range,
    parse_dns,
    parse_host_name,
    parse_lan,
    parse_password_hash,
    parse_wan,
)
from livebuilder.process import run

LAN = IPv4Interface("192.168.1.1/24")
SMALL = IPv4Interface("10.1.2.193/28")


def test_the_defaults_are_what_their_words_mean() -> None:
    assert RouterSettings().lan == parse_lan("192.168.1.1/24") == LAN
    assert RouterSettings().dhcp_range == parse_dhcp_range("100-249", LAN)


@pytest.mark.parametrize("text", ["192.168.1.1/24", "10.0.0.1/8", "172.16.7.9/30"])
def test_a_lan(text: str) -> None:
    assert str(parse_lan(text)) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("192.168.1.1", "length of its network"),
        ("192.168.1.1/255.255.255.0", "length of its network"),
        ("192.168.1.256/24", "length of its network"),
        ("fd00::1/64", "length of its network"),
        ("192.168.1.0/24", r"names the whole network 192\.168\.1\.0/24, not the router in it: take 192\.168\.1\.1"),
        ("192.168.1.255/24", "names the whole network"),
        ("192.168.1.1/31", "length is 8 to 30"),
        ("1.0.0.1/7", "length is 8 to 30"),
        ("127.0.0.1/8", "cannot be the address"),
        ("224.0.0.1/24", "cannot be the address"),
        ("169.254.1.1/16", "cannot be the address"),
        ("0.0.0.1/24", "cannot be the address"),
        ("240.0.0.1/24", "cannot be the address"),
    ],
)
def test_what_is_no_lan(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_lan(text)


@pytest.mark.parametrize(
    ("text", "lan", "found"),
    [
        ("100-249", LAN, DhcpRange(100, 150)),
        ("1 - 254", LAN, DhcpRange(1, 254)),
        ("192.168.1.20-192.168.1.20", LAN, DhcpRange(20, 1)),
        ("10.1.2.194-10.1.2.206", SMALL, DhcpRange(2, 13)),
        ("300-65534", IPv4Interface("10.0.0.1/16"), DhcpRange(300, 65235)),
    ],
)
def test_a_range(text: str, lan: IPv4Interface, found: DhcpRange) -> None:
    assert parse_dhcp_range(text, lan) == found


@pytest.mark.parametrize(
    ("text", "lan", "reason"),
    [
        ("100", LAN, "is no range"),
        ("a-b", LAN, "is no range"),
        ("192.168.1.100-249", LAN, "is no range"),
        ("249-100", LAN, "ends before it begins"),
        ("0-10", LAN, r"is not inside the lan 192\.168\.1\.0/24, which has the addresses 1-254"),
        ("100-255", LAN, "is not inside"),
        ("100-249", SMALL, r"is not inside the lan 10\.1\.2\.192/28, which has the addresses 1-14"),
        ("192.168.2.100-192.168.2.200", LAN, "is not inside"),
        ("192.168.0.100-192.168.1.200", LAN, "is not inside"),
    ],
)
def test_what_is_no_range_of_that_lan(text: str, lan: IPv4Interface, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_dhcp_range(text, lan)


def test_a_range_of_a_lan_that_nobody_knows_is_not_judged() -> None:
    assert parse_dhcp_range("1-999", None) == DhcpRange(1, 999)


@pytest.mark.parametrize(
    ("text", "found"),
    [("auto", "auto"), ("00:0D:B9:12:34:56", "00:0d:b9:12:34:56"), ("via-rhine", "via-rhine"), ("8139too", "8139too"),
     ("eth1", "eth1")],
)  # fmt: skip
def test_a_wan(text: str, found: str) -> None:
    assert parse_wan(text) == found


@pytest.mark.parametrize("text", ["", "00:0d:b9:12:34", "01:00:5e:00:00:01", "00:00:00:00:00:00", "a'b", "e/th", "é"])
def test_what_is_no_wan(text: str) -> None:
    with pytest.raises(ValueError, match=r"is no MAC address|is neither auto nor"):
        parse_wan(text)


@pytest.mark.parametrize("text", ["192.0.2.53", "2001:db8::53"])
def test_a_dns_server(text: str) -> None:
    assert parse_dns(text) == text
    with pytest.raises(ValueError, match="is no address of a server"):
        parse_dns(f"{text}/32")


def test_a_host_name() -> None:
    assert parse_host_name("Attic-PC") == "Attic-PC"
    for text in ("", "-x", "a b", "a.b", "n" * 64, "ä"):
        with pytest.raises(ValueError, match="is no host name"):
            parse_host_name(text)


@pytest.mark.parametrize("how", ["-5", "-6"])
def test_a_hash_as_openssl_makes_it(how: str) -> None:
    made = run(["openssl", "passwd", how, "secret"]).stdout.strip()
    assert parse_password_hash(made) == made
    with pytest.raises(ValueError, match="no password hash"):
        parse_password_hash(made[:-1])


@pytest.mark.parametrize("text", ["secret", "$1$abc$0123456789012345678901", "$6$abc$", "*", ""])
def test_a_plain_password_is_refused_with_what_to_type_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"no password hash .* openssl passwd -6") as refused:
        parse_password_hash(text)
    assert "secret" not in str(refused.value)
