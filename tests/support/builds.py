"""Builds to test with: the command as its user runs it, and what it leaves behind."""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from livebuilder.cache import Cache, cache_root
from livebuilder.cli import main
from livebuilder.kernel.modules import ModuleIndex, module_tree
from livebuilder.sources.debian import DebianArchive
from tests.support.trees import write_tree

# Beside the interpreter that runs the tests: the command users start.
COMMAND = Path(sys.executable).with_name("livebuilder")
OUTPUTS = (
    "initramfs", "manifest.json", "profiles.json", "router.iso", "router.manifest", "sha256sums", "vmlinuz",
)  # fmt: skip
# Nothing listens at the discard service's port: whoever wants the network gets an error at once.
NO_NETWORK = {
    f"{scheme}_proxy": "http://127.0.0.1:9/" for scheme in ("http", "https", "HTTP", "HTTPS", "all", "ALL")
}  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it said."""

    status: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """The standard output, which is one JSON text and nothing else."""
        return json.loads(self.stdout)


@dataclass(frozen=True)
class BuiltImage:
    """A folder that a build wrote."""

    folder: Path

    @property
    def iso(self) -> Path:
        """The one disc in the folder."""
        (path,) = self.folder.glob("*.iso")
        return path

    @property
    def kernel(self) -> Path:
        return self.image("kernel")

    @property
    def initramfs(self) -> Path:
        return self.image("initramfs")

    @property
    def profiles(self) -> dict[str, Any]:
        return json.loads((self.folder / "profiles.json").read_text())  # type: ignore[no-any-return]

    def image(self, kind: str) -> Path:
        """The file that profiles.json says is of this type."""
        (profile,) = self.profiles["profiles"].values()
        (name,) = (image["name"] for image in profile["images"] if image["type"] == kind)
        return self.folder / str(name)

    @property
    def manifest(self) -> dict[str, Any]:
        return json.loads((self.folder / "manifest.json").read_text())  # type: ignore[no-any-return]


def start(
    *words: str | Path, command: Path = COMMAND, env: Mapping[str, str] | None = None, cwd: Path | None = None,
    umask: int = -1, prepare: Callable[[], None] | None = None,
) -> subprocess.Popen[str]:  # fmt: skip
    """Start the command in a process of its own; `env` is added to ours, `prepare` runs in the child first."""
    return subprocess.Popen(
        [command, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(env or {})}, cwd=cwd, umask=umask, preexec_fn=prepare,
    )  # fmt: skip


def run_command(*words: str | Path, timeout_seconds: float = 180, **how: Any) -> Outcome:
    """Run the command in a process of its own, to its end."""
    with start(*words, **how) as child:
        try:
            stdout, stderr = child.communicate(timeout=timeout_seconds)
        except BaseException:
            child.kill()
            raise
    return Outcome(child.returncode, stdout, stderr)


def run_main(*words: str | Path, env: Mapping[str, str] | None = None) -> Outcome:
    """Run the command in this process, by the function its program calls; `env` is added to ours."""
    stdout, stderr = io.StringIO(), io.StringIO()
    status: object = None
    with (
        redirect_stdout(stdout),
        redirect_stderr(stderr),
        mock.patch.object(sys, "argv", ["livebuilder", *(os.fspath(word) for word in words)]),
        mock.patch.dict(os.environ, env or {}),
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code
    assert status is None or isinstance(status, int), status
    return Outcome(status or 0, stdout.getvalue(), stderr.getvalue())


def assert_refused(outcome: Outcome, *words: str, status: int = 1) -> None:
    """The command ended with an error a person can act on, that says all of `words`, and nothing else."""
    assert outcome.status == status, outcome
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    for word in words:
        assert word in outcome.stderr
    if status == 1:
        assert "error: " in outcome.stderr and "\n  try: " in outcome.stderr, outcome.stderr


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in the folder, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def snapshot(*folders: Path, folder_times: bool = True) -> dict[str, tuple[int, int, int, str]]:
    """Everything below the folders: mode, owner, time of change and what is in it. Folders that are not there: none.

    Without `folder_times` a file may have come and gone in a folder.
    """
    found = {}
    for folder in folders:
        for path in (folder, *sorted(folder.rglob("*"))) if folder.exists() else ():
            facts = path.lstat()
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            time = facts.st_mtime_ns if folder_times or not path.is_dir() else 0
            found[str(path)] = (facts.st_mode, facts.st_uid, time, hashlib.sha256(data).hexdigest())
    return found


SMALL_PROFILE = """
name = "small"
[kernel]
image = "boot/vmlinuz"
modules = "lib/modules/{release}"
[root]
source = "directory"
path = "root"
[modules]
features = []
[output]
compression = "none"
"""


@dataclass(frozen=True)
class SmallSystem:
    """A profile whose build takes a moment: Debian's kernel with a few modules, busybox for a root, all in a folder."""

    folder: Path
    release: str

    @property
    def profile(self) -> Path:
        return self.folder / "small.toml"

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def kernel(self) -> Path:
        return self.folder / "boot/vmlinuz"

    @property
    def modules(self) -> Path:
        return self.folder / "lib/modules" / self.release


def write_small_system(folder: Path) -> None:
    """Fill a folder; busybox and kernel are Debian's, from the user's cache."""
    archive = DebianArchive(cache=Cache(cache_root()))
    kernel = archive.kernel().kernel
    index = ModuleIndex.from_kernel(kernel)
    paths = [
        path for feature in ("base", "squashfs", "extroot", "console", "usb-storage") for path in index.expand(feature)
    ]
    write_tree(module_tree(kernel, index, dict.fromkeys(paths)), folder)
    (folder / "boot").mkdir()
    (folder / "boot/vmlinuz").write_bytes(kernel.image.read())
    assert kernel.config
    config = "".join(f"{name}={value}\n" for name, value in kernel.config.items())
    (folder / f"boot/config-{kernel.release}").write_text(config)
    (folder / "root/bin").mkdir(parents=True)
    (folder / "root/etc").mkdir()
    (folder / "root/bin/busybox").write_bytes(archive.busybox().content.read())
    (folder / "root/bin/sh").symlink_to("busybox")
    (folder / "root/etc/preinit").write_text("#!/bin/sh\necho up\n")
    for program in ("bin/busybox", "etc/preinit"):
        (folder / "root" / program).chmod(0o755)
    (folder / "small.toml").write_text(SMALL_PROFILE.format(release=kernel.release))


def small_system_in(folder: Path) -> SmallSystem:
    """What `write_small_system` put there."""
    (modules,) = (folder / "lib/modules").iterdir()
    return SmallSystem(folder, modules.name)


def private_cache(folder: Path, shared: Path, *, without: tuple[str, ...] = ("pieces",)) -> dict[str, str]:
    """The environment of a cache of its own in `folder`, that takes all but `without` from the `shared` one."""
    home = folder / "livebuilder"
    home.mkdir(parents=True)
    for kind in sorted(shared.iterdir()):
        if kind.name not in without:
            (home / kind.name).symlink_to(kind)
    return {"XDG_CACHE_HOME": str(folder)}


def shared_folder(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], object]) -> Path:
    """A folder that `fill` makes once in a run of tests, however many processes share the run."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / name
    with _locked(base / f"{name}.lock"):
        if not folder.exists():
            draft = base / f"{name}.new"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            fill(draft)
            draft.rename(folder)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
