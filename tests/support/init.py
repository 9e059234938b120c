"""initramfs/init and its library, run unprivileged in the shells it meets, on a machine made of plain files.

`ROOT` is a folder with a /proc, /sys and /dev of ordinary files. Every command that would change the machine goes
through RUN: a stand-in that writes the words down, fails when it is told to, acts out the few commands whose effect
the script looks at (a mount shows in /proc/mounts, a sleep moves the clock), really runs the harmless ones on the
folder, and knows no others, so that nothing can reach the machine the tests run on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from livebuilder.assets import asset
from livebuilder.process import Completed, run

SHELLS = ("dash", "busybox ash")
LIBRARIES = (
    "log", "console", "text", "parameters", "devices", "modules", "memory", "rootimage", "squashfs", "superblock",
    "search", "stick", "machine", "overlay", "storage", "failsafe", "upgrade", "reset", "record", "notice", "rescue",
    "handover",
)  # fmt: skip

_STAND_IN = r"""#!/bin/sh
[ "$1" != "$ROOT/bin/busybox" ] || shift
[ "$1" != exec ] || shift
[ "$1" != "$ROOT/bin/busybox" ] || shift
printf '%s\n' "$*" >>"$RECORD"
code=0
while IFS='|' read -r status pattern; do
    case $* in
        $pattern) code=$status && break ;;
    esac
done <"$FAILING"
[ ! -e "$HOOKS/$1" ] || . "$HOOKS/$1"
[ "$code" -eq 0 ] || exit "$code"
case $1 in
    mkdir | rm | mv | ln | cp | sed | touch | chmod | fallocate | dd) exec "$@" ;;
    cpio) exec "$@" --quiet --no-preserve-owner ;;
    mke2fs) exec busybox "$@" ;;
    mknod)
        [ "$2" != -m ] || shift 2
        : >"$2"
        ;;
    mount)
        type='' options=rw source='' target=''
        shift
        while [ $# -gt 0 ]; do
            case $1 in
                -t) type=$2 && shift ;;
                -o) options=$2 && shift ;;
                *) if [ -z "$source" ]; then source=$1; else target=$1; fi ;;
            esac
            shift
        done
        if [ "${type%fs}" = overlay ]; then
            lower=${options#*lowerdir=} lower=${lower%%,*}
            cp -a "${lower##*:}/." "$target/" # what shows through an empty upper layer
        fi
        case $options in
            remount* | move | bind) ;;
            *) echo "${source:-none} ${target:-$source} $type $options 0 0" >>"$ROOT/proc/mounts" ;;
        esac
        ;;
    sleep)
        read -r up idle <"$ROOT/proc/uptime"
        echo "$up $2" | awk '{ printf "%.2f 1.00\n", $1 + $2 }' >"$ROOT/proc/uptime"
        [ "$2" != 3600 ] || kill -9 "$PPID" # a rescue that gave up waits for ever
        ;;
    umount | modprobe | losetup | chown | xargs | sync | mdev | setsid | chroot | reboot | switch_root) ;;
    *)
        echo "the stand-in knows no $1" >&2
        exit 127
        ;;
esac
"""

_UNPRIVILEGED = {"dmesg": '#!/bin/sh\ncat "$ROOT/kernel-log" 2>/dev/null\nexit 0\n'}


@dataclass
class InitMachine:
    """A machine for /init: files below `root`, one of the shells, and what is to fail.

    `failing` has patterns of the shell's `case` for whole commands, `@` standing for the root's path, and the exit
    code each gives; `hooks` has shell text that runs within a command, by the command's name.
    """

    root: Path
    shell: str
    failing: dict[str, int] = field(default_factory=dict)
    hooks: dict[str, str] = field(default_factory=dict)

    def write(self, path: str, data: str | bytes) -> Path:
        """Put a file below the root; its folders are made."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data.encode() if isinstance(data, str) else data)
        return file

    def add_disk(self, name: str, image: Path | None, *, parent: str | None = None, read_only: bool = False) -> None:
        """Plug a block device in: its folder in /sys and its node, a link to `image` (None: no medium)."""
        folder = f"sys/class/block/{name}"
        self.write(f"{folder}/dev", "8:1\n")
        self.write(f"{folder}/size", f"{image.stat().st_size // 512 if image else 0}\n")
        self.write(f"{folder}/ro", f"{int(read_only)}\n")
        if parent is not None:
            self.write(f"{folder}/partition", "1\n")
            self.write(f"sys/class/block/{parent}/{name}/partition", "1\n")
        if image is not None:
            (self.root / "dev" / name).symlink_to(image.resolve())

    def remove_disk(self, name: str) -> None:
        """Pull a block device out."""
        shutil.rmtree(self.root / "sys/class/block" / name)
        (self.root / "dev" / name).unlink()

    def call(self, script: str, *arguments: str, env: Mapping[str, str] | None = None) -> Completed:
        """Run shell text that has the whole library; `arguments` are its $1, $2 …"""
        sourced = "".join(f'. "$LIB/{name}.sh"\n' for name in LIBRARIES)
        return self._sh(["-c", f"{sourced}STATE=$ROOT/run\n{script}", "test", *arguments], env=env)

    def boot(self, *, env: Mapping[str, str] | None = None) -> Completed:
        """Run /init as it is."""
        return self._sh([str(asset("initramfs/init"))], env=env)

    def _sh(self, arguments: Sequence[str], *, env: Mapping[str, str] | None) -> Completed:
        home = self.root.parent
        (home / "failing").write_text(
            "".join(f"{code}|{what.replace('@', str(self.root))}\n" for what, code in self.failing.items())
        )
        for name, text in self.hooks.items():
            (home / "hooks" / name).write_text(text)
        settings = {
            "ROOT": str(self.root), "LIB": str(asset("initramfs/lib")), "RUN": str(home / "stand-in"),
            "RECORD": str(home / "record"), "FAILING": str(home / "failing"), "HOOKS": str(home / "hooks"),
            "PATH": f"{home / 'tools'}{os.pathsep}{os.environ['PATH']}{os.pathsep}/usr/sbin:/sbin",
        }  # fmt: skip
        return run([*self.shell.split(), *arguments], env={**settings, **(env or {})}, check=False, timeout_seconds=60)

    @property
    def commands(self) -> list[str]:
        """What went through RUN, the root's own path taken out."""
        record = self.root.parent / "record"
        return record.read_text().replace(f"{self.root}/", "/").splitlines() if record.exists() else []

    @property
    def console(self) -> str:
        """What a person in front of the machine saw."""
        return (self.root / "dev/tty0").read_text()

    @property
    def log(self) -> str:
        """What went into the kernel log."""
        return (self.root / "dev/kmsg").read_text()

    @property
    def record(self) -> dict[str, Any]:
        """The boot record, as JSON's own reader understands it."""
        found: dict[str, Any] = json.loads((self.root / "newroot/etc/livebuilder/boot.json").read_bytes())
        return found


def make_machine(folder: Path, shell: str) -> InitMachine:
    """A machine with 96 MB, two consoles and a kernel that has every driver built in."""
    machine = InitMachine(folder / "root", shell)
    for name in ("tools", "hooks"):
        (folder / name).mkdir()
    tools = {folder / "stand-in": _STAND_IN, **{folder / "tools" / n: text for n, text in _UNPRIVILEGED.items()}}
    for path, text in tools.items():
        path.write_text(text)
        path.chmod(0o755)
    machine.write("proc/uptime", "3.08 1.00\n")
    machine.write("proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz quiet\n")
    machine.write("proc/mounts", "rootfs / rootfs rw 0 0\n")
    machine.write("proc/meminfo", meminfo(total=96000, available=62000, free=60000))
    machine.write("proc/filesystems", "nodev\ttmpfs\nnodev\toverlay\n\text2\n\text4\n\tf2fs\n\tbtrfs\n")
    machine.write("proc/sys/kernel/osrelease", "6.1.0-50-686\n")
    machine.write("proc/sys/vm/dirty_bytes", "0\n")
    machine.write("sys/class/tty/console/active", "tty0 ttyS0\n")
    machine.write("sys/class/block/loop7/dev", "7:7\n")
    for name in ("kmsg", "tty0", "ttyS0"):
        machine.write(f"dev/{name}", "")
    (machine.root / "run").mkdir()
    (machine.root / "newroot").mkdir()
    return machine


def meminfo(*, total: int, available: int | None, free: int, cached: int = 9000, shared: int = 9000) -> str:
    """/proc/meminfo, in KiB, in the kernel's order."""
    rows = {"MemTotal": total, "MemFree": free, "MemAvailable": available, "Buffers": 0, "Cached": cached,
            "SwapCached": 0, "Active": 1000, "Shmem": shared, "Slab": 9000}  # fmt: skip
    return "".join(f"{name + ':':<16}{value:>8} kB\n" for name, value in rows.items() if value is not None)
