"""/etc/config/fstab: what OpenWrt's own tools, and LuCI, are told about the stick.

The format is UCI's: `config TYPE ['NAME']`, then `option NAME 'VALUE'` lines. The keys of 10.03 and 12.09 are those of
package/block-mount's shell scripts (files/mount.sh, fsck.sh), later ones those of fstools, block.c (`config_policy`,
`mount_policy`).
"""

from __future__ import annotations

import re

from livebuilder.openwrt.change import Change, Changed, ChangeKind
from livebuilder.openwrt.eras import Era, FstabStyle
from livebuilder.tree import Kind, RootTree, file

PATH = "etc/config/fstab"
_SECTION = re.compile(r"^[ \t]*config[ \t]+", re.MULTILINE)
_OPTION = re.compile(r"^[ \t]*option[ \t]+(\w+)[ \t]+['\"]?([^'\"\n]*)['\"]?[ \t]*$", re.MULTILINE)
# What says that package block-mount (10.03: block-extroot) is there: fstools' program, or the scripts before it.
_BLOCK_MOUNT = ("sbin/block", "lib/functions/block.sh", "lib/functions/mount.sh", "lib/preinit/50_determine_usb_root")
_DELAY_SECONDS = 15


def has_block_mount(root: RootTree) -> bool:
    """Whether the root can act on /etc/config/fstab at all."""
    return any(root.resolve(path) is not None for path in _BLOCK_MOUNT)


def add_extroot(root: RootTree, *, era: Era, label: str) -> Changed:
    """The entry for the stick, in the era's words, when the root has block-mount; one that is there is kept."""
    if not has_block_mount(root):
        return root, ()
    old = root.get(PATH)
    text = ""
    if old is not None:
        if old.kind is not Kind.FILE:
            return root, (Change(ChangeKind.FSTAB, f"/{PATH} is a {old.kind}, which is left as it is"),)
        text = old.content.read().decode("utf-8", "surrogateescape")
        kept = find_extroot(text)
        if kept is not None:
            return root, (Change(ChangeKind.FSTAB, f"/{PATH} has an entry for extroot already, which stays: {kept}"),)
    entry = render_extroot(label, style=era.fstab, with_global="config global" not in text)
    joined = f"{text.rstrip()}\n\n{entry}" if text.strip() else entry
    changed = RootTree(root)
    changed.remove(PATH)
    mode = old.mode if old is not None else 0o644
    changed.add(file(PATH, joined.encode("utf-8", "surrogateescape"), mode=mode, source="livebuilder"))
    off = ", not enabled: this OpenWrt would lay a second overlay" if era.fstab is FstabStyle.BLOCK_OFF else ""
    return changed, (Change(ChangeKind.FSTAB, f"/{PATH} says that /overlay is on label {label}{off}"),)


def find_extroot(text: str) -> str | None:
    """The options of the mount that is meant for extroot, in one line; None without one."""
    for section in _SECTION.split(text)[1:]:
        options = dict(_OPTION.findall(section))
        root_like = options.get("target") in ("/overlay", "/") or options.get("is_rootfs") == "1"
        if section.lstrip("'\"").startswith("mount") and root_like:
            return ", ".join(f"{name} {value}" for name, value in options.items())
    return None


def render_extroot(label: str, *, style: FstabStyle, with_global: bool = True) -> str:
    """The section (and, for `block`, the global one that has it wait and check) as UCI text."""
    if style is FstabStyle.SHELL:
        options = {
            "target": "/overlay", "label": label, "fstype": "ext4", "options": "rw,noatime",
            "enabled": "1", "enabled_fsck": "1", "is_rootfs": "1",
        }  # fmt: skip
        return _section("mount", options)
    enabled = "0" if style is FstabStyle.BLOCK_OFF else "1"
    mount = _section("mount", {"target": "/overlay", "label": label, "enabled": enabled})
    general = _section("global", {"delay_root": str(_DELAY_SECONDS), "check_fs": "1"})
    return f"{general}\n{mount}" if with_global else mount


def _section(kind: str, options: dict[str, str]) -> str:
    lines = "".join(f"\toption {name} '{value}'\n" for name, value in options.items())
    return f"config {kind}\n{lines}"
