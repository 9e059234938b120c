"""The two-boot proof of discs that make it hard: roots with an init of their own, and some with nothing to prove."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from livebuilder.iso.menu import KERNEL_PATH
from livebuilder.iso.writer import write_iso
from livebuilder.vm import scenario
from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import Media, machine_named
from livebuilder.vm.scenario import TOKEN_PATH, Proof, proof_to_json, two_boot_proof
from tests.support.builds import BuiltImage, SmallSystem, run_command
from tests.support.documents import assert_documented
from tests.support.echo_kernel import echo_kernel
from tests.support.isos import small_plan
from tests.support.sticks import ext4_state, read_file, stick_image

pytestmark = pytest.mark.vm


def own_root(system: SmallSystem, folder: Path, preinit: str, *programs: str, **files: str) -> Path:
    """A root with `preinit`, busybox under the names `programs`, and `files` in its /etc: nothing else."""
    root = folder / "root"
    shutil.copytree(system.root, root, symlinks=True)
    for program in programs:
        (root / "bin" / program).symlink_to("busybox")
    (root / "etc/preinit").write_text(f"#!/bin/sh\n{preinit}\n")
    for name, text in files.items():
        (root / "etc" / name).write_text(text)
    return root


def build_disc(system: SmallSystem, folder: Path, *settings: str) -> Path:
    words = [
        word
        for setting in ("storage.settle=6", 'modules.features=["usb-storage"]', *settings)
        for word in ("--set", setting)
    ]
    outcome = run_command("build", system.profile, "--output", folder / "image", *words)
    assert outcome.status == 0, outcome.stderr
    return BuiltImage(folder / "image").iso


def prove(iso: Path, folder: Path, *, machine: str = "pc-2000", **how: object) -> Proof:
    stick = stick_image(folder / "stick.img")
    how = {"accelerator": TCG, "media": Media.CD, **how}
    return two_boot_proof(iso, stick=stick, logs=folder / "logs", machine=machine_named(machine), **how)  # type: ignore[arg-type]


def test_a_directory_with_an_init_of_its_own(small_system: SmallSystem, tmp_path: Path) -> None:
    """busybox' init and a shell that wants Enter; no hooks of ours, and no host that has a name."""
    inittab = "console::askfirst:/bin/sh\n::shutdown:/bin/umount -a -r\n"
    root = own_root(small_system, tmp_path, "exec /bin/init", "init", "poweroff", "umount", inittab=inittab)
    iso = build_disc(small_system, tmp_path, f"root.path={root}", 'boot.console=["tty0"]', "boot.timeout=0")
    proof = prove(iso, tmp_path, machine="pc-modern", media=Media.USB_DISK)
    assert (proof.success, proof.reasons, proof.hostname) == (True, (), None), "\n".join(proof.story)
    assert [boot.changed for boot in proof.boots] == [(TOKEN_PATH,), (), ()]
    assert [boot.power_off for boot in proof.boots] == ["poweroff"] * 3
    assert_documented("vm test", proof_to_json(proof))
    assert read_file(proof.stick, f"upper{TOKEN_PATH}") == f"{proof.setting.token}\n".encode()


def test_an_archive_with_a_shell_and_nothing_else(
    small_system: SmallSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell is process 1, to whom `poweroff` says nothing; by default it talks to the screen."""
    quick = {"poweroff": 2.0, "echo s >/proc/sysrq-trigger": 1.0, "echo u >/proc/sysrq-trigger": 1.0}
    steps = tuple((command, quick.get(command, seconds)) for command, seconds in scenario.POWER_OFF)
    monkeypatch.setattr(scenario, "POWER_OFF", steps)
    root = own_root(small_system, tmp_path, "exec /bin/sh -i")
    with tarfile.open(tmp_path / "root.tar", "w") as archive:
        archive.add(root, arcname=".")
    consoles = 'boot.console=["ttyS0,115200n8", "tty0"]'
    iso = build_disc(small_system, tmp_path, "root.source=archive", f"root.path={tmp_path}/root.tar", consoles)
    proof = prove(iso, tmp_path, media=Media.IDE_DISK)
    assert (proof.success, proof.reasons, proof.hostname) == (True, (), None), "\n".join(proof.story)
    assert {boot.power_off for boot in proof.boots} == {"echo o >/proc/sysrq-trigger"}
    assert ext4_state(proof.stick).unmounted
    assert read_file(proof.stick, f"upper{TOKEN_PATH}") == f"{proof.setting.token}\n".encode()


# Roots that no proof can be had of, and what is said about it.
HOPELESS = {
    "no shell": ("exec /bin/busybox sleep 100000", (), "no shell answers on the serial line within 10 seconds"),
    "the end": (
        "exit 7",
        (),
        r"the guest said 'Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000700",
    ),
    "a password": ("printf 'attic login: '; read x; printf Password:\\ ; read x; read x", (), "asks for a password"),
    "lb.rescue": (
        "exec /bin/sh -i",
        ("boot.cmdline=lb.rescue",),
        "the guest said 'livebuilder: rescue shell: the root",
    ),
}


@pytest.mark.parametrize("case", HOPELESS)
def test_what_was_seen_is_said_where_there_can_be_no_proof(
    small_system: SmallSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    preinit, settings, reason = HOPELESS[case]
    iso = build_disc(small_system, tmp_path, f"root.path={own_root(small_system, tmp_path, preinit)}", *settings)
    if case == "no shell":
        monkeypatch.setattr(scenario, "SHELL_SECONDS", 10.0)
    proof = prove(iso, tmp_path)
    assert not proof.success
    assert reason in proof.reasons[0]
    assert proof.reasons[1:] == ("the second boot was not made", "the control boot was not made")
    (boot,) = proof.boots
    assert boot.summary is None if case == "lb.rescue" else "storage=persistent" in str(boot.summary)
    assert boot.last_lines[-1] in boot.log.read_text()
    assert {path.name for path in boot.screenshots} == {"first-menu.png", "first-failed.png"}
    assert f"  log: {boot.log}" in proof.story and f"  problem: {boot.problems[0]}" in proof.story


def test_the_screen_is_shown_where_the_serial_line_was_silent(tmp_path: Path) -> None:
    """A disc whose kernel never says a word of ours, and one that is no system at all."""
    write_iso(small_plan(), tmp_path / "nothing.iso")
    proof = prove(tmp_path / "nothing.iso", tmp_path, boot_seconds=10)
    assert not proof.success
    (boot,) = proof.boots
    assert any("boot:" in line for line in boot.last_lines), boot.last_lines


def test_a_system_that_ends_before_it_is_up(tmp_path: Path) -> None:
    write_iso(small_plan(files={KERNEL_PATH: echo_kernel()}), tmp_path / "echo.iso")
    proof = prove(tmp_path / "echo.iso", tmp_path, machine="pc-1997")
    assert proof.reasons[0] == "the first boot: QEMU ended with status 0 while we waited for the summary of /init"
    (boot,) = proof.boots
    assert boot.last_lines[-2].startswith("KERNEL ")
