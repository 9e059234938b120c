"""What has to be done to turn one tree of files into another, and in what two of them differ. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from livebuilder.tree import Entry, Kind, RootTree


@dataclass(frozen=True)
class Change:
    """One thing to do. "set" gives a folder that stays, or was just made, its mode, owner, times and attributes."""

    action: Literal["remove", "make", "set"]
    entry: Entry


def plan_changes(current: RootTree, wanted: RootTree) -> tuple[Change, ...]:
    """What turns `current` into `wanted`: removals from the leaves up, then what is made, then folders' own facts.

    Only folders are ever altered: of everything else that differs the old is removed and the new made, with all its
    names. A folder that is to lose an attribute is made anew with all that is in it.
    """
    before, after = facts_of(current), facts_of(wanted)
    gone: set[str] = set()
    for entry in current:
        new = wanted.get(entry.path)
        if entry.kind is Kind.DIRECTORY:
            stays = new is not None and new.kind is Kind.DIRECTORY and set(entry.xattrs) <= set(new.xattrs)
        else:
            stays = before[entry.path] == after.get(entry.path)
        if not stays or entry.parent in gone:
            gone.add(entry.path)
    for names in names_of_files(current).values():
        if not gone.isdisjoint(names):
            gone |= names
    made = [entry for entry in wanted if entry.path in gone or entry.path not in current]
    touched = {path.rpartition("/")[0] for path in gone} | {entry.parent for entry in made}
    made_paths = {entry.path for entry in made}
    return (
        *(Change("remove", entry) for entry in reversed(list(current)) if entry.path in gone),
        *(Change("make", entry) for entry in made if entry.kind is not Kind.HARDLINK),
        *(Change("make", entry) for entry in made if entry.kind is Kind.HARDLINK),
        *(
            Change("set", entry)
            for entry in wanted
            if entry.kind is Kind.DIRECTORY
            and (
                entry.path in made_paths or entry.path in touched or before.get(entry.path) != after[entry.path]
            )
        ),
    )  # fmt: skip


def differences(found: RootTree, wanted: RootTree) -> list[str]:
    """In words, path by path, where two trees are not the same; empty when they are."""
    left, right = facts_of(found), facts_of(wanted)
    words = []
    for path in sorted(left.keys() | right.keys()):
        if path not in left:
            words.append(f"/{path} is missing")
        elif path not in right:
            words.append(f"/{path} should not be there")
        elif left[path] != right[path]:
            pairs = zip(left[path], right[path], strict=True)
            words.append(f"/{path} differs: {', '.join(f'{a!r} for {b!r}' for a, b in pairs if a != b)}")
    return words


def names_of_files(tree: RootTree) -> dict[str, set[str]]:
    """The path a file is kept under → all its names, that one included."""
    names: dict[str, set[str]] = {}
    for entry in tree:
        if entry.kind is Kind.HARDLINK:
            names.setdefault(entry.target, {entry.target}).add(entry.path)
    return names


def facts_of(tree: RootTree) -> dict[str, tuple[object, ...]]:
    """Path → all that makes a difference; the same for every name of a file."""
    names = names_of_files(tree)
    found: dict[str, tuple[object, ...]] = {}
    for path in (entry.path for entry in tree):
        name = tree[path]
        entry = tree.inode_of(name)
        mode = 0o777 if entry.kind is Kind.SYMLINK else entry.mode
        found[path] = (
            entry.kind, oct(mode), entry.uid, entry.gid, entry.mtime, entry.target, entry.device,
            sorted(entry.xattrs.items()), entry.content.size, entry.content.sha256,
            sorted(names.get(entry.path, {entry.path})) if entry.kind is Kind.FILE else [],
        )  # fmt: skip
    return found
