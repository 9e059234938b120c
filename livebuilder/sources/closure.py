"""Which files of which packages programs need to *run*: pure, from facts that others have read.

Dependencies of packages say what maintainer scripts want as well (coreutils, debconf, udev); programs say in their
ELF headers which libraries they load. So dependencies only tell here where to look for a library that is missing.

`plan_closure` is called again and again: each time it names the packages that have to be read before it can go on,
until nothing is missing. Of packages that were asked for, all files are taken that `keep` lets pass; of the others,
only libraries, the symbolic links that lead to them, and the loader.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from livebuilder.sources.elf import ElfFacts

_MAX_LINKS = 40


@dataclass(frozen=True)
class Relations:
    """What the index says of a package: each of `depends` is a list of alternatives, best first."""

    name: str
    depends: tuple[tuple[str, ...], ...] = ()
    provides: tuple[str, ...] = ()
    section: str = ""

    @property
    def looks_like_library(self) -> bool:
        """Whether a library is more likely to be in it than in others."""
        return self.name.startswith("lib") or self.section.rpartition("/")[2] in ("libs", "oldlibs")


@dataclass(frozen=True)
class PackageFiles:
    """What is in a package that was read: its files and links, its folders, its programs and libraries."""

    name: str
    paths: frozenset[str]
    folders: frozenset[str] = frozenset()
    links: Mapping[str, str] = field(default_factory=dict)  # path → target, as written; of a hard link from "/"
    elf: Mapping[str, ElfFacts] = field(default_factory=dict)


@dataclass(frozen=True)
class Dlopened:
    """A row of the table of what programs load by name at run time, which no ELF header tells.

    It holds for a file that imports one of `imports` or needs `needed`. `required` libraries are looked for like
    needed ones; of `optional` libraries and of `paths` (globs) is taken what the packages read so far have.
    """

    imports: frozenset[str] = frozenset()
    needed: str = ""
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()

    def holds_for(self, facts: ElfFacts) -> bool:
        """Whether a file of these facts loads what the row names."""
        return self.needed in facts.needed or not self.imports.isdisjoint(facts.imports)


_NAME_SERVICE = frozenset(
    (
        "getpwnam", "getpwnam_r", "getpwuid", "getpwuid_r", "getpwent", "getgrnam", "getgrnam_r", "getgrgid",
        "getgrgid_r", "getgrouplist", "initgroups", "getspnam", "getspnam_r", "getaddrinfo", "getnameinfo",
        "gethostbyname", "gethostbyname_r", "gethostbyname2", "gethostbyaddr", "getservbyname", "getservbyport",
    )
)  # fmt: skip

DLOPENED = (
    # glibc before 2.34 has its name services in libraries of their own; since then they are empty and left out.
    Dlopened(
        imports=_NAME_SERVICE,
        optional=("libnss_files.so.2", "libnss_dns.so.2"),
    ),
    # glibc ends the program with "libgcc_s.so.1 must be installed for pthread_cancel to work".
    Dlopened(imports=frozenset({"pthread_cancel", "pthread_exit"}), required=("libgcc_s.so.1",)),
    # Character sets beyond ASCII and UTF-8; these are the ones file systems and old network peers use.
    Dlopened(
        imports=frozenset({"iconv_open"}),
        paths=(
            "usr/lib/*/gconv/gconv-modules",
            "usr/lib/*/gconv/gconv-modules.d/*",
            *(
                f"usr/lib/*/gconv/{name}.so"
                for name in ("UTF-16", "UTF-32", "UTF-7", "UNICODE", "ISO8859-1", "ISO8859-15", "CP1252", "IBM850")
            ),
        ),
    ),
    # RC4, MD4 and DES are in a module since OpenSSL 3.
    Dlopened(needed="libcrypto.so.3", paths=("usr/lib/*/ossl-modules/legacy.so",)),
)


@dataclass(frozen=True, order=True)
class Missing:
    """A library or loader that is in no package which `program` of `package` depends on."""

    package: str
    program: str
    library: str


@dataclass(frozen=True)
class Closure:
    """What to take of each package, and links no package ships; undecided while `wanted` names packages to read."""

    files: Mapping[str, frozenset[str]]
    links: Mapping[str, str] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()
    missing: tuple[Missing, ...] = ()


def plan_closure(
    asked: Sequence[str],
    *,
    index: Mapping[str, Relations],
    read: Mapping[str, PackageFiles],
    keep: Callable[[PackageFiles], Iterable[str]],
    library_folders: Sequence[str],
    dlopened: Sequence[Dlopened] = DLOPENED,
) -> Closure:
    """What `asked` needs to run, as far as the packages in `read` tell.

    `index` has every package that may be looked at; what is `missing` may be in one that is not there yet. `keep` says
    which paths to take of a package that was asked for, `library_folders` are where the loader searches, in its order.
    """
    unread = tuple(sorted({name for name in asked if name not in read}))
    if unread:
        return Closure({}, wanted=unread)
    return _Search(asked, index, read, library_folders, dlopened).run(keep)


class _Search:
    """One run of the search: a list of files whose needs are still to be looked at."""

    def __init__(
        self,
        asked: Sequence[str],
        index: Mapping[str, Relations],
        read: Mapping[str, PackageFiles],
        library_folders: Sequence[str],
        dlopened: Sequence[Dlopened],
    ) -> None:
        self.asked = sorted(set(asked))
        self.index = index
        self.read = read
        self.library_folders = library_folders
        self.dlopened = dlopened
        self.taken: dict[str, set[str]] = {}
        self.links: dict[str, str] = {}
        self.wanted: set[str] = set()
        self.missing: set[Missing] = set()
        self.todo: list[tuple[str, str]] = []
        self.near: dict[str, list[str]] = {}

    def run(self, keep: Callable[[PackageFiles], Iterable[str]]) -> Closure:
        for name in self.asked:
            self.taken[name] = set()
            for path in sorted(keep(self.read[name])):
                self.take(name, path)
        while self.todo:
            package, path = self.todo.pop()
            self.look_at(package, path, self.read[package].elf[path])
        return Closure(
            {name: frozenset(paths) for name, paths in self.taken.items()},
            links=self.links,
            wanted=tuple(sorted(self.wanted)),
            missing=() if self.wanted else tuple(sorted(self.missing)),
        )

    def take(self, package: str, path: str) -> None:
        taken = self.taken.setdefault(package, set())
        if path not in taken:
            taken.add(path)
            if path in self.read[package].elf:
                self.todo.append((package, path))

    def look_at(self, package: str, path: str, facts: ElfFacts) -> None:
        if facts.interpreter and not self.take_interpreter(package, facts):
            self.miss(package, path, facts.interpreter)
        rows = [row for row in self.dlopened if row.holds_for(facts)]
        for library in (*facts.needed, *(name for row in rows for name in row.required)):
            if not self.take_library(package, path, facts, library):
                self.miss(package, path, library)
        for library in (name for row in rows for name in row.optional):
            self.take_library(package, path, facts, library, optional=True)
        for pattern in (glob for row in rows for glob in row.paths):
            for other in self.near_and_read(package):
                for candidate in sorted(self.read[other].paths):
                    if fnmatchcase(candidate, pattern):
                        self.take(other, candidate)

    def take_interpreter(self, package: str, facts: ElfFacts) -> bool:
        """Take the loader; on suites whose packages have all in /usr, link to it from where programs look."""
        assert facts.interpreter is not None
        path = facts.interpreter.strip("/")
        merged = f"usr/{path}"
        if self.take_file(package, facts, path):
            return True
        if self.take_file(package, facts, merged):
            self.links[path] = posixpath.relpath(merged, posixpath.dirname(path) or ".")
            return True
        return False

    def take_library(self, package: str, path: str, facts: ElfFacts, library: str, *, optional: bool = False) -> bool:
        if "/" in library:
            return self.take_file(package, facts, library.strip("/"))
        origin = posixpath.dirname(path)
        own = [
            posixpath.normpath(re.sub(r"\$(ORIGIN|\{ORIGIN\})", f"/{origin}", folder)).strip("/")
            for folder in facts.run_paths
        ]
        return any(
            self.take_file(package, facts, f"{folder}/{library}", optional=optional)
            for folder in (*own, *self.library_folders)
        )

    def take_file(self, package: str, facts: ElfFacts, path: str, *, optional: bool = False) -> bool:
        """Take the program or library `path` and the links on the way to it; whether a package has it."""
        for name in self.near_and_read(package):
            if path not in self.read[name].paths:
                continue
            chain = [(name, path), *self.follow(name, path)]
            end_package, end = chain[-1]
            found = self.read[end_package].elf.get(end)
            if found is None or found.machine != facts.machine or (optional and _is_empty(found)):
                continue
            for link_package, link in chain:
                self.take(link_package, link)
            return True
        return False

    def follow(self, package: str, path: str) -> Iterator[tuple[str, str]]:
        """Where the link `path` leads, link by link; a target may be in another package."""
        for _ in range(_MAX_LINKS):
            target = self.read[package].links.get(path)
            if target is None:
                return
            path = posixpath.normpath(posixpath.join("/", posixpath.dirname(path), target)).strip("/")
            holder = next((name for name in self.near_and_read(package) if path in self.read[name].paths), None)
            if holder is None:
                return
            package = holder
            yield package, path

    def near_and_read(self, package: str) -> list[str]:
        """Packages already read, in the order to look into them: itself, what it depends on, the rest."""
        if package not in self.near:
            first = [name for name in reachable(package, self.index) if name in self.read]
            self.near[package] = [*first, *sorted(self.read.keys() - set(first))]
        return self.near[package]

    def miss(self, package: str, path: str, library: str) -> None:
        # A package may leave a dependency to the packages that use it, or not have it at all for a mere plugin.
        everything = (name for name in self.index if name in library_package_names(library))
        for near in (*(reachable(start, self.index) for start in (package, *self.asked)), everything):
            batch = next_candidates(library, [name for name in near if name not in self.read], self.index)
            if batch:
                self.wanted.update(batch)
                return
        self.missing.add(Missing(package, path, library))


def _is_empty(facts: ElfFacts) -> bool:
    """Whether a library is one of those glibc keeps for old programs, with nothing in them since 2.34."""
    return not any(not name.startswith("_") for name in facts.imports)


def reachable(name: str, index: Mapping[str, Relations]) -> list[str]:
    """`name` and all it depends on, nearest first, and then all that would do instead.

    Of alternatives the first real package is what Debian prefers; the others, and what only provides a name, follow.
    """
    providers = _providers(index)
    order = [name] if name in index else []
    seen = set(order)
    spare: list[str] = []
    while True:
        for package in order:  # grows while it is read
            for group in index[package].depends:
                real = [one for one in group if one in index]
                instead = [*real[1:], *(one for virtual in group for one in providers.get(virtual, ()))]
                preferred = real[:1] or instead[:1]
                order += [one for one in preferred if one not in seen]
                seen.update(preferred)
                spare += instead
        more = [one for one in dict.fromkeys(spare) if one not in seen]
        if not more:
            return order
        order.append(more[0])
        seen.add(more[0])


def _providers(index: Mapping[str, Relations]) -> dict[str, list[str]]:
    providers: dict[str, list[str]] = {}
    for name in sorted(index):
        for virtual in index[name].provides:
            providers.setdefault(virtual, []).append(name)
    return providers


def next_candidates(library: str, unread: Sequence[str], index: Mapping[str, Relations]) -> list[str]:
    """Which of `unread` (nearest first) to read next for a missing `library`: those named after it, then
    libraries, then the rest, a few at a time."""
    named = [name for name in unread if name in library_package_names(library)]
    likely = [name for name in unread if index[name].looks_like_library]
    return named or likely[:4] or list(unread[:4])


def library_package_names(library: str) -> set[str]:
    """What Debian calls the package of a library (Debian policy 8.1): libext2fs.so.2 is in libext2fs2."""
    versioned = re.fullmatch(r"([^/]+)\.so\.([0-9.]+)", library) or re.fullmatch(r"([^/]+)-([0-9.]+)\.so", library)
    if versioned is None:
        return set()
    base = versioned[1].lower().replace("_", "-")
    name = base + ("-" if base[-1].isdigit() else "") + versioned[2]
    return {name, f"{base}-{versioned[2]}", f"{name}t64"}
