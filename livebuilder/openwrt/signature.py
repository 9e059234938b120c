"""Who signed it: OpenWrt's usign signatures (Ed25519) and detached OpenPGP ones, against keys the user gives.

A usign file is what OpenBSD's signify(1) writes (usign's main.c, `struct pubkey` and `struct sig`): a comment nobody
signed, then one line of base64:

    public key   "Ed"  key id (8 bytes)  Ed25519 public key (32 bytes)
    signature    "Ed"  key id (8 bytes)  Ed25519 signature (64 bytes) over the whole file

The key id is a random number. It says which key to try and proves nothing.
OpenPGP signatures are left to gpgv(1), which takes every key of its keyring as trusted: the keyring is ours, made for
one call, and holds the given keys alone.
"""

from __future__ import annotations

import base64
import binascii
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from loguru import logger

from livebuilder.errors import LivebuilderError
from livebuilder.process import run

_ALGORITHM: Final = b"Ed"
_ID_BYTES: Final = 8
_PUBLIC_KEY_BYTES: Final = 32
_SIGNATURE_BYTES: Final = 64
_SECRET_KEY_SIZE: Final = 104  # usign's `struct seckey`
_MOST_KEY_BYTES: Final = 4 << 20  # a distribution's whole keyring is smaller
_ARMOUR = re.compile(rb"^-----BEGIN PGP ([A-Z ]+)-----[ \t\r]*\n(.*?)^-----END PGP \1-----", re.MULTILINE | re.DOTALL)
# The first byte of a packet (RFC 9580, 4.2): tag 6 is a public key, 5 a secret one, 2 a signature.
_PUBLIC_KEY_TAGS = (0x98, 0x99, 0x9A, 0xC6)
_SECRET_KEY_TAGS = (0x94, 0x95, 0x96, 0xC5)
_SIGNATURE_TAGS = (0x88, 0x89, 0x8A, 0xC2)
_TRUSTED = "ask someone you trust for the public key; a key from the server that sent the files proves nothing"


class SignatureError(LivebuilderError):
    """What was signed is not what is here, or the signature cannot be read."""


class UnknownKeyError(SignatureError):
    """The signature was made by a key that nobody gave us; it may be right or wrong."""


@dataclass(frozen=True)
class UsignKey:
    """A public key of usign or signify; `key_id` as OpenWrt names its key files, `source` for messages."""

    key_id: str
    public: bytes
    source: str


@dataclass(frozen=True)
class GpgKey:
    """OpenPGP public keys, one or more, as a keyring gpgv reads (never armoured); `source` for messages."""

    keyring: bytes
    source: str


Key = UsignKey | GpgKey


@dataclass(frozen=True)
class UsignSignature:
    """A signature and the id of the key that made it."""

    key_id: str
    signature: bytes


@dataclass(frozen=True)
class Signer:
    """Whose signature was found good: `key_id` is a usign key id, or the fingerprint of an OpenPGP primary key."""

    scheme: str
    key_id: str
    source: str


def read_key_file(path: Path) -> Key:
    """The public key in a file, of usign or OpenPGP. Raises `LivebuilderError` when there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_KEY_BYTES + 1)
    except OSError as error:
        raise LivebuilderError(
            f"the key {path} cannot be read: {error.strerror}", hint="give the file of a public key, of usign or GPG"
        ) from error
    return read_key(data, source=str(path))


def read_key(data: bytes, *, source: str) -> Key:
    """The public key in `data`: a usign key file or its base64 line alone, or OpenPGP keys, armoured or not.

    Raises `SignatureError` for anything else, secret keys included.
    """
    if len(data) <= _MOST_KEY_BYTES:
        if b"-----BEGIN PGP " in data:
            return _armoured_key(data, source=source)
        if data[:1] and (data[0] in _PUBLIC_KEY_TAGS or data[8:12] == b"KBXf"):  # the latter: a keybox of GnuPG
            return GpgKey(data, source)
        if data[:1] and data[0] in _SECRET_KEY_TAGS:
            raise _secret(source)
        record = _usign_record(data)
        if record is not None and len(record) == _SECRET_KEY_SIZE:
            raise _secret(source)
        if record is not None and len(record) == len(_ALGORITHM) + _ID_BYTES + _PUBLIC_KEY_BYTES:
            return UsignKey(record[2:10].hex(), record[10:], source)
    raise SignatureError(
        f"{source} is not a public key, neither of usign nor of GPG",
        hint="the file has two lines, 'untrusted comment: ...' and base64, or begins with BEGIN PGP PUBLIC KEY BLOCK",
    )


def _armoured_key(data: bytes, *, source: str) -> GpgKey:
    keys = []
    for kind, body in _ARMOUR.findall(data):
        if kind == b"PRIVATE KEY BLOCK":
            raise _secret(source)
        if kind == b"PUBLIC KEY BLOCK":
            keys.append(_dearmoured(body, source=source))
    if not keys:
        raise SignatureError(
            f"{source} has no whole public key of GPG in it", hint="gpg --armor --export KEY >FILE makes one"
        )
    return GpgKey(b"".join(keys), source)


def _dearmoured(body: bytes, *, source: str) -> bytes:
    """The bytes an armoured block stands for (RFC 9580, 6.2): headers, an empty line, base64, and `=` with a CRC-24."""
    lines = [line.strip() for line in body.splitlines()]
    text = lines[lines.index(b"") + 1 :] if b"" in lines else []
    checksum = [line[1:] for line in text if line.startswith(b"=")]
    data = _base64(b"".join(line for line in text if not line.startswith(b"=")))
    if not data or any(_base64(line) != _crc24(data).to_bytes(3, "big") for line in checksum):
        raise SignatureError(f"the public key in {source} is damaged", hint="copy the file again, whole")
    return data


def _crc24(data: bytes) -> int:
    crc = 0xB704CE
    for byte in data:
        crc ^= byte << 16
        for _ in range(8):
            crc <<= 1
            if crc & 0x1000000:
                crc ^= 0x1864CFB
    return crc


def _secret(source: str) -> SignatureError:
    return SignatureError(f"{source} is a secret key: it signs, and is not to be passed on", hint="give the public key")


def _usign_record(data: bytes) -> bytes | None:
    """What the base64 of a usign file stands for; a comment line before it may be lacking."""
    lines = [line.strip() for line in data.strip().splitlines()]
    if len(lines) == 2 and lines[0].startswith(b"untrusted comment:"):
        del lines[0]
    record = _base64(lines[0]) if len(lines) == 1 else None
    return record if record and record.startswith(_ALGORITHM) else None


def _base64(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return None


def read_usign_signature(text: bytes, *, what: str = "the data") -> UsignSignature:
    """The signature in a `.sig` file. Raises `SignatureError` when it is not one; `what` it signs, for the message."""
    record = _usign_record(text)
    if record is None or len(record) != len(_ALGORITHM) + _ID_BYTES + _SIGNATURE_BYTES:
        raise _damaged(what)
    return UsignSignature(record[2:10].hex(), record[10:])


def _damaged(what: str) -> SignatureError:
    return SignatureError(
        f"the signature of {what} is damaged, or is none", hint="fetch it again; a server's error page is no signature"
    )


def verify_usign(data: bytes, signature_text: bytes, keys: Iterable[UsignKey], *, what: str = "the data") -> str:
    """The id of the key, one of `keys`, that signed `data`; `signature_text` is the content of its `.sig` file.

    Raises `UnknownKeyError` when none of `keys` is the one the signature names, `SignatureError` when the data is not
    what was signed or the signature cannot be read. `what` is the name of the data for messages.
    """
    signature = read_usign_signature(signature_text, what=what)
    keys = tuple(keys)
    named = [key for key in keys if key.key_id == signature.key_id]
    if not named:
        raise _unknown(what, signature.key_id, [f"{key.key_id} ({key.source})" for key in keys])
    for key in named:  # two keys may have the same id by accident, or because somebody wanted it
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature.signature, data)
        except InvalidSignature:
            continue
        return key.key_id
    raise _changed(what, signature.key_id)


def verify_gpg(data: bytes, signature: bytes, keys: Iterable[GpgKey], *, what: str = "the data") -> str:
    """The fingerprint of the primary key, one of `keys`, that signed `data`; `signature` is detached, armoured or not.

    A key that has expired since counts, with a warning: old releases were signed by such. A revoked one does not.
    Raises as `verify_usign` does, and `LivebuilderError` when gpgv is not installed.
    """
    keys = tuple(keys)
    with tempfile.TemporaryDirectory(prefix="livebuilder-gpgv-") as name:
        folder = Path(name)
        (folder / "data").write_bytes(data)
        (folder / "signature").write_bytes(signature)
        keyrings: list[str | Path] = []
        for number, key in enumerate(keys):
            keyring = folder / f"keyring-{number}"
            keyring.write_bytes(key.keyring)
            keyrings += ["--keyring", keyring]
        argv = ["gpgv", "--homedir", folder, "--status-fd", "1", *keyrings, folder / "signature", folder / "data"]
        status = run(argv, check=False).stdout
    return _judge(status, keys, what=what)


def _judge(status: str, keys: Sequence[GpgKey], *, what: str) -> str:
    """The fingerprint gpgv's status lines vouch for (GnuPG, doc/DETAILS): of several signatures one has to be good, and
    none may be bad."""
    unknown = []
    reason = None
    signatures = [_status_words(block) for block in re.split(r"^\[GNUPG:\] NEWSIG.*\n", status, flags=re.MULTILINE)[1:]]
    for words in signatures:
        if "BADSIG" in words:
            raise _changed(what, words["BADSIG"][0])
    for words in signatures:
        if "VALIDSIG" in words and ("GOODSIG" in words or "EXPKEYSIG" in words):
            fingerprint = words["VALIDSIG"][-1]
            if "EXPKEYSIG" in words:
                logger.warning("the key {} that signed {} has expired since", fingerprint, what)
            return fingerprint
        if "REVKEYSIG" in words:
            reason = f"was made by the key {words['REVKEYSIG'][0]}, which is revoked"
        elif "EXPSIG" in words:
            reason = "has expired"
        elif "NO_PUBKEY" in words:
            unknown.append(words["NO_PUBKEY"][0])
    if reason:
        raise SignatureError(f"the signature of {what} {reason}", hint="look for a newer one, and ask why")
    if unknown:
        raise _unknown(what, ", ".join(unknown), [key.source for key in keys])
    raise _damaged(what)


def _status_words(block: str) -> dict[str, list[str]]:
    return {line.split()[1]: line.split()[2:] for line in block.splitlines() if line.startswith("[GNUPG:] ")}


def _unknown(what: str, key_id: str, given: Sequence[str]) -> UnknownKeyError:
    those = f"not by {' or '.join(given)}" if given else "and no key of its kind was given"
    return UnknownKeyError(f"{what} was signed by the key {key_id}, {those}", hint=_TRUSTED)


def _changed(what: str, key_id: str) -> SignatureError:
    return SignatureError(
        f"{what} is not what the key {key_id} signed: it was changed or damaged since, or the signature is of"
        " something else",
        hint="do not use it; fetch it anew, from another mirror",
    )


def verify_signed(data: bytes, signatures: Iterable[bytes], keys: Iterable[Key], *, what: str = "the data") -> Signer:
    """Who, among `keys`, signed `data`, by any of its `signatures` (the contents of `.sig`, `.asc` or `.gpg` files).

    One good signature is enough; one that a given key did make, for other data, is an error whatever the others say.
    Raises `UnknownKeyError` when no signature is by a given key, else as `verify_usign` and `verify_gpg`.
    """
    keys = tuple(keys)
    usign = [key for key in keys if isinstance(key, UsignKey)]
    gpg = [key for key in keys if isinstance(key, GpgKey)]
    found: Signer | None = None
    unknown: list[UnknownKeyError] = []
    for signature in signatures:
        try:
            if _is_openpgp(signature) and not gpg:
                unknown.append(UnknownKeyError(f"{what} was signed with GPG, and no key of its kind was given"))
            elif _is_openpgp(signature):
                fingerprint = verify_gpg(data, signature, gpg, what=what)
                found = found or Signer("gpg", fingerprint, ", ".join(key.source for key in gpg))
            else:
                key_id = verify_usign(data, signature, usign, what=what)
                found = found or Signer("usign", key_id, next(key.source for key in usign if key.key_id == key_id))
        except UnknownKeyError as error:
            unknown.append(error)
    if found:
        return found
    if unknown:
        raise UnknownKeyError("; ".join(error.message for error in unknown), hint=_TRUSTED)
    raise SignatureError(f"there is no signature of {what}", hint=_TRUSTED)


def _is_openpgp(signature: bytes) -> bool:
    return b"-----BEGIN PGP " in signature or (signature[:1] != b"" and signature[0] in _SIGNATURE_TAGS)
