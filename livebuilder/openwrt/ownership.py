"""Owners, modes and device nodes that OpenWrt's files lose on the way into an archive."""

from __future__ import annotations

from dataclasses import replace

from livebuilder.openwrt.change import Change, Changed, ChangeKind
from livebuilder.tree import Entry, Kind, RootTree, device, directory, is_implied

_SOURCE = "livebuilder"
# What package/base-files of OpenWrt installs with a mode of its own. A folder that is missing is made.
_FOLDER_MODES = {"tmp": 0o1777, "root": 0o700}
_FILE_MODES = {"etc/shadow": 0o600}
# The kernel opens it for the first program; procd makes all others.
_CONSOLE = "dev/console"


def repair_owners(root: RootTree) -> Changed:
    """Everything belongs to 0:0 when all of it belonged to one other user: whoever made the archive."""
    own = [entry for entry in root if not is_implied(entry) and entry.kind is not Kind.HARDLINK]
    users = {entry.uid for entry in own}
    if len(users) != 1 or users == {0}:
        return root, ()
    groups = {entry.gid for entry in own}
    whose = f"{users.pop()}:{groups.pop() if len(groups) == 1 else '…'}"
    change = Change(ChangeKind.OWNERS, f"all {len(root)} entries belonged to {whose} and now belong to 0:0")
    return RootTree(replace(entry, uid=0, gid=0) for entry in root), (change,)


def repair_modes(root: RootTree) -> Changed:
    """/tmp, /root and /etc/shadow as OpenWrt has them."""
    wrong = {
        path: mode
        for modes, kind in ((_FOLDER_MODES, Kind.DIRECTORY), (_FILE_MODES, Kind.FILE))
        for path, mode in modes.items()
        if (entry := root.get(path)) is not None and entry.kind is kind and entry.mode != mode
    }
    missing = [path for path in _FOLDER_MODES if path not in root]
    if not wrong and not missing:
        return root, ()
    changes = [f"/{path} had mode {root[path].mode:04o} and now has {mode:04o}" for path, mode in wrong.items()]
    changes += [f"/{path} was missing and is made with mode {_FOLDER_MODES[path]:04o}" for path in missing]
    repaired = RootTree(_with_mode(entry, wrong[entry.path]) if entry.path in wrong else entry for entry in root)
    for path in missing:
        repaired.add(directory(path, mode=_FOLDER_MODES[path], source=_SOURCE))
    return repaired, tuple(Change(ChangeKind.MODES, text) for text in changes)


def _with_mode(entry: Entry, mode: int) -> Entry:
    # A folder that nobody gave has a mode from now on.
    return replace(entry, mode=mode, source=_SOURCE if is_implied(entry) else entry.source)


def repair_devices(root: RootTree) -> Changed:
    """/dev/console, which an archive that was made without being root cannot hold."""
    old = root.resolve(_CONSOLE)
    if old is not None and old.kind is Kind.CHAR and old.device == (5, 1):
        return root, ()
    repaired = RootTree(root)
    repaired.remove(_CONSOLE)
    repaired.add(device(_CONSOLE, char=(5, 1), source=_SOURCE))
    was = f"was a {old.kind}" if old else "was missing"
    return repaired, (Change(ChangeKind.DEVICES, f"/{_CONSOLE} {was} and is now the device (5, 1)"),)
