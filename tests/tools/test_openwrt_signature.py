"""Signatures across tools: what signify signs we verify, what we sign signify verifies; OpenPGP by gpg and gpgv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from livebuilder.errors import CommandError
from livebuilder.openwrt.signature import (
    GpgKey,
    SignatureError,
    Signer,
    UnknownKeyError,
    UsignKey,
    read_key,
    read_key_file,
    verify_gpg,
    verify_signed,
    verify_usign,
)
from livebuilder.process import run
from tests.support.signing import GpgHome, UsignPair, gpg_home

DATA = b"4f2a... *openwrt-x86-generic-rootfs.tar.gz\n"
LONG_AGO = ("--faked-system-time", "20200101T000000")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sha256sums").write_bytes(DATA)
    return tmp_path


def test_what_signify_signed(folder: Path) -> None:
    run(["signify-openbsd", "-G", "-n", "-p", "k.pub", "-s", "k.sec"], cwd=folder)
    run(["signify-openbsd", "-S", "-s", "k.sec", "-m", "sha256sums", "-x", "x.sig"], cwd=folder)
    key = read_key_file(folder / "k.pub")
    assert isinstance(key, UsignKey)
    assert verify_usign(DATA, (folder / "x.sig").read_bytes(), [key]) == key.key_id
    with pytest.raises(SignatureError, match="is not what the key"):
        verify_usign(DATA + b"x", (folder / "x.sig").read_bytes(), [key])
    with pytest.raises(SignatureError, match="is a secret key"):
        read_key_file(folder / "k.sec")


def test_signify_takes_what_the_tests_sign(folder: Path) -> None:
    pair = UsignPair.of("release")
    (folder / "k.pub").write_bytes(pair.public)
    verify = ["signify-openbsd", "-V", "-q", "-p", "k.pub", "-x", "x.sig", "-m", "sha256sums"]
    (folder / "x.sig").write_bytes(pair.sign(DATA))
    run(verify, cwd=folder)
    (folder / "x.sig").write_bytes(pair.sign(b"other data"))
    with pytest.raises(CommandError):
        run(verify, cwd=folder)


@pytest.fixture(scope="module")
def gpg() -> Iterator[GpgHome]:
    with gpg_home() as home:
        home.make_key("release@example.org")
        home.make_key("other@example.org")
        home.make_key("expired@example.org", *LONG_AGO)
        home.make_key("revoked@example.org")
        yield home


def public(gpg: GpgHome, name: str, *, armour: bool = True) -> GpgKey:
    key = read_key(gpg.public(name, armour=armour), source=f"{name}.asc")
    assert isinstance(key, GpgKey)
    return key


def test_armour_comes_off_as_gpg_takes_it_off(gpg: GpgHome) -> None:
    assert public(gpg, "release@example.org") == public(gpg, "release@example.org", armour=False)
    both = gpg.public("release@example.org") + b"\nsome words between\n" + gpg.public("other@example.org")
    read = read_key(both, source="x")
    assert isinstance(read, GpgKey)
    rings = [public(gpg, name).keyring for name in ("release@example.org", "other@example.org")]
    assert read.keyring == b"".join(rings)


@pytest.mark.parametrize("armour", [True, False])
def test_a_good_signature(gpg: GpgHome, armour: bool) -> None:
    keys = [public(gpg, "other@example.org"), public(gpg, "release@example.org", armour=armour)]
    signature = gpg.sign(DATA, "release@example.org", armour=armour)
    fingerprint = gpg.fingerprint("release@example.org")
    assert verify_gpg(DATA, signature, keys) == fingerprint
    usign = UsignPair.of("release")
    signer = verify_signed(DATA, [usign.sign(DATA), signature], keys)
    assert (signer.scheme, signer.key_id) == ("gpg", fingerprint)
    either = [*keys, read_key(usign.public, source="k.pub")]
    assert verify_signed(DATA, [usign.sign(DATA), signature], either) == Signer("usign", usign.key_id.hex(), "k.pub")


def test_a_keyring_of_several(gpg: GpgHome) -> None:
    keyring = read_key(gpg.public("other@example.org", "release@example.org"), source="both.asc")
    assert isinstance(keyring, GpgKey)
    assert verify_gpg(DATA, gpg.sign(DATA, "release@example.org"), [keyring])


def test_two_signatures_in_one_file(gpg: GpgHome) -> None:
    names = ("--local-user", "other@example.org")
    both = gpg.sign(DATA, "release@example.org", *names, armour=False)
    for name in ("release@example.org", "other@example.org"):
        assert verify_gpg(DATA, both, [public(gpg, name)]) == gpg.fingerprint(name)


def test_a_bad_one_beside_a_good_one(gpg: GpgHome) -> None:
    names = ("release@example.org", "other@example.org")
    signatures = [gpg.sign(data, name, armour=False) for name, data in zip(names, (DATA, b"other data"), strict=True)]
    keys = [public(gpg, name) for name in names]
    for both in (b"".join(signatures), b"".join(reversed(signatures))):
        with pytest.raises(SignatureError, match="is not what the key"):
            verify_gpg(DATA, both, keys)
        assert verify_gpg(DATA, both, keys[:1]) == gpg.fingerprint(names[0])


def test_changed_data(gpg: GpgHome) -> None:
    with pytest.raises(SignatureError, match=r"sha256sums is not what the key [0-9A-F]{16} signed"):
        signature = gpg.sign(DATA, "release@example.org")
        verify_gpg(DATA + b"x", signature, [public(gpg, "release@example.org")], what="sha256sums")


def test_another_s_key(gpg: GpgHome) -> None:
    long_id = gpg.fingerprint("release@example.org")[-16:]
    with pytest.raises(UnknownKeyError, match=f"signed by the key {long_id}, not by other@example.org.asc"):
        verify_gpg(DATA, gpg.sign(DATA, "release@example.org"), [public(gpg, "other@example.org")])


def test_a_key_that_expired_since(gpg: GpgHome) -> None:
    said: list[str] = []
    sink = logger.add(said.append, format="{message}", level="WARNING")
    signature = gpg.sign(DATA, "expired@example.org", *LONG_AGO)
    try:
        assert verify_gpg(DATA, signature, [public(gpg, "expired@example.org")], what="sha256sums")
    finally:
        logger.remove(sink)
    assert "has expired since" in "".join(said)


def test_a_revoked_key(gpg: GpgHome) -> None:
    signature = gpg.sign(DATA, "revoked@example.org")
    assert verify_gpg(DATA, signature, [public(gpg, "revoked@example.org")])
    gpg.revoke("revoked@example.org")
    with pytest.raises(SignatureError, match="is revoked"):
        verify_gpg(DATA, signature, [public(gpg, "revoked@example.org")])


@pytest.mark.parametrize("damage", ["cut", "empty", "page", "inline"])
def test_what_is_no_detached_signature(gpg: GpgHome, damage: str) -> None:
    whole = gpg.sign(DATA, "release@example.org")
    inline = gpg("--local-user", "release@example.org", "--sign", data=DATA)
    signature = {"cut": whole[:150], "empty": b"", "page": b"<html>Not Found</html>", "inline": inline}[damage]
    with pytest.raises(SignatureError, match="the signature of sha256sums is damaged"):
        verify_gpg(DATA, signature, [public(gpg, "release@example.org")], what="sha256sums")
