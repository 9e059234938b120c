"""Choosing kernel modules: what a feature needs, what that needs in turn, and the folder that modprobe reads.

Paths are those of `modules.dep`: relative to lib/modules/RELEASE (`kernel/fs/ext4/ext4.ko`). In names `-` equals `_`.

Facts about the modprobe of busybox 1.35, tried and read in its strings, that shape what `module_tree` writes:
it reads `modules.dep`, `modules.alias` and `modules.builtin` as text; it takes the *last* path of a dependency line
first and expects the line to hold the whole closure; it knows nothing of `modules.softdep`; it reads
`modules.symbols` only for a name that starts with `symbol:`, which nothing here asks for, so that file is left out;
it loads `.ko`, `.ko.gz` and `.ko.xz`, but not `.ko.zst`.
"""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property

from livebuilder.assets import asset
from livebuilder.errors import LivebuilderError
from livebuilder.kernel.config import setting_of
from livebuilder.kernel.image import Kernel
from livebuilder.kernel.modinfo import is_module, module_name, plain_module, read_modinfo, without_suffix
from livebuilder.tree import Content, RootTree, file

_BUILTIN_ALIAS = re.compile(rb"(?:^|\0)[^.\0]+\.alias=([^\0]+)")


@dataclass(frozen=True)
class SoftDeps:
    """What a module would like to have loaded before and after itself: names or aliases."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeaturePattern:
    """One line of a feature: a module name, or a glob with a slash that is matched below `kernel/`."""

    text: str
    optional: bool = False

    @property
    def is_glob(self) -> bool:
        """Whether it names a folder's modules rather than one module."""
        return "/" in self.text


@dataclass(frozen=True)
class ModuleIndex:
    """What `depmod` knows of a kernel's modules, and its configuration. Made by `from_kernel` or `from_tree`."""

    depends: Mapping[str, tuple[str, ...]]  # every module's path, and the paths it needs
    softdep_text: str = ""
    alias_text: str = ""
    builtin_paths: tuple[str, ...] = ()
    builtin_modinfo: bytes = field(default=b"", repr=False)
    release: str = "?"
    config: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_kernel(cls, kernel: Kernel) -> ModuleIndex:
        """The index of a kernel's modules."""
        return cls.from_tree(kernel.modules, release=kernel.release, config=kernel.config)

    @classmethod
    def from_tree(
        cls, modules: RootTree, *, release: str = "?", config: Mapping[str, str] | None = None
    ) -> ModuleIndex:
        """The index of a folder lib/modules/RELEASE; without a modules.dep in it every module is read (`indexed`).

        What is linked into the kernel is what `modules.builtin` lists and what the `config` says, where there is one.
        """
        modules = indexed(modules)
        texts = {name: _text(modules, f"modules.{name}") for name in ("dep", "softdep", "alias", "builtin")}
        modinfo = modules.get("modules.builtin.modinfo")
        lines = (line.partition(":") for line in texts["dep"].splitlines())
        return cls(
            {path: tuple(needed.split()) for path, _colon, needed in lines if path},
            texts["softdep"],
            texts["alias"],
            tuple(texts["builtin"].split()),
            modinfo.content.read() if modinfo else b"",
            release,
            config or {},
        )

    @cached_property
    def paths(self) -> Mapping[str, str]:
        """Every module's name, with `_`, and its path."""
        return {module_name(path): path for path in self.depends}

    @cached_property
    def builtin(self) -> frozenset[str]:
        """Names and aliases, with `_`, of what is linked into the kernel."""
        aliases = _BUILTIN_ALIAS.findall(self.builtin_modinfo)
        return frozenset(
            [module_name(path) for path in self.builtin_paths]
            + [alias.decode("utf-8", "replace").replace("-", "_") for alias in aliases]
            # A module that is there as a file is none, whatever somebody believes of the configuration.
            + [n for n in _names_in_features() if n not in self.paths and setting_of(n, self.config) == "y"]
        )

    @cached_property
    def softdeps(self) -> Mapping[str, SoftDeps]:
        """The soft dependencies by module name."""
        found: dict[str, SoftDeps] = {}
        for line in self.softdep_text.splitlines():
            words = line.split()
            if len(words) > 2 and words[0] == "softdep":
                name, old = module_name(words[1]), found.get(module_name(words[1]), SoftDeps())
                new = _parse_softdep(words[2:])
                found[name] = SoftDeps(old.before + new.before, old.after + new.after)
        return found

    @cached_property
    def _aliases(self) -> Mapping[str, tuple[str, ...]]:
        """Aliases without wildcards, which softdeps and people use; an alias for hardware always has one."""
        found: dict[str, tuple[str, ...]] = {}
        for line in self.alias_text.splitlines():
            if "*" not in line and line.startswith("alias "):
                alias, _space, name = line[6:].rpartition(" ")
                key = alias.replace("-", "_")
                found[key] = (*found.get(key, ()), name)
        return found

    @cached_property
    def cpu_bound(self) -> frozenset[str]:
        """Names of modules that refuse to load on a processor without some instruction, as crc32c_intel does."""
        lines = (line for line in self.alias_text.splitlines() if line.startswith("alias cpu:"))
        return frozenset(module_name(line.rpartition(" ")[2]) for line in lines)

    def find(self, name: str) -> tuple[str, ...]:
        """The paths a module name or an alias without wildcards stands for; empty when there is none."""
        key = name.replace("-", "_")
        if key in self.paths:
            return (self.paths[key],)
        names = (module_name(owner) for owner in self._aliases.get(key, ()))
        return tuple(dict.fromkeys(self.paths[owner] for owner in names if owner in self.paths))

    @staticmethod
    def names(paths: Iterable[str]) -> tuple[str, ...]:
        """The names to give modprobe for these paths, in their order."""
        return tuple(dict.fromkeys(module_name(path) for path in paths))

    def is_builtin(self, name: str) -> bool:
        """Whether the kernel has this module, or this alias's module, linked in."""
        key = name.replace("-", "_")
        return key in self.builtin or setting_of(key, self.config) == "y"

    def nearest(self, name: str) -> tuple[str, ...]:
        """Names of modules that look like this one, for messages."""
        return tuple(difflib.get_close_matches(name.replace("-", "_"), sorted(self.paths), n=3, cutoff=0.7))

    def closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """The paths of these modules and of all they need, hard and soft, each after what it needs.

        A name may be a module's name, an alias or a path; what is built in adds nothing. Soft dependencies the
        kernel lacks are left out, as modprobe does. Raises `LivebuilderError` naming every module it lacks.
        """
        wanted: list[str] = []
        lacking: list[str] = []
        for name in names:
            paths = (name,) if name in self.depends else self.find(name)
            wanted += paths
            if not paths and not self.is_builtin(name):
                lacking.append(name)
        if lacking:
            raise self._lacks(lacking)
        order: dict[str, None] = {}
        self._visit(wanted, order, set())
        return tuple(order)

    def _visit(self, paths: Iterable[str], order: dict[str, None], seen: set[str]) -> None:
        for path in paths:
            if path in seen:
                continue
            seen.add(path)  # before going on: soft dependencies may run in a circle
            soft = self.softdeps.get(module_name(path), SoftDeps())
            self._visit((found for name in soft.before for found in self.find(name)), order, seen)
            self._visit(reversed(self.depends.get(path, ())), order, seen)
            order[path] = None
            self._visit((found for name in soft.after for found in self.find(name)), order, seen)

    def expand(
        self, feature: str, patterns: Iterable[FeaturePattern] | None = None, *, may_be_empty: bool = False
    ) -> tuple[str, ...]:
        """The paths of the modules a feature names (not yet what those need), sorted as the feature lists them.

        Raises `LivebuilderError` naming the feature, the kernel and every module that is neither there nor built in;
        also, unless it `may_be_empty`, when all of its lines are optional and the kernel has none of them.
        """
        patterns = tuple(read_feature(feature) if patterns is None else patterns)
        found: dict[str, None] = {}
        lacking, known = [], False
        for pattern in patterns:
            paths = self._match(pattern)
            found.update(dict.fromkeys(paths))
            if paths or self._match_builtin(pattern):
                known = True
            elif not pattern.optional:
                lacking.append(pattern.text)
        if lacking:
            raise self._lacks(lacking, feature=feature)
        if not known and not may_be_empty:
            raise self._lacks([pattern.text for pattern in patterns], feature=feature)
        return tuple(found)

    def _match(self, pattern: FeaturePattern) -> tuple[str, ...]:
        if not pattern.is_glob:
            return self.find(pattern.text)
        return tuple(sorted(path for path in self.depends if _below_kernel(path, pattern.text)))

    def _match_builtin(self, pattern: FeaturePattern) -> bool:
        if not pattern.is_glob:
            return self.is_builtin(pattern.text)
        return any(_below_kernel(path, pattern.text) for path in self.builtin_paths)

    def _lacks(self, names: list[str], *, feature: str | None = None) -> LivebuilderError:
        wanted_by = f" the feature {feature} needs" if feature else ""
        what = f"{', '.join(names[:8])}{' …' if len(names) > 8 else ''}"
        near = sorted({near for name in names[:8] for near in self.nearest(name)})
        hint = f"modules with a like name: {', '.join(near)}" if near else "choose other features or another kernel"
        which = "this module" if len(names) == 1 else "these modules"
        return LivebuilderError(
            f"the kernel {self.release} lacks {which}{wanted_by}, loadable or built in: {what}", hint=hint
        )


def read_feature(name: str) -> tuple[FeaturePattern, ...]:
    """The lines of `initramfs/features/NAME.modules`; raises `LivebuilderError` naming the features there are."""
    known = feature_names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        raise LivebuilderError(
            f"there is no feature {name!r}",
            hint=f"{'did you mean ' + near[0] + '? ' if near else ''}{', '.join(known)}",
        )
    return parse_feature(asset(f"initramfs/features/{name}.modules").read_text())


def feature_names() -> tuple[str, ...]:
    """The features a profile may name."""
    return tuple(sorted(path.stem for path in asset("initramfs/features").glob("*.modules")))


@cache
def _names_in_features() -> tuple[str, ...]:
    """The names of the modules, with `_`, that some feature names."""
    patterns = (pattern for feature in feature_names() for pattern in read_feature(feature))
    return tuple(dict.fromkeys(module_name(pattern.text) for pattern in patterns if not pattern.is_glob))


def parse_feature(text: str) -> tuple[FeaturePattern, ...]:
    """One pattern a line, `#` comments, a leading `?` for what a kernel may lack."""
    words = (line.partition("#")[0].strip() for line in text.splitlines())
    return tuple(FeaturePattern(word.lstrip("?").strip(), word.startswith("?")) for word in words if word)


def indexed(modules: RootTree) -> RootTree:
    """The tree with modules.dep, modules.softdep and modules.alias in it, as `depmod` would write them.

    A tree that has a modules.dep is given back as it is. Else every module is read (Debian's package carries no
    index, and neither does OpenWrt's flat folder): about half a second for 4,000 modules, so keep what you get.
    """
    if "modules.dep" in modules:
        return modules
    infos = {
        entry.path: read_modinfo(modules.content_of(entry).read(), source=entry.source or entry.path)
        for entry in modules
        if is_module(entry.path)
    }
    paths = {module_name(path): path for path in infos}
    direct = {
        path: [paths[name] for name in map(module_name, _depends(info)) if name in paths]
        for path, info in infos.items()
    }
    result = RootTree(modules)
    for name, lines in (
        ("dep", (f"{path}: {' '.join(_dependencies(path, direct))}".rstrip() for path in infos)),
        ("softdep", (f"softdep {module_name(p)} {v}" for p, info in infos.items() for v in info.get("softdep", ()))),
        ("alias", (f"alias {v} {module_name(p)}" for p, info in infos.items() for v in info.get("alias", ()))),
    ):
        result.remove(f"modules.{name}")
        result.add(file(f"modules.{name}", "".join(f"{line}\n" for line in lines), source="module index"))
    return result


def module_tree(kernel: Kernel, index: ModuleIndex, names: Iterable[str]) -> RootTree:
    """lib/modules/RELEASE with these modules (names or paths), their closure, and the index files cut down to them.

    A soft dependency "before" is written into modules.dep as if it were a hard one, because busybox's modprobe does
    not read modules.softdep and ext4 cannot mount without crc32c. Where an alias names several modules, those bound
    to a processor's instructions are left to the kernel, since a failed dependency would fail the whole load. "After"
    dependencies are in the tree but must be loaded by name. Modules packed with zstd are unpacked.
    """
    chosen = dict.fromkeys(index.closure(names))
    names = {module_name(path) for path in chosen}
    home = f"lib/modules/{kernel.release}"
    tree = RootTree()
    written = {}
    for path in chosen:
        written[path], content = _loadable(kernel, path)
        tree.add(file(f"{home}/{written[path]}", content, source=f"kernel {kernel.release}"))
    direct = {path: [found for found in _needed_before(path, index) if found in chosen] for path in chosen}
    dep_lines = (
        f"{written[path]}: {' '.join(written[needed] for needed in _dependencies(path, direct))}".rstrip()
        for path in sorted(chosen)
    )
    texts = {
        "dep": dep_lines,
        "alias": (line for line in index.alias_text.splitlines() if line.rpartition(" ")[2] in names),
        "softdep": (line for line in index.softdep_text.splitlines() if line.partition(" ")[2].split(" ")[0] in names),
        "order": (written[path] for path in _in_order(kernel.modules, chosen)),
        "builtin": _builtin_lines(index),  # whole: modprobe of a built-in module must be no error
    }
    for name, lines in texts.items():
        tree.add(file(f"{home}/modules.{name}", "".join(f"{line}\n" for line in lines), source="module index"))
    return tree


def _builtin_lines(index: ModuleIndex) -> list[str]:
    """modules.builtin, and behind it what only the kernel's configuration names; modprobe goes by the last word."""
    listed = {module_name(path) for path in index.builtin_paths}
    unlisted = [name for name in _names_in_features() if name in index.builtin and name not in listed]
    return [*index.builtin_paths, *(f"kernel/{name}.ko" for name in unlisted)]


def _needed_before(path: str, index: ModuleIndex) -> Iterator[str]:
    """What modules.dep must name for busybox, first loaded first: soft dependencies and then hard ones."""
    for name in index.softdeps.get(module_name(path), SoftDeps()).before:
        yield from (found for found in index.find(name) if module_name(found) not in index.cpu_bound)
    yield from reversed(index.depends.get(path, ()))


def _dependencies(path: str, direct: Mapping[str, Iterable[str]]) -> list[str]:
    """The closure of one module without itself, in modprobe's order: what must be loaded first stands last."""
    order: dict[str, None] = {}
    stack = {path}

    def visit(needed: Iterable[str]) -> None:
        for other in needed:
            if other not in order and other not in stack:
                stack.add(other)
                visit(direct.get(other, ()))
                order[other] = None

    visit(direct.get(path, ()))
    return list(order)[::-1]


def _loadable(kernel: Kernel, path: str) -> tuple[str, Content]:
    entry = kernel.modules.get(path)
    if entry is None:
        raise LivebuilderError(
            f"modules.dep of the kernel {kernel.release} names {path}, but that file is not there",
            hint=f"depmod {kernel.release}   # or copy the modules again",
        )
    content = kernel.modules.content_of(entry)
    if not path.endswith(".zst"):
        return path, content
    return path.removesuffix(".zst"), Content.from_bytes(plain_module(content.read(), source=path))


def _in_order(modules: RootTree, chosen: Iterable[str]) -> list[str]:
    """The chosen paths as modules.order lists them (by their names without what says how they are packed)."""
    place = {without_suffix(line): number for number, line in enumerate(_text(modules, "modules.order").split())}
    return sorted(chosen, key=lambda path: (place.get(without_suffix(path), len(place)), path))


def _text(modules: RootTree, name: str) -> str:
    entry = modules.get(name)
    return entry.content.read().decode("utf-8", "replace") if entry else ""


def _depends(info: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [name for value in info.get("depends", ()) for name in value.split(",") if name]


def _parse_softdep(words: list[str]) -> SoftDeps:
    """`pre: a b post: c`; words before either keyword mean nothing, as for modprobe."""
    lists: dict[str, list[str]] = {"": [], "pre:": [], "post:": []}
    current = ""
    for word in words:
        if word in lists:
            current = word
        else:
            lists[current].append(word)
    return SoftDeps(tuple(lists["pre:"]), tuple(lists["post:"]))


def _below_kernel(path: str, pattern: str) -> bool:
    """Whether a glob of a feature matches; `*` stops at no slash."""
    return fnmatch.fnmatchcase(without_suffix(path).removeprefix("kernel/"), pattern)
