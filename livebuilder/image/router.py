"""The default root, in OpenWrt's shape: the layer of files that makes Debian's programs a small router.

The files lie in `initramfs/router/`. What cannot travel in a Python package is made here: symbolic links, empty
folders, permissions, the links that enable a service, and the few lines that depend on the profile, which have
placeholders like @HOSTNAME@.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from livebuilder.assets import asset
from livebuilder.errors import LivebuilderError
from livebuilder.image.settings import RouterSettings
from livebuilder.sizes import MIB
from livebuilder.tree import Entry, Kind, RootTree, device, directory, file, symlink

_SOURCE = "the default router root"

# What the scripts of the root run besides busybox; all but the first two may be left out, and are asked for before.
ROUTER_PACKAGES = (
    "dropbear-bin", "e2fsprogs", "dnsmasq-base", "nftables", "openntpd", "ppp", "wide-dhcpv6-client",
)  # fmt: skip

# The memory the router takes beside its root: drivers, rules, connections, and the processes with all links up.
ROUTER_BYTES = 8 * MIB

# A file that is run starts with "#!" and gets 0755, all others get 0644; the exceptions:
_MODES = {"etc/shadow": 0o600, "etc/dropbear/authorized_keys": 0o600}

_FOLDERS = {
    "dev": 0o755, "proc": 0o555, "sys": 0o555, "tmp": 0o1777, "root": 0o700,
    "mnt": 0o755, "overlay": 0o755, "rom": 0o755, "etc/dropbear": 0o700, "root/.ssh": 0o700,
}  # fmt: skip

# What changes at run time lives in memory, as in OpenWrt: /var is /tmp.
_LINKS = {
    "var": "/tmp",
    "run": "/tmp/run",
    "etc/mtab": "/proc/mounts",
    "etc/resolv.conf": "/tmp/resolv.conf",
    "root/.ssh/authorized_keys": "/etc/dropbear/authorized_keys",  # where OpenWrt has it, among the settings
    "etc/TZ": "/tmp/TZ",
}
# Where packages' own /var waits for the boot that copies it into memory.
VAR_TEMPLATE = "usr/lib/livebuilder/var"
_VAR_LINKS = (f"{VAR_TEMPLATE}/run", f"{VAR_TEMPLATE}/lock")  # to /run in Debian; folders here

# Where others than a shell look for an applet: the kernel (modprobe, init), init, scripts. All others go to /bin.
_APPLET_FOLDERS = {
    "sbin": ("init", "modprobe", "insmod", "rmmod", "poweroff", "reboot", "halt", "ifconfig", "route", "ip"),
    "usr/bin": ("env", "awk"),
}
_PROGRAM_FOLDERS = ("bin", "sbin", "usr/bin", "usr/sbin")

_PLACEHOLDER = re.compile(rb"@([A-Z_]+)@")
_PLACE = re.compile(rb"^(START|STOP)=(\d\d)\s*$", re.MULTILINE)


def chosen_packages(words: Iterable[str]) -> tuple[str, ...]:
    """The Debian packages of the default root: its own, and what `words` add, or as `-NAME` take out."""
    words = set(words)
    return tuple(sorted(name for name in words | {*ROUTER_PACKAGES} if name[0] != "-" and f"-{name}" not in words))


def set_aside_var(packages: RootTree) -> RootTree:
    """The packages with what they have in /var and /run, which are in memory, put where the boot copies it from."""
    tree = RootTree()
    for entry in packages:
        path = _set_aside(entry.path)
        if path in _LINKS or (path in _VAR_LINKS and entry.kind is Kind.SYMLINK):
            continue
        target = _set_aside(entry.target) if entry.kind is Kind.HARDLINK else entry.target
        tree.add(replace(entry, path=path, target=target))
    return tree


def _set_aside(path: str) -> str:
    top, slash, rest = path.partition("/")
    if not slash or top not in ("var", "run"):
        return path
    return f"{VAR_TEMPLATE}/{rest if top == 'var' else path}"


def router_tree(settings: RouterSettings, *, epoch: int, consoles: Sequence[str] = ()) -> RootTree:
    """The files of the default root, without Debian's programs.

    `epoch` (seconds since 1970) dates every file, and the clock of a PC with an empty battery starts there.
    `consoles` are those of the kernel, as in `ttyS1,9600n8`: a serial one besides ttyS0 gets a login too.
    """
    tree = RootTree()
    home = asset("initramfs/router")
    for path in sorted(home.rglob("*")):
        if path.is_file():
            relative = path.relative_to(home).as_posix()
            data = _filled(relative, path.read_bytes(), settings, consoles)
            mode = _MODES.get(relative, 0o755 if data.startswith(b"#!") else 0o644)
            tree.add(file(relative, data, mode=mode, source=_SOURCE))
    tree.add(file("etc/livebuilder/epoch", f"{epoch}\n", source=_SOURCE))
    keys = "".join(f"{key}\n" for key in settings.ssh_keys)
    tree.add(file("etc/dropbear/authorized_keys", keys, mode=0o600, source=_SOURCE))
    for path_, mode in _FOLDERS.items():
        tree.add(directory(path_, mode=mode, source=_SOURCE))
    for path_, target in _LINKS.items():
        tree.add(symlink(path_, target, source=_SOURCE))
    # Before devtmpfs is mounted, a kernel that starts this root as its initramfs has nothing else to talk through.
    tree.add(device("dev/console", char=(5, 1), mode=0o600, source=_SOURCE))
    tree.add(device("dev/null", char=(1, 3), mode=0o666, source=_SOURCE))
    tree.overlay(RootTree(service_links(tree)))
    return RootTree(replace(entry, mtime=epoch) for entry in tree)


def service_links(tree: RootTree) -> Iterator[Entry]:
    """The links in /etc/rc.d that enable every service of `tree`, as a build of OpenWrt enables them.

    A service is a file of /etc/init.d that runs under /etc/rc.common and says START= or STOP=.
    Raises `LivebuilderError` for one that says neither.
    """
    for entry in tree:
        if entry.parent != "etc/init.d" or entry.kind is not Kind.FILE:
            continue
        script = entry.content.read()
        if not script.startswith(b"#!/bin/sh /etc/rc.common"):
            continue
        places = {word.decode(): place.decode() for word, place in _PLACE.findall(script)}
        if not places:
            raise LivebuilderError(
                f"the service /{entry.path} of {entry.source} does not say when to run",
                hint="put a line like START=50 into it",
            )
        for word, place in sorted(places.items()):
            letter = {"START": "S", "STOP": "K"}[word]
            yield symlink(f"etc/rc.d/{letter}{place}{entry.name}", f"../init.d/{entry.name}", source=_SOURCE)


def applet_links(applets: Iterable[str], *, present: Collection[str] | RootTree, epoch: int = 0) -> Iterator[Entry]:
    """A link to /bin/busybox for every applet that no program of the root (`present`, paths) provides itself."""
    for applet in sorted(set(applets) - {"busybox"}):
        if any(f"{folder}/{applet}" in present for folder in _PROGRAM_FOLDERS):
            continue
        folder = next((folder for folder, names in _APPLET_FOLDERS.items() if applet in names), "bin")
        yield replace(symlink(f"{folder}/{applet}", "/bin/busybox", source="busybox"), mtime=epoch)


def _filled(path: str, data: bytes, settings: RouterSettings, consoles: Sequence[str]) -> bytes:
    if path.startswith("etc/config/"):
        return _PLACEHOLDER.sub(lambda match: _values(settings)[match[1].decode()].encode(), data)
    if path == "etc/shadow" and settings.root_password_hash:
        return data.replace(b"root:*:", f"root:{settings.root_password_hash}:".encode())
    if path == "etc/inittab":
        ttys = [console.split(",")[0] for console in consoles]
        more = [tty for tty in dict.fromkeys(ttys) if not re.fullmatch(r"tty\d*|ttyS0", tty)]
        return data + "".join(f"{tty}::askfirst:/lib/router/login\n" for tty in more).encode()
    return data


def _values(settings: RouterSettings) -> dict[str, str]:
    """What stands for each placeholder."""
    return {
        "HOSTNAME": settings.hostname,
        "TIMEZONE": settings.timezone,
        "LAN_ADDRESS": str(settings.lan.ip),
        "LAN_NETMASK": str(settings.lan.netmask),
        "WAN": settings.wan,
        "WAN_DNS": "".join(f"\n\tlist dns '{server}'" for server in settings.dns),
        "DHCP_START": str(settings.dhcp_range.start),
        "DHCP_LIMIT": str(settings.dhcp_range.limit),
    }
