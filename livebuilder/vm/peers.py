"""The router's neighbours: a provider behind its WAN card and a client on its LAN, on cables of their own.

Both are made of the disc's own kernel and root with another first program (`initramfs/peer/`): what the router can
do they can do as well, so that nothing else is needed. Each has a shell on its serial line.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from livebuilder import cpio
from livebuilder.assets import asset
from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB
from livebuilder.tree import RootTree, file
from livebuilder.vm.machine import Cable, Card, Guest, KernelBoot, Machine
from livebuilder.vm.session import Session, run_guest, short_folder
from livebuilder.vm.shell import GuestShell, activate_console

NETWORK = "198.18.0"  # for tests of network devices (RFC 2544); nothing that filters private addresses minds it
PROVIDER_NAME = "provider.test"
PROGRAMS = ("dnsmasq", "httpd", "ip", "nc", "nslookup", "sha256sum", "udhcpc", "wget")
_FOLDERS = ("bin", "sbin", "usr/bin", "usr/sbin")
_MEMORY_BYTES = 256 * MIB  # the whole root is in a file system in memory, twice while it is unpacked
_BOOT_SECONDS = 120.0
# cryptomgr.notests: the tests of the kernel's own cryptography take longer than all the rest.
_APPEND = "console=ttyS0,115200n8 quiet cryptomgr.notests"
WAN_MAC, LAN_MAC = "52:54:00:00:01:01", "52:54:00:00:02:01"
_PEER_MACS = {"provider": "52:54:00:00:01:02", "client": "52:54:00:00:02:02"}


@dataclass(frozen=True)
class Peer:
    """A neighbour that runs: its serial line, and the shell there."""

    session: Session
    shell: GuestShell

    def run(self, command: str, *, timeout_seconds: float = 60) -> str:
        """What the line of sh prints; raises `GuestError` when it fails."""
        answer = self.shell.run(command, timeout_seconds=timeout_seconds)
        if answer.status != 0:
            raise self.session.failure(f"{command!r} failed with status {answer.status}: {answer.output.strip()}")
        return answer.output


@dataclass(frozen=True)
class Neighbourhood:
    """Two cables for the router's cards, and who is at their other ends."""

    wan: Card
    lan: Card
    provider: Session
    client: Session

    def provide(self, network: str = NETWORK) -> Peer:
        """The provider, with its services on `network` (an address without its last number)."""
        peer = Peer(self.provider, activate_console(self.provider, timeout_seconds=_BOOT_SECONDS))
        peer.run(f"/peer/provider {network}")
        return peer

    def connect(self) -> Peer:
        """The client, which asks for a lease from now on."""
        peer = Peer(self.client, activate_console(self.client, timeout_seconds=_BOOT_SECONDS))
        peer.run("/peer/client")
        return peer


def verify_peer(root: RootTree) -> None:
    """Raises `LivebuilderError` when a root lacks what its neighbours are made of."""
    lacking = [name for name in PROGRAMS if not any(root.resolve(f"{folder}/{name}") for folder in _FOLDERS)]
    if lacking:
        raise LivebuilderError(
            f"the neighbours are made of the disc's own root, and that has no {', '.join(lacking)}",
            hint="livebuilder build   # the default image has them all",
        )


def write_peer(kernel: bytes, root: RootTree, folder: Path) -> KernelBoot:
    """Kernel and initramfs of a peer, in `folder`; raises as `verify_peer` does."""
    verify_peer(root)
    tree = RootTree(root)
    tree.remove("init")
    for path in sorted(asset("initramfs/peer").iterdir()):
        name = "init" if path.name == "init" else f"peer/{path.name}"
        tree.add(file(name, path.read_bytes(), mode=0o755))
    image, initramfs = folder / "vmlinuz", folder / "initramfs"
    image.write_bytes(kernel)
    with initramfs.open("wb") as stream:
        stream.writelines(cpio.archive(tree))
    return KernelBoot(image, initramfs, _APPEND)


@contextmanager
def neighbourhood(
    kernel: bytes, root: RootTree, *, machine: Machine, logs: Path, accelerator: str
) -> Iterator[Neighbourhood]:
    """Start both neighbours, in PCs like `machine`; they are gone when the block ends."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="livebuilder-lan-", dir=short_folder())))
        boot = write_peer(kernel, root, folder)
        wan, lan = (Cable(folder / name, folder / f"{name}-far") for name in ("wan", "lan"))
        provider, client = (
            stack.enter_context(
                run_guest(
                    Guest(
                        machine=machine, boot=boot, memory_bytes=_MEMORY_BYTES,
                        cards=(Card(machine.network, _PEER_MACS[name], cable.other_end),),
                    ),
                    log=logs / f"{name}.log", accelerator=accelerator,
                )
            )
            for name, cable in (("provider", wan), ("client", lan))
        )  # fmt: skip
        yield Neighbourhood(Card(machine.network, WAN_MAC, wan), Card(machine.network, LAN_MAC, lan), provider, client)
