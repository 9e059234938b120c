"""Versions as opkg orders them, which is dpkg's way (deb-version(7); opkg's libopkg/pkg.c, verrevcmp)."""

from __future__ import annotations

import re
from itertools import zip_longest

_PARTS = re.compile(r"([^0-9]*)([0-9]*)")


def compare_versions(left: str, right: str) -> int:
    """Negative when `left` is older than `right`, 0 when opkg holds them for the same, positive when it is newer.

    Any text is a version: the epoch before the first colon counts as a number (0 when it is none), the revision is what
    follows the last hyphen.
    """
    one, other = _split(left), _split(right)
    if one[0] != other[0]:
        return 1 if one[0] > other[0] else -1
    return _compare(one[1], other[1]) or _compare(one[2], other[2])


def _split(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.strip().partition(":")
    upstream, hyphen, revision = (rest if colon else epoch).rpartition("-")
    number = re.match(r"[0-9]{1,18}", epoch) if colon else None
    return int(number[0]) if number else 0, upstream if hyphen else revision, revision if hyphen else ""


def _compare(left: str, right: str) -> int:
    for (text, digits), (other_text, other_digits) in zip_longest(_pieces(left), _pieces(right), fillvalue=("", "")):
        weights, other_weights = _weights(text), _weights(other_text)
        if weights != other_weights:
            return 1 if weights > other_weights else -1
        number, other_number = digits.lstrip("0"), other_digits.lstrip("0")
        if number != other_number:
            longer = len(number) - len(other_number)
            return longer or (1 if number > other_number else -1)
    return 0


def _pieces(text: str) -> list[tuple[str, str]]:
    """Text and digits in turn: `1.2rc` is ("", "1"), (".", "2"), ("rc", "")."""
    return [(match[1], match[2]) for match in _PARTS.finditer(text) if match[0]]


def _weights(text: str) -> list[int]:
    """What sorts: a tilde before the end, the end before letters, letters before all else."""
    return [-1 if one == "~" else ord(one) if one.isascii() and one.isalpha() else ord(one) + 256 for one in text] + [0]
