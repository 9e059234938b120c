"""Debian as a source: programs with all they need to run, and a kernel, from the archive the host already trusts.

What was asked for is resolved once to versions, hashes and paths, and kept in the cache under what it depends on, so
that asking again starts no program and needs no network.
"""

from __future__ import annotations

import errno
import hashlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache as cached
from functools import cached_property
from pathlib import Path

from loguru import logger

from livebuilder.cache import Cache
from livebuilder.console import step
from livebuilder.errors import LivebuilderError
from livebuilder.image.busybox import applets_of
from livebuilder.image.router import applet_links
from livebuilder.kernel.config import parse_config
from livebuilder.kernel.image import Kernel
from livebuilder.kernel.modules import indexed
from livebuilder.sizes import render_size
from livebuilder.sources.apt import PrivateApt
from livebuilder.sources.closure import Closure, PackageFiles, library_package_names, plan_closure
from livebuilder.sources.deb import find_unpacked, unpack_deb
from livebuilder.sources.package import DebianPackage, Resolution, package_files, package_of, relations_of
from livebuilder.sources.selection import kept_paths
from livebuilder.tarfiles import TarFiles
from livebuilder.tree import Content, Entry, Kind, RootTree, TreeError, file, symlink

__all__ = ["BUSYBOX", "DebianArchive", "DebianBusybox", "DebianKernel", "DebianPackage", "DebianRoot"]

BUSYBOX = "busybox-static"

_TRIPLETS = {"i386": "i386-linux-gnu", "amd64": "x86_64-linux-gnu"}
_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")  # Debian policy 5.6.7
_BIG_BYTES = 10 * 1024 * 1024  # a package that takes seconds to unpack
_PROGRAM_FOLDERS = ("bin/", "sbin/", "usr/bin/", "usr/sbin/")
_INDEX_FILES = ("modules.dep", "modules.softdep", "modules.alias")


@dataclass(frozen=True)
class DebianRoot:
    """Programs and all they need, as a tree; `warnings` are for the user and the manifest."""

    tree: RootTree
    packages: tuple[DebianPackage, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class DebianKernel:
    """A kernel of Debian's with its modules, without what its package depends on."""

    kernel: Kernel
    packages: tuple[DebianPackage, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class DebianBusybox:
    """The static busybox, for the initramfs."""

    content: Content
    package: DebianPackage


class DebianArchive:
    """Debian's archive as the host's apt sources name it, for `architecture`.

    Package lists older than a day are renewed, or with `refresh`; never with `offline`, which works from the cache
    alone. A suite whose lists cannot be had is a warning in each result, or an error with `strict`. Methods raise
    `LivebuilderError` when the archive cannot be reached, or has not what is asked for.
    """

    def __init__(
        self,
        *,
        cache: Cache,
        architecture: str = "i386",
        offline: bool = False,
        strict: bool = False,
        refresh: bool = False,
        apt_etc: Path = Path("/etc/apt"),
    ) -> None:
        self.cache = cache
        self.architecture = architecture
        self.offline = offline
        self.strict = strict
        self.refresh = refresh
        self.apt_etc = apt_etc

    def root(self, packages: Sequence[str]) -> DebianRoot:
        """The programs of `packages` with all they need to run, and busybox with a link for each of its applets."""
        with self._explained():
            asked = tuple(sorted({*packages, BUSYBOX}))
            resolution, unpacked = self._resolved("root", asked, lambda: self._resolve_root(asked))
            warnings = self.apt.problems() + resolution.warnings
            return DebianRoot(_tree_of(resolution, unpacked), resolution.packages, warnings)

    def kernel(self, flavour: str = "686") -> DebianKernel:
        """The newest kernel of a flavour (`686`, `686-pae`), with an index of its modules."""
        with self._explained():
            resolution, unpacked = self._resolved("kernel", (flavour,), lambda: self._resolve_kernel(flavour))
            (package,) = resolution.packages
            kernel = self._kernel_of(package, unpacked[package.name])
            return DebianKernel(kernel, resolution.packages, self.apt.problems())

    def busybox(self) -> DebianBusybox:
        """The static busybox."""
        with self._explained():
            resolution, unpacked = self._resolved("busybox", (), self._resolve_busybox)
            (package,) = resolution.packages
            return DebianBusybox(_busybox_of(RootTree(unpacked[BUSYBOX].entries())).content, package)

    def copyrights(self, packages: Iterable[DebianPackage]) -> dict[str, bytes]:
        """The copyright file of each of `packages`, which were used before, by name; some name another package's.

        A documentation folder may be a link to that of a package that was not needed: that one has no text here.
        """
        texts = {}
        for package in packages:
            deb = self._find_unpacked(package)
            if deb is None:
                continue
            folder = f"usr/share/doc/{package.name}"
            found = {entry.path: entry for entry in deb.entries(frozenset({folder, f"{folder}/copyright"}))}
            entry = found.get(f"{folder}/copyright")
            if entry is not None and entry.kind is Kind.FILE:
                texts[package.name] = entry.content.read()
        return texts

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn a cache that cannot be written into an error to act on."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT):
                raise
            raise LivebuilderError(
                f"the cache in {self.cache.root} cannot be used: {error.strerror} ({error.filename})",
                hint="set XDG_CACHE_HOME to a folder you can write, on a disk with 1 GiB free",
            ) from error

    @cached_property
    def apt(self) -> PrivateApt:
        """The private apt, its lists as new as they should be."""
        self.cache.find("apt", self.architecture)  # in use, so not to be pruned
        folder = self.cache.folder("apt") / self.architecture
        apt = PrivateApt(folder, architecture=self.architecture, apt_etc=self.apt_etc)
        if not self.offline:
            apt.renew(refresh=self.refresh, retry_failed=self.strict)
        problems = apt.problems()
        if not apt.usable_suites() and self.offline:
            raise LivebuilderError(
                "there are no package lists of Debian's in the cache, and none may be fetched while offline",
                hint="run the same command once without --offline",
            )
        if not apt.usable_suites():
            reason = problems[0] if problems else "none of the host's sources is Debian's own"
            raise LivebuilderError(
                f"no package lists of Debian's can be had: {reason}",
                hint="look at the network, at http_proxy and at the host's sources (apt-get update says more)",
            )
        if self.strict and problems:
            raise LivebuilderError(problems[0], hint="try again later, or without --strict")
        return apt

    def _resolved(
        self, what: str, asked: tuple[str, ...], resolve: Callable[[], Resolution]
    ) -> tuple[Resolution, dict[str, TarFiles]]:
        """The resolution of a request and its packages unpacked: from the cache, or found now."""
        key = hashlib.sha256(repr((what, asked, self.apt.fingerprint, _rules())).encode()).hexdigest()
        kept = self.cache.find("debian", key)
        if kept is not None:
            resolution = Resolution.from_json(kept.read_bytes())
            unpacked = {one.name: self._find_unpacked(one) for one in resolution.packages}
            whole = {name: deb for name, deb in unpacked.items() if deb is not None}
            if len(whole) == len(unpacked):
                return resolution, whole
        self.apt.require()
        with self.apt.lock():
            resolution = resolve()
            unpacked_now = self._unpacked(resolution.packages)
        with self.cache.place("debian", key) as draft:
            draft.write_bytes(resolution.to_json())
        return resolution, unpacked_now

    def _find_unpacked(self, package: DebianPackage) -> TarFiles | None:
        return find_unpacked(package.sha256, cache=self.cache, source=str(package))

    def _unpacked(self, packages: Iterable[DebianPackage]) -> dict[str, TarFiles]:
        """These packages unpacked, fetched before when need be."""
        packages = tuple(packages)
        debs = {one: self._find_deb(one) for one in packages if self._find_unpacked(one) is None}
        self._fetch([one for one, deb in debs.items() if deb is None])
        result = {}
        for one in packages:
            deb = debs.get(one) or self.cache.root / "debs" / one.sha256
            big = one in debs and one.size_bytes > _BIG_BYTES
            with step(f"Unpacking {one}") if big else nullcontext():
                result[one.name] = unpack_deb(deb, sha256=one.sha256, cache=self.cache, source=str(one))
        return result

    def _find_deb(self, package: DebianPackage) -> Path | None:
        """The package file in the cache, if it still is what was put there."""
        deb = self.cache.find("debs", package.sha256)
        if deb is not None and Content.from_file(deb).sha256 != package.sha256:
            logger.warning("{} in the cache is damaged and is fetched again", package)
            deb.unlink()
            return None
        return deb

    def _fetch(self, packages: Sequence[DebianPackage]) -> None:
        if not packages:
            return
        names = ", ".join(str(one) for one in packages)
        if self.offline:
            raise LivebuilderError(
                f"not in the cache, and not to be fetched while offline: {names}",
                hint="run the same command once without --offline",
            )
        size = render_size(sum(one.size_bytes for one in packages))
        count = "1 package" if len(packages) == 1 else f"{len(packages)} packages"
        with (
            step(f"Fetching {count} ({size})"),
            tempfile.TemporaryDirectory(prefix=".new-", dir=self.cache.folder("debs")) as workspace,
        ):
            missing = {one.sha256: one for one in packages}
            for deb in self.apt.download({one.name: one.version for one in packages}, into=Path(workspace)):
                sha256 = Content.from_file(deb).sha256
                if missing.pop(sha256, None) is not None:
                    with self.cache.place("debs", sha256) as draft:
                        # a `file:` source gives a link to the mirror's own file
                        shutil.copyfile(deb, draft) if deb.is_symlink() else deb.rename(draft)
            if missing:
                wrong = ", ".join(str(one) for one in missing.values())
                raise LivebuilderError(
                    f"what Debian's archive sent is not what its signed lists say: {wrong}",
                    hint="run the same command again",
                )

    def _resolve_root(self, asked: tuple[str, ...]) -> Resolution:
        with step(f"Finding what {', '.join(asked)} need to run"):
            for name in asked:
                if not _NAME.fullmatch(name):
                    raise LivebuilderError(
                        f"{name!r} cannot be the name of a Debian package",
                        hint="names have two or more lower-case letters, digits, + - .",
                    )
            index = self.apt.candidates(self.apt.reachable_names(asked))
            self._refuse_unknown([name for name in asked if name not in index])
            read: dict[str, PackageFiles] = {}
            unpacked: dict[str, TarFiles] = {}
            while True:
                closure = plan_closure(
                    asked,
                    index={name: relations_of(entry) for name, entry in index.items()},
                    read=read,
                    keep=lambda package: kept_paths(package.paths, folders=package.folders),
                    library_folders=_library_folders(self.architecture),
                )
                new = self._unpacked(package_of(index[name]) for name in closure.wanted)
                unpacked |= new
                read |= {name: package_files(name, deb) for name, deb in new.items()}
                more = {} if new else self.apt.candidates(_guesses(closure, index))
                index |= more
                if not new and not more:
                    break
        if closure.missing:
            one = closure.missing[0]
            raise LivebuilderError(
                f"/{one.program} of {one.package} needs {one.library}, which is in no package it depends on",
                hint=f"add the package that has {one.library} to root.packages (apt-file search {one.library})",
            )
        return _finished(closure, index, unpacked, asked)

    def _resolve_busybox(self) -> Resolution:
        found = self.apt.candidates([BUSYBOX])
        self._refuse_unknown([BUSYBOX][len(found) :])
        return Resolution((package_of(found[BUSYBOX]),))

    def _resolve_kernel(self, flavour: str) -> Resolution:
        name = f"linux-image-{flavour}"
        entry = self.apt.candidates([name]).get(name)
        if entry is None:
            known = [one.removeprefix("linux-image-") for one in self.apt.all_names("linux-image-")]
            flavours = sorted(one for one in known if not one[:1].isdigit() and not one.endswith(("-dbg", "-unsigned")))
            raise LivebuilderError(
                f"Debian has no {name} for {self.architecture} in {self._suite_names()}",
                hint=f"flavours there: {', '.join(flavours)}"
                if flavours
                else 'use [kernel] image = "…" and modules = "…"',
            )
        # The package of a flavour is empty and depends on that of the newest version.
        real = next(
            (one for group in relations_of(entry).depends for one in group if one.startswith("linux-image-")), name
        )
        if real != name:
            found = self.apt.candidates([real])
            self._refuse_unknown([] if real in found else [real])
            entry = found[real]
        return Resolution((package_of(entry),))

    def _refuse_unknown(self, names: Sequence[str]) -> None:
        """Raises `LivebuilderError` when there are `names` that are in none of the lists."""
        if not names:
            return
        import difflib  # costs start-up

        hints = []
        for name in names:
            providers = self.apt.providers(name)
            near = difflib.get_close_matches(name, self.apt.all_names(name[:2]), n=1)
            if providers:
                hints.append(f"{name} is provided by {', '.join(providers[:5])}")
            elif near:
                hints.append(f"did you mean {near[0]}?")
        raise LivebuilderError(
            f"Debian has no package {' and none '.join(names)} for {self.architecture} in {self._suite_names()}",
            hint="; ".join(hints) or "apt-cache search finds packages by what they do",
        )

    def _suite_names(self) -> str:
        return ", ".join(dict.fromkeys(suite.name for suite in self.apt.usable_suites()))

    def _kernel_of(self, package: DebianPackage, deb: TarFiles) -> Kernel:
        boot = {entry.path: entry.content for entry in deb.entries(below="boot/")}
        image = next((path for path in boot if path.startswith("vmlinuz-")), None)
        if image is None:
            raise LivebuilderError(f"{package} has no kernel image in it")
        release = image.removeprefix("vmlinuz-")
        config = boot.get(f"config-{release}")
        modules = RootTree(deb.entries(below=f"lib/modules/{release}/"))
        if not len(modules):  # a suite whose packages have all in /usr
            modules = RootTree(deb.entries(below=f"usr/lib/modules/{release}/"))
        return Kernel(
            boot[image],
            release,
            self._indexed(modules, package),
            parse_config(config.read().decode("utf-8", "replace")) if config else None,
            str(package),
        )

    def _indexed(self, modules: RootTree, package: DebianPackage) -> RootTree:
        """The modules with modules.dep and the like, which a maintainer script would make; kept in the cache."""
        key = f"{package.sha256}-{_rules()[:16]}"
        folder = self.cache.find("module-index", key)
        if folder is None:
            with step(f"Indexing the modules of {package}"):
                tree = indexed(modules)
                with self.cache.place("module-index", key) as draft:
                    draft.mkdir()
                    for name in _INDEX_FILES:
                        (draft / name).write_bytes(tree[name].content.read())
            folder = self.cache.root / "module-index" / key
        for name in _INDEX_FILES:
            modules.add(file(name, Content.from_file(folder / name), source="module index"))
        return modules


def _guesses(closure: Closure, index: Mapping[str, object]) -> list[str]:
    """Packages named after missing libraries and not looked at: a plugin may need what nothing depends on."""
    names = {name for missing in closure.missing for name in library_package_names(missing.library)}
    return sorted(names - index.keys())


def _finished(
    closure: Closure, index: Mapping[str, Mapping[str, str]], unpacked: Mapping[str, TarFiles], asked: Sequence[str]
) -> Resolution:
    """The closure with the links that make it a whole root: the loader where programs look for it, and applets."""
    paths = {name: sorted(taken) for name, taken in sorted(closure.files.items()) if taken}
    packages = tuple(package_of(index[name]) for name in paths)
    first = Resolution(packages, paths, closure.links)
    tree = _tree_of(first, unpacked)
    links = dict(closure.links)
    binary = _busybox_of(tree)
    if "bin/busybox" not in tree:
        links["bin/busybox"] = f"/{binary.path}"
    for link in applet_links(applets_of(binary.content.read()), present=tree):
        links[link.path] = link.target
    tree = _tree_of(Resolution(packages, paths, links), unpacked)
    lacking: dict[tuple[str, str], list[str]] = {}
    for entry in tree:
        interpreter = _interpreter(entry)
        if interpreter and tree.resolve(interpreter) is None:
            merged = interpreter.removeprefix("/usr") if interpreter.startswith("/usr/") else f"/usr{interpreter}"
            if tree.resolve(merged) is None:
                lacking.setdefault((entry.source, interpreter), []).append(f"/{entry.path}")
            else:
                links[interpreter.strip("/")] = merged
    warnings = [
        f"{scripts[0]}{f' and {len(scripts) - 1} more scripts' if scripts[1:] else ''} of {source} cannot run:"
        f" {interpreter} is not in the root"
        for (source, interpreter), scripts in lacking.items()
    ]
    warnings += filter(None, (_emptiness(name, index, unpacked[name], closure.files[name]) for name in asked))
    return Resolution(packages, paths, links, tuple(warnings))


def _emptiness(name: str, index: Mapping[str, Mapping[str, str]], deb: TarFiles, kept: frozenset[str]) -> str:
    """A warning when a package has nothing to run and another of the same source, which it depends on, has."""
    if any(path.startswith(_PROGRAM_FOLDERS) for path in kept) or package_files(name, deb).elf.keys() & kept:
        return ""
    source = package_of(index[name]).source
    depends = [one for group in relations_of(index[name]).depends for one in group[:1] if one in index]
    siblings = [one for one in depends if package_of(index[one]).source == source]
    return f"the package {name} has no program; {' and '.join(siblings)} may be what you want" if siblings else ""


def _busybox_of(tree: RootTree) -> Entry:
    entry = tree.resolve("bin/busybox") or tree.resolve("usr/bin/busybox")
    if entry is None or entry.kind is not Kind.FILE:
        raise LivebuilderError(f"{BUSYBOX} has no program busybox in it")
    return entry


def _interpreter(entry: Entry) -> str:
    """The program an executable script starts with `#!`; empty for anything else."""
    if entry.kind is not Kind.FILE or not entry.mode & 0o111:
        return ""
    match = re.match(
        rb"#! *(/[^ \n]+)", Content(min(entry.content.size, 256), None, entry.content.path, entry.content.offset).read()
    )
    return match[1].decode("utf-8", "replace") if match else ""


def _tree_of(resolution: Resolution, unpacked: Mapping[str, TarFiles]) -> RootTree:
    tree = RootTree()
    try:
        for package in resolution.packages:
            for entry in unpacked[package.name].entries(frozenset(resolution.paths[package.name])):
                tree.add(entry)
        for path, target in sorted(resolution.links.items()):
            tree.add(symlink(path, target, source="livebuilder"))
    except TreeError as error:
        raise LivebuilderError(
            f"these packages cannot be in one root: {error.message}",
            hint=f"leave one of them out of root.packages ({BUSYBOX} is always in it)",
        ) from error
    return tree


def _library_folders(architecture: str) -> tuple[str, ...]:
    """Where glibc's loader looks without a cache or a configuration, as Debian builds it, in its order."""
    triplet = _TRIPLETS[architecture]
    return (f"lib/{triplet}", f"usr/lib/{triplet}", "lib", "usr/lib")


@cached
def _rules() -> str:
    """A hash of the code and tables that a resolution depends on: with other rules, it is found anew."""
    here = Path(__file__).parent
    files = [
        *sorted(here.glob("*.py")),
        here.parent / "image/busybox.py",
        here.parent / "image/router.py",
        here.parent / "kernel/modules.py",
    ]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
