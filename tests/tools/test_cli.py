"""The commands' options, one by one, with the real tools behind them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from livebuilder.doctor import DISTRIBUTIONS, read_needs
from livebuilder.process import run
from tests.support.builds import COMMAND, BuiltImage, SmallSystem, assert_refused, run_command, run_main, snapshot

# A stick image


def test_a_stick_of_another_size_label_table_and_file_system(tmp_path: Path) -> None:
    stick = tmp_path / "stick.img"
    outcome = run_main("usb", "image", stick, "--size", "48M", "--fs", "ext3", "--label", "attic", "--table", "dos")
    assert outcome.status == 0, outcome.stderr
    assert stick.stat().st_size == 48 * 1024 * 1024
    table = json.loads(run(["sfdisk", "--json", stick]).stdout)["partitiontable"]
    assert table["label"] == "dos"
    (partition,) = table["partitions"]
    words: list[str | Path] = [
        "blkid",
        "--probe",
        "--offset",
        str(partition["start"] * 512),
        "--output",
        "export",
        stick,
    ]
    facts = {line.partition("=")[0]: line.partition("=")[2] for line in run(words).stdout.splitlines()}
    assert (facts["TYPE"], facts["LABEL"]) == ("ext3", "attic")


def test_the_default_stick(tmp_path: Path) -> None:
    outcome = run_main("usb", "image", tmp_path / "stick.img")
    assert (tmp_path / "stick.img").stat().st_size == 64 * 1024 * 1024
    assert "ext4, labelled rootfs_data" in outcome.stdout and "gpt" in outcome.stdout
    assert "Making the stick image" in outcome.stderr


def test_a_stick_s_dry_run_writes_nothing(tmp_path: Path) -> None:
    before = snapshot(tmp_path)
    outcome = run_main("usb", "image", tmp_path / "stick.img", "--dry-run", "--fs", "btrfs", "--size", "1G")
    assert outcome.status == 0
    assert "btrfs" in outcome.stdout and "1.0 GiB" in outcome.stdout
    assert snapshot(tmp_path) == before


def test_a_stick_that_is_there_is_kept_but_with_force(tmp_path: Path) -> None:
    stick = tmp_path / "stick.img"
    stick.write_text("settings")
    assert_refused(run_main("usb", "image", stick), "may hold settings", "--force")
    assert stick.read_text() == "settings"
    assert run_main("usb", "image", stick, "--force").status == 0
    assert stick.stat().st_size == 64 * 1024 * 1024


# A machine to try by hand: QEMU is a script that tells how it was called, and ends with 7


@pytest.fixture
def qemu(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("qemu-system-i386", "qemu-system-x86_64"):
        program = folder / name
        program.write_text('#!/bin/sh\nfor word in "$0" "$@"; do printf "%s\\n" "$word"; done\nexit 7\n')
        program.chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_vm_run_becomes_qemu(qemu: dict[str, str], tmp_path: Path) -> None:
    for name in ("x.iso", "one,two.img", "b.img"):
        (tmp_path / name).write_bytes(b"x")
    outcome = run_command(
        "vm", "run", tmp_path / "x.iso", "--usb", tmp_path / "one,two.img", "--usb", tmp_path / "b.img",
        "--memory", "64M", "--machine", "pc-2000", "--display", env=qemu,
    )  # fmt: skip
    assert outcome.status == 7, outcome.stderr
    program, *words = outcome.stdout.splitlines()
    assert Path(program).name == "qemu-system-i386"
    after = {words[at]: words[at + 1] for at in range(len(words) - 1)}
    assert (after["-m"], after["-cpu"], after["-display"], after["-accel"]) == ("64M", "pentium3", "gtk", "tcg")
    text = "\n".join(words)
    assert f"readonly=on,file={tmp_path}/x.iso" in text
    assert f"file={tmp_path}/one,,two.img" in text and f"file={tmp_path}/b.img" in text
    assert "usb-ehci" in text


def test_vm_run_s_defaults(qemu: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "x.iso").write_bytes(b"x")
    words = run_command("vm", "run", tmp_path / "x.iso", env=qemu).stdout.splitlines()
    after = {words[at]: words[at + 1] for at in range(len(words) - 1)}
    assert (after["-m"], after["-cpu"], after["-display"]) == ("96M", "pentium2", "none")
    assert not any("usb-storage" in word for word in words)


@pytest.mark.parametrize("lacking", ["iso", "stick"])
def test_vm_run_names_the_file_that_is_not_there(qemu: dict[str, str], tmp_path: Path, lacking: str) -> None:
    for name in {"iso": ["stick.img"], "stick": ["x.iso"]}[lacking]:
        (tmp_path / name).write_bytes(b"x")
    outcome = run_command("vm", "run", tmp_path / "x.iso", "--usb", tmp_path / "stick.img", env=qemu)
    assert_refused(outcome, {"iso": "x.iso", "stick": "stick.img"}[lacking])


@pytest.mark.network
@pytest.mark.parametrize("command", ["run", "test", "route"])
def test_without_qemu(default_image: BuiltImage, tmp_path: Path, command: str) -> None:
    env = {"PATH": str(tmp_path / "nowhere"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    outcome = run_command("vm", command, default_image.iso, env=env)
    assert_refused(outcome, "qemu-system-i386 is not installed", "livebuilder doctor")


def test_vm_test_wants_an_iso_of_ours(tmp_path: Path) -> None:
    (tmp_path / "x.iso").write_bytes(bytes(100_000))
    before = snapshot(tmp_path)
    outcome = run_main("vm", "test", tmp_path / "x.iso", "--logs", tmp_path / "logs", "--stick", tmp_path / "s.img")
    assert_refused(outcome, f"{tmp_path}/x.iso")
    assert snapshot(tmp_path) == before


def test_vm_route_wants_an_iso_of_ours_with_the_programs_of_its_neighbours(
    small_system: SmallSystem, tmp_path: Path
) -> None:
    assert run_command("build", small_system.profile, "--output", tmp_path / "image").status == 0
    (tmp_path / "x.iso").write_bytes(bytes(100_000))
    before = snapshot(tmp_path)
    assert_refused(run_main("vm", "route", tmp_path / "x.iso", "--logs", tmp_path / "logs"), f"{tmp_path}/x.iso")
    assert_refused(run_main("vm", "route", BuiltImage(tmp_path / "image").iso), "the disc's own root", "no dnsmasq")
    assert snapshot(tmp_path) == before


# The doctor


def test_doctor_here() -> None:
    """The tests run where all is there; scripts/setup saw to it."""
    outcome = run_main("doctor")
    assert outcome.status == 0, outcome.stdout
    assert "missing" not in outcome.stdout
    assert len(re.findall(r"^ok ", outcome.stdout, re.MULTILINE)) == len(read_needs())


def test_doctor_with_nothing_installed(tmp_path: Path) -> None:
    outcome = run_command("doctor", env={"PATH": str(tmp_path)})
    assert outcome.status == 1
    for line in (
        "debian  apt-get install ", "fedora  dnf install ", "arch    pacman -S ", "alpine  apk add ",
    ):  # fmt: skip
        assert line in outcome.stdout
    for distribution in DISTRIBUTIONS:
        packages = run_command("doctor", "--missing", distribution, env={"PATH": str(tmp_path)})
        assert packages.status == 0
        (line,) = re.findall(rf"^  {distribution} .*$", outcome.stdout, re.MULTILINE)
        assert set(shlex.split(packages.stdout)) < set(shlex.split(line))
        assert any("qemu" in package for package in packages.stdout.split())


def test_doctor_s_exit_status_is_about_building_and_running(tmp_path: Path) -> None:
    """With every tool but one in the PATH: without one that our tests need only it is content, without another not."""
    tools = {need.name: need.need for need in read_needs() if need.kind == "tool"}
    lookup = {name: run(["sh", "-c", 'command -v "$1"', "sh", name]).stdout.strip() for name in tools}
    sbin = ("/usr/sbin/", "/sbin/", "/usr/local/sbin/")  # always looked into
    for gone, healthy in (("shellcheck", True), ("cpio", True), ("qemu-system-i386", False), ("apt-get", False)):
        assert not lookup[gone].startswith(sbin)
        folder = tmp_path / gone
        folder.mkdir()
        for name, path in lookup.items():
            if name != gone:
                (folder / name).symlink_to(path)
        outcome = run_command("doctor", env={"PATH": str(folder)})
        assert (tools[gone] == "test") is healthy
        assert outcome.status == (0 if healthy else 1), gone
        assert re.findall(r"^-- +\w+ +(\S+)", outcome.stdout, re.MULTILINE) == [gone]


# What all commands share


@pytest.mark.parametrize(("option", "steps"), [("--quiet", 0), ("--verbose", 1), ("-q", 0), ("-v", 1)])
def test_quiet_and_verbose(small_system: SmallSystem, option: str, steps: int) -> None:
    outcome = run_main(option, "build", "--offline", small_system.profile, "--dry-run")
    assert outcome.status == 0
    assert outcome.stderr.count("Putting the root together\n") == steps
    assert ("took " in outcome.stderr) == bool(steps)
    assert "6.1" in outcome.stdout


def test_quiet_still_tells_errors() -> None:
    assert_refused(run_main("--quiet", "inspect", "/nowhere"), "/nowhere")


def test_version() -> None:
    import livebuilder

    outcome = run_command("--version")
    assert (outcome.status, outcome.stdout) == (0, f"livebuilder {livebuilder.__version__}\n")


def test_colours_are_for_terminals_only(small_system: SmallSystem) -> None:
    outcome = run_command("--verbose", "build", "--offline", small_system.profile, "--dry-run")
    assert "\x1b" not in outcome.stderr + outcome.stdout
    assert "\x1b" not in run_command("inspect", "/nowhere").stderr


def in_bash(words: str, home: Path, **env: str) -> str:
    """What livebuilder prints when bash runs it; the shell is found by looking at the process above."""
    path = f"{COMMAND.parent}:/usr/bin:/bin"
    argv = ["bash", "--norc", "-c", f"livebuilder {words}; true"]
    return subprocess.run(
        argv, env={"PATH": path, "HOME": str(home), **env}, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    script = in_bash("--show-completion", tmp_path)
    assert "complete -o default -F _livebuilder_completion livebuilder" in script
    in_bash("--install-completion", tmp_path)
    installed = [path for path in tmp_path.rglob("*") if path.is_file() and "livebuilder" in path.read_text()]
    assert installed, "something is written into the home folder"

    def completed(line: str) -> list[str]:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return in_bash("", tmp_path, _LIVEBUILDER_COMPLETE="complete_bash", **words).split()

    assert completed("livebuilder bu") == ["build"]
    assert completed("livebuilder usb im") == ["image"]
    assert "--offline" in completed("livebuilder build --o")
    assert completed("livebuilder nothing-like-this") == []


def test_the_options_for_completion_are_told() -> None:
    help_text = run_command("--help").stdout
    for option in ("--install-completion", "--show-completion"):
        assert option in help_text
