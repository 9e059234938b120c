"""The default root laid into a folder, and its scripts run there: unprivileged, in the shells it meets.

Commands that would change the machine go through RUN, a recorder: it writes the words down, one command per line,
and fails when a pattern of `failing` says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from livebuilder.image.router import router_tree
from livebuilder.image.settings import RouterSettings
from livebuilder.process import Completed, run
from livebuilder.tree import Kind, RootTree

SHELLS = ("dash", "busybox ash")
AWKS = ("mawk", "busybox awk")

_RECORDER = """#!/bin/sh
printf '%s\\n' "$*" >>"$RECORD"
case $* in
$FAILING) exit 1 ;;
esac
"""


def lay_out(tree: RootTree, root: Path) -> None:
    """Write a tree's folders, files and links below `root`; device nodes are left out, owners are ours."""
    for entry in tree:
        path = root / entry.path
        if entry.kind is Kind.DIRECTORY:
            path.mkdir(parents=True, exist_ok=True)
        elif entry.kind is Kind.SYMLINK:
            path.symlink_to(entry.target)
        elif entry.kind is Kind.FILE:
            path.write_bytes(entry.content.read())
            path.chmod(entry.mode)


@dataclass
class Router:
    """The root in a folder, and one of the shells."""

    root: Path
    shell: str
    failing: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def write(self, path: str, text: str) -> Path:
        """Put a file into the root; its folders are made."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def script(self, *words: str, env: Mapping[str, str] | None = None) -> Completed:
        """Run a script of the root: its path in the root, then its arguments."""
        path, *arguments = words
        return self.sh([str(self.root / path), *arguments], env=env)

    def service(self, name: str, action: str, *arguments: str) -> Completed:
        """Run /etc/init.d/NAME as the kernel would, through the interpreter its first line names."""
        return self.sh([str(self.root / "etc/rc.common"), str(self.root / "etc/init.d" / name), action, *arguments])

    def snippet(self, text: str) -> Completed:
        """Run shell text that has the shared functions."""
        return self.sh(["-c", f'. "$ROOT/lib/functions.sh"\n{text}'])

    def sh(self, arguments: Sequence[str], *, env: Mapping[str, str] | None = None) -> Completed:
        recorder = self.root.parent / "recorder"
        if not recorder.exists():
            recorder.write_text(_RECORDER.replace("$FAILING", self.failing or "'nothing at all'"))
            recorder.chmod(0o755)
        settings = {"ROOT": str(self.root), "RUN": str(recorder), "RECORD": str(self.record)}
        return run(
            [*self.shell.split(), *arguments],
            env={**settings, **self.environment, **(env or {})}, check=False, timeout_seconds=30,
        )  # fmt: skip

    @property
    def record(self) -> Path:
        return self.root.parent / "record"

    @property
    def commands(self) -> list[str]:
        """What was run through RUN, the root's own path taken out."""
        if not self.record.exists():
            return []
        return self.record.read_text().replace(f"{self.root}/", "/").splitlines()


def make_router(folder: Path, shell: str) -> Router:
    """The default root below `folder`, with the folders that the kernel would fill."""
    root = folder / "root"
    root.mkdir()
    lay_out(router_tree(RouterSettings(hostname="attic-pc"), epoch=1_700_000_000), root)
    for name in ("var", "run", "etc/resolv.conf", "etc/mtab", "etc/TZ"):
        (root / name).unlink()
    (root / "tmp/run").mkdir()
    (root / "dev/pts").mkdir()
    router = Router(root, shell)
    for program in ("nft", "pppd"):  # of packages that an image may be without
        router.write(f"usr/sbin/{program}", "").chmod(0o755)
    router.write("proc/mounts", "")
    router.write("proc/sys/kernel/printk", "7\t4\t1\t7\n")
    return router


def wait_for(holds: Callable[[], bool]) -> None:
    """Some things are done in the background."""
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_commands(router: Router, count: int) -> None:
    """Until that many are recorded."""
    wait_for(lambda: len(router.commands) >= count)
