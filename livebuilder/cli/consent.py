"""May this device be written? What the rules say is shown, and a person types which device they mean, never y or N."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from livebuilder.errors import LivebuilderError, UsageError

if TYPE_CHECKING:
    from livebuilder.usb.blockdevice import BlockDevice
    from livebuilder.usb.constraints import Finding, Purpose

_ATTEMPTS = 3


@dataclass(frozen=True)
class Examined:
    """A device or image file that may be used: what the rules say of it, and the devices that were there with it."""

    device: BlockDevice
    findings: Sequence[Finding]
    others: Sequence[BlockDevice]


def examine(path: Path, *, purpose: Purpose, iso: Path | None = None) -> Examined:
    """What is at `path`; raises `LivebuilderError` with every reason why it is not to be used."""
    from livebuilder.usb.constraints import judge
    from livebuilder.usb.devices import describe, disks_holding, list_devices

    device, others = describe(path), list_devices()
    findings = judge(device, purpose=purpose, iso_on=() if iso is None else disks_holding(iso), others=others)
    refuse_unusable(device, findings)
    return Examined(device, findings, others)


def refuse_unusable(device: BlockDevice, findings: Sequence[Finding]) -> None:
    """Raises `LivebuilderError` with every refusal; notes are logged."""
    from loguru import logger

    refusals = [finding.text for finding in findings if finding.level == "refuse"]
    if refusals:
        text = f": {refusals[0]}" if len(refusals) == 1 else "".join(f"\n  - {refusal}" for refusal in refusals)
        raise LivebuilderError(f"{device.path} was not touched{text}", hint="livebuilder usb list --all")
    for finding in findings:
        if finding.level == "note":
            logger.opt(colors=False).info("note: {}", finding.text)


def obtain(stick: Examined, *, plan: str, erase: str | None, yes: bool) -> None:
    """Return when the user has said that `stick` is the one; `plan` tells what is going to happen to it.

    With `erase` that has to be its serial number (of an image: its file name). Without it a person at a terminal is
    asked to type it; elsewhere that is a usage error. `yes` is enough for an image file that is empty or a stick of
    ours.
    """
    from livebuilder.usb.constraints import erase_accepted, needs_erase, render_devices

    device, findings, others = stick.device, stick.findings, stick.others
    image = device.kind == "image"
    word = Path(device.path).name if image else device.serial
    if erase is not None:
        if not erase_accepted(device, erase, others=others):
            what = "file name" if image else "serial number"
            raise UsageError(f"--erase {erase}: the {what} of {device.path} is {word}: nothing was written")
        return
    if yes and not image:
        raise UsageError(f"--yes is for image files; {device.path} is a device", hint=f"--erase {word}")
    if yes and not needs_erase(findings):
        return
    if not sys.stdin.isatty():
        reasons = "; ".join(finding.text for finding in findings if finding.level == "needs-erase")
        how = "--yes" if image and not needs_erase(findings) else f"--erase {word}"
        raise UsageError(f"nobody is here to be asked about {device.path}{reasons and ': ' + reasons}", hint=how)
    typer.echo(f"{render_devices([device], {device.path: findings}, verbose=True)}\n\n{plan}\n", err=True)
    question = f"Type the {'file name' if image else 'serial number, or the last four of it,'} to go on"
    for _ in range(_ATTEMPTS):
        if erase_accepted(device, _typed(question), interactive=True, others=others):
            return
        typer.echo(f"That is not {device.path}.", err=True)
    raise LivebuilderError(f"{device.path} was not touched: what was typed names another device")


def await_stick(path: Path | None, *, erase: str | None) -> Path:
    """Wait until a stick is plugged in: the one at `path`, the one with the serial number `erase`, or else any."""
    from loguru import logger

    from livebuilder.usb.blockdevice import is_candidate
    from livebuilder.usb.devices import list_devices
    from livebuilder.usb.events import watch

    known = list_devices()
    if path is not None and path.exists():
        return path
    for device in known:
        if erase is not None and path is None and device.serial == erase and device.medium:
            return Path(device.path)
    logger.info("Waiting for a stick to be plugged in; Ctrl-C ends it")
    for event in watch(known):
        device = event.device
        if event.action == "removed" or not is_candidate(device) or not device.medium:
            continue
        if (path is None or path.exists()) and (erase is None or device.serial == erase):
            return path or Path(device.path)
    raise AssertionError("watching ends only when it is interrupted")


def _typed(question: str) -> str:
    text: str = typer.prompt(question, err=True, default="", show_default=False)
    return text
