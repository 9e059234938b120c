"""`livebuilder usb …`: the stick that keeps the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livebuilder.cli.common import Json, as_usage, group, show

app = group("Make the stick that keeps the settings.")


@app.command("image")
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

    with as_usage():
        plan = plan_stick(size_bytes=parse_size(size), fs=fs, label=label, table=table, identity=StickIdentity.random())
    if dry_run:
        show(plan_to_json(plan), render_plan(plan), as_json=as_json)
        return
    report = make_stick_image(path, plan, force=force)
    show(report.facts(), render_stick(report), as_json=as_json)
