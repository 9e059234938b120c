"""`livebuilder openwrt …`: what OpenWrt publishes, for discs of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from livebuilder.cli.common import Json, group, show
from livebuilder.errors import UsageError

app = group("OpenWrt itself: fetch a release and verify it.")

URL_VARIABLE = "LIVEBUILDER_OPENWRT_URL"
TARGETS = ("x86/generic", "x86/legacy", "x86/64", "x86/geode")


def _complete_target(incomplete: str) -> list[str]:
    return [target for target in TARGETS if target.startswith(incomplete)]


@app.command("fetch")
def fetch(
    version: Annotated[str, typer.Option("--version", help="As in 23.05.5, or snapshot.")],
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="x86/generic, x86/legacy (before the Pentium 4) or x86/64.",
            autocompletion=_complete_target,
        ),
    ],
    url: Annotated[
        str, typer.Option("--url", metavar="BASE", envvar=URL_VARIABLE, help="The server; releases/ is below it.")
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Where the files go; openwrt-VERSION-TARGET if not said."),
    ] = None,
    keys: Annotated[
        list[Path] | None,
        typer.Option("--key", metavar="FILE", help="A public key, of usign or GPG, that may have signed; repeatable."),
    ] = None,
    hash_only: Annotated[
        bool, typer.Option("--hash-only", help="Do without a signature: whoever runs the server is believed.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Use the cache only; fetch nothing.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched; write nothing but the cache.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fetch a release's root, kernel and manifest, and verify who signed them and that they are whole.

    Examples:

      livebuilder openwrt fetch --version 23.05.5 --target x86/generic --url https://downloads.example --key release.pub

      livebuilder openwrt fetch --version 18.06.9 --target x86/legacy --hash-only --dry-run
    """
    from livebuilder.cache import Cache, cache_root
    from livebuilder.openwrt.download import FetchRequest, plan_fetch, run_fetch
    from livebuilder.openwrt.layout import Location
    from livebuilder.openwrt.signature import read_key_file
    from livebuilder.openwrt.transfer import Mirror

    started = time.monotonic()
    location = Location(version, target)
    if not url:
        raise UsageError(
            "which server is OpenWrt to be fetched from? None is built in",
            hint=f"--url https://HOST/PATH, or {URL_VARIABLE}=…: the address that has releases/ below it",
        )
    if keys and hash_only:
        raise UsageError("--key and --hash-only exclude each other", hint="leave --hash-only out")
    if not keys and not hash_only:
        raise UsageError(
            "without a key nobody can tell whether the files are OpenWrt's",
            hint="--key FILE, the public key of the release, of usign or GPG; or --hash-only, which takes the word of"
            " whoever runs the server",
        )
    request = FetchRequest(
        location=location,
        output=output or Path(location.label),
        cache=Cache(cache_root()),
        keys=tuple(read_key_file(path) for path in keys or ()),
        hash_only=hash_only,
        offline=offline,
    )
    with Mirror(url) as mirror:
        plan = plan_fetch(request, mirror)
        if dry_run:
            show(plan.to_json(), plan.render(), as_json=as_json)
            return
        report = run_fetch(plan, mirror, started=started)
    show(report.to_json(), report.render(), as_json=as_json)
