"""usign signatures: the format, the right key, the wrong key, changed data, damaged files."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.signature import (
    GpgKey,
    SignatureError,
    Signer,
    UnknownKeyError,
    UsignKey,
    read_key,
    read_key_file,
    read_usign_signature,
    verify_signed,
    verify_usign,
)
from tests.support.signing import UsignPair

DATA = b"4f2a... *openwrt-x86-generic-rootfs.tar.gz\n"
RELEASE, OTHER = UsignPair.of("release"), UsignPair.of("other")
# A key and a signature that usign and signify know: RFC 8032, section 7.1, test 2, with the id 0102030405060708.
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


def key(pair: UsignPair, source: str = "release.pub") -> UsignKey:
    read = read_key(pair.public, source=source)
    assert isinstance(read, UsignKey)
    return read


def test_a_public_key() -> None:
    assert key(RELEASE) == UsignKey(b" release".hex(), RELEASE.public_bytes, "release.pub")


def test_the_base64_line_alone_is_a_key_too() -> None:
    line = RELEASE.public.splitlines()[1]
    assert read_key(line, source="release.pub") == key(RELEASE)


def test_a_key_file_from_windows() -> None:
    assert read_key(RELEASE.public.replace(b"\n", b"\r\n"), source="release.pub") == key(RELEASE)


def test_the_test_vector_of_the_rfc() -> None:
    name = b"Ed" + bytes(range(1, 9))
    public = read_key(base64.b64encode(name + RFC_PUBLIC), source="rfc.pub")
    assert isinstance(public, UsignKey)
    signature = b"untrusted comment: x\n" + base64.b64encode(name + RFC_SIGNATURE)
    assert verify_usign(b"\x72", signature, [public]) == "0102030405060708"
    with pytest.raises(SignatureError):
        verify_usign(b"\x73", signature, [public])


def test_the_right_key_among_several() -> None:
    assert verify_usign(DATA, RELEASE.sign(DATA), [key(OTHER), key(RELEASE)]) == RELEASE.key_id.hex()


def test_an_unknown_key_is_named_and_so_are_those_given() -> None:
    with pytest.raises(UnknownKeyError) as caught:
        verify_usign(DATA, OTHER.sign(DATA), [key(RELEASE)], what="sha256sums")
    assert caught.value.message == (
        f"sha256sums was signed by the key {OTHER.key_id.hex()}, not by {RELEASE.key_id.hex()} (release.pub)"
    )
    assert caught.value.hint


def test_without_keys_nothing_is_good() -> None:
    with pytest.raises(UnknownKeyError, match="no key of its kind was given"):
        verify_usign(DATA, RELEASE.sign(DATA), [])


@pytest.mark.parametrize("changed", [b"", DATA[:-1], DATA + b"\n", DATA.replace(b"4", b"5")])
def test_changed_data(changed: bytes) -> None:
    with pytest.raises(SignatureError, match=f"not what the key {RELEASE.key_id.hex()} signed") as caught:
        verify_usign(changed, RELEASE.sign(DATA), [key(RELEASE)])
    assert not isinstance(caught.value, UnknownKeyError)


def test_a_key_that_only_borrows_the_name() -> None:
    impostor = UsignPair(OTHER.secret, RELEASE.key_id)
    with pytest.raises(SignatureError, match="is not what the key"):
        verify_usign(DATA, impostor.sign(DATA), [key(RELEASE)])
    assert verify_usign(DATA, RELEASE.sign(DATA), [key(impostor), key(RELEASE)]) == RELEASE.key_id.hex()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"untrusted comment: signed by key 1\n",
        b"<html><body>Not Found</body></html>",
        RELEASE.sign(DATA)[:-10],
        RELEASE.sign(DATA) + b"one line more\n",
        RELEASE.sign(DATA).replace(b"untrusted", b"trusted"),
        RELEASE.public,
        b"untrusted comment: x\n" + base64.b64encode(b"RW" + bytes(72)),
        b"untrusted comment: x\n" + base64.b64encode(b"Ed" + bytes(73)),
        bytes(200),
        "untrusted comment: größe\nŒŒŒŒ".encode(),
    ],
)
def test_what_is_no_signature(text: bytes) -> None:
    with pytest.raises(SignatureError, match="the signature of sha256sums is damaged"):
        verify_usign(DATA, text, [key(RELEASE)], what="sha256sums")


@given(st.binary(max_size=200))
def test_no_bytes_are_a_surprise(noise: bytes) -> None:
    with pytest.raises(SignatureError):
        read_usign_signature(noise)
    try:
        assert isinstance(read_key(noise, source="noise"), GpgKey)
    except SignatureError as error:
        assert "noise" in error.message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is not a public key"),
        (b"untrusted comment: x\n", "is not a public key"),
        (b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n", "is not a public key"),
        (RELEASE.sign(DATA), "is not a public key"),
        (bytes(5 << 20), "is not a public key"),
        (b"untrusted comment: private key 1\n" + base64.b64encode(b"EdBK" + bytes(100)), "is a secret key"),
        (b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlFgE\n-----END PGP PRIVATE KEY BLOCK-----\n", "is a secret key"),
        (b"\x94\x58\x04", "is a secret key"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEawCb\n", "no whole public key"),
        (b"-----BEGIN PGP SIGNATURE-----\n\niHUEABYK\n-----END PGP SIGNATURE-----\n", "no whole public key"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nm\n-----END PGP PUBLIC KEY BLOCK-----\n", "is damaged"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nmDME\n-----END PGP PUBLIC KEY BLOCK-----\n", "is damaged"),
        (b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDME\n=AAAA\n-----END PGP PUBLIC KEY BLOCK-----\n", "is damaged"),
    ],
)
def test_what_is_no_key(data: bytes, said: str) -> None:
    with pytest.raises(SignatureError, match=said) as caught:
        read_key(data, source="x.pub")
    assert "x.pub" in caught.value.message
    assert caught.value.hint


def test_a_key_file(tmp_path: Path) -> None:
    path = tmp_path / "release.pub"
    path.write_bytes(RELEASE.public)
    assert read_key_file(path) == key(RELEASE, source=str(path))


@pytest.mark.parametrize(("name", "said"), [("none.pub", "No such file"), (".", "Is a directory")])
def test_a_key_file_that_cannot_be_read(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(LivebuilderError, match=said):
        read_key_file(tmp_path / name)


def test_any_of_the_signatures_will_do() -> None:
    signed = verify_signed(DATA, [OTHER.sign(DATA), RELEASE.sign(DATA)], [key(RELEASE)])
    assert signed == Signer("usign", RELEASE.key_id.hex(), "release.pub")


def test_but_a_wrong_one_by_a_key_of_ours_is_an_error() -> None:
    with pytest.raises(SignatureError, match="is not what the key"):
        verify_signed(DATA, [RELEASE.sign(DATA), OTHER.sign(b"other data")], [key(RELEASE), key(OTHER)])


def test_only_signatures_of_others() -> None:
    with pytest.raises(UnknownKeyError) as caught:
        verify_signed(DATA, [OTHER.sign(DATA), b"\x88\x75\x04"], [key(RELEASE)], what="sha256sums")
    assert OTHER.key_id.hex() in caught.value.message
    assert "sha256sums was signed with GPG" in caught.value.message


def test_no_signature_at_all() -> None:
    with pytest.raises(SignatureError, match="there is no signature of sha256sums"):
        verify_signed(DATA, [], [key(RELEASE)], what="sha256sums")
