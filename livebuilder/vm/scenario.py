"""The proof: a setting made in one boot is there in the next, and is not there without the stick.

`two_boot_proof` boots three times (the last one can be left out) and collects what the guest says about itself. It
asks little of the image: an entry in the boot menu that starts by default, and a shell without a password on the
console. What is set is a file, and the host's name where the root takes it from /etc/config/system.
As JSON (`proof_to_json`, printed by `vm test --json`)::

    {"version": 1, "success": true, "reasons": [],             why not, in words, one per line
     "image": "out/router.iso", "stick": "out/stick.img", "media": "cd",
     "machine": "pc-1997", "memory_bytes": 100663296, "accelerator": "tcg",
     "token": "5f0c…", "hostname": "proof-5f0c1d",               what was set in the first boot; the name may be null
     "boots": [
       {"name": "first", "stick": true,                         then "second", then "control" without the stick
        "seconds_to_summary": 9.1, "seconds_to_prompt": 10.4, "seconds": 14.2,      since QEMU was started
        "summary": "root=ext2 storage=persistent device=/dev/sda1 label=rootfs_data seconds=4.2",
        "record": {…},                                          the guest's own boot record, whole
        "hostname": "livebuilder",                              in force at the prompt
        "token_found": false,                                   what the first boot wrote was there at the prompt
        "changed": ["/etc/livebuilder/proof", "/etc/config/system"],      files, in this boot
        "power_off": "poweroff",                                what was typed last, and
        "qemu_status": 0,                                       null when the guest did not power off by itself
        "log": "proof/first.log", "screenshots": ["proof/first-menu.png", "proof/first-console.png"],
        "problems": [], "last_lines": []}],                     last_lines only where a boot went wrong
     "story": ["…"]}                                            the same for a person, line by line
"""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from livebuilder.console import step
from livebuilder.sizes import render_size
from livebuilder.vm.machine import Guest, ImageBoot, Machine, Media, Stick
from livebuilder.vm.menu import PROMPT, answer_at_prompt, read_config
from livebuilder.vm.serial import GAVE_UP, GuestError, GuestTimeout
from livebuilder.vm.session import Session, run_guest
from livebuilder.vm.shell import GuestShell, activate_console

RECORD_PATH = "/etc/livebuilder/boot.json"
TOKEN_PATH = "/etc/livebuilder/proof"  # beside the record: every root of ours has the folder
HOSTNAME_CONFIG = "/etc/config/system"
SUMMARY = r"livebuilder: (root=\S+ storage=.*)\n"
BOOT_SECONDS = 300.0
SETTLE_SECONDS = 600.0  # what /init may wait for a stick that is not there, at most
SHELL_SECONDS = 150.0  # from the summary to the prompt: some ten times what a root's own start takes
# What is typed to power off, one after the other, and how long each is waited for: what a person would, and, for a root
# without it, to the kernel itself "sync", "remount read-only", "off" (Linux: Documentation/admin-guide/sysrq.rst).
POWER_OFF = (
    ("poweroff", 60.0),
    ("echo s >/proc/sysrq-trigger", 5.0),
    ("echo u >/proc/sysrq-trigger", 5.0),
    ("echo o >/proc/sysrq-trigger", 60.0),
)
STOPPED = rf"{GAVE_UP}|livebuilder: rescue shell: .*(?=\n)"
_SCREEN_SECONDS = 5.0
_SCREEN_LINES = 15


@dataclass(frozen=True)
class Setting:
    """What is set in the first boot and looked for in the others: a file's content, and the host's name."""

    token: str
    hostname: str


def new_setting() -> Setting:
    """A setting nobody made before."""
    token = secrets.token_hex(16)
    return Setting(token, f"proof-{token[:6]}")


@dataclass(frozen=True, kw_only=True)
class BootFacts:
    """What was seen of one boot; a fact is None where it was not reached. Seconds count from QEMU's start."""

    name: str
    stick: bool
    log: Path
    seconds: float
    seconds_to_summary: float | None = None
    seconds_to_prompt: float | None = None
    summary: str | None = None
    record: Mapping[str, Any] | None = None
    hostname: str | None = None
    token_found: bool | None = None
    changed: tuple[str, ...] = ()
    power_off: str | None = None
    qemu_status: int | None = None
    screenshots: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()
    last_lines: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Proof:
    """All the facts of a proof, and the verdict on them."""

    success: bool
    reasons: tuple[str, ...]
    image: Path
    stick: Path
    media: Media
    machine: str
    memory_bytes: int
    accelerator: str
    setting: Setting
    boots: tuple[BootFacts, ...]

    @property
    def hostname(self) -> str | None:
        """The host's name that was set; None where this root has none that could be."""
        return self.setting.hostname if _names_host(self.boots) else None

    @property
    def story(self) -> tuple[str, ...]:
        """The proof in plain words."""
        return render_story(self)


def two_boot_proof(
    image: Path,
    *,
    stick: Path,
    logs: Path,
    machine: Machine,
    accelerator: str,
    memory_bytes: int | None = None,
    media: Media = Media.CD,
    control: bool = True,
    boot_seconds: float = BOOT_SECONDS,
) -> Proof:
    """Boot `image` with `stick`, make a setting, power off, boot again and look for it; then once without the stick.

    The stick's file is written to, logs and screenshots go to the folder `logs`. `boot_seconds` bounds the way
    to the prompt, the search for a stick that is not there left out. A boot that fails ends the proof: its problems,
    its log and its last lines are among the facts.
    Raises `LivebuilderError` when `image` has no boot menu, or QEMU cannot be started at all.
    """
    answer = answer_at_prompt(read_config(image))
    setting = new_setting()
    with_stick = Guest(
        machine=machine, boot=ImageBoot(image, media), sticks=(Stick(stick),), memory_bytes=memory_bytes
    )  # fmt: skip
    without = dataclasses.replace(with_stick, sticks=())
    plan = [("first", "First boot, with the stick: make a setting", with_stick)]
    plan.append(("second", "Second boot, with the stick: look for the setting", with_stick))
    if control:
        plan.append(("control", "Control, without the stick: the setting must not be there", without))
    boots: list[BootFacts] = []
    for name, title, guest in plan:
        with step(title):
            boots.append(
                _boot(
                    guest, name=name, answer=answer, logs=logs, accelerator=accelerator, setting=setting,
                    boot_seconds=boot_seconds,
                )
            )  # fmt: skip
        if boots[-1].problems:
            break
    reasons = reasons_against(boots, setting=setting, expected=[name for name, _, _ in plan])
    return Proof(
        success=not reasons, reasons=reasons, image=image, stick=stick, media=media, machine=machine.name,
        memory_bytes=with_stick.installed_bytes, accelerator=accelerator, setting=setting, boots=tuple(boots),
    )  # fmt: skip


def _boot(
    guest: Guest, *, name: str, answer: str, logs: Path, accelerator: str, setting: Setting, boot_seconds: float
) -> BootFacts:
    """One boot from power-on to power-off; what goes wrong in the guest becomes a problem among its facts."""
    log = logs / f"{name}.log"
    facts: dict[str, Any] = {}
    pictures: list[Path] = []
    with run_guest(guest, log=log, accelerator=accelerator) as session:
        try:
            session.wait_for_screen(PROMPT, timeout_seconds=boot_seconds)
            if name == "first":
                pictures.append(session.screenshot(logs / f"{name}-menu.png"))
            session.type_on_keyboard(answer)
            limit = boot_seconds if guest.sticks else boot_seconds + SETTLE_SECONDS
            facts["summary"] = session.wait_for(
                SUMMARY, timeout_seconds=limit, unless=STOPPED, meaning="the summary of /init"
            )[1]
            facts["seconds_to_summary"] = round(session.seconds, 2)
            shell = activate_console(session, timeout_seconds=min(boot_seconds, SHELL_SECONDS))
            facts["seconds_to_prompt"] = round(session.seconds, 2)
            facts["record"] = shell.read_json(RECORD_PATH)
            facts["hostname"] = shell.read_file("/proc/sys/kernel/hostname").output.strip()
            facts["token_found"] = setting.token in shell.read_file(TOKEN_PATH).output
            if name == "first":
                facts["changed"] = _make_setting(session, shell, setting, hostname=facts["hostname"])
            pictures.append(_console_picture(session, logs / f"{name}-console.png"))
            facts["power_off"], facts["qemu_status"] = _power_off(session)
        except GuestError as error:
            facts["problems"] = (error.what,)
            facts["last_lines"] = session.last_lines()
            with suppress(GuestError):  # QEMU may be gone
                pictures.append(session.screenshot(logs / f"{name}-failed.png"))
                facts["last_lines"] = facts["last_lines"] or tuple(session.screen_text().splitlines()[-_SCREEN_LINES:])
        facts["screenshots"] = tuple(pictures)
        return BootFacts(name=name, stick=bool(guest.sticks), log=log, seconds=round(session.seconds, 2), **facts)


def _make_setting(session: Session, shell: GuestShell, setting: Setting, *, hostname: str) -> tuple[str, ...]:
    """Set it as an administrator would, in files, and give their paths; nothing is synced: that is `poweroff`'s duty.

    The host's name is set where it is the one in force, `hostname`, that stands in the file.
    """
    changes = {TOKEN_PATH: f"echo {setting.token} > {TOKEN_PATH}"}
    if shell.run(f"""grep "option hostname.*{hostname}" {HOSTNAME_CONFIG}""").status == 0:
        edit = rf"""sed -i "s/\(option hostname\).*/\1 '{setting.hostname}'/" {HOSTNAME_CONFIG}"""
        changes[HOSTNAME_CONFIG] = f"{edit}; grep -q {setting.hostname} {HOSTNAME_CONFIG}"
    for command in changes.values():
        answer = shell.run(command)
        if answer.status != 0:
            raise session.failure(f"the guest could not do {command!r}: {answer.output.strip()}")
    return tuple(changes)


def _power_off(session: Session) -> tuple[str, int]:
    """What was typed last, and QEMU's status; a root without `poweroff`, or with one that does nothing, is no hang."""
    for command, seconds in POWER_OFF:
        session.type_line(command)
        with suppress(GuestTimeout):
            return command, session.wait_for_end(timeout_seconds=seconds)
    raise session.failure("the guest did not power off, after " + ", ".join(command for command, _ in POWER_OFF))


def _console_picture(session: Session, path: Path) -> Path:
    """The screen's own console, after Enter on the keyboard."""
    session.press("ret")
    with suppress(GuestError):  # a console in graphics has no text to find: the picture shows what there is
        session.wait_for_screen(r"[#$]$", timeout_seconds=_SCREEN_SECONDS)
    return session.screenshot(path)


def reasons_against(boots: Sequence[BootFacts], *, setting: Setting, expected: Sequence[str]) -> tuple[str, ...]:
    """Why these boots are no proof that the setting was kept on the stick; nothing when they are."""
    reasons = [f"the {boot.name} boot: {problem}" for boot in boots for problem in boot.problems]
    reasons += [f"the {name} boot was not made" for name in expected[len(boots) :]]
    hostname = setting.hostname if _names_host(boots) else None
    for boot in boots:
        if not boot.problems:
            reasons += [f"the {boot.name} boot: {reason}" for reason in _reasons(boot, hostname)]
    return tuple(reasons)


def _reasons(boot: BootFacts, hostname: str | None) -> list[str]:
    state = _storage(boot).get("state")
    kept = boot.name == "second"
    named = hostname is not None
    checks = {
        f"changes are kept ({state}) though there is no stick": not boot.stick and state == "persistent",
        f"storage is {state}, not persistent: {_storage(boot).get('reason')}": boot.stick and state != "persistent",
        "the record and the console's summary disagree": f"storage={state}" not in (boot.summary or "").split(),
        "the file written in the first boot is not there": kept and not boot.token_found,
        "the file of the first boot is there already": not kept and bool(boot.token_found),
        f"the host's name is {boot.hostname}, not {hostname}": named and kept and boot.hostname != hostname,
        f"the host's name is {boot.hostname} already": named and not kept and boot.hostname == hostname,
        f"QEMU ended with status {boot.qemu_status}": boot.qemu_status != 0,
    }
    return [reason for reason, holds in checks.items() if holds]


def _names_host(boots: Sequence[BootFacts]) -> bool:
    """Whether the host's name was set."""
    return any(HOSTNAME_CONFIG in boot.changed for boot in boots)


def _storage(boot: BootFacts) -> Mapping[str, Any]:
    storage = (boot.record or {}).get("storage")
    return storage if isinstance(storage, Mapping) else {}


def render_story(proof: Proof) -> tuple[str, ...]:
    """The proof in plain words, a line each."""
    lines = [
        f"{proof.image.name} as {proof.media} in {proof.machine} with {render_size(proof.memory_bytes)}"
        f" (QEMU, {proof.accelerator}), stick {proof.stick.name}"
    ]
    for boot in proof.boots:
        lines += _boot_story(boot, proof.hostname)
    if proof.success:
        alone = any(not boot.stick for boot in proof.boots)
        only = ", and only with the stick." if alone else ". Not shown: that it is not there without the stick."
        lines.append(f"PROVED: what was set in the first boot was there after power-off{only}")
    else:
        lines += ["NOT PROVED:", *(f"  {reason}" for reason in proof.reasons)]
    return tuple(lines)


def _boot_story(boot: BootFacts, hostname: str | None) -> list[str]:
    storage = _storage(boot)
    lines = [f"{boot.name} boot, {'with' if boot.stick else 'without'} the stick"]
    if boot.summary is not None:
        lines.append(f"  {boot.seconds_to_summary} s  {boot.summary}")
    if boot.seconds_to_prompt is not None:
        lines.append(f"  {boot.seconds_to_prompt} s  the console answers")
    if boot.record is not None:
        where = f" on {storage['device']}" if storage.get("device") else f": {storage.get('reason')}"
        lines.append(f"  storage is {storage.get('state')}{where}")
    if boot.hostname is not None:
        lines.append(f"  the host's name is {boot.hostname}; {TOKEN_PATH} is {'' if boot.token_found else 'not '}there")
    if boot.changed:
        name = f"; hostname {hostname} in {HOSTNAME_CONFIG}" if hostname else ""
        lines.append(f"  now set: {TOKEN_PATH}{name}")
    if boot.qemu_status is not None:
        lines.append(f"  {boot.seconds} s  powered off with {boot.power_off} (QEMU ended with {boot.qemu_status})")
    lines += [f"  problem: {problem}" for problem in boot.problems]
    lines += [f"    {line}" for line in boot.last_lines]
    lines.append(f"  log: {boot.log}")
    return lines


def proof_to_json(proof: Proof) -> dict[str, Any]:
    """The facts as JSON values; the module's docstring shows the form."""
    return {
        "version": 1,
        "success": proof.success,
        "reasons": list(proof.reasons),
        "image": os.fspath(proof.image),
        "stick": os.fspath(proof.stick),
        "media": str(proof.media),
        "machine": proof.machine,
        "memory_bytes": proof.memory_bytes,
        "accelerator": proof.accelerator,
        "token": proof.setting.token,
        "hostname": proof.hostname,
        "boots": [_boot_to_json(boot) for boot in proof.boots],
        "story": list(proof.story),
    }


def _boot_to_json(boot: BootFacts) -> dict[str, Any]:
    return {
        **dataclasses.asdict(boot),
        "record": boot.record,
        "log": os.fspath(boot.log),
        "screenshots": [os.fspath(path) for path in boot.screenshots],
        "changed": list(boot.changed),
        "problems": list(boot.problems),
        "last_lines": list(boot.last_lines),
    }
