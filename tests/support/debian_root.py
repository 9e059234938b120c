"""A Debian of sysvinit's as its packages make it: whole packages laid over one another, and what their scripts write.

That is what debootstrap does before it runs the programs of the new root; running those takes it a minute.
"""

from __future__ import annotations

from livebuilder.cache import Cache, cache_root
from livebuilder.sources.deb import find_unpacked
from livebuilder.sources.debian import DebianArchive
from livebuilder.tree import Kind, RootTree, directory, file, symlink

_PACKAGES = ("base-files", "base-passwd", "coreutils", "dash", "grep", "hostname", "initscripts", "mawk", "mount",
             "procps", "sed", "sysv-rc", "sysvinit-core", "sysvinit-utils", "util-linux")  # fmt: skip
_NOT_TAKEN = ("usr/share/doc/", "usr/share/man/", "usr/share/locale/", "usr/share/bash-completion/", "usr/share/info/",
              "usr/lib/i386-linux-gnu/gconv/")  # fmt: skip
# As insserv puts them.
_SERVICES = {
    "rcS.d": ("mountkernfs.sh", "mountdevsubfs.sh", "hostname.sh", "checkroot.sh", "mountall.sh", "bootmisc.sh"),
    "rc0.d": ("sendsigs", "umountfs", "umountroot", "halt"),
}
# What a person adds who wants a shell on the serial line and no password.
CONSOLE = "T0:23:respawn:/sbin/getty -n -l /bin/sh -L 115200 ttyS0 vt100\n"


def debian_root() -> RootTree:
    """A Debian for i386 that starts `/sbin/init`, has no preinit, and knows nothing of overlays."""
    cache = Cache(cache_root())
    tree = RootTree(symlink(name, f"usr/{name}") for name in ("bin", "sbin", "lib"))  # as it is since Debian 12
    tree.overlay(RootTree(directory(f"usr/{name}") for name in ("bin", "sbin", "lib")))
    for package in DebianArchive(cache=cache).root(_PACKAGES).packages:
        unpacked = find_unpacked(package.sha256, cache=cache, source=str(package))
        assert unpacked
        taken = RootTree(entry for entry in unpacked.entries() if not entry.path.startswith(_NOT_TAKEN))
        tree.overlay(taken.placed_in(tree))
    tree.add(symlink("usr/bin/sh", "dash"))
    tree.add(symlink("usr/bin/awk", "mawk"))
    for path, template in (
        ("etc/inittab", "usr/share/sysvinit/inittab"),
        ("etc/passwd", "usr/share/base-passwd/passwd.master"),
        ("etc/group", "usr/share/base-passwd/group.master"),
    ):
        tree.add(file(path, tree[template].content.read()))
    for folder, names in _SERVICES.items():
        for number, name in enumerate(names, start=1):
            assert tree[f"etc/init.d/{name}"].kind is Kind.FILE
            tree.add(symlink(f"etc/{folder}/{'K' if folder == 'rc0.d' else 'S'}{number:02}{name}", f"../init.d/{name}"))
    return tree
