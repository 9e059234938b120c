"""opkg feeds: where they are, and what their index, `Packages`, says of each package.

A feed is a folder with .ipk files and an index of them (OpenWrt's scripts/ipkg-make-index.sh): one paragraph a package,
its control fields with `Filename`, `Size`, `SHA256sum` and, in old ones, `MD5Sum`. A root names its feeds in
/etc/opkg/distfeeds.conf, the oldest in /etc/opkg.conf, as lines `src/gz NAME URL`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import PurePosixPath

from livebuilder.deb822 import parse_paragraphs
from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.ipk import NAME
from livebuilder.openwrt.release import read_release
from livebuilder.openwrt.version import compare_versions
from livebuilder.tree import Kind, RootTree

_CONF_FOLDER = "etc/opkg/"
_RELATION = re.compile(r"([^\s()]+)\s*(?:\(\s*(<<|<=|>=|>>|=|<|>)?\s*([^()\s]*)\s*\))?\s*\*?")
_WORD = re.compile(r'"([^"]*)"|(\S+)')
# opkg and old dpkg: `<` and `>` alone let the version itself pass (libopkg/pkg_depends.c, parseDepends).
_MODERN = {"<": "<=", ">": ">="}
_COMMON_FEEDS = ("base", "luci", "packages", "routing", "telephony")


@dataclass(frozen=True)
class Relation:
    """A package that is meant by name, and perhaps by version: `operator` is << <= = >= >> or empty."""

    name: str
    operator: str = ""
    version: str = ""

    def admits(self, version: str) -> bool:
        """Whether a package of this version will do."""
        order = compare_versions(version, self.version) if self.operator else 0
        match self.operator:
            case "<<":
                return order < 0
            case "<=":
                return order <= 0
            case ">=":
                return order >= 0
            case ">>":
                return order > 0
            case _:
                return order == 0

    def __str__(self) -> str:
        return f"{self.name} ({self.operator} {self.version})" if self.operator else self.name


@dataclass(frozen=True)
class Feed:
    """Where a feed is: `url` is http(s), or the absolute path of a local folder."""

    name: str
    url: str

    @property
    def is_remote(self) -> bool:
        """Whether it has to be fetched."""
        return "://" in self.url

    @property
    def address(self) -> str:
        """Where it is, without the paths of this machine: a folder's name alone."""
        return self.url if self.is_remote else PurePosixPath(self.url).name


@dataclass(frozen=True)
class Package:
    """What a feed's index, or a root's status file, says of a package.

    Each of `depends` is a list of alternatives, of which one has to be there. `fields` is all the paragraph says;
    `filename` is relative to the feed and `size_bytes`, `sha256` and `md5` (lower case hex) are those of the .ipk file.
    """

    name: str
    version: str
    architecture: str = ""
    depends: tuple[tuple[Relation, ...], ...] = ()
    provides: tuple[str, ...] = ()
    conflicts: tuple[Relation, ...] = ()
    filename: str = ""
    size_bytes: int | None = None
    sha256: str = ""
    md5: str = ""
    fields: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False, repr=False)
    feed: Feed | None = None

    @property
    def kernel(self) -> str | None:
        """The one version of the package `kernel` it was made for; None when it is no kernel module."""
        for alternatives in self.depends:
            if len(alternatives) == 1 and alternatives[0].name == "kernel" and alternatives[0].operator == "=":
                return alternatives[0].version
        return None

    @property
    def names(self) -> tuple[str, ...]:
        """Its name, and those it stands in for."""
        return tuple(dict.fromkeys((self.name, *self.provides)))

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


def parse_packages(text: str, *, source: str, feed: Feed | None = None) -> tuple[Package, ...]:
    """The packages an index lists. Raises `LivebuilderError` naming `source` for what no index says of a package."""
    return tuple(package_of(fields, source=source, feed=feed) for fields in parse_paragraphs(text))


def package_of(fields: Mapping[str, str], *, source: str, feed: Feed | None = None) -> Package:
    """The package a paragraph describes; raises as `parse_packages` does."""
    name, version = fields.get("Package", ""), fields.get("Version", "")
    if not NAME.fullmatch(name) or not version or "\n" in version:
        raise LivebuilderError(
            f"{source} is damaged: a paragraph has the package name {name!r} and version {version!r}"
        )
    filename = fields.get("Filename", "")
    if filename:
        filename = _safe(filename, name=name, source=source)
    size = fields.get("Size", "")
    hashes = {key.lower(): value.lower() for key, value in fields.items() if key.lower() in ("sha256sum", "md5sum")}
    sha256, md5 = hashes.get("sha256sum", ""), hashes.get("md5sum", "")
    if not re.fullmatch(r"|[0-9a-f]{64}", sha256) or not re.fullmatch(r"|[0-9a-f]{32}", md5):
        raise LivebuilderError(f"{source} is damaged: {name} has a hash that is none")
    if not re.fullmatch(r"|[0-9]{1,15}", size):
        raise LivebuilderError(f"{source} is damaged: {name} has the size {size[:40]!r}")
    depends = ",".join(fields[key] for key in ("Pre-Depends", "Depends") if fields.get(key))
    return Package(
        name, version, fields.get("Architecture", ""), depends=parse_depends(depends),
        provides=tuple(one.name for group in parse_depends(fields.get("Provides", "")) for one in group),
        conflicts=tuple(one for group in parse_depends(fields.get("Conflicts", "")) for one in group),
        filename=filename, size_bytes=int(size) if size else None, sha256=sha256, md5=md5, fields=fields, feed=feed,
    )  # fmt: skip


def _safe(filename: str, *, name: str, source: str) -> str:
    parts = PurePosixPath(filename).parts
    if filename.startswith("/") or ".." in parts or not parts or re.search(r"[\x00-\x20\x7f?#%\\]", filename):
        raise LivebuilderError(f"{source} is damaged: {name} is said to be in {filename!r}, which is no file of a feed")
    return "/".join(parts)


def parse_depends(text: str) -> tuple[tuple[Relation, ...], ...]:
    """What a field like `Depends: a, b (>= 2) | c` asks for. What cannot be read is left as a name nobody has."""
    if not text:
        return ()
    groups = []
    for part in text.replace("\n", " ").split(","):
        alternatives = tuple(_relation(word.strip()) for word in part.split("|") if word.strip())
        if alternatives:
            groups.append(alternatives)
    return tuple(groups)


@lru_cache(maxsize=1 << 16)  # the same few thousand names again and again
def _relation(word: str) -> Relation:
    match = _RELATION.fullmatch(word)
    if match is None:
        return Relation(word)
    operator = match[2] or ("=" if match[3] else "")
    return Relation(match[1], _MODERN.get(operator, operator), match[3] or "")


def conf_texts(tree: RootTree) -> Iterator[str]:
    """The text of every configuration file of opkg in a root, in the order opkg reads them."""
    names = ["etc/opkg.conf"]
    names += sorted(
        entry.path for entry in tree if entry.path.startswith(_CONF_FOLDER) and entry.path.endswith(".conf")
    )
    yield from (_text_of(tree, name) for name in names)


def feeds_of(tree: RootTree) -> tuple[Feed, ...]:
    """The feeds a root's opkg is set up for, in its order; a name given twice counts once, as in opkg."""
    found: dict[str, Feed] = {}
    for text in conf_texts(tree):
        for feed in filter(None, map(feed_of_line, text.splitlines())):
            found.setdefault(feed.name, feed)
    return tuple(found.values())


def feed_of_line(line: str) -> Feed | None:
    """The feed of a line `src/gz NAME URL` of opkg's configuration; None for any other line."""
    words = [quoted or plain for quoted, plain in _WORD.findall(line)]
    if len(words) < 3 or words[0] not in ("src", "src/gz"):
        return None
    url = words[2].removeprefix("file:") if words[2].startswith("file:/") else words[2]
    url = f"/{url.lstrip('/')}" if url.startswith("/") else url
    return Feed(words[1], url.rstrip("/"))


def feeds_below(base: str, *, tree: RootTree, kernel: str = "") -> tuple[Feed, ...]:
    """The feeds of the release whose folder is `base`, which holds `targets/` and `packages/`.

    They are laid out as the root's own feeds are, else as OpenWrt has them since 18.06; `kernel` is the version of the
    root's package `kernel`, after which the folder of its modules is named. Raises `LivebuilderError` when the root
    says neither where its feeds are nor what it was made for.
    """
    base = base.rstrip("/")
    matches = [(feed.name, re.search(r"/((?:targets|packages)/.*)", feed.url)) for feed in feeds_of(tree)]
    own = tuple(Feed(name, f"{base}/{match[1]}") for name, match in matches if match)
    if own:
        return own
    release = read_release(tree)
    if release is None or not release.target or not release.architecture:
        raise LivebuilderError(
            f"which packages below {base} are for this root cannot be told: it does not say what it was made for",
            hint="name each feed by itself",
        )
    feeds = [Feed("core", f"{base}/targets/{release.target}/packages")]
    feeds += [Feed(name, f"{base}/packages/{release.architecture}/{name}") for name in _COMMON_FEEDS]
    if kernel:
        feeds.append(Feed("kmods", f"{base}/targets/{release.target}/kmods/{_kmods_folder(kernel)}"))
    return tuple(feeds)


def _kmods_folder(kernel: str) -> str:
    """`6.6.73~HASH-r1`, as versions are written since 24.10, is the folder `6.6.73-1-HASH` (OpenWrt's feeds.mk)."""
    match = re.fullmatch(r"(.+)~([0-9a-f]+)-r([0-9]+)", kernel)
    return f"{match[1]}-{match[3]}-{match[2]}" if match else kernel


def architectures_of(tree: RootTree, installed: Iterable[Package]) -> frozenset[str]:
    """The architectures a root takes packages of; empty when nothing tells."""
    found = {package.architecture for package in installed} - {""}
    for text in conf_texts(tree):
        found |= {words[1] for line in text.splitlines() if len(words := line.split()) >= 2 and words[0] == "arch"}
    release = read_release(tree)
    found |= {release.architecture} - {""} if release else set()
    return frozenset(found | {"all", "noarch"}) if found else frozenset()


def _text_of(tree: RootTree, path: str) -> str:
    entry = tree.resolve(path)
    if entry is None or entry.kind not in (Kind.FILE, Kind.HARDLINK):
        return ""
    return tree.content_of(entry).read().decode("utf-8", "replace")
