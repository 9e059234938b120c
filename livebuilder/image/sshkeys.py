"""Public keys for ssh: lines of `authorized_keys`, checked so far as to know that dropbear will take them."""

from __future__ import annotations

import base64
import binascii
import re

# Of Debian's dropbear. ssh-dss is none of its any more.
_TYPES = (
    "ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
)  # fmt: skip
_KEY = re.compile(r"(?P<type>[a-z0-9@.-]+)[ \t]+(?P<data>AAAA[A-Za-z0-9+/]+=*)(?:[ \t].*)?")


def is_key(text: str) -> bool:
    """Whether `text` is meant to be a key itself, not the path of a file with keys."""
    return " " in text.strip() or "PRIVATE KEY" in text


def authorized_keys(text: str) -> tuple[str, ...]:
    """The keys among the lines of a file, or of one line. Raises `ValueError`, which repeats no secret."""
    if "PRIVATE KEY" in text:
        raise ValueError("a private key, which is nobody else's business: give the public one, in the file with .pub")
    lines = [line.strip() for line in text.splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:
        raise ValueError("there is no key in it")
    for key in keys:
        _check(key)
    return keys


def _check(line: str) -> None:
    # Options come before the type, and may have quoted blanks in them.
    match = re.search(rf"(?:^|[ \t]){_KEY.pattern}$", line)
    if match is None:
        raise ValueError(f"{line[:40]!r}… is no public key, which looks like: ssh-ed25519 AAAA… you@home")
    if match["type"] not in _TYPES:
        raise ValueError(f"dropbear takes no keys of the type {match['type']}: ssh-keygen -t ed25519   # makes one")
    try:
        data = base64.b64decode(match["data"], validate=True)
    except binascii.Error:
        data = b""
    # RFC 4253, 6.6: the key begins with its type once more, as a string with its length.
    name = match["type"].encode()
    if not data.startswith(len(name).to_bytes(4, "big") + name) or len(data) < len(name) + 4 + 32:
        raise ValueError(f"the key {match['type']} {match['data'][:16]}… is damaged or cut off")
