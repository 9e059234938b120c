"""Whether the scripts of an image find there what they name: applets, programs, files and kernel modules."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from livebuilder.image.shell import Script, Use, Wrapper, is_shell_script, parse_script
from livebuilder.kernel.modinfo import module_name
from livebuilder.tree import Entry, Kind, RootTree

# Larger files are no scripts of ours.
_TEXT_BYTES = 256 * 1024
_PATH = ("bin", "sbin", "usr/bin", "usr/sbin")
_MODULE_LIST = re.compile(r"^LB_MODULES_\w+=(['\"]?)([^'\"\n]*)\1$", re.MULTILINE)


@dataclass(frozen=True)
class Place:
    """Where scripts run: the initramfs, or the root. `programs` holds names and absolute paths, `files` paths."""

    name: str
    applets: frozenset[str]
    programs: frozenset[str]
    files: frozenset[str]

    def can_run(self, command: str) -> bool:
        """Whether a command by this name or absolute path starts something."""
        return command in self.programs or command in self.applets


def place_of(tree: RootTree, *, name: str, applets: frozenset[str]) -> Place:
    """What can be run and read in a tree; `applets` are those of its busybox, which run without a link to them."""
    files: set[str] = set()
    programs: set[str] = set()
    folders = {folder: entry.path for folder in _PATH if (entry := tree.resolve(folder)) is not None}
    for entry in tree:
        target = tree.resolve(entry.path) if entry.kind is Kind.SYMLINK else entry
        if target is None or target.kind not in (Kind.FILE, Kind.HARDLINK):
            continue
        paths = {f"/{entry.path}"} | {f"/{f}/{entry.name}" for f, path in folders.items() if entry.parent == path}
        files |= paths
        if _mode(tree, target) & 0o111:
            programs |= paths
            if entry.parent in folders.values():
                programs.add(entry.name)
    return Place(name, applets, frozenset(programs), frozenset(files))


def texts_of(tree: RootTree, root: RootTree) -> dict[str, str]:
    """The files of `tree` that are text, by path, as they ended up in `root`."""
    texts = {}
    for entry in tree:
        final = root.get(entry.path)
        if final is not None and final.kind is Kind.FILE and final.content.size < _TEXT_BYTES:
            data = final.content.read()
            if b"\0" not in data:
                texts[entry.path] = data.decode("utf-8", "replace")
    return texts


def lint_image(
    scripts: Mapping[str, str], *, place: Place, modules: Container[str], other_root: Place | None = None
) -> tuple[str, ...]:
    """What is missing, one finding each, naming the script and the thing; empty when all is there.

    `scripts` are the texts of files of one place by their paths: shell scripts, `inittab`, `image.conf`; others are
    passed over. `modules` are the names and aliases modprobe will find, with `_`. `other_root` is what lies behind
    `chroot` and `switch_root`; None leaves that unchecked. A command that some script asks for with `command -v` may
    be absent. Raises `ShellSyntaxError`.
    """
    read = {name: _read(name, text) for name, text in scripts.items()}
    functions = {function for script in read.values() for function in script.functions}
    wrappers = _all_wrappers(read)
    optional = {command for script in read.values() for command in script.asked_for()}
    findings: dict[str, None] = {}
    for name, script in read.items():
        for use in script.uses(functions=functions, wrappers=wrappers):
            where = other_root if use.other_root else place
            if where is not None and use.name not in optional and not where.can_run(use.name):
                findings[f"{name}: {use.name} is neither a program of the {where.name} nor an applet of busybox"] = None
            findings |= dict.fromkeys(
                f"{name}: the module {module} is not in the image"
                for module in _modprobed(use)
                if module not in modules
            )
        for path in sorted(script.sourced() | _interpreters(scripts[name])):
            if path not in place.files:
                findings[f"{name}: {path} is not in the {place.name}"] = None
        for module in _listed_modules(scripts[name]):
            if module not in modules:
                findings[f"{name}: the module {module} is not in the image"] = None
    return tuple(findings)


def _read(name: str, text: str) -> Script:
    if name.rpartition("/")[2] == "inittab":
        commands = (line.split(":", 3)[3:] for line in text.splitlines() if not line.startswith("#"))
        return parse_script("\n".join(words[0] for words in commands if words), name=name)
    return parse_script(text, name=name) if is_shell_script(text) or name.endswith(".sh") else Script()


def _all_wrappers(scripts: Mapping[str, Script]) -> dict[str, Wrapper]:
    """The functions of all scripts that run what they are given, also by way of one of another script."""
    found: dict[str, Wrapper] = {}
    while True:
        before = len(found)
        for script in scripts.values():
            found |= script.wrappers(found)
        if len(found) == before:
            return found


def _modprobed(use: Use) -> Iterator[str]:
    """The names a modprobe is given: all with -a, else the first, which parameters follow."""
    if use.name.rpartition("/")[2] != "modprobe":
        return
    words = [word for word in use.arguments if not word.text.startswith("-")]
    every = any(word.text.startswith("-") and "a" in word.text for word in use.arguments)
    for word in words if every else words[:1]:
        if not word.is_dynamic:
            yield module_name(word.text)


def _listed_modules(text: str) -> list[str]:
    return [module_name(word) for _quote, words in _MODULE_LIST.findall(text) for word in words.split()]


def _interpreters(text: str) -> set[str]:
    """What a first line `#!/bin/sh /etc/rc.common` needs."""
    first = text.partition("\n")[0]
    return {word for word in first.removeprefix("#!").split() if word.startswith("/")} if first[:2] == "#!" else set()


def _mode(tree: RootTree, entry: Entry) -> int:
    return tree[entry.target].mode if entry.kind is Kind.HARDLINK else entry.mode
