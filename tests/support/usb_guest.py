"""A guest with a real USB stack in which this very machine's `livebuilder usb …` runs.

Debian's amd64 kernel boots with the host's own root read-only over 9p and memory laid over it, starts udevd, and gives
a shell on the serial line. The sticks are `usb-storage` devices of QEMU, plugged and unplugged as people do it. What a
test puts into the folder `share` is at /mnt in the guest, and the other way round; /tmp and /run are the guest's own,
but for the checkout, should it be there. Typed at that shell, `livebuilder` is the very command but for its imports,
which take seconds there (`zygote`).
"""

from __future__ import annotations

import shlex
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import livebuilder
from livebuilder.cache import Cache, cache_root
from livebuilder.cpio import archive
from livebuilder.kernel.modules import ModuleIndex
from livebuilder.sizes import MIB
from livebuilder.sources.debian import DebianArchive
from livebuilder.tree import RootTree, directory, file, symlink
from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import Guest, KernelBoot, Stick, machine_named
from livebuilder.vm.session import Session, run_guest
from livebuilder.vm.shell import Answer, GuestShell
from tests.support import zygote

SECONDS = 240
_PYTHON = shlex.quote(sys.executable)
_ZYGOTE = shlex.quote(str(Path(zygote.__file__).resolve()))
_MODULES = (
    "virtio_pci", "9pnet_virtio", "9p", "overlay", "xhci_pci", "usb-storage", "sd_mod", "ext4", "f2fs", "btrfs", "vfat",
    "nls_cp437", "nls_ascii", "loop",
)  # fmt: skip
_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc && mount -t sysfs sysfs /sys && mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module" || echo "insmod $module: $?"; done
mkdir -p /lower /memory /newroot
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=262144,cache=loose host /lower
mount -t tmpfs -o size=80% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/lower,upperdir=/memory/upper,workdir=/memory/work overlay /newroot
cd /newroot
for folder in dev proc sys; do mount -o move /$folder $folder; done
for kept in @KEPT@; do mkdir -p "/kept$kept" && mount -o bind ".$kept" "/kept$kept"; done
for folder in tmp run; do mount -t tmpfs -o mode=1777 $folder $folder; done
for kept in @KEPT@; do mkdir -p ".$kept" && mount -o move "/kept$kept" ".$kept"; done
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share mnt
exec switch_root /newroot /bin/sh /mnt/.start
"""
_START = """\
export PATH=@PATH@:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LC_ALL=C.UTF-8
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add && udevadm settle
@PYTHON@ @ZYGOTE@ serve /run/zygote &
until [ -S /run/zygote ]; do sleep 0.2; done
cd /root
while :; do PS1='# ' setsid --ctty sh -i </dev/ttyS0 >/dev/ttyS0 2>&1; done
"""


@dataclass(frozen=True)
class UsbGuest:
    """A running guest: `run` types a line there, `session` plugs and unplugs, `share` is its /mnt."""

    session: Session
    share: Path
    shell: GuestShell

    def run(self, command: str, *, timeout_seconds: float = SECONDS) -> Answer:
        """Run a line of sh in the guest; what it prints goes by way of a file, untouched by the terminal."""
        done = self.shell.run(f"( {command} ) >/mnt/.out 2>&1", timeout_seconds=timeout_seconds, attempts=1)
        return Answer(done.status, (self.share / ".out").read_text())

    def start(self, command: str, log: str) -> None:
        """Begin a line of sh in the guest and let it run; its output and, last, its status go into `share`/`log`."""
        (self.share / log).touch()
        line = f'{{ ( ( {command} ) >/mnt/{log} 2>&1 </dev/null; echo "status $?" >>/mnt/{log} ) & }}'
        self.shell.run(line, attempts=1)


def make_initramfs(folder: Path) -> tuple[Path, Path]:
    """Kernel and initramfs of the guest, in `folder`; Debian's packages come from the cache when they are there."""
    debian = DebianArchive(cache=Cache(cache_root()), architecture="amd64")
    kernel = debian.kernel("amd64").kernel
    index = ModuleIndex.from_kernel(kernel)
    tree = RootTree([directory(name) for name in ("bin", "dev", "modules", "proc", "sys")])
    tree.add(file("bin/busybox", debian.busybox().content, mode=0o755))
    tree.add(symlink("bin/sh", "busybox"))
    tree.add(file("init", _INIT.replace("@KEPT@", shlex.join(kept_folders())), mode=0o755))
    for number, path in enumerate(index.closure(_MODULES)):
        tree.add(file(f"modules/{number:03d}-{Path(path).name}", kernel.modules.content_of(kernel.modules[path])))
    image, initramfs = folder / "vmlinuz", folder / "initramfs"
    image.write_bytes(kernel.image.read())
    with initramfs.open("wb") as stream:
        stream.writelines(archive(tree))
    return image, initramfs


def kept_folders() -> list[str]:
    """Where this program lies, if that is below a folder that the guest has its own of."""
    homes = {Path(sys.prefix), Path(livebuilder.__file__).resolve().parents[1]}
    return sorted(str(home) for home in homes if home.parts[1] in ("tmp", "run"))


@contextmanager
def usb_guest(
    boot: tuple[Path, Path], share: Path, *, log: Path, sticks: Sequence[Stick] = (), extra: Sequence[str] = ()
) -> Iterator[UsbGuest]:
    """Boot it; `boot` is what `make_initramfs` made. The power is cut where the block ends."""
    share.mkdir(exist_ok=True)
    (share / ".start").write_text(
        _START.replace("@PATH@", sysconfig.get_path("scripts"))
        .replace("@PYTHON@", _PYTHON)
        .replace("@ZYGOTE@", _ZYGOTE)
    )
    folders = (("host", Path("/"), ",readonly=on"), ("share", share, ""))
    virtfs = [
        word
        for tag, path, options in folders
        for word in (
            "-virtfs",
            f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap{options}",
        )
    ]
    words = "console=ttyS0,115200n8 quiet panic=-1 cryptomgr.notests"
    guest = Guest(
        machine=machine_named("pc-modern"), boot=KernelBoot(*boot, append=words),
        sticks=tuple(sticks), memory_bytes=1024 * MIB, extra=("-global", "qemu-xhci.p3=15", *virtfs, *extra),
    )  # fmt: skip
    with run_guest(guest, log=log, accelerator=TCG) as session:
        session.wait_for("# ", timeout_seconds=SECONDS)
        shell = GuestShell(session)
        shell.run("stty -echo columns 500; dmesg -n 1", timeout_seconds=60)
        shell.run(f'livebuilder() {{ {_PYTHON} -I -S {_ZYGOTE} /run/zygote "$@"; }}', timeout_seconds=60)
        yield UsbGuest(session, share, shell)
