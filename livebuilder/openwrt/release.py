"""Which OpenWrt a root is: its release, target and architecture, from the files that every build leaves in it.

    etc/openwrt_release   DISTRIB_ID='OpenWrt', DISTRIB_RELEASE='23.05.5' … (10.03.1 and later)
    usr/lib/os-release    NAME="OpenWrt", VERSION="23.05.5", BUILD_ID="r24106-…", OPENWRT_ARCH="…" (17.01 and later)
    etc/openwrt_version   one line: the version, or the revision of a snapshot
    etc/banner            "Backfire (10.03, r20728) ---" and the name in large letters
    usr/lib/opkg/status   the architecture of the packages, where nothing else says it

The first two are what package/base-files of OpenWrt makes of the templates files/etc/openwrt_release and
files/usr/lib/os-release; both are lists of shell assignments.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from livebuilder.tree import Kind, RootTree

_TEXT_BYTES = 256 * 1024  # larger files are none of these
_STATUS_BYTES = 8 * 1024 * 1024
_ASSIGNMENT = re.compile(r"^\s*([A-Z][A-Z0-9_]*)=(?:'([^']*)'|\"([^\"]*)\"|(\S*))\s*$", re.MULTILINE)
_ARCHITECTURE = re.compile(r"^Architecture:\s*(\S+)\s*$", re.MULTILINE)
# "Backfire (10.03, r20728)", "CHAOS CALMER (15.05, r46767)", "OpenWrt 23.05.5, r24106-10cc5fcd00"
_BANNER = re.compile(
    r"(?P<codename>[A-Za-z][A-Za-z ]*?) ?\(?(?P<version>\d+\.\d+[\w.-]*|SNAPSHOT), (?P<revision>r\d[\w+-]*)"
)
_WORDS_OF_A_BANNER = ("OpenWrt", "LEDE", "W I R E L E S S   F R E E D O M")
_NUMBERS = re.compile(r"(\d+)\.(\d+)(?!\d)")
_REVISION = re.compile(r"r\d+([-+]\w+)?")


@dataclass(frozen=True)
class Release:
    """A release as it names itself: `OpenWrt 23.05.5 (r24106-10cc5fcd00) for x86/generic, i386_pentium4`.

    `version` is also `SNAPSHOT` or `18.06-SNAPSHOT`; whatever the root does not say is empty.
    """

    distribution: str
    version: str
    revision: str = ""
    codename: str = ""
    target: str = ""
    architecture: str = ""

    @property
    def numbers(self) -> tuple[int, int] | None:
        """Year and month of the release, as in (23, 5); None for a snapshot of the development branch."""
        match = _NUMBERS.match(self.version)
        return (int(match[1]), int(match[2])) if match else None

    def to_json(self) -> dict[str, str]:
        """As it stands in the manifest."""
        return asdict(self)

    def __str__(self) -> str:
        revision = f" ({self.revision})" if self.revision else ""
        made_for = f" for {self.target}" if self.target else ""
        return f"{self.distribution} {self.version or 'of unknown version'}{revision}{made_for}"


def read_release(root: RootTree) -> Release | None:
    """The release of a root; None when it is no OpenWrt (nor LEDE, nor something made of them)."""
    said = _assignments(root, "etc/openwrt_release")
    system = _assignments(root, "usr/lib/os-release")
    version = _text(root, "etc/openwrt_version").strip()
    banner = _text(root, "etc/banner")
    known = {"openwrt", "lede"} & {*system.get("ID_LIKE", "").split(), system.get("ID", "")}
    if not (said or known or version or any(word in banner for word in _WORDS_OF_A_BANNER)):
        return None
    shown = _BANNER.search(banner)
    if _REVISION.fullmatch(version):  # a snapshot has its revision here
        version, revision = "SNAPSHOT", version
    else:
        revision = ""
    versions = [
        *filter(None, (said.get("DISTRIB_RELEASE"), _without_codename(system.get("VERSION", "")))),
        *([shown["version"]] if shown else ()),
        version,
    ]
    return Release(
        distribution=said.get("DISTRIB_ID") or system.get("NAME") or "OpenWrt",
        # A build from the branch of 15.05 has DISTRIB_RELEASE='Chaos Calmer', and its number in openwrt_version.
        version=next(filter(_NUMBERS.match, versions), versions[0]),
        revision=said.get("DISTRIB_REVISION")
        or system.get("BUILD_ID")
        or (shown["revision"] if shown else "")
        or revision,
        codename=said.get("DISTRIB_CODENAME") or (_codename(shown["codename"]) if shown else ""),
        target=said.get("DISTRIB_TARGET") or system.get("OPENWRT_BOARD") or system.get("LEDE_BOARD", ""),
        architecture=said.get("DISTRIB_ARCH")
        or system.get("OPENWRT_ARCH")
        or system.get("LEDE_ARCH")
        or _architecture_of_packages(root),
    )


def _codename(words: str) -> str:
    """`BARRIER BREAKER` as later releases write it: `barrier_breaker`."""
    name = words.strip().lower().replace(" ", "_")
    return "" if name in ("openwrt", "lede") else name


def _without_codename(version: str) -> str:
    """`17.01.4, Reboot` without what follows the comma."""
    return version.partition(",")[0].strip()


def _architecture_of_packages(root: RootTree) -> str:
    found = Counter(_ARCHITECTURE.findall(_text(root, "usr/lib/opkg/status", limit=_STATUS_BYTES)))
    del found["all"]
    return max(sorted(found), key=lambda name: found[name], default="")


def _assignments(root: RootTree, path: str) -> Mapping[str, str]:
    return {name: next(filter(None, values), "") for name, *values in _ASSIGNMENT.findall(_text(root, path))}


def _text(root: RootTree, path: str, *, limit: int = _TEXT_BYTES) -> str:
    entry = root.resolve(path)
    if entry is None or entry.kind not in (Kind.FILE, Kind.HARDLINK):
        return ""
    content = root.content_of(entry)
    return content.read().decode("utf-8", "replace") if content.size <= limit else ""
