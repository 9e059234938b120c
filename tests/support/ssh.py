"""OpenSSH's client, and a way for it to a guest."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from livebuilder.process import Completed, run
from livebuilder.vm.shell import GuestShell
from tests.support.boots import SECONDS


class Ssh:
    """OpenSSH's client, with a key of its own; it takes a host key the first time and insists on it from then on."""

    def __init__(self, folder: Path, port: int) -> None:
        self.key, self.port, self._folder = folder / "key", port, folder
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "owner", "-f", self.key])
        (folder / "password").write_text('#!/bin/sh\necho "$PASSWORD"\n')
        (folder / "password").chmod(0o700)

    @property
    def public_key(self) -> str:
        return self.key.with_suffix(".pub").read_text().strip()

    @property
    def known_host(self) -> str:
        """The type and the key of the host, as they were accepted."""
        (line,) = (self._folder / "known").read_text().splitlines()
        return " ".join(line.split()[1:])

    def login(self, how: str, *, password: str = "") -> Completed:
        """Ask for the host's name over ssh, allowed to log in by `how` (publickey, password or none) only."""
        options = {
            "UserKnownHostsFile": self._folder / "known", "StrictHostKeyChecking": "accept-new", "HashKnownHosts": "no",
            "IdentityFile": self.key, "IdentitiesOnly": "yes", "IdentityAgent": "none", "ConnectTimeout": "60",
            "PreferredAuthentications": how, "NumberOfPasswordPrompts": "1", "LogLevel": "ERROR",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        return run(
            ["ssh", "-F", "none", "-p", str(self.port), *words, "root@127.0.0.1", "hostname"],
            env={"SSH_ASKPASS": str(self._folder / "password"), "SSH_ASKPASS_REQUIRE": "force", "PASSWORD": password},
            check=False, timeout_seconds=SECONDS,
        )  # fmt: skip

    def offered(self) -> str:
        """The ways to log in that the router offers."""
        match = re.search(r"Permission denied \((.*)\)", self.login("none").stderr)
        assert match, self.login("none").stderr
        return match[1]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for_ssh(shell: GuestShell, address: str = "192.168.1.1") -> None:
    """dropbear starts when the kernel has gathered randomness, which the boot does not wait for."""
    listening = f"until netstat -ltn | grep -q '{address}:22 '; do sleep 0.2; done"
    assert shell.run(listening, timeout_seconds=SECONDS).status == 0
