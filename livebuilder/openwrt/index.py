"""The index of a feed: fetched, verified against its signature, and kept for a day.

`Packages.sig` is over the index as it is when unpacked (OpenWrt's opkg-key). What is kept is verified again each time
it is used, with the keys of that time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from loguru import logger

from livebuilder.cache import Cache
from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.feed import Feed, Package, package_of, parse_packages
from livebuilder.openwrt.ipk import read_ipk
from livebuilder.openwrt.signature import Key, SignatureError, Signer, UnknownKeyError, verify_signed
from livebuilder.openwrt.transfer import Mirror
from livebuilder.sizes import MIB
from livebuilder.unpacking import PackingError, packing_of, unpack_first

FRESH_SECONDS: Final = 24 * 60 * 60  # an index younger than this is not asked for again
_KIND: Final = "opkg-lists"
_NAMES: Final = ("Packages.gz", "Packages")
_SIGNATURES: Final = ("Packages.sig", "Packages.asc")
_MOST_BYTES: Final = 64 * MIB


@dataclass(frozen=True)
class Index:
    """What a feed has; `signer` is who vouches for it, None when nobody was asked to.

    `missing` when there is no such feed: it has no packages then.
    """

    feed: Feed
    packages: tuple[Package, ...] = ()
    signer: Signer | None = None
    missing: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Files:
    """An index as it lies on a server or in a folder: packed or not, and its signatures."""

    packed: bytes
    signatures: tuple[bytes, ...]
    fetched: float = 0.0  # seconds since 1970


def read_index(
    feed: Feed,
    *,
    cache: Cache,
    keys: Iterable[Key] = (),
    hash_only: bool = False,
    offline: bool = False,
    refresh: bool = False,
    strict: bool = False,
) -> Index:
    """The index of a feed, signed by one of `keys`, or by nobody with `hash_only`.

    A local folder without an index is read package by package: its files are the user's own, and nobody has to sign
    them. With `strict` a list that cannot be had is an error, whether or not the cache has an older one, and so is a
    feed that is not there. Raises `SignatureError` when the index is not signed by one of the keys, else
    `LivebuilderError`.
    """
    keys = tuple(keys)
    if not feed.is_remote:
        return _local(feed, keys, cache=cache, hash_only=hash_only)
    kept = _kept(cache, feed.url)
    if offline or (kept is not None and not refresh and 0 <= time.time() - kept.fetched < FRESH_SECONDS):
        if kept is None:
            raise LivebuilderError(
                f"the list of packages of {feed.url} is not in the cache", hint="build once without --offline"
            )
        return _verified(feed, kept, keys, hash_only=hash_only)
    try:
        files = _fetch(feed)
        if files is None:
            if strict:
                raise LivebuilderError(
                    f"there is no feed {feed.name} at {feed.url}", hint="look at the address, or leave out --strict"
                )
            return Index(feed, missing=True, warnings=(f"there is no feed {feed.name} at {feed.url}",))
        index = _verified(feed, files, keys, hash_only=hash_only)
    except SignatureError as error:
        if isinstance(error, UnknownKeyError) or hash_only:
            raise
        files = _fetch(feed)  # a mirror in the middle of a change recovers
        if files is None:
            raise
        index = _verified(feed, files, keys, hash_only=hash_only)
    except LivebuilderError as error:
        if kept is None or strict:
            raise
        logger.warning("{}; the list of packages from the cache is used", error.message)
        return _verified(feed, kept, keys, hash_only=hash_only)
    _keep(cache, feed.url, files)
    return index


def _local(feed: Feed, keys: tuple[Key, ...], *, cache: Cache, hash_only: bool) -> Index:
    folder = Path(feed.url)
    if not folder.is_dir():
        raise LivebuilderError(f"the feed {feed.name} is the folder {folder}, which does not exist")
    try:
        packed = next(((folder / name).read_bytes() for name in _NAMES if (folder / name).is_file()), None)
        if packed is None:
            return Index(feed, tuple(_from_files(feed, folder, cache=cache)))
        signatures = [(folder / name).read_bytes() for name in _SIGNATURES if (folder / name).is_file()]
    except OSError as error:
        raise LivebuilderError(f"the feed {folder} cannot be read: {error.strerror}") from error
    return _verified(feed, _Files(packed, tuple(signatures)), keys, hash_only=hash_only)


def _from_files(feed: Feed, folder: Path, *, cache: Cache) -> Iterable[Package]:
    found = sorted(folder.glob("*.ipk"))
    if not found:
        raise LivebuilderError(
            f"the feed {feed.name} is the folder {folder}, which has neither Packages nor .ipk files"
        )
    for path in found:
        ipk = read_ipk(path, cache=cache)
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        told = {"Size": str(path.stat().st_size), "SHA256sum": sha256, "Filename": path.name}
        fields = {key: value for key, value in ipk.fields.items() if key.lower() != "md5sum"}
        yield package_of({**fields, **told}, source=str(path), feed=feed)


def _fetch(feed: Feed) -> _Files | None:
    with step(f"Fetching the list of packages of {feed.name}"), Mirror(feed.url) as mirror:
        packed = next((data for name in _NAMES if (data := mirror.read(name)) is not None), None)
        if packed is None:
            return None
        signature = next((data for name in _SIGNATURES if (data := mirror.read(name)) is not None), None)
    return _Files(packed, () if signature is None else (signature,), time.time())


def _verified(feed: Feed, files: _Files, keys: tuple[Key, ...], *, hash_only: bool) -> Index:
    what = f"{feed.url}/Packages"
    text = _unpacked(files.packed, what)
    signer = None
    warnings: tuple[str, ...] = ()
    if hash_only:
        warnings = (
            f"the signature of {feed.address}/Packages is not checked: its hashes show that packages arrived whole,"
            " not whose they are",
        )
    else:
        try:
            signer = verify_signed(text, files.signatures, keys, what=what)
        except SignatureError as error:
            raise type(error)(
                error.message, hint=f"{error.hint}; openwrt.hash_only = true does without a signature"
            ) from error
    return Index(feed, parse_packages(text.decode("utf-8", "replace"), source=what, feed=feed), signer, False, warnings)


def _unpacked(packed: bytes, what: str) -> bytes:
    if packing_of(packed) != "gzip":
        if packed.lstrip()[:1] == b"<" or packing_of(packed) != "unknown":
            raise LivebuilderError(f"{what} is no list of packages", hint="look at the address")
        return packed
    try:
        return unpack_first(packed, "gzip", most_bytes=_MOST_BYTES)[0]
    except PackingError as error:
        raise LivebuilderError(f"{what}.gz is damaged: {error.message}", hint="fetch it again: --refresh") from error


def _key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _kept(cache: Cache, url: str) -> _Files | None:
    path = cache.find(_KIND, _key(url))
    try:
        told: Mapping[str, object] = json.loads(path.read_bytes()) if path else {}
        packed, signatures, fetched = told["packed"], told["signatures"], told["fetched"]
        assert isinstance(packed, str) and isinstance(signatures, list) and isinstance(fetched, float)
        return _Files(base64.b64decode(packed), tuple(map(base64.b64decode, signatures)), fetched)
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        return None  # there is none, or it is damaged: fetched again


def _keep(cache: Cache, url: str, files: _Files) -> None:
    told = {
        "url": url,
        "fetched": files.fetched,
        "packed": base64.b64encode(files.packed).decode(),
        "signatures": [base64.b64encode(one).decode() for one in files.signatures],
    }
    with cache.place(_KIND, _key(url)) as draft:
        draft.write_text(json.dumps(told))
