"""Which packages a root has to get so that what is wanted works: pure, from what feeds and its status file say.

The choices are opkg's (libopkg/pkg_depends.c, pkg_hash.c): what is installed stays where it will do; among packages
that stand in for a name the one of that name comes first, then what the user asked for, then the last by name and the
newest. Other than opkg it never takes a kernel module that is for another build of the kernel, and finds all problems
before anything is laid down.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, cmp_to_key

from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.feed import Package, Relation
from livebuilder.openwrt.version import compare_versions

_KERNEL = "kernel"
# What a running system stands on: never exchanged for the sake of a package.
_FIXED = frozenset((_KERNEL, "libc"))


class ClosureError(LivebuilderError):
    """What is wanted cannot be had from the feeds, or does not go with what the root has."""


@dataclass(frozen=True)
class Step:
    """A package to install; `wanted` when the user named it, else another needs it. `replaces` is an older one."""

    package: Package
    wanted: bool
    replaces: Package | None = None


@dataclass(frozen=True)
class Plan:
    """What to do, in this order: `removals`, then `steps`, each after what it depends on unless they form a circle.

    `kept` were wanted and are there already. `left_out` are kernel modules that a foreign kernel has no use for.
    `choices` says of a name that several packages stand in for which one was taken, and which not. With `problems`,
    one sentence each, the plan is not to be carried out: `require()` raises them.
    """

    steps: tuple[Step, ...] = ()
    removals: tuple[Package, ...] = ()
    kept: tuple[Package, ...] = ()
    left_out: tuple[str, ...] = ()
    choices: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    problems: tuple[str, ...] = ()
    hint: str | None = None

    def require(self) -> Plan:
        """This plan; raises `ClosureError` with all its problems when it has any."""
        if self.problems:
            raise ClosureError("\n".join(self.problems), hint=self.hint)
        return self


def closure(
    wanted: Iterable[str],
    installed: Mapping[str, Package],
    available: Sequence[Package],
    *,
    architectures: frozenset[str] = frozenset(),
    foreign_kernel: bool = False,
) -> Plan:
    """What it takes to have every package of `wanted` in a root with the packages `installed`.

    `-NAME` in `wanted` takes a package out, as OpenWrt's image builder does. `available` are the packages of all feeds,
    an earlier one before a later one of the same version; `architectures` those that may be installed, empty for any.
    With `foreign_kernel` the root gets a kernel that is not OpenWrt's: its kmod packages are left out.
    """
    return _Search(installed, available, architectures, foreign_kernel=foreign_kernel).run(tuple(dict.fromkeys(wanted)))


class _Search:
    def __init__(
        self,
        installed: Mapping[str, Package],
        available: Sequence[Package],
        architectures: frozenset[str],
        *,
        foreign_kernel: bool,
    ) -> None:
        self.installed = dict(installed)
        self.foreign_kernel = foreign_kernel
        self.kernel = installed[_KERNEL].version if _KERNEL in installed else None
        self.asked: frozenset[str] = frozenset()
        self.removed: dict[str, Package] = {}
        self.selected: dict[str, Package] = {}
        self.givers: dict[str, dict[str, None]] = {}  # a name → the packages that may give it
        self.left_out: dict[str, None] = {}
        self.choices: dict[str, tuple[str, tuple[str, ...]]] = {}
        self.problems: dict[str, None] = {}
        self.hint: str | None = None
        self.providers: dict[str, list[Package]] = {}
        self.foreign: dict[str, set[str]] = {}  # name → architectures it is there for, none of ours
        for package in installed.values():
            self._note(package)
        for package in available:
            fits = not architectures or not package.architecture or package.architecture in architectures
            for name in package.names:
                if fits:
                    self.providers.setdefault(name, []).append(package)
                else:
                    self.foreign.setdefault(name, set()).add(package.architecture)

    def run(self, wanted: tuple[str, ...]) -> Plan:
        self._remove(name[1:] for name in wanted if name.startswith("-"))
        names = [name for name in wanted if not name.startswith("-")]
        self.asked = frozenset(names)
        kept: dict[str, Package] = {}
        queue: deque[Package] = deque()
        for name in names:
            there = self._there(Relation(name))
            if there is None:
                self._choose((Relation(name),), None, queue)
            elif there.name not in self.selected:
                kept[there.name] = there
        while queue:
            package = queue.popleft()
            for alternatives in package.depends:
                if not any(self._there(one) for one in alternatives):
                    self._choose(alternatives, package, queue)
        self._check_what_stays()
        self._check_conflicts()
        steps = tuple(
            Step(package, not self.asked.isdisjoint(package.names), self.installed.get(package.name))
            for package in self._ordered()
        )
        return Plan(
            steps, tuple(self.removed.values()), tuple(kept.values()), tuple(self.left_out),
            tuple((name, *choice) for name, choice in self.choices.items()), tuple(self.problems), self.hint,
        )  # fmt: skip

    def _problem(self, message: str, hint: str | None = None) -> None:
        self.problems[message] = None
        self.hint = self.hint or hint

    def _note(self, package: Package) -> None:
        for name in package.names:
            self.givers.setdefault(name, {})[package.name] = None

    def _final(self, name: str) -> Package | None:
        """The package of this name that the root will have."""
        return self.selected.get(name) or self.installed.get(name)

    def _there(self, relation: Relation) -> Package | None:
        """A package the root will have that satisfies the relation."""
        for name in self.givers.get(relation.name, ()):
            package = self._final(name)
            if package is not None and relation.name in package.names and relation.admits(package.version):
                return package
        return None

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            package = self.installed.get(name)
            if package is None:
                near = _near(name, self.installed)
                self._problem(f"{name} is to be taken out, but the root has no package of that name{near}")
            elif name in _FIXED or package.fields.get("Essential", "").lower() == "yes":
                self._problem(f"{name} is to be taken out, but no root works without it")
            else:
                self.removed[name] = self.installed.pop(name)

    def _choose(self, alternatives: tuple[Relation, ...], by: Package | None, queue: deque[Package]) -> None:
        """Select what satisfies one of the alternatives, or note why nothing does."""
        if self.foreign_kernel and all(_is_kernels(one.name) for one in alternatives):
            self.left_out |= {one.name: None for one in alternatives[:1] if one.name != _KERNEL}
            return
        for relation in alternatives:
            candidates = [one for one in self._admitted(relation) if self._may_be_installed(one)]
            if len(candidates) > 1:
                candidates = [one for one in candidates if one not in self._broken] or candidates
            if candidates:
                best = max(candidates, key=self._merit(relation.name, candidates))
                others = tuple(sorted({one.name for one in candidates} - {best.name}))
                if others and best.name != relation.name:
                    self.choices[relation.name] = (best.name, others)
                self.selected[best.name] = best
                self._note(best)
                queue.append(best)
                return
        self._explain(alternatives, by)

    def _admitted(self, relation: Relation) -> list[Package]:
        return [one for one in self.providers.get(relation.name, ()) if relation.admits(one.version)]

    def _may_be_installed(self, package: Package) -> bool:
        old = self.installed.get(package.name)
        if package.name in self.selected or package.name in self.removed:
            return False  # another version of it was selected for another reason, or the user wants it out
        if old is not None and (package.name in _FIXED or compare_versions(package.version, old.version) <= 0):
            return False
        return self.foreign_kernel or package.kernel in (None, self.kernel)

    @cached_property
    def _broken(self) -> frozenset[Package]:
        """What cannot be had whole: packages of which a dependency, or one of a dependency's, is in no feed."""
        broken: set[Package] = set()
        there = dict.fromkeys(package for packages in self.providers.values() for package in packages)
        before = -1
        while before < len(broken):
            before = len(broken)
            broken |= {
                package
                for package in there
                if package not in broken
                and not all(any(self._can_be_had(one, broken) for one in group) for group in package.depends)
            }
        return frozenset(broken)

    def _can_be_had(self, relation: Relation, broken: set[Package]) -> bool:
        if self.foreign_kernel and _is_kernels(relation.name):
            return True
        return self._there(relation) is not None or any(
            one not in broken and relation.admits(one.version) for one in self.providers.get(relation.name, ())
        )

    def _merit(self, name: str, among: Sequence[Package]) -> Callable[[Package], tuple[object, ...]]:
        by_version = cmp_to_key(compare_versions)
        rank = {id(package): -number for number, package in enumerate(among)}
        return lambda one: (
            (one.name == name) + (one.name in self.asked), one.name, by_version(one.version), rank[id(one)],
        )  # fmt: skip

    def _explain(self, alternatives: tuple[Relation, ...], by: Package | None) -> None:
        """Note why nothing satisfies these alternatives, which `by` needs, or the user when it is None."""
        what = " or ".join(map(str, alternatives))
        who = f"{by} needs {what}, which" if by else what
        known = list(dict.fromkeys(one for rel in alternatives for one in self.providers.get(rel.name, ())))
        admitted = [one for rel in alternatives for one in self._admitted(rel)]
        modules = [one for one in admitted if one.kernel not in (None, self.kernel)]
        blocked = [one for one in map(self._final, (one.name for one in admitted)) if one is not None]
        out = [one for one in admitted if one.name in self.removed]
        fixed = [self.installed[one.name] for one in alternatives if one.name in _FIXED and one.name in self.installed]
        if by and by.kernel is not None and alternatives[0].name == _KERNEL:
            self._wrong_kernel(str(by), {by.kernel})
        elif fixed:
            self._problem(f"{who} does not go with {fixed[0]} of the root", "use the feeds of the root's own build")
        elif modules:
            builds = {one.kernel for one in modules if one.kernel}
            self._wrong_kernel(f"{by} needs {modules[0].name}, which" if by else modules[0].name, builds)
        elif out:
            self._problem(f"{who} is to be taken out", f'leave "-{out[0].name}" away')
        elif blocked:
            self._problem(f"{who} does not go with {blocked[0]}, which the root has or something else needs")
        elif known:
            have = ", ".join(map(str, known))
            self._problem(f"{who} is in none of the feeds: they have {have}", "use the feeds of the root's own release")
        elif words := sorted({word for one in alternatives for word in self.foreign.get(one.name, ())}):
            self._problem(f"{who} is in the feeds only for {', '.join(words)}, which is not what the root is for")
        else:
            self._problem(f"{who} is in none of the feeds{_near(alternatives[0].name, self.providers)}")

    def _wrong_kernel(self, who: str, builds: set[str]) -> None:
        has = f"the root's is {self.kernel}" if self.kernel else "the root's status file has no package named kernel"
        self._problem(
            f"{who} is for the kernel {' or '.join(sorted(builds))}, and {has}",
            "modules go with just one build of the kernel: use the feeds of that very build, its targets/…/packages"
            " and kmods/ folders",
        )

    def _check_what_stays(self) -> None:
        """What was satisfied by a package that goes, or that becomes newer, must still be."""
        gone = [*self.removed.values(), *(self.installed[name] for name in self.selected if name in self.installed)]
        names = {name for package in gone for name in package.names}
        for package in {**self.installed, **self.selected}.values():
            for alternatives in package.depends:
                if any(one.name in names for one in alternatives) and not any(map(self._there, alternatives)):
                    self._problem(
                        f"{package} needs {' or '.join(map(str, alternatives))}, which would be gone",
                        f'take it out as well: "-{package.name}"',
                    )

    def _check_conflicts(self) -> None:
        for package in {**self.installed, **self.selected}.values():
            for relation in package.conflicts:
                other = self._final(relation.name)
                if other is None or other is package or not relation.admits(other.version):
                    continue
                if {package.name, other.name} & self.selected.keys():
                    out = next((one.name for one in (other, package) if one.name not in self.selected), None)
                    hint = f'take one of them out: "-{out}"' if out else "ask for one of them only"
                    self._problem(f"{package} and {other} cannot both be installed", hint)

    def _ordered(self) -> list[Package]:
        """The selected packages, each after what it depends on; a circle is broken where it was entered."""
        order: list[Package] = []
        begun: set[str] = set()
        for first in self.selected:
            stack = [] if first in begun else [(self.selected[first], self._needs(self.selected[first]))]
            begun.add(first)
            while stack:
                package, needs = stack[-1]
                following = next((name for name in needs if name not in begun), None)
                if following is None:
                    order.append(package)
                    stack.pop()
                else:
                    begun.add(following)
                    stack.append((self.selected[following], self._needs(self.selected[following])))
        return order

    def _needs(self, package: Package) -> list[str]:
        found = (self._there(one) for alternatives in package.depends for one in alternatives)
        return [one.name for one in found if one is not None and one.name in self.selected]


def _is_kernels(name: str) -> bool:
    return name == _KERNEL or name.startswith("kmod-")


def _near(name: str, names: Iterable[str]) -> str:
    near = get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"; the nearest are {', '.join(near)}" if near else ""
