"""The default router at work without a VM: its scripts in a network of the host's kernel that nobody else sees.

Cards are ends of virtual cables. A card is hardware only by what /sys says, so the router's /sys/class/net is made of
links into the real one and is brought up to date after each command that could have changed it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from livebuilder.process import Completed, run
from tests.support.router import Router, make_router

Seen = TypeVar("Seen")

_DOER = """#!/bin/sh
printf '%s\\n' "$*" >>"$RECORD"
case $1 in
logger | sysctl | modprobe) exit 0 ;;
sleep) exec sleep 0.5 ;;
ip)
    "$@"
    status=$?
    "$LAB/mirror"
    exit $status
    ;;
esac
exec "$@"
"""

# A folder of links to what the kernel says of each network device.
_MIRROR = """#!/bin/sh
net=$ROOT/sys/class/net
for old in "$net"/*; do
    [ -e "$LAB/sys/class/net/${old##*/}" ] || rm -rf "$old"
done
for new in "$LAB"/sys/class/net/*; do
    name=${new##*/}
    [ ! -e "$net/$name" ] || continue
    mkdir -p "$net/$name"
    for file in address carrier ifindex; do
        ln -s "$new/$file" "$net/$name/$file"
    done
    case $name in
    lo | br-lan) ;;
    *) ln -s "$new" "$net/$name/device" ;;
    esac
done
"""


@dataclass
class Namespace:
    """A network of its own, held by a process that sleeps."""

    process: subprocess.Popen[bytes]

    def run(self, *words: str | Path, check: bool = True) -> Completed:
        return run([*self.words, *map(str, words)], check=check, timeout_seconds=60)

    @contextmanager
    def running(self, *words: str | Path, log: Path) -> Iterator[None]:
        """A program that goes on there while the block does."""
        with log.open("wb") as output:
            command = [*self.words, *map(str, words)]
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process:
                try:
                    yield
                finally:
                    process.kill()

    def keep(self, name: str, folder: Path) -> None:
        """What programs there write to /var/lib/NAME goes into `folder`, and they see nothing else of /var/lib."""
        self.run("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
        self.run("mkdir", f"/var/lib/{name}")
        self.run("mount", "--bind", folder, f"/var/lib/{name}")

    @property
    def words(self) -> list[str]:
        return ["nsenter", f"--target={self.process.pid}", "--net", "--mount"]


@dataclass
class Lab:
    """The router, in its network."""

    folder: Path
    router: Router
    inside: Namespace
    environment: dict[str, str]

    def plug(self, card: str, mac: str, into: Namespace, name: str = "port") -> None:
        """A card in the router, with a cable to `into`."""
        self.inside.run("ip", "link", "add", card, "address", mac, "type", "veth", "peer", "name", name,
                        "netns", str(into.process.pid))  # fmt: skip
        into.run("ip", "link", "set", name, "up")
        self.inside.run("env", *self._settings, self.folder / "mirror")

    def service(self, name: str, *words: str) -> Completed:
        root = self.router.root
        script = (*self.router.shell.split(), str(root / "etc/rc.common"), str(root / "etc/init.d" / name), *words)
        return self.inside.run("env", *self._settings, *script, check=False)

    def script(self, path: str, *words: str) -> Completed:
        return self.inside.run("env", *self._settings, *self.router.shell.split(), self.router.root / path, *words)

    def configure(self, *options: str) -> None:
        """The WAN's options; the LAN has what it has without any."""
        lines = "".join(f"\toption {option}\n" for option in options)
        self.router.write("etc/config/network", f"config interface lan\n\nconfig interface wan\n{lines}")

    def facts(self, name: str) -> dict[str, str]:
        path = self.router.root / "tmp/run/router" / name
        if not path.exists():
            return {}
        return dict(line.split("=", 1) for line in path.read_text().splitlines())

    def wait_for(self, name: str, seconds: float = 60, **facts: str) -> dict[str, str]:
        """Wait until these are among the facts, and return them all."""
        return wait_until(
            lambda: self.facts(name), lambda known: facts.items() <= known.items(), seconds, f"{name}: {facts}"
        )

    def address(self, device: str, family: str = "-4") -> list[str]:
        output = self.inside.run("ip", family, "-o", "addr", "show", "dev", device, check=False).stdout
        return [line.split()[3] for line in output.splitlines()]

    @property
    def _settings(self) -> list[str]:
        return [f"{name}={value}" for name, value in self.environment.items()]


def wait_until(look: Callable[[], Seen], holds: Callable[[Seen], bool], seconds: float, what: str) -> Seen:
    deadline = time.monotonic() + seconds
    while not holds(seen := look()):
        assert time.monotonic() < deadline, f"not within {seconds} seconds: {what}; last seen: {seen}"
        time.sleep(0.1)
    return seen


@contextmanager
def namespace() -> Iterator[Namespace]:
    with subprocess.Popen(["unshare", "--net", "--mount", "sleep", "1000"]) as process:
        try:
            wait_until(lambda: _network_of(process.pid), lambda it: it != _network_of("self"), 10, "its own network")
            holder = Namespace(process)
            holder.run("ip", "link", "set", "lo", "up")
            yield holder
        finally:
            process.kill()


@contextmanager
def router_lab(folder: Path, shell: str) -> Iterator[Lab]:
    """The router with no card yet."""
    with namespace() as inside:
        router = make_router(folder, shell)
        root, programs = router.root, folder / "bin"
        programs.mkdir()
        for applet in ("ip", "udhcpc", "kill", "sleep"):
            (programs / applet).symlink_to("/usr/bin/busybox")
        for name, text in (("doer", _DOER), ("mirror", _MIRROR)):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        (folder / "sys").mkdir()
        inside.run("mount", "-t", "sysfs", "sysfs", folder / "sys")
        inside.run("mount", "--bind", "/proc", root / "proc")
        (root / "bin").mkdir(exist_ok=True)
        (root / "bin/true").symlink_to("/bin/true")
        for path in ("sys/class/net", "tmp/lock", "tmp/lib/dhcpv6"):
            (root / path).mkdir(parents=True, exist_ok=True)
        inside.keep("dhcpv6", root / "tmp/lib/dhcpv6")
        (root / "etc/firewall.nft").write_text(
            router.read("etc/firewall.nft").replace("/etc/nftables.d", f"{root}/etc/nftables.d")
        )
        environment = {
            "ROOT": str(root), "RUN": str(folder / "doer"), "RECORD": str(router.record), "LAB": str(folder),
            "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
        }  # fmt: skip
        lab = Lab(folder, router, inside, environment)
        try:
            yield lab
        finally:
            _end_all(inside)


def _network_of(process: int | str) -> Path:
    return Path(f"/proc/{process}/ns/net").readlink()


def _end_all(inside: Namespace) -> None:
    """End every process of that network: what the router started in the background."""
    ours = _network_of(inside.process.pid)
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if _network_of(path.name) == ours and int(path.name) != inside.process.pid:
                os.kill(int(path.name), signal.SIGKILL)
        except OSError:
            continue
