"""The command line: parses, calls one function, prints its result. Heavy parts are imported late."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from livebuilder import __version__
from livebuilder.errors import LivebuilderError, UsageError


def _commands(summary: str, *, completion: bool = False) -> typer.Typer:
    return typer.Typer(
        help=summary,
        rich_markup_mode=None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=completion,
    )


app = _commands(
    "Turn any old x86 PC into a router that boots from CD and keeps its settings on a USB stick.\n\n"
    "Start with:  livebuilder build && livebuilder vm test out/router.iso",
    completion=True,
)
usb_app = _commands("Make the stick that keeps the settings.")
vm_app = _commands("Boot an ISO in a virtual machine, by hand or as a proof.")
app.add_typer(usb_app, name="usb")
app.add_typer(vm_app, name="vm")

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, in a form that stays.")]


class Distribution(StrEnum):
    """Distributions whose package names doctor knows."""

    DEBIAN = "debian"
    FEDORA = "fedora"
    ARCH = "arch"
    ALPINE = "alpine"


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"livebuilder {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show every command that is run, and timings.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show warnings and errors only.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    if verbose and quiet:
        raise UsageError("--verbose and --quiet exclude each other")
    from livebuilder import console

    console.setup(verbose=verbose, quiet=quiet)


@app.command()
def build(
    profile: Annotated[
        Path | None, typer.Argument(metavar="[PROFILE.toml]", help="What to build; without it, the built-in router.")
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where the results go.")] = Path("out"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the profile; repeatable.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Use the cache only; fetch nothing.")] = False,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Fetch the package lists even if they are of today.")
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="A package list that cannot be had is an error.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made; write nothing but the cache.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build a live ISO with its kernel, initramfs, manifest.json and sha256sums.

    Examples:

      livebuilder build

      livebuilder build attic-pc.toml -o discs/ --set storage.label=attic

      livebuilder build --offline --set output.compression=gzip
    """
    from livebuilder.build.inputs import BuildRequest
    from livebuilder.build.plan import plan_build
    from livebuilder.build.run import run_build
    from livebuilder.cache import Cache, cache_root
    from livebuilder.profile import read_profile

    started = time.monotonic()
    request = BuildRequest(
        profile=read_profile(profile, settings=settings or []),
        output=output,
        cache=Cache(cache_root()),
        offline=offline,
        refresh=refresh,
        strict=strict,
        epoch=source_date_epoch(),
    )
    plan = plan_build(request)
    if dry_run:
        _print(plan.to_json(), plan.render(), as_json=as_json)
        return
    report = run_build(plan, started=started)
    _print(report.to_json(), report.render(), as_json=as_json)


@app.command()
def inspect(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="An ISO, an initramfs or a kernel.")],
    as_json: Json = False,
) -> None:
    """Show what is in an ISO (catalog, loader, files), an initramfs (every path) or a kernel.

    Examples:

      livebuilder inspect out/router.iso

      livebuilder inspect out/initramfs --json | jq .archives
    """
    from livebuilder.inspection import inspect_file

    inspection = inspect_file(path)
    _print(inspection.to_json(), inspection.render(), as_json=as_json)


@app.command()
def doctor(
    missing: Annotated[
        Distribution | None, typer.Option("--missing", help="Print only the missing packages' names, for scripts.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which tools are there, which are missing, and the package that holds each. Exit 1 if any is missing.

    Examples:

      livebuilder doctor

      apt-get install $(livebuilder doctor --missing debian)
    """
    from livebuilder.doctor import check_needs, diagnose, missing_packages, read_needs

    checks = check_needs(read_needs())
    if missing is not None:
        typer.echo(" ".join(missing_packages(checks, distribution=missing.value)))
        return
    diagnosis = diagnose(checks)
    _print(diagnosis.to_json(), diagnosis.render(), as_json=as_json)
    if not diagnosis.healthy:
        raise typer.Exit(1)


@usb_app.command("image")
def usb_image(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The image file to make.")],
    size: Annotated[str, typer.Option("--size", help="Of the whole stick, as in 64M or 1G.")] = "64M",
    fs: Annotated[str, typer.Option("--fs", help="ext4, ext3, ext2, f2fs or btrfs.")] = "ext4",
    label: Annotated[str, typer.Option("--label", help="What the ISO looks for.")] = "rootfs_data",
    table: Annotated[str, typer.Option("--table", help="gpt or dos.")] = "gpt",
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan; write nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Make an image file of a stick: partition table, one file system, labelled, ready to keep settings.

    Examples:

      livebuilder usb image stick.img

      livebuilder usb image big.img --size 1G --fs btrfs --table dos
    """
    from livebuilder.sizes import parse_size
    from livebuilder.usb.plan import StickIdentity, plan_stick, plan_to_json, render_plan
    from livebuilder.usb.stick import make_stick_image, render_stick

    with _as_usage():
        plan = plan_stick(size_bytes=parse_size(size), fs=fs, label=label, table=table, identity=StickIdentity.random())
    if dry_run:
        _print(plan_to_json(plan), render_plan(plan), as_json=as_json)
        return
    report = make_stick_image(path, plan, force=force)
    _print(report.facts(), render_stick(report), as_json=as_json)


@vm_app.command("run")
def vm_run(
    iso: Annotated[Path, typer.Argument(metavar="ISO")],
    usb: Annotated[
        list[Path] | None,
        typer.Option("--usb", metavar="FILE", help="Plug in this stick image; repeatable. It is written to."),
    ] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="As in 96M; by default what the machine had.")] = None,
    machine: Annotated[str, typer.Option("--machine", help="A period PC: pc-1997, pc-2000 or pc-modern.")] = "pc-1997",
    display: Annotated[bool, typer.Option("--display", help="Open a window with the PC's screen.")] = False,
) -> None:
    """Boot an ISO in QEMU with the serial console in this terminal. Ctrl-A X ends it.

    Examples:

      livebuilder vm run out/router.iso --usb stick.img

      livebuilder vm run out/router.iso --machine pc-2000 --memory 64M --display
    """
    from livebuilder.sizes import parse_size
    from livebuilder.vm.interactive import run_interactively
    from livebuilder.vm.machine import machine_named

    with _as_usage():
        machine_named(machine)
        memory_bytes = parse_size(memory) if memory else None
    raise typer.Exit(
        run_interactively(iso, sticks=usb or [], machine=machine, memory_bytes=memory_bytes, display=display)
    )


@vm_app.command("test")
def vm_test(
    iso: Annotated[Path, typer.Argument(metavar="ISO")],
    machine: Annotated[str, typer.Option("--machine", help="A period PC: pc-1997, pc-2000 or pc-modern.")] = "pc-1997",
    memory: Annotated[str | None, typer.Option("--memory", help="As in 96M; by default what the machine had.")] = None,
    logs: Annotated[
        Path | None, typer.Option("--logs", metavar="DIR", help="Keep serial logs, screenshots and the stick here.")
    ] = None,
    stick: Annotated[
        Path | None, typer.Option("--stick", metavar="FILE", help="Make the stick's image here, anew, and keep it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove an ISO: boot it with a new stick, change a setting, power off, boot again, find the setting.

    A third boot without the stick must not find it. Exit 0 when all of that holds.

    Examples:

      livebuilder vm test out/router.iso

      livebuilder vm test out/router.iso --machine pc-2000 --logs proof/ --json
    """
    import tempfile

    from livebuilder.cache import Cache, cache_root
    from livebuilder.inspection import image_facts
    from livebuilder.sizes import parse_size
    from livebuilder.staging import make_folder
    from livebuilder.usb.plan import StickIdentity, plan_stick
    from livebuilder.usb.stick import make_stick_image
    from livebuilder.vm.accelerator import find_accelerator
    from livebuilder.vm.machine import machine_named
    from livebuilder.vm.scenario import proof_to_json, two_boot_proof

    with _as_usage():
        pc = machine_named(machine)
        memory_bytes = parse_size(memory) if memory else None
    label = image_facts(iso)["label"]
    with tempfile.TemporaryDirectory(prefix="livebuilder-") as scratch:
        folder = logs or Path(scratch)
        make_folder(folder)
        stick = stick or folder / "stick.img"
        make_stick_image(stick, plan_stick(label=label, identity=StickIdentity.random()), force=True)
        proof = two_boot_proof(
            iso,
            stick=stick,
            logs=folder,
            machine=pc,
            accelerator=find_accelerator(pc.program, cache=Cache(cache_root())),
            memory_bytes=memory_bytes,
        )
    _print(proof_to_json(proof), "\n".join(proof.story), as_json=as_json)
    if not proof.success:
        raise typer.Exit(1)


@contextmanager
def _as_usage() -> Iterator[None]:
    """What is wrong in here is wrong with the words of the command line alone."""
    try:
        yield
    except LivebuilderError as error:
        raise UsageError(error.message, hint=error.hint) from error


def _print(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False) if as_json else text)


def source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH (reproducible-builds.org), in seconds since 1970, or None."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if text is None:
        return None
    if not text.isdecimal() or len(text) > 10 or int(text) >= 2**32:
        raise UsageError(
            f"SOURCE_DATE_EPOCH={text[:40]} is not a time in seconds since 1970",
            hint="SOURCE_DATE_EPOCH=$(git log -1 --format=%ct), or unset it",
        )
    return int(text)


def main() -> None:
    """Run the command line and exit: 0, 1 for errors of ours, 2 for usage."""
    try:
        app()
    except LivebuilderError as error:
        typer.secho(f"error: {error.message}", fg="red", err=True)
        if error.hint:
            typer.echo(f"  try: {error.hint}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
