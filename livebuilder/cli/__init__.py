"""The command line: parses, calls one function, prints its result. Heavy parts are imported late."""

from __future__ import annotations

import os
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from livebuilder import __version__
from livebuilder.cli import openwrt, usb, vm
from livebuilder.cli.common import Json, group, show
from livebuilder.errors import LivebuilderError, UsageError

app = group(
    "Turn any old x86 PC into a router that boots from CD and keeps its settings on a USB stick.\n\n"
    "Start with:  livebuilder build && livebuilder vm test out/router.iso",
    completion=True,
)
app.add_typer(openwrt.app, name="openwrt")
app.add_typer(usb.app, name="usb")
app.add_typer(vm.app, name="vm")


class Distribution(StrEnum):
    """Distributions whose package names doctor knows."""

    DEBIAN = "debian"
    FEDORA = "fedora"
    ARCH = "arch"
    ALPINE = "alpine"


class Layout(StrEnum):
    """Where the results of a build are put."""

    FLAT = "flat"
    OPENWRT = "openwrt"


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
    layout: Annotated[
        Layout | None,
        typer.Option("--layout", help="flat: into DIR; openwrt: below it, in OpenWrt's folders with OpenWrt's names."),
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
    """Build a live ISO with its kernel, its initramfs, and the files that say what they are made of.

    Examples:

      livebuilder build

      livebuilder build attic-pc.toml -o discs/ --set storage.label=attic

      livebuilder build --offline --set output.compression=gzip

      livebuilder build attic-pc.toml --layout openwrt
    """
    from livebuilder.build.inputs import BuildRequest
    from livebuilder.build.plan import plan_build
    from livebuilder.build.run import run_build
    from livebuilder.cache import Cache, cache_root
    from livebuilder.profile import read_profile

    started = time.monotonic()
    chosen = [f"output.layout={layout.value}"] if layout else []
    request = BuildRequest(
        profile=read_profile(profile, settings=[*(settings or ()), *chosen]),
        output=output,
        cache=Cache(cache_root()),
        offline=offline,
        refresh=refresh,
        strict=strict,
        epoch=source_date_epoch(),
    )
    plan = plan_build(request)
    if dry_run:
        show(plan.to_json(), plan.render(), as_json=as_json)
        return
    report = run_build(plan, started=started)
    show(report.to_json(), report.render(), as_json=as_json)


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
    show(inspection.to_json(), inspection.render(), as_json=as_json)


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
    show(diagnosis.to_json(), diagnosis.render(), as_json=as_json)
    if not diagnosis.healthy:
        raise typer.Exit(1)


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
