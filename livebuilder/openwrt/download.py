"""What a disc with OpenWrt is made from, fetched from a download server and verified: hashes and who signed them."""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from loguru import logger

from livebuilder.cache import Cache
from livebuilder.console import measured_step, step
from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.layout import (
    HASHES,
    SIGNATURES,
    VERSIONS,
    Location,
    folders_of,
    parse_sha256sums,
    targets_of,
    versions_of,
)
from livebuilder.openwrt.signature import Key, Signer, verify_signed
from livebuilder.openwrt.transfer import KEPT, Mirror, file_sha256, kept_file
from livebuilder.sizes import render_size
from livebuilder.staging import staged_folder, verify_writable

Origin = Literal["folder", "cache", "server"]

_LISTS: Final = "openwrt-lists"
_WHERE: Final = {"folder": "already there", "cache": "from the cache", "server": "from the server"}
_MOST_NAMED = 6  # as many versions an error message lists


@dataclass(frozen=True)
class FetchRequest:
    """What to fetch, from where to where, and who has to have signed it.

    With `hash_only` nobody has to; without it, one of `keys`.
    """

    location: Location
    output: Path
    cache: Cache
    keys: tuple[Key, ...] = ()
    hash_only: bool = False
    offline: bool = False


@dataclass(frozen=True)
class WantedFile:
    """A file of the release; `role` says what it is, `size` is in bytes and None when nobody said.

    `origin` is where it is, or was before it was fetched: in the output `folder`, in the `cache`, on the `server`.
    """

    role: str
    name: str
    sha256: str
    size: int | None
    origin: Origin

    def to_json(self) -> dict[str, Any]:
        """The stable form in `openwrt fetch --json`."""
        return {"role": self.role, "name": self.name, "size": self.size, "sha256": self.sha256, "origin": self.origin}

    def render(self) -> str:
        """One line."""
        size = "size unknown" if self.size is None else render_size(self.size)
        return f"{self.role:<9} {self.name}  {size}  sha256 {self.sha256}  {_WHERE[self.origin]}"


@dataclass(frozen=True)
class FetchPlan:
    """All that is known before the large files are fetched; `lists` are sha256sums and its signatures by name."""

    request: FetchRequest
    url: str
    lists: Mapping[str, bytes]
    signer: Signer | None
    files: tuple[WantedFile, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The stable form that `openwrt fetch --dry-run --json` prints; docs/json.md describes it."""
        signer = self.signer
        signature = signer and {"scheme": signer.scheme, "key_id": signer.key_id, "key": signer.source}
        return {
            "version": self.request.location.version,
            "target": self.request.location.target,
            "url": self.url,
            "folder": str(self.request.output),
            "signature": signature,
            "files": [file.to_json() for file in self.files],
            "warnings": list(self.warnings),
        }

    def render(self) -> str:
        """What would be fetched, and how large it is."""
        lines = [f"{self.url}/", *(file.render() for file in self.files)]
        missing = [file for file in self.files if file.origin == "server"]
        sizes = [file.size for file in missing if file.size is not None]
        unknown = "" if len(sizes) == len(missing) else ", and what the server does not say"
        return "\n".join([*lines, self.render_signer(), f"to fetch: {render_size(sum(sizes))}{unknown}"])

    def render_signer(self) -> str:
        """Who vouches for the files."""
        if self.signer is None:
            return "signature not checked: nobody vouches for these files"
        return f"signed with {self.signer.scheme} by {self.signer.key_id} ({self.signer.source})"


@dataclass(frozen=True)
class FetchReport:
    """What is in the output folder; `unchanged` when all of it was there already, `seconds` how long it took."""

    plan: FetchPlan
    files: tuple[WantedFile, ...]
    seconds: float
    unchanged: bool

    @property
    def profile(self) -> str:
        """What to write into the profile to build from these files."""
        paths = {file.role: str(self.plan.request.output / file.name) for file in self.files}
        root = f'[root]\nsource = "openwrt"\nrootfs = {_toml_string(paths["rootfs"])}\n'
        kernel = f"image = {_toml_string(paths['kernel'])}" if "kernel" in paths else 'source = "debian"'
        return f"{root}\n[kernel]\n{kernel}\n"

    def to_json(self) -> dict[str, Any]:
        """The stable form that `openwrt fetch --json` prints; docs/json.md describes it."""
        return {
            **self.plan.to_json(),
            "files": [file.to_json() for file in self.files],
            "profile": self.profile,
            "unchanged": self.unchanged,
            "seconds": round(self.seconds, 3),
        }

    def render(self) -> str:
        """Every file, who signed them, and what goes into the profile."""
        done = "nothing to do, all of it was there already" if self.unchanged else "fetched"
        lines = [file.render() for file in self.files]
        lines += [self.plan.render_signer(), f"{done}: {self.seconds:.1f} s", ""]
        return "\n".join([*lines, "in the profile:", "", *self.profile.splitlines()])


def _toml_string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # TOML's basic strings have JSON's escapes


def plan_fetch(request: FetchRequest, mirror: Mirror) -> FetchPlan:
    """Read and verify the list of hashes, and find out which files are wanted and where they are.

    Raises `SignatureError` when the list is not signed by one of the keys, `LivebuilderError` when the release is not
    there or, offline, not in the cache.
    """
    location = request.location
    url = mirror.url(location.folder)
    if request.offline:
        lists = _kept_lists(request.cache, url, location)
    else:
        with step(f"Reading {url}/{HASHES}"):
            lists = _read_lists(mirror, location)
    warnings = []
    signer = None
    if request.hash_only:
        warnings.append(_hash_only_warning(url))
        logger.warning("{}", warnings[0])
    else:
        signatures = [data for name, data in lists.items() if name != HASHES]
        signer = verify_signed(lists[HASHES], signatures, request.keys, what=f"{url}/{HASHES}")
    sums = parse_sha256sums(lists[HASHES])
    chosen = location.choose(sums)
    if not request.offline:
        _keep_lists(request.cache, url, lists)
    files = tuple(_wanted(role, name, sums[name], request, mirror) for role, name in chosen.items())
    return FetchPlan(request, url, lists, signer, files, tuple(warnings))


def _hash_only_warning(url: str) -> str:
    wire = "" if url.startswith("https:") else ", over a connection that anyone on the way can change"
    return (
        "the signature is not checked. The list of hashes came from the same server as the files"
        f"{wire}: it shows that they arrived whole, not that they are OpenWrt's"
    )


def _read_lists(mirror: Mirror, location: Location) -> dict[str, bytes]:
    hashes = mirror.read(f"{location.folder}/{HASHES}")
    if hashes is None:
        raise _not_there(mirror, location)
    lists = {HASHES: hashes}
    for name in SIGNATURES:
        if name == "sha256sums.gpg" and "sha256sums.asc" in lists:
            continue
        data = mirror.read(f"{location.folder}/{name}")
        if data is not None:
            lists[name] = data
    return lists


def _not_there(mirror: Mirror, location: Location) -> LivebuilderError:
    """The error for a release that has no sha256sums: what is wrong, the version or the target, and what there is."""
    missing = f"there is no OpenWrt {location.version} for {location.target} at {mirror.url(location.folder)}"
    targets = targets_of(
        _folders(mirror, f"{location.targets_folder}/"), _look(mirror, f"{location.release_folder}/.targets.json")
    )
    if targets:
        return LivebuilderError(missing, hint=f"--target {_either(targets)}")
    versions = versions_of(_folders(mirror, "releases/"), _look(mirror, VERSIONS))
    if versions and not location.is_snapshot:
        near = difflib.get_close_matches(location.version, versions, _MOST_NAMED) or versions[:_MOST_NAMED]
        return LivebuilderError(missing, hint=f"--version {_either(near)}")
    return LivebuilderError(missing, hint="is the address right? --url is that of the folder which has releases/ in it")


def _folders(mirror: Mirror, path: str) -> list[str]:
    index = _look(mirror, path)
    return folders_of(index, mirror.url(path)) if index else []


def _look(mirror: Mirror, path: str) -> bytes | None:
    """A page that need not be there, and that some servers give to nobody."""
    try:
        return mirror.read(path)
    except LivebuilderError:
        return None


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _list_key(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


def _keep_lists(cache: Cache, url: str, lists: Mapping[str, bytes]) -> None:
    texts = {name: base64.b64encode(data).decode() for name, data in lists.items()}
    with cache.place(_LISTS, _list_key(url)) as draft:
        draft.write_text(json.dumps({"url": url, "lists": texts}))


def _kept_lists(cache: Cache, url: str, location: Location) -> dict[str, bytes]:
    path = cache.find(_LISTS, _list_key(url))
    if path is None:
        raise LivebuilderError(
            f"OpenWrt {location.version} for {location.target} of {url} is not in the cache",
            hint="fetch it once without --offline",
        )
    return {name: base64.b64decode(text) for name, text in json.loads(path.read_text())["lists"].items()}


def _wanted(role: str, name: str, sha256: str, request: FetchRequest, mirror: Mirror) -> WantedFile:
    if path := _present(request.output / name, sha256):
        return WantedFile(role, name, sha256, path.stat().st_size, "folder")
    if path := kept_file(request.cache, sha256):
        return WantedFile(role, name, sha256, path.stat().st_size, "cache")
    size = None if request.offline else mirror.size_of(f"{request.location.folder}/{name}")
    return WantedFile(role, name, sha256, size, "server")


def _present(path: Path, sha256: str) -> Path | None:
    return path if path.is_file() and file_sha256(path) == sha256 else None


def run_fetch(plan: FetchPlan, mirror: Mirror, *, started: float) -> FetchReport:
    """Fetch what is missing, and put all of it into the output folder, or nothing; `started` is in monotonic seconds.

    Raises `LivebuilderError` when a file cannot be had, or is not the one the list of hashes names.
    """
    request = plan.request
    lists = tuple(_list_file(name, data, request) for name, data in plan.lists.items())
    if all(file.origin == "folder" for file in (*plan.files, *lists)):
        return FetchReport(plan, (*plan.files, *lists), time.monotonic() - started, unchanged=True)
    verify_writable(request.output)
    missing = [file.name for file in plan.files if file.origin == "server"]
    if missing and request.offline:
        raise LivebuilderError(f"not in the cache: {', '.join(missing)}", hint="fetch it once without --offline")
    sources = {}
    for file in plan.files:
        if file.origin == "server":
            with measured_step(f"Fetching {file.name}") as progress:
                path = f"{request.location.folder}/{file.name}"
                sources[file.name] = mirror.obtain(path, sha256=file.sha256, cache=request.cache, progress=progress)
        elif file.origin == "cache":
            sources[file.name] = request.cache.folder(KEPT) / file.sha256
    with staged_folder(request.output) as stage:
        for name, source in sources.items():
            shutil.copyfile(source, stage / name)
        for name, data in plan.lists.items():
            (stage / name).write_bytes(data)
    arrived = tuple(replace(file, size=(request.output / file.name).stat().st_size) for file in plan.files)
    return FetchReport(plan, (*arrived, *lists), time.monotonic() - started, unchanged=False)


def _list_file(name: str, data: bytes, request: FetchRequest) -> WantedFile:
    sha256 = hashlib.sha256(data).hexdigest()
    origin: Origin = "cache" if request.offline else "server"
    if _present(request.output / name, sha256):
        origin = "folder"
    return WantedFile("hashes" if name == HASHES else "signature", name, sha256, len(data), origin)
