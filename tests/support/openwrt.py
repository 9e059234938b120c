"""Roots in OpenWrt's shape, made by code of our own on Debian's busybox: what a boot on them shows holds for real ones.

Two kinds, after what OpenWrt does: `procd` (14.07 and later: a program is PID 1, puts fresh file systems on /dev and
/tmp, makes the nodes itself, loads flat modules, runs preinit with a PATH of its own, then mounts the root) and
`shell` (10.03, 12.09: /etc/preinit is PID 1 and a list of hooks does all of it).
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Literal

from livebuilder.cache import Cache, cache_root
from livebuilder.image.busybox import applets_of
from livebuilder.image.router import applet_links
from livebuilder.sources.debian import DebianArchive
from livebuilder.tree import Entry, Kind, RootTree, device, directory, file, hardlink, symlink

Style = Literal["procd", "shell"]
EPOCH = 1_700_000_000

_COMMON = {
    "etc/banner": " OpenWrt stand-in\n -----------------\n",
    "etc/profile": "#!/bin/sh\n[ -f /etc/banner ] && cat /etc/banner\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin\n"
    "export PS1='\\u@\\h:\\w\\$ '\n",
    "etc/passwd": "root:x:0:0:root:/root:/bin/ash\n",
    "etc/group": "root:x:0:\n",
    "etc/shadow": "root:::0:99999:7:::\n",
    "etc/inittab": "::sysinit:/etc/init.d/rcS S boot\n::shutdown:/etc/init.d/rcS K shutdown\n"
    "tty1::askfirst:/bin/ash --login\nttyS0::askfirst:/bin/ash --login\n",
    "etc/config/system": "config system\n\toption hostname 'OpenWrt'\n",
    "etc/modules.d/20-tun": "tun\n",
    "lib/firmware/e100/d101m_ucode.bin": "firmware",
    "lib/modules/4.14.63/old.ko": "another kernel's",
}
_COMMON_PROGRAMS = {
    "etc/board.d/99-default_network": "#!/bin/sh\necho lan=eth0 >>/tmp/board\n",
    # Sources, as board_detect does, only what is executable; the hostname stands for all that uci keeps.
    "etc/init.d/rcS": r"""#!/bin/sh
if [ "$1" = K ]; then
    sync
    umount -a -r 2>/dev/null
    exit 0
fi
[ ! -x /sbin/kmodloader ] || /sbin/kmodloader /etc/modules.d/
for board in /etc/board.d/*; do
    [ ! -x "$board" ] || . "$board"
done
name=$(sed -n "s/.*option hostname '\(.*\)'/\1/p" /etc/config/system)
hostname "$name"
""",
    "lib/functions.sh": """#!/bin/sh
boot_hook_add() { eval "hooks_$1=\\"\\$hooks_$1 $2\\""; }
boot_run_hook() {
    for _hook in $(eval "echo \\$hooks_$1"); do
        $_hook
    done
}
""",
}

_PROCD = {
    # Every line of the list, in order, and nothing it needs besides: stricter than the real one, which reads modinfo.
    "sbin/kmodloader": """#!/bin/sh
folder=/lib/modules/$(uname -r)
[ -d "$folder" ] || exit 255
for list in "${1:-/etc/modules.d/}"*; do
    [ -f "$list" ] || continue
    while read -r name options; do
        module=$(echo "$name" | tr - _)
        grep -q "^$module " /proc/modules && continue
        path=$folder/$name.ko
        [ -f "$path" ] || path=$folder/$(echo "$name" | tr _ -).ko
        [ -f "$path" ] || { echo "kmodloader: no $name" >>/tmp/kmodloader; continue; }
        insmod "$path" $options 2>>/tmp/kmodloader || echo "kmodloader: $name failed" >>/tmp/kmodloader
    done <"$list"
done
""",
    "sbin/init": """#!/bin/sh
mount -t proc -o noatime proc /proc
mount -t sysfs -o noatime sysfs /sys
mount -t tmpfs -o mode=0755,size=512k tmpfs /dev
for kind in block char; do
    ls -l /sys/dev/$kind | awk -v kind=$kind '$10 == "->" {
        n = split($11, path, "/"); split($9, number, ":")
        print "mknod -m 600 /dev/" path[n], substr(kind, 1, 1), number[1], number[2]
    }' | sh 2>/dev/null
done
mkdir /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 tmpfs /tmp
mkdir -p /tmp/run /tmp/lib /tmp/log
export PATH=/usr/sbin:/sbin:/usr/bin:/bin
/sbin/kmodloader /etc/modules-boot.d/
touch /tmp/.preinit
PREINIT=1 /bin/sh /etc/preinit
rm -f /tmp/.preinit
unset INITRAMFS
exec /bin/busybox init
""",
    "etc/preinit": """#!/bin/sh
[ -z "$PREINIT" ] && exec /sbin/init
env >/tmp/preinit.env
. /lib/functions.sh
for file in /lib/preinit/*; do
    . "$file"
done
boot_run_hook preinit_main
""",
    "lib/preinit/80_mount_root": """# Left alone when the root is nothing but memory.
do_mount_root() { mount_root 2>/tmp/mount_root.log; }
[ "$INITRAMFS" = 1 ] || boot_hook_add preinit_main do_mount_root
""",
    # 22.03: a GPT partition of this name is taken (and emptied) unless that is switched off or it is mounted already.
    "sbin/mount_root": """#!/bin/sh
exec >/tmp/mount_root
if ! grep -q fstools_ignore_partname=1 /proc/cmdline; then
    for uevent in /sys/class/block/*/uevent; do
        grep -q '^PARTNAME=rootfs_data$' "$uevent" && echo "partition $uevent is mine" >>/tmp/mount_root
    done
fi
echo "mount_root: mounting /dev/root"
mount -o remount,rw,noatime /dev/root /
[ ! -x /sbin/block ] || /sbin/block extroot
""",
    # Which device is the root's: the newest node of its number, whatever kind it is (fstools, find_root_dev).
    "sbin/block": """#!/bin/sh
number=$(stat -c %d / | awk '{ printf "%x:%x", int($1 / 256), $1 % 256 }')
root=$(ls -t /dev | while read -r name; do
    [ "$(stat -c %t:%T "/dev/$name")" = "$number" ] && echo "/dev/$name" && break
done)
echo "block: extroot: root device $root"
grep -q "option enabled '1'" /etc/config/fstab && echo "block: extroot: enabled"
[ -b "$root" ] || { echo "block: extroot: unable to determine root device"; exit 1; }
echo "block: extroot: root UUID $(dd if="$root" bs=8 skip=141 count=2 2>/dev/null | hexdump -e '16/1 "%02x"')"
exit 1
""",
}

_SHELL = {
    "etc/preinit": """#!/bin/sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
. /lib/functions.sh
for file in /lib/preinit/*; do
    . "$file"
done
boot_run_hook preinit_essential
env >/tmp/preinit.env
boot_run_hook preinit_main
""",
    "lib/preinit/10_essential_fs": """
do_mount_procfs() { mount -o noatime -t proc proc /proc; }
do_mount_sysfs() { mount -o noatime -t sysfs sysfs /sys; }
do_mount_tmpfs() { mount -o noatime -t tmpfs tmpfs /tmp && mkdir -p /tmp/run /tmp/log; }
do_mount_dev() { mount -o mode=0755,size=512k -t tmpfs tmpfs /dev && mdev -s && mkdir -p /dev/pts; }
boot_hook_add preinit_essential do_mount_procfs
boot_hook_add preinit_essential do_mount_sysfs
boot_hook_add preinit_essential do_mount_tmpfs
boot_hook_add preinit_essential do_mount_dev
""",
    # Extroot only on a root that is called /dev/root, and only with the same sum on the stick.
    "lib/preinit/80_mount_root": """
do_mount_root() {
    root=$(mount | grep ' on / ' | grep -v rootfs | sed 's/ .*//')
    echo "root device $root" >/tmp/mount_root
    [ "$root" = /dev/root ] && echo "extroot would be tried: $(cat /.extroot.md5sum)" >>/tmp/mount_root
    mount -o remount,rw /dev/root /
}
boot_hook_add preinit_main do_mount_root
""",
    "lib/preinit/99_10_run_init": """
run_init() { exec env - PATH="$PATH" /bin/busybox init; }
boot_hook_add preinit_main run_init
""",
    "lib/functions/block.sh": "#!/bin/sh\n# package block-mount\n",
}
_RELEASES = {
    "procd": ("23.05.5", "r24106-10cc5fcd00", ""),
    "shell": ("12.09", "r36088", "attitude_adjustment"),
}


def openwrt_root(style: Style, *, version: str | None = None) -> RootTree:
    """A root of that kind; `version` when it is to call itself another release."""
    number, revision, codename = _RELEASES[style]
    tree = busybox_root()
    release = {
        "DISTRIB_ID": "OpenWrt", "DISTRIB_RELEASE": version or number, "DISTRIB_REVISION": revision,
        "DISTRIB_CODENAME": codename, "DISTRIB_TARGET": "x86/generic",
    }  # fmt: skip
    files = {**_COMMON, "etc/openwrt_release": "".join(f"{name}='{value}'\n" for name, value in release.items())}
    programs = {**_COMMON_PROGRAMS, **(_PROCD if style == "procd" else _SHELL)}
    for path in (*files, *programs):
        tree.remove(path)
        text = files[path] if path in files else programs[path]
        tree.add(file(path, text, mode=0o755 if path in programs else 0o644))
    for entry in (directory("tmp", mode=0o1777), directory("root", mode=0o700), *_awkward()):
        tree.add(entry)
    tree.overlay(RootTree([replace(tree["etc/shadow"], mode=0o600)]))
    for path in ("dev", "proc", "sys", "mnt"):
        tree.add(directory(path))
    return _dated(tree)


def _awkward() -> list[Entry]:
    """What gets lost on the way when somebody is careless."""
    return [
        replace(directory("etc/my dir", mode=0o750), gid=100),
        replace(file("etc/my dir/a file", "with spaces\n", mode=0o640), uid=1000, gid=100),
        file("root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n", mode=0o600),
        replace(file("usr/bin/special", "#!/bin/sh\n", mode=0o6755), gid=65534),
        hardlink("usr/bin/special too", "usr/bin/special"),
        symlink("etc/a link", "my dir/a file"),
        replace(symlink("etc/their link", "nowhere"), uid=1000, gid=100),
        device("lib/nodes/zero", char=(1, 5), mode=0o640),
        device("lib/nodes/disk", block=(8, 0)),
        Entry("lib/nodes/fifo", Kind.FIFO, 0o600),
        file("etc/empty", ""),
        directory("srv/empty", mode=0o711),
    ]


def busybox_root(architecture: str = "i386") -> RootTree:
    """A root that is nothing but Debian's busybox and links to it, with busybox' own init."""
    content = DebianArchive(cache=Cache(cache_root()), architecture=architecture).busybox().content
    tree = RootTree([file("bin/busybox", content, mode=0o755)])
    for link in applet_links(applets_of(content.read()), present=tree, epoch=EPOCH):
        tree.add(link)
    return _dated(tree)


def _dated(tree: RootTree) -> RootTree:
    return RootTree(replace(entry, mtime=EPOCH) for entry in tree)


def write_archive(tree: RootTree, path: Path, *, owner: int | None = None) -> Path:
    """The tree as a tar.gz, made as OpenWrt's build makes its rootfs; `owner`: everything belongs to that user."""
    kinds = {
        Kind.DIRECTORY: tarfile.DIRTYPE, Kind.FILE: tarfile.REGTYPE, Kind.SYMLINK: tarfile.SYMTYPE,
        Kind.HARDLINK: tarfile.LNKTYPE, Kind.CHAR: tarfile.CHRTYPE, Kind.BLOCK: tarfile.BLKTYPE,
        Kind.FIFO: tarfile.FIFOTYPE,
    }  # fmt: skip
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for entry in sorted(tree, key=lambda entry: entry.kind is Kind.HARDLINK):
            if owner is not None and entry.kind in (Kind.CHAR, Kind.BLOCK):
                continue  # one user who is not root makes none
            member = tarfile.TarInfo(f"./{entry.path}")
            member.type, member.mode, member.mtime = kinds[entry.kind], entry.mode, entry.mtime
            member.uid, member.gid = (entry.uid, entry.gid) if owner is None else (owner, owner)
            member.linkname = f"./{entry.target}" if entry.kind is Kind.HARDLINK else entry.target
            member.devmajor, member.devminor = entry.device
            data = entry.content.read()
            member.size = len(data) if entry.kind is Kind.FILE else 0
            archive.addfile(member, io.BytesIO(data))
    return path


# Run in the guest: a line for every path below the folder it is in, sorted; `facts_of` gives the same of a tree.
LIST_FACTS = (
    "find . -xdev ! -path . | LC_ALL=C sort | while read -r p; do"
    " if [ -L \"$p\" ]; then s=$(readlink \"$p\");"
    " elif [ -f \"$p\" ]; then s=$(md5sum <\"$p\"); s=${s%% *}; else s=-; fi;"
    " echo \"$(stat -c '%f %u:%g %t:%T' \"$p\") $s $p\"; done"
)  # fmt: skip
_TYPE_BITS = {
    Kind.DIRECTORY: 0o040000, Kind.FILE: 0o100000, Kind.SYMLINK: 0o120000, Kind.CHAR: 0o020000, Kind.BLOCK: 0o060000,
    Kind.FIFO: 0o010000,
}  # fmt: skip


def facts_of(tree: RootTree) -> dict[str, str]:
    """What `LIST_FACTS` says of every path of the tree."""
    found = {}
    for entry in tree:
        it = tree[entry.target] if entry.kind is Kind.HARDLINK else entry
        if it.kind is Kind.SYMLINK:
            said = it.target
        else:
            said = hashlib.md5(it.content.read()).hexdigest() if it.kind is Kind.FILE else "-"
        mode = _TYPE_BITS[it.kind] | it.mode
        numbers = f"{it.device[0]:x}:{it.device[1]:x}"
        found[entry.path] = f"{mode:x} {it.uid}:{it.gid} {numbers} {said}"
    return found


def parse_facts(text: str) -> dict[str, str]:
    """The output of `LIST_FACTS` by path."""
    lines = (line.split(" ./", 1) for line in text.splitlines())
    return {path: said for said, path in lines}
