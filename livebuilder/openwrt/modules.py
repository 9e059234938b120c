"""Kernel modules as OpenWrt lays them out: flat below /lib/modules/VERSION, and lists of what to load at boot.

`kmodloader` (ubox, kmodloader.c) reads only `*.ko` right in that folder, unpacked; it knows no soft dependencies, so
lists name everything in the order it has to be loaded. Lists in /etc/modules-boot.d are loaded before preinit, those in
/etc/modules.d by /etc/init.d/boot, before the network is configured; files that start with a digit line by line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from livebuilder.kernel.modinfo import is_module, module_name, plain_module, without_suffix
from livebuilder.kernel.modules import ModuleIndex
from livebuilder.openwrt.change import Change, Changed, ChangeKind
from livebuilder.openwrt.eras import Era
from livebuilder.tree import Content, Entry, Kind, RootTree, file

HOME = "lib/modules"
LATE_LISTS = "etc/modules.d"
LIST_NAME = "10-livebuilder"
# Linked into every kernel of OpenWrt's, so that no list of a root names them: br-lan and the VLANs are made of them.
LINKED_IN = ("bridge", "8021q")
_SOURCE = "livebuilder"
# Aliases by which a driver is found to be needed; without one it is for a card that nobody can ask for its name.
_FOUND_BY = ("alias pci:", "alias usb:", "alias virtio:", "alias hid:", "alias mdio:", "alias serio:")


@dataclass(frozen=True)
class ForeignModules:
    """What another kernel brings for the root: `tree` has lib/modules/RELEASE, the lists name its modules in order."""

    release: str
    tree: RootTree
    early: tuple[str, ...]
    late: tuple[str, ...]


def wanted_by_root(root: RootTree) -> tuple[str, ...]:
    """The modules that the root's own lists load, in their order: its firewall, PPP and the like."""
    names: dict[str, None] = {}
    for entry in _lists(root):
        for line in entry.content.read().decode("utf-8", "replace").splitlines():
            words = line.split("#")[0].split()
            if words:
                names[module_name(words[0])] = None
    return tuple(names)


def loadable_names(index: ModuleIndex, paths: Iterable[str], *, named: Iterable[str] = ()) -> tuple[str, ...]:
    """The names for a list that loads these modules: drivers of what can be found, what those need, and `named`.

    A driver for cards without Plug and Play looks for them by writing to ports, which only a person may ask for.
    """
    found = {line.rpartition(" ")[2] for line in index.alias_text.splitlines() if line.startswith(_FOUND_BY)}
    all_paths = tuple(paths)
    drivers = [path for path in all_paths if module_name(path) in found]
    wanted = {path for name in named for path in index.find(name)}
    return tuple(
        without_suffix(path.rpartition("/")[2])
        for path in index.closure([*drivers, *(path for path in all_paths if path in wanted)])
        if module_name(path) not in index.cpu_bound
    )


def flatten(modules: RootTree, release: str, *, name_limit: int | None) -> tuple[RootTree, tuple[str, ...]]:
    """lib/modules/RELEASE without folders and unpacked, its index files changed alike; and what had too long a name."""
    home = f"{HOME}/{release}/"
    dropped = tuple(
        entry.path
        for entry in modules
        if is_module(entry.path) and name_limit and len(module_name(entry.path)) > name_limit
    )
    flat = RootTree()
    for entry in modules:
        if entry.kind is not Kind.FILE or entry.path in dropped:
            continue
        if is_module(entry.path):
            flat.add(_flat_module(entry, home))
        elif entry.path.startswith(f"{home}modules."):
            flat.add(_flat_index(entry))
    return flat, tuple(module_name(path) for path in dropped)


def _flat_module(entry: Entry, home: str) -> Entry:
    content = entry.content
    if not entry.path.endswith(".ko"):
        content = Content.from_bytes(plain_module(content.read(), source=entry.path))
    return replace(entry, path=f"{home}{without_suffix(entry.name)}.ko", content=content)


def _flat_index(entry: Entry) -> Entry:
    """modules.dep and modules.order name paths; the others name modules."""
    if entry.name not in ("modules.dep", "modules.order"):
        return entry
    lines = entry.content.read().decode("utf-8", "replace").splitlines()
    words = (" ".join(_flat_word(word) for word in line.split(" ")) for line in lines)
    return replace(entry, content=Content.from_bytes("".join(f"{line}\n" for line in words).encode()))


def _flat_word(word: str) -> str:
    colon = ":" if word.endswith(":") else ""
    path = word.removesuffix(":")
    return f"{without_suffix(path.rpartition('/')[2])}.ko{colon}" if is_module(path) else word


def without_modules(root: RootTree) -> Changed:
    """The root without the modules of its own kernel, which another one cannot load."""
    releases = sorted({entry.path.split("/")[2] for entry in root if entry.path.startswith(f"{HOME}/")})
    gone = sum(is_module(entry.path) for entry in root if entry.path.startswith(f"{HOME}/"))
    if not releases:
        return root, ()
    changed = RootTree(root)
    for release in releases:
        changed.remove(f"{HOME}/{release}")
    what = "1 module leaves" if gone == 1 else f"{gone} modules leave"
    text = f"{what}: of Linux {', '.join(releases)}, which does not run here"
    return changed, (Change(ChangeKind.MODULES, text),)


def module_layer(foreign: ForeignModules, *, era: Era) -> Changed:
    """What is laid over the root: another kernel's modules, and the lists that load them."""
    lists = list(_list_files(foreign, era))
    layer = RootTree(foreign.tree)
    # From 24.10 on modprobe gives up over a modules.builtin without OpenWrt's modules.builtin.modinfo beside it.
    layer.remove(f"{HOME}/{foreign.release}/modules.builtin")
    layer.overlay(RootTree(lists))
    count = sum(is_module(entry.path) for entry in foreign.tree)
    texts = [f"{count} modules of Linux {foreign.release} are in /{HOME}/{foreign.release}, flat"]
    texts += [f"/{entry.path} loads {len(entry.content.read().split())} of them" for entry in lists]
    return layer, tuple(Change(ChangeKind.MODULES, text) for text in texts)


def _list_files(foreign: ForeignModules, era: Era) -> Iterator[Entry]:
    """One list for preinit, where the era has such, and one for later."""
    early: Sequence[str] = foreign.early if era.boot_modules else ()
    late = [name for name in (*foreign.early, *foreign.late) if name not in early]
    for folder, names in ((era.boot_modules, early), (LATE_LISTS, late)):
        if folder and names:
            text = "".join(f"{name}\n" for name in dict.fromkeys(names))
            yield file(f"{folder}/{LIST_NAME}", text, source=_SOURCE)


def _lists(root: RootTree) -> Iterator[Entry]:
    for entry in root:
        if entry.parent in (LATE_LISTS, "etc/modules-boot.d") and entry.kind is Kind.FILE:
            yield entry
