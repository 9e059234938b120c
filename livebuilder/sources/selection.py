"""What of a package that was asked for is of no use on a machine with a read-only root and no package manager."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from fnmatch import fnmatchcase

# Paths, each with all that lies below it.
LEFT_OUT = (
    "etc/bash_completion.d",
    "etc/cron.d", "etc/cron.daily", "etc/cron.hourly", "etc/cron.monthly", "etc/cron.weekly", "etc/logrotate.d",
    "etc/init.d", "etc/runit", "etc/sv", "lib/systemd", "usr/lib/systemd",  # for an init that is not there
    "etc/apparmor.d", "etc/network", "etc/pam.d", "usr/share/dbus-1",  # nor are AppArmor, ifupdown, PAM and D-Bus
    "usr/include",
    "usr/share/applications", "usr/share/apport", "usr/share/bash-completion", "usr/share/bug", "usr/share/debconf",
    "usr/share/doc", "usr/share/doc-base", "usr/share/fish", "usr/share/gtk-doc", "usr/share/icons", "usr/share/info",
    "usr/share/initramfs-tools", "usr/share/lintian", "usr/share/locale", "usr/share/man", "usr/share/menu",
    "usr/share/metainfo", "usr/share/pixmaps", "usr/share/zsh",
)  # fmt: skip

# The same as globs, in which `*` matches slashes too.
LEFT_OUT_GLOBS = (
    "usr/lib/*.a", "usr/lib/*.la", "usr/lib/*/pkgconfig/*",
    # e2scrub checks file systems on LVM under systemd, with bash
    "sbin/e2scrub*", "usr/sbin/e2scrub*", "usr/lib*/e2fsprogs/e2scrub*", "etc/e2scrub.conf", "*/96-e2scrub.rules",
)  # fmt: skip


def is_left_out(path: str) -> bool:
    """Whether a path of a package is named by the tables above."""
    parts = path.split("/")
    below = any("/".join(parts[:depth]) in _LEFT_OUT for depth in range(1, len(parts) + 1))
    return below or any(fnmatchcase(path, glob) for glob in LEFT_OUT_GLOBS)


_LEFT_OUT = frozenset(LEFT_OUT)


def kept_paths(paths: Iterable[str], *, folders: Iterable[str]) -> frozenset[str]:
    """The files among `paths` to keep, and the folders that hold one of them or that the package ships empty."""
    everything = frozenset(paths)
    files = frozenset(path for path in everything if not is_left_out(path))
    full = {above for path in everything for above in _above(path)}
    needed = {above for path in files for above in _above(path)}
    named = frozenset(folders)
    empty = {path for path in named if not is_left_out(path) and path not in full and not _holds_any(path, named)}
    needed |= {above for path in empty for above in _above(path)} | empty
    return files | (named & needed)


def _holds_any(folder: str, folders: frozenset[str]) -> bool:
    return any(other.startswith(f"{folder}/") for other in folders)


def _above(path: str) -> Iterable[str]:
    while path := posixpath.dirname(path):
        yield path
