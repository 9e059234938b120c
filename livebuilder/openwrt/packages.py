"""Packages of OpenWrt's feeds for a stock root that lacks them: found, verified, fetched and laid in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from loguru import logger

from livebuilder.cache import Cache
from livebuilder.console import Progress, measured_step
from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.closure import Plan, closure
from livebuilder.openwrt.feed import Feed, Package, architectures_of, feed_of_line, feeds_below, feeds_of
from livebuilder.openwrt.index import Index, read_index
from livebuilder.openwrt.ipk import read_ipk
from livebuilder.openwrt.opkg import OfflineRoot, read_status
from livebuilder.openwrt.signature import Key, SignatureError, read_key
from livebuilder.openwrt.transfer import Mirror, file_sha256, kept_file
from livebuilder.sizes import render_size
from livebuilder.tree import Kind, RootTree

_KEYS_FOLDER: Final = "etc/opkg/keys"
_BY_MD5: Final = "downloads-md5"  # packages of feeds that know no better hash
_STALE = "the feed may have a newer version of it by now: --refresh reads its list again"


@dataclass(frozen=True)
class PackagesPlan:
    """What is known before a package is fetched: the feeds and who vouches for them, and what is to be done."""

    indexes: tuple[Index, ...]
    plan: Plan
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The stable form in reports."""
        return {
            "feeds": [_feed_json(index) for index in self.indexes],
            "install": [
                {
                    "name": one.package.name,
                    "version": one.package.version,
                    "replaces": one.replaces.version if one.replaces else None,
                    "wanted": one.wanted,
                    "feed": one.package.feed.name if one.package.feed else None,
                    "size": one.package.size_bytes,
                    "sha256": one.package.sha256 or None,
                }
                for one in self.plan.steps
            ],
            "remove": [package.name for package in self.plan.removals],
            "already_installed": [package.name for package in self.plan.kept],
            "left_out": list(self.plan.left_out),
            "warnings": list(self.warnings),
        }

    def render(self) -> str:
        """A line for each thing that is to be done."""
        lines = [f"remove  {package}" for package in self.plan.removals]
        for one in self.plan.steps:
            size = "" if one.package.size_bytes is None else f"  {render_size(one.package.size_bytes)}"
            why = (
                f"  over {one.replaces.version}" if one.replaces else "" if one.wanted else "  because another needs it"
            )
            lines.append(f"install {one.package}{size}{why}")
        lines += [f"keep    {package}" for package in self.plan.kept]
        return "\n".join(lines)


@dataclass(frozen=True)
class PackagesReport:
    """What was done: `kept_files` the user's own that differ from a package's, which lie beside them as NAME-opkg.

    `deferred` are packages whose postinst runs at the first boot. `warnings` a sentence each.
    """

    plan: PackagesPlan
    kept_files: tuple[str, ...] = ()
    deferred: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def render(self) -> str:
        """A line for each thing that was done."""
        lines = self.plan.render().splitlines()
        lines += [f"later   {name}: its postinst runs at the first boot" for name in self.deferred]
        lines += [f"yours   {path} stays; the package's own is {path}-opkg" for path in self.kept_files]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The stable form in reports."""
        return {
            **self.plan.to_json(),
            "kept_files": list(self.kept_files),
            "postinst_at_first_boot": list(self.deferred),
            "warnings": list(self.warnings),
        }


def _feed_json(index: Index) -> dict[str, Any]:
    signer = index.signer
    signature = signer and {"scheme": signer.scheme, "key_id": signer.key_id, "key": signer.source}
    return {"name": index.feed.name, "url": index.feed.address, "signature": signature, "there": not index.missing}


def plan_packages(
    tree: RootTree,
    wanted: Sequence[str],
    *,
    cache: Cache,
    feeds: Sequence[Feed] | None = None,
    keys: Iterable[Key] = (),
    hash_only: bool = False,
    foreign_kernel: bool = False,
    offline: bool = False,
    refresh: bool = False,
    strict: bool = False,
) -> PackagesPlan:
    """Read the feeds' lists and find out what it takes to have `wanted` in the root; `-NAME` takes a package out.

    `feeds` are those of the root's own opkg when None. A feed's list has to be signed by one of `keys` or of the root's
    own /etc/opkg/keys, unless `hash_only`. With `strict` a list that cannot be had is an error even where the cache has
    an older one, and so is a feed that is not there. `foreign_kernel`: the root will run with a kernel that is not
    OpenWrt's, so that its kmod packages are of no use. Raises `LivebuilderError`, with all that stands in the way
    at once.
    """
    installed = read_status(tree).installed
    feeds = feeds_of(tree) if feeds is None else feeds
    if not feeds:
        raise LivebuilderError(
            "the root names no feeds to get packages from: there is no src/gz line in its /etc/opkg",
            hint='name them in the profile: openwrt.feeds = ["https://HOST/releases/23.05.5"]',
        )
    trusted = (*keys, *root_keys(tree))
    indexes = tuple(
        read_index(
            feed, cache=cache, keys=trusted, hash_only=hash_only, offline=offline, refresh=refresh, strict=strict
        )
        for feed in feeds
    )
    if all(index.missing for index in indexes):
        raise LivebuilderError(
            f"none of the feeds is there: {', '.join(index.feed.url for index in indexes)}", hint="look at the address"
        )
    available = [package for index in indexes for package in index.packages]
    architectures = architectures_of(tree, installed.values())
    plan = closure(wanted, installed, available, architectures=architectures, foreign_kernel=foreign_kernel).require()
    warnings = [warning for index in indexes for warning in index.warnings]
    if plan.left_out:
        warnings.append(
            f"left out, because the kernel is not OpenWrt's, whose modules they are: {', '.join(plan.left_out)}"
        )
    for name, taken, others in plan.choices:
        warnings.append(f"{name} is given by {taken}, and could be by {', '.join(others)}: name the one you want")
    return PackagesPlan(indexes, plan, tuple(warnings))


def named_feeds(words: Iterable[str], tree: RootTree) -> tuple[Feed, ...]:
    """The feeds that a user names for a root: each word is one of these.

        src/gz NAME URL         a feed, as opkg's own configuration has it
        https://…/23.05.5       a release: what is in targets/ and packages/ below it, as far as the root is for it
        /a/folder               the same when it has such folders, else a feed

    Raises `LivebuilderError` when the root does not say what it is for.
    """
    found: list[Feed] = []
    for word in words:
        feed = feed_of_line(word)
        if feed is not None:
            found.append(feed)
            continue
        is_release = any(Path(word, name).is_dir() for name in ("targets", "packages"))
        if "://" not in word and not is_release:
            found.append(Feed(Path(word).name, word))
            continue
        kernel = read_status(tree).installed.get("kernel")
        below = feeds_below(word, tree=tree, kernel=kernel.version if kernel else "")
        found += [one for one in below if one.is_remote or Path(one.url).is_dir()]
        if is_release and not any(Path(one.url).is_dir() for one in below):
            raise LivebuilderError(
                f"{word} has no feed for this root: looked for {', '.join(one.url for one in below)}"
            )
    return tuple(found)


def root_keys(tree: RootTree) -> tuple[Key, ...]:
    """The keys a root's opkg trusts; a file that is no key is passed over with a warning."""
    found = []
    for entry in tree:
        if entry.parent == _KEYS_FOLDER and entry.kind is Kind.FILE:
            try:
                found.append(read_key(entry.content.read(), source=f"the root's /{entry.path}"))
            except SignatureError as error:
                logger.warning("{}", error.message)
    return tuple(found)


def install_packages(
    tree: RootTree, plan: PackagesPlan, *, cache: Cache, epoch: int, offline: bool = False
) -> tuple[RootTree, PackagesReport]:
    """Carry out a plan: fetch what is not in the cache, verify every hash, lay the packages into a copy of the root.

    `epoch` (seconds since 1970) is when opkg will say it was. Raises `LivebuilderError`.
    """
    root = OfflineRoot(tree, epoch=epoch)
    files = _obtain([one.package for one in plan.plan.steps], cache=cache, offline=offline)
    for package in plan.plan.removals:
        root.remove(package.name)
    for one in plan.plan.steps:
        ipk = read_ipk(files[one.package], cache=cache, source=str(one.package))
        if (ipk.name, ipk.version) != (one.package.name, one.package.version):
            raise LivebuilderError(
                f"what the feed calls {one.package} says of itself that it is {ipk.name} {ipk.version}"
            )
        root.install(ipk, wanted=one.wanted)
    changed = root.finished()
    warnings = (*plan.warnings, *root.warnings)
    return changed, PackagesReport(plan, tuple(root.kept), tuple(root.deferred), warnings)


def _obtain(packages: Sequence[Package], *, cache: Cache, offline: bool) -> dict[Package, Path]:
    """The file of every package, its hash verified."""
    files = {package: _at_hand(package, cache=cache) for package in packages}
    missing = [package for package, path in files.items() if path is None]
    if missing and offline:
        raise LivebuilderError(f"not in the cache: {', '.join(map(str, missing))}", hint="build once without --offline")
    total = sum(package.size_bytes or 0 for package in missing)
    if missing:
        with measured_step(f"Fetching {_counted(missing)} ({render_size(total)})") as progress, ExitStack() as stack:
            mirrors = {url: stack.enter_context(Mirror(url)) for url in dict.fromkeys(map(_url, missing))}
            done = 0
            for package in missing:

                def told(have: int, _: int, *, before: int = done) -> None:
                    progress(before + have, max(total, before + have))

                files[package] = _fetch(package, mirrors[_url(package)], cache=cache, progress=told)
                done += package.size_bytes or 0
    return {package: path for package, path in files.items() if path is not None}


def _counted(packages: Sequence[Package]) -> str:
    return str(packages[0]) if len(packages) == 1 else f"{len(packages)} packages"


def _at_hand(package: Package, *, cache: Cache) -> Path | None:
    feed = package.feed
    assert feed is not None, "what is to be installed is from a feed"
    if not package.filename or not (package.sha256 or package.md5):
        raise LivebuilderError(f"the feed {feed.name} says neither where {package} is nor what its hash is")
    if feed.is_remote:
        return kept_file(cache, package.sha256) if package.sha256 else _kept_by_md5(package, cache)
    path = Path(feed.url) / package.filename
    try:
        _verify(package, path)
    except OSError as error:
        raise LivebuilderError(f"{package} of the feed {feed.name}: {path} cannot be read: {error.strerror}") from error
    return path


def _kept_by_md5(package: Package, cache: Cache) -> Path | None:
    path = cache.find(_BY_MD5, package.md5)
    return path if path and _md5(path) == package.md5 else None


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _verify(package: Package, path: Path) -> None:
    found = file_sha256(path) if package.sha256 else _md5(path)
    said = package.sha256 or package.md5
    if found != said:
        raise LivebuilderError(
            f"{path} is not the file the feed means by {package}: its hash is {found}, and the list says {said}",
            hint=_STALE,
        )


def _url(package: Package) -> str:
    assert package.feed is not None, "what is to be installed is from a feed"
    return package.feed.url


def _fetch(package: Package, mirror: Mirror, *, cache: Cache, progress: Progress) -> Path:
    try:
        if package.sha256:
            return mirror.obtain(package.filename, sha256=package.sha256, cache=cache, progress=progress)
        data = mirror.read(package.filename)
    except LivebuilderError as error:
        hint = f"{error.hint}; {_STALE}" if error.hint else _STALE
        raise LivebuilderError(f"{package}: {error.message}", hint=hint) from error
    if data is None:
        raise LivebuilderError(f"{package} is not where the feed says: {mirror.url(package.filename)}", hint=_STALE)
    with cache.place(_BY_MD5, package.md5) as draft:
        draft.write_bytes(data)
        _verify(package, draft)
    return cache.folder(_BY_MD5) / package.md5
