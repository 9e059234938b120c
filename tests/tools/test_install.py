"""Installed outside of the checkout it is the same program; scripts/setup does nothing the second time."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from livebuilder.process import run
from tests.support.builds import (
    BuiltImage,
    SmallSystem,
    assert_refused,
    hashes,
    run_command,
)

# Builds here are offline: what they need from the network is in the cache once the default image was built.
pytestmark = [pytest.mark.network, pytest.mark.xdist_group("install"), pytest.mark.usefixtures("default_image")]

REPOSITORY = Path(__file__).parents[2]
SETUP_SECONDS = 2


@dataclass(frozen=True)
class Installation:
    """A virtual environment with livebuilder in it."""

    folder: Path

    @property
    def command(self) -> Path:
        return self.folder / "bin/livebuilder"

    @property
    def package(self) -> Path:
        words: list[str | Path] = [
            self.folder / "bin/python",
            "-c",
            "import livebuilder; print(livebuilder.__path__[0])",
        ]
        return Path(run(words, cwd=self.folder).stdout.strip())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """`pip install .` into a fresh virtual environment, as somebody who has the checkout would."""

    folder = tmp_path_factory.mktemp("installed")
    run([sys.executable, "-m", "venv", folder])
    run([folder / "bin/pip", "install", "--disable-pip-version-check", "."], cwd=REPOSITORY)
    return Installation(folder)


def test_it_builds_the_same_bytes(installed: Installation, default_image: BuiltImage, tmp_path: Path) -> None:
    assert not installed.package.is_relative_to(REPOSITORY)
    (tmp_path / "here").mkdir()
    outcome = run_command(
        "build", "--offline", "-o", tmp_path / "out", command=installed.command, cwd=tmp_path / "here"
    )
    assert outcome.status == 0, outcome.stderr
    assert hashes(tmp_path / "out") == hashes(default_image.folder)
    assert list((tmp_path / "here").iterdir()) == []


def test_nothing_of_it_needs_the_checkout(installed: Installation) -> None:
    for folder in ("initramfs", "isolinux"):
        ours = {path.relative_to(REPOSITORY) for path in (REPOSITORY / folder).rglob("*") if path.is_file()}
        data = installed.package / "data"
        theirs = {path.relative_to(data) for path in (data / folder).rglob("*") if path.is_file()}
        assert {path for path in ours if "__pycache__" not in path.parts} == theirs
    outcome = run_command("build", "--set", "nmae=x", command=installed.command)
    assert_refused(outcome, f"try: {installed.package}/data/docs/profile.md lists every key")
    page = installed.package / "data/docs/profile.md"
    assert page.read_text() == (REPOSITORY / "docs/profile.md").read_text()
    assert str(REPOSITORY) not in "".join(path.read_text() for path in installed.package.parent.glob("*.pth"))
    assert run_command("doctor", command=installed.command).status == 0


def test_a_changed_menu_is_another_disc(installed: Installation, small_system: SmallSystem, tmp_path: Path) -> None:
    """A new version of ours may change no more than a text on the disc: that is not `nothing to do`."""
    words = ("build", "--offline", small_system.profile, "-o", tmp_path / "out", "--json")
    assert run_command(*words, command=installed.command).json["unchanged"] is False
    assert run_command(*words, command=installed.command).json["unchanged"] is True
    before = hashes(tmp_path / "out")
    screen = installed.package / "data/isolinux/help.msg"
    text = screen.read_text()
    assert " the " in text
    screen.write_text(text.replace(" the ", " The ", 1))
    try:
        assert run_command(*words, command=installed.command).json["unchanged"] is False
    finally:
        screen.write_text(text)
    after = hashes(tmp_path / "out")
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"small.iso", "manifest.json", "profiles.json", "sha256sums"}


def test_a_broken_installation_says_so(installed: Installation, small_system: SmallSystem, tmp_path: Path) -> None:
    init = installed.package / "data/initramfs/init"
    init.rename(tmp_path / "init")
    try:
        outcome = run_command(
            "build", "--offline", small_system.profile, "-o", tmp_path / "out", command=installed.command
        )
    finally:
        shutil.move(tmp_path / "init", init)
    assert_refused(outcome, "initramfs/init is missing from this installation", "pip install")


def environment_of(checkout: Path) -> dict[str, int]:
    """The files of its virtual environment, without what Python compiles and the stamp itself."""
    found = {}
    for folder, folders, names in os.walk(checkout / ".venv"):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found.update({f"{folder}/{name}": os.lstat(f"{folder}/{name}").st_mtime_ns for name in names})
    del found[f"{checkout}/.venv/.setup-stamp"]
    return found


def test_setup_does_nothing_the_second_time() -> None:
    run([REPOSITORY / "scripts/setup"])  # which scripts/test has done already
    before = environment_of(REPOSITORY)
    started = os.times()
    done = run([REPOSITORY / "scripts/setup"], cwd=Path("/"))
    ended = os.times()
    assert (done.stdout, done.stderr) == ("", "")
    assert environment_of(REPOSITORY) == before
    # It waits for nothing, so the processor's time is what it takes on a machine that is not busy with other tests.
    used = ended.children_user + ended.children_system - started.children_user - started.children_system
    assert used < SETUP_SECONDS


def test_setup_where_nothing_can_be_installed_names_the_packages(tmp_path: Path) -> None:
    run([REPOSITORY / "scripts/setup"])
    for name in ("sh", "cat", "cksum", "dirname", "id", "sed"):
        found = shutil.which(name)
        assert found
        (tmp_path / name).symlink_to(found)
    (tmp_path / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "python3").chmod(0o755)
    outcome = run_command(command=REPOSITORY / "scripts/setup", env={"PATH": str(tmp_path)})
    assert outcome.status == 1
    assert outcome.stdout == ""
    for words in ("apt-get install", "dnf install", "pacman -S", "apk add", "qemu-system-x86", "xorriso"):
        assert words in outcome.stderr
    assert "Traceback" not in outcome.stderr
