"""How OpenWrt lays its downloads out: which folder a release is in, and what its files are called.

    releases/23.05.5/targets/x86/64/     since 17.01; also releases/23.05-SNAPSHOT/
    snapshots/targets/x86/64/            the development version
    chaos_calmer/15.05.1/x86/generic/    15.05, by its code name; those before have no sha256sums

File names begin with `<dist>-[<version>-][<code>-]<board>-<subtarget>` (OpenWrt, include/image.mk: IMG_PREFIX). What
comes after that changed, so names are looked up in the folder's own sha256sums instead of being put together:

    18.06, 19.07    openwrt-18.06.9-x86-generic-generic-rootfs.tar.gz   openwrt-18.06.9-x86-generic-vmlinuz
    21.02 and on    openwrt-23.05.5-x86-64-rootfs.tar.gz                openwrt-23.05.5-x86-64-generic-kernel.bin

profiles.json is there since 21.02. On x86 it names disk images only, neither the root's archive nor the kernel.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Final, Literal
from urllib.parse import unquote, urljoin

from livebuilder.errors import LivebuilderError, UsageError

Role = Literal["rootfs", "kernel", "manifest", "profiles"]

HASHES: Final = "sha256sums"
# How the signature of sha256sums is called: usign's, GPG's, and GPG's up to 17.01.
SIGNATURES: Final = ("sha256sums.sig", "sha256sums.asc", "sha256sums.gpg")
VERSIONS: Final = ".versions.json"

_SNAPSHOTS = ("snapshot", "snapshots")
_CODE_NAMES = {"15.05": "chaos_calmer"}
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?(-rc\d+|-SNAPSHOT)?")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_PROFILE = r"(?:-(?P<profile>[a-z0-9_]+))?"
_NAMES: dict[Role, str] = {
    "rootfs": _PROFILE + r"-rootfs\.tar\.(?:gz|xz|zst)",
    "kernel": _PROFILE + r"-(?:vmlinuz|kernel\.bin)",
    "manifest": _PROFILE + r"\.manifest",
}
_HASH_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")


@dataclass(frozen=True)
class Location:
    """One release for one target: `version` as in 23.05.5 or snapshot, `target` as in x86/64."""

    version: str
    target: str

    def __post_init__(self) -> None:
        """Raises `UsageError` for what can be neither a version nor a target of x86."""
        if _WORD.fullmatch(self.version) is None:
            raise UsageError(f"{self.version!r} is not a version of OpenWrt", hint="--version 23.05.5, or snapshot")
        if _VERSION.fullmatch(self.version) and _age(self.version) < _age("15.05-rc1"):
            raise UsageError(
                f"OpenWrt {self.version} was published with MD5 sums alone, which prove nothing",
                hint="get the root's archive and the kernel by hand, and name them in the profile",
            )
        board, _, subtarget = self.target.partition("/")
        if board != "x86" or _WORD.fullmatch(subtarget) is None:
            raise UsageError(
                f"{self.target!r} is not a target for PCs", hint="--target x86/generic, x86/legacy, x86/geode or x86/64"
            )

    @property
    def is_snapshot(self) -> bool:
        """Whether it is the development version, which changes every day."""
        return self.version.lower() in _SNAPSHOTS

    @property
    def release_folder(self) -> str:
        """Where all targets of the release are, relative to the server's base."""
        if self.is_snapshot:
            return "snapshots"
        code_name = self._code_name
        return f"{code_name}/{self.version}" if code_name else f"releases/{self.version}"

    @property
    def targets_folder(self) -> str:
        """Where the subtargets of x86 are."""
        return f"{self.release_folder}/x86" if self._code_name else f"{self.release_folder}/targets/x86"

    @property
    def folder(self) -> str:
        """Where the files are."""
        return f"{self.targets_folder}/{self.target.partition('/')[2]}"

    @property
    def _code_name(self) -> str:
        return _CODE_NAMES.get(".".join(re.split("[.-]", self.version)[:2]), "")

    @property
    def label(self) -> str:
        """A name for a folder: `openwrt-23.05.5-x86-64`."""
        return f"openwrt-{self.version}-{self.target.replace('/', '-')}"

    def choose(self, sums: Mapping[str, str]) -> dict[Role, str]:
        """The names, among those of sha256sums, of the files a disc is made from, by what they are.

        The root's archive is always there, the others where they are published. Raises `LivebuilderError` when there
        is no such archive of this version and target, or several and none is for the generic PC.
        """
        chosen = {role: name for role in _NAMES if (name := self._find(role, sums))}
        if "rootfs" not in chosen:
            roots = sorted(name for name in sums if "rootfs" in name or "combined" in name)
            listing = f"; what it has of roots: {', '.join(roots)}" if roots else ""
            raise LivebuilderError(
                f"sha256sums names no rootfs.tar of OpenWrt {self.version} for {self.target}{listing}",
                hint="fetch a root image by hand and name it in the profile, or try another version",
            )
        if "profiles.json" in sums:
            chosen["profiles"] = "profiles.json"
        return chosen

    def _find(self, role: Role, sums: Mapping[str, str]) -> str | None:
        version = "" if self.is_snapshot else rf"(?:[^/]*-)?{re.escape(self.version)}-"
        pattern = re.compile(
            rf"{version}(?:[^/]*-)?{re.escape(self.target.replace('/', '-'))}{_NAMES[role]}", re.IGNORECASE
        )
        matches = [match for name in sorted(sums) if (match := pattern.fullmatch(name))]
        by_profile = {(match["profile"] or "").lower(): match[0] for match in matches}
        for profile in ("generic", ""):
            if profile in by_profile:
                return by_profile[profile]
        if len(by_profile) > 1:
            raise LivebuilderError(
                f"several files could be the {role}: {', '.join(by_profile.values())}",
                hint="fetch the right one by hand and name it in the profile",
            )
        return next(iter(by_profile.values()), None)


def parse_sha256sums(data: bytes) -> dict[str, str]:
    """SHA-256 by file name: lines of `HEX *NAME` (OpenWrt, rules.mk: sha256sums). Raises `LivebuilderError`."""
    sums = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        match = _HASH_LINE.fullmatch(line)
        if match is None or match[2] in sums:
            raise LivebuilderError(
                f"sha256sums is damaged, or is none: line {number} is {line[:60]!r}",
                hint="is the address right? --url is that of the folder which has releases/ in it",
            )
        sums[match[2]] = match[1]
    return sums


def folders_of(index: bytes, url: str) -> list[str]:
    """The names of the folders in the folder at `url` (with a slash at its end), from the links of its index page."""
    parser = _Links()
    parser.feed(index.decode("utf-8", "replace"))
    names: dict[str, None] = {}
    for link in parser.links:
        try:
            address = urljoin(url, link)
        except ValueError:
            continue
        if address.startswith(url) and address.endswith("/"):
            names[unquote(address[len(url) : -1])] = None
    return [name for name in names if _WORD.fullmatch(name)]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value for name, value in attrs if tag == "a" and name == "href" and value]


def versions_of(folders: Iterable[str], versions_json: bytes | None) -> list[str]:
    """The releases a server has, from the folders in releases/ and from .versions.json, the newest first."""
    names = list(folders)
    listed = _json(versions_json)
    if isinstance(listed, dict) and isinstance(listed.get("versions_list"), list):
        names += [name for name in listed["versions_list"] if isinstance(name, str)]
    return sorted({name for name in names if _VERSION.fullmatch(name)}, key=_age, reverse=True)


def targets_of(folders: Iterable[str], targets_json: bytes | None) -> list[str]:
    """The x86 targets of a release, from the folders in its targets/x86/ and from its .targets.json."""
    names = [f"x86/{name}" for name in folders]
    listed = _json(targets_json)
    if isinstance(listed, dict):
        names += [name for name in listed if name.startswith("x86/")]
    return sorted(set(names))


def _json(data: bytes | None) -> object:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return None


def _age(version: str) -> tuple[list[int], bool, str]:
    """What orders versions: 23.05.5 after 23.05.0 after 23.05.0-rc4."""
    number, _, suffix = version.partition("-")
    return [int(part) for part in number.split(".")], not suffix.startswith("rc"), suffix
