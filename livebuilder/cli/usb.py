"""`livebuilder usb …`: the stick that keeps the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from livebuilder.cli.common import Json, as_usage, group, show
from livebuilder.errors import UsageError

app = group("The stick that keeps the settings: list, prepare, check, save, and never the wrong device.")

Target = Annotated[Path, typer.Argument(metavar="TARGET", help="A device, as in /dev/sdb, or an image file.")]
FileSystemName = Annotated[str, typer.Option("--fs", help="ext4, ext3, ext2, f2fs or btrfs.")]
Label = Annotated[str, typer.Option("--label", help="What the ISO looks for.")]
Erase = Annotated[
    str | None,
    typer.Option("--erase", metavar="SERIAL", help="Yes, this one: its serial number; of an image its file name."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Ask nothing; for image files.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan; write nothing.")]


@app.command("list")
def list_sticks(
    everything: Annotated[bool, typer.Option("--all", help="Show disks that cannot be taken out, too.")] = False,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Tell every reason; with --all show what is empty, too."),
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and tell what is plugged in and out.")] = False,
    as_json: Json = False,
) -> None:
    """Show the disks that can be taken out, what is on them, and whether they may be used.

    Examples:

      livebuilder usb list

      livebuilder usb list --watch

      livebuilder usb list --all --verbose
    """
    from livebuilder.usb.blockdevice import is_candidate, is_empty_device
    from livebuilder.usb.constraints import judge, render_devices, to_json
    from livebuilder.usb.devices import list_devices
    from livebuilder.usb.events import watch as watch_devices

    known = list_devices()
    shown = [device for device in known if everything or is_candidate(device)]
    findings = {device.path: judge(device, purpose="prepare", others=known) for device in shown}
    show({"devices": to_json(shown, findings)}, render_devices(shown, findings, verbose=verbose), as_json=as_json)
    if not watch:
        return
    for event in watch_devices(known):
        device = event.device
        if is_candidate(device) or (everything and (verbose or as_json or not is_empty_device(device))):
            found = {device.path: judge(device, purpose="prepare", others=list_devices())}
            data = {"action": event.action, "device": to_json([device], found)[0]}
            text = render_devices([device], found, verbose=verbose)
            show(data, f"\n{event.action}: {text}", as_json=as_json)


@app.command("prepare")
def prepare_stick(
    target: Annotated[
        Path | None, typer.Argument(metavar="TARGET", help="A device, as in /dev/sdb, or an image file.")
    ] = None,
    size: Annotated[
        str | None, typer.Option("--size", help="Of the partition, as in 512M; all of it if not said.")
    ] = None,
    fs: FileSystemName = "ext4",
    label: Label = "rootfs_data",
    table: Annotated[str, typer.Option("--table", help="gpt or dos.")] = "gpt",
    erase: Erase = None,
    yes: Yes = False,
    watch: Annotated[bool, typer.Option("--watch", help="Wait until the stick is plugged in.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Erase a stick and make it ready to keep settings: table, one file system, labelled; then read it all back.

    Nothing is chosen for you, and nothing is written before you have typed which stick you mean.

    Examples:

      livebuilder usb prepare /dev/sdb

      livebuilder usb prepare --watch --fs f2fs

      livebuilder usb prepare /dev/sdb --erase 4C530001230101116332
    """
    from livebuilder.cli.consent import await_stick, examine, obtain
    from livebuilder.sizes import parse_size
    from livebuilder.usb.plan import StickIdentity, plan_stick, plan_to_json, render_plan
    from livebuilder.usb.prepare import prepare
    from livebuilder.usb.target import open_target

    with as_usage():
        partition_bytes = None if size is None else parse_size(size)
        plan_stick(
            partition_bytes=None, fs=fs, label=label, table=table, identity=StickIdentity.random(), size_bytes=1 << 33
        )
    stick = examine(await_stick(target, erase=erase) if watch else _given(target), purpose="prepare")
    device = stick.device
    plan = plan_stick(
        size_bytes=device.size_bytes,
        partition_bytes=partition_bytes,
        fs=fs,
        label=label,
        table=table,
        identity=StickIdentity.random(),
    )
    if dry_run:
        show(
            {"device": device.to_json(), "plan": plan_to_json(plan)},
            _planned(device.path, render_plan(plan)),
            as_json=as_json,
        )
        return
    obtain(stick, plan=_planned(device.path, render_plan(plan)), erase=erase, yes=yes)
    with open_target(device, writable=True) as opened:
        report = prepare(opened, plan)
    show(report.to_json(), report.render(), as_json=as_json)


@app.command("write")
def write_live(
    iso: Annotated[Path, typer.Argument(metavar="ISO")],
    target: Target,
    storage: Annotated[bool, typer.Option("--storage", help="Behind it, a partition that keeps the settings.")] = False,
    fs: FileSystemName = "ext4",
    label: Annotated[
        str | None, typer.Option("--label", help="Of the storage; by default what the ISO looks for.")
    ] = None,
    erase: Erase = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Erase a stick and write an ISO to it that starts from USB; then compare every byte.

    Examples:

      livebuilder usb write out/router.iso /dev/sdb --storage

      livebuilder usb write out/router.iso /dev/sdb --dry-run
    """
    from livebuilder.cli.consent import examine, obtain
    from livebuilder.usb.live import plan_live, write_iso
    from livebuilder.usb.plan import StickIdentity
    from livebuilder.usb.target import open_target

    stick = examine(target, purpose="write", iso=iso)
    device = stick.device
    wanted = label or (_sought_by(iso) if storage else "rootfs_data")
    plan = plan_live(
        iso, size_bytes=device.size_bytes, storage=storage, fs=fs, label=wanted, identity=StickIdentity.random()
    )
    if dry_run:
        show(
            {"device": device.to_json(), "plan": plan.to_json()}, _planned(device.path, plan.render()), as_json=as_json
        )
        return
    obtain(stick, plan=_planned(device.path, plan.render()), erase=erase, yes=yes)
    with open_target(device, writable=True, redo="write it again") as opened:
        report = write_iso(opened, plan)
    show(report.to_json(), report.render(), as_json=as_json)


@app.command("adopt")
def adopt_stick(
    target: Target,
    label: Label = "rootfs_data",
    erase: Erase = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make a stick that has files on it fit, without erasing: label, partition's name, upper/, work/, .fs_state.

    Examples:

      livebuilder usb adopt /dev/sdb --dry-run

      livebuilder usb adopt /dev/sdb1 --label attic
    """
    from livebuilder.cli.consent import obtain
    from livebuilder.cli.stick import at_work, examine_storage
    from livebuilder.usb.adopt import adopt, plan_adoption
    from livebuilder.usb.content import read_content
    from livebuilder.usb.target import open_target

    stick, volume = examine_storage(target, purpose="adopt", label=label)
    with open_target(stick.device, writable=False) as opened, read_content(opened, volume) as tree:
        plan = plan_adoption(stick.device, volume, tree, label=label)
    if dry_run or not plan.changes:
        show(plan.to_json(), plan.render(), as_json=as_json)
        return
    obtain(stick, plan=plan.render(), erase=erase, yes=yes)
    with at_work(stick.device, f"Changing {volume.path}", redo="adopt it again") as (opened, progress):
        adopt(opened, volume, plan, progress=progress)
    show(plan.to_json(), plan.render().replace(" will be changed", " was changed"), as_json=as_json)


@app.command("check")
def check(
    target: Target,
    label: Label = "rootfs_data",
    write_test: Annotated[
        bool,
        typer.Option(
            "--write-test", help="Write marks all over it and put back what was there: is it as large as it says?"
        ),
    ] = False,
    erase: Erase = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Say whether a stick is right, what is not and what to type, and what a boot would do with it. Exit 1 if not.

    Nothing is written without --write-test.

    Examples:

      livebuilder usb check /dev/sdb

      livebuilder usb check stick.img --json
    """
    from livebuilder.cli.consent import examine, obtain
    from livebuilder.usb.check import check_stick
    from livebuilder.usb.target import open_target

    stick = examine(target, purpose="prepare" if write_test else "check")
    device = stick.device
    if write_test:
        plan = f"Marks are written all over {device.path}, and what was there is put back."
        obtain(stick, plan=plan, erase=erase, yes=yes)
    with open_target(device, writable=write_test) as opened:
        report = check_stick(device, opened, label=label, write_test=write_test)
    show(report.to_json(), report.render(), as_json=as_json)
    if not report.fits:
        raise typer.Exit(1)


@app.command("backup")
def backup(
    target: Target,
    archive: Annotated[Path, typer.Argument(metavar="FILE.tar.zst", help="The archive to make.")],
    label: Label = "rootfs_data",
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Write all that is on a stick into an archive, with owners, modes, links and what the overlay notes.

    Examples:

      livebuilder usb backup /dev/sdb attic.tar.zst
    """
    from livebuilder.cli.stick import at_work, examine_storage
    from livebuilder.usb.backup import write_backup

    stick, volume = examine_storage(target, purpose="backup", label=label)
    if dry_run:
        text = f"All that is on {volume.path} ({volume.fs}, labelled {volume.label}) goes into {archive}"
        show({"volume": volume.path, "archive": str(archive)}, text, as_json=as_json)
        return
    with at_work(stick.device, f"Backing up {volume.path}") as (opened, progress):
        report = write_backup(opened, volume, archive, force=force, progress=progress)
    show(report.to_json(), report.render(), as_json=as_json)


@app.command("restore")
def restore_stick(
    archive: Annotated[Path, typer.Argument(metavar="FILE.tar.zst", help="What `usb backup` made.")],
    target: Target,
    label: Label = "rootfs_data",
    erase: Erase = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make a stick hold what a backup holds, and nothing else. The archive is checked whole before.

    Examples:

      livebuilder usb restore attic.tar.zst /dev/sdb
    """
    from livebuilder.cli.consent import obtain
    from livebuilder.cli.stick import at_work, examine_storage
    from livebuilder.usb.backup import read_backup, restore

    stick, volume = examine_storage(target, purpose="restore", label=label)
    with read_backup(archive) as tree:
        paths = len(tree)
    plan = f"What is on {volume.path} gives way to the {paths} paths of {archive}; label and UUID stay."
    if dry_run:
        show({"volume": volume.path, "archive": str(archive), "paths": paths}, plan, as_json=as_json)
        return
    obtain(stick, plan=plan, erase=erase, yes=yes)
    with at_work(stick.device, f"Restoring {volume.path}", redo="restore it again") as (opened, progress):
        report = restore(archive, opened, volume, progress=progress)
    show(report.to_json(), report.render(), as_json=as_json)


@app.command("reset")
def reset_stick(
    target: Target,
    keep: Annotated[
        list[str] | None, typer.Option("--keep", metavar="PATH", help="Let this stay, as in /etc/dropbear; repeatable.")
    ] = None,
    label: Label = "rootfs_data",
    erase: Erase = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Take all settings off a stick, so that the next boot starts with the image's own.

    Examples:

      livebuilder usb reset /dev/sdb

      livebuilder usb reset stick.img --yes --keep /etc/dropbear
    """
    from livebuilder.cli.consent import obtain
    from livebuilder.cli.stick import at_work, examine_storage
    from livebuilder.usb.backup import diff, reset
    from livebuilder.usb.target import open_target

    stick, volume = examine_storage(target, purpose="reset", label=label)
    with open_target(stick.device, writable=False) as opened:
        there = diff(opened, volume)
    stays = f", but {', '.join(keep)}" if keep else ""
    plan = f"All of this is taken off {volume.path}{stays}:\n{there.render()}"
    if dry_run:
        show({"keep": keep or [], **there.to_json()}, plan, as_json=as_json)
        return
    obtain(stick, plan=plan, erase=erase, yes=yes)
    with at_work(stick.device, f"Resetting {volume.path}", redo="reset it again") as (opened, progress):
        report = reset(opened, volume, keep=keep or (), progress=progress)
    show(report.to_json(), report.render(), as_json=as_json)


@app.command("diff")
def diff_stick(
    target: Target,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="Only what is at or below it, as in /etc.")] = "",
    against: Annotated[
        Path | None, typer.Option("--against", metavar="ISO", help="Only files that hide a newer one of this disc.")
    ] = None,
    label: Label = "rootfs_data",
    as_json: Json = False,
) -> None:
    """List the files on a stick that are not as in the image: changed, added, deleted.

    Examples:

      livebuilder usb diff /dev/sdb

      livebuilder usb diff stick.img /etc

      livebuilder usb diff stick.img --against out/router.iso
    """
    from livebuilder.cli.stick import examine_storage
    from livebuilder.usb.backup import diff
    from livebuilder.usb.content import read_content
    from livebuilder.usb.stale import find_stale, image_files
    from livebuilder.usb.target import open_target

    if against is not None and path:
        raise UsageError("--against looks at the whole stick: leave PATH out")
    newer = image_files(against) if against is not None else {}
    stick, volume = examine_storage(target, purpose="diff", label=label)
    with open_target(stick.device, writable=False) as opened:
        if against is not None:
            with read_content(opened, volume) as tree:
                stale = find_stale(tree, newer, volume=volume.path, against=str(against))
            show(stale.to_json(), stale.render(), as_json=as_json)
            return
        report = diff(opened, volume, path)
    show(report.to_json(), report.render(), as_json=as_json)


@app.command("image")
def usb_image(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="The image file to make.")],
    size: Annotated[str, typer.Option("--size", help="Of the whole stick, as in 64M or 1G.")] = "64M",
    fs: FileSystemName = "ext4",
    label: Label = "rootfs_data",
    table: Annotated[str, typer.Option("--table", help="gpt or dos.")] = "gpt",
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Make an image file of a stick: partition table, one file system, labelled, ready to keep settings.

    Examples:

      livebuilder usb image stick.img

      livebuilder usb image big.img --size 1G --fs btrfs --table dos
    """
    from livebuilder.sizes import parse_size
    from livebuilder.usb.plan import StickIdentity, plan_stick, plan_to_json, render_plan
    from livebuilder.usb.stick import make_stick_image

    with as_usage():
        plan = plan_stick(size_bytes=parse_size(size), fs=fs, label=label, table=table, identity=StickIdentity.random())
    if dry_run:
        show(plan_to_json(plan), render_plan(plan), as_json=as_json)
        return
    report = make_stick_image(path, plan, force=force)
    show(report.to_json(), report.render(), as_json=as_json)


def _given(target: Path | None) -> Path:
    if target is None:
        raise UsageError("which stick? Name it, or wait for one with --watch", hint="livebuilder usb list")
    return target


def _sought_by(iso: Path) -> str:
    from livebuilder.inspection import image_facts

    label: str = image_facts(iso)["label"]
    return label


def _planned(path: str, plan: str) -> str:
    return f"All that is on {path} will be lost. It becomes:\n{plan}"
