"""`livebuilder vm …`: an ISO in a virtual machine, by hand or as a proof."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from livebuilder.cli.common import Json, as_usage, group, show
from livebuilder.errors import LivebuilderError

app = group("Boot an ISO in a virtual machine, by hand or as a proof.")


@contextmanager
def _folder_for_logs(kept: Path | None) -> Iterator[Path]:
    """`kept`, or else a temporary folder that stays only where there is a log in it of what failed."""
    import shutil
    import tempfile

    from livebuilder.staging import make_folder

    folder = kept or Path(tempfile.mkdtemp(prefix="livebuilder-"))
    make_folder(folder)
    stays = kept is not None
    try:
        yield folder
    except (LivebuilderError, typer.Exit):
        stays = stays or any(folder.glob("*.log"))
        raise
    finally:
        if not stays:
            shutil.rmtree(folder)


@app.command("run")
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

    with as_usage():
        machine_named(machine)
        memory_bytes = parse_size(memory) if memory else None
    raise typer.Exit(
        run_interactively(iso, sticks=usb or [], machine=machine, memory_bytes=memory_bytes, display=display)
    )


@app.command("test")
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
    from livebuilder.cache import Cache, cache_root
    from livebuilder.inspection import image_facts
    from livebuilder.sizes import parse_size
    from livebuilder.usb.plan import StickIdentity, plan_stick
    from livebuilder.usb.stick import make_stick_image
    from livebuilder.vm.accelerator import find_accelerator
    from livebuilder.vm.machine import machine_named
    from livebuilder.vm.menu import label_asked_for, read_config
    from livebuilder.vm.scenario import proof_to_json, two_boot_proof

    with as_usage():
        pc = machine_named(machine)
        memory_bytes = parse_size(memory) if memory else None
    label = image_facts(iso)["label"]
    label = label_asked_for(read_config(iso)) or label
    with _folder_for_logs(logs) as folder:
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
        show(proof_to_json(proof), "\n".join(proof.story), as_json=as_json)
        if not proof.success:
            raise typer.Exit(1)


@app.command("route")
def vm_route(
    iso: Annotated[Path, typer.Argument(metavar="ISO")],
    usb: Annotated[
        Path | None, typer.Option("--usb", metavar="FILE", help="Plug in this stick image. It is not written to.")
    ] = None,
    machine: Annotated[str, typer.Option("--machine", help="A period PC: pc-1997, pc-2000 or pc-modern.")] = "pc-2000",
    memory: Annotated[str | None, typer.Option("--memory", help="As in 96M; by default what the machine had.")] = None,
    logs: Annotated[Path | None, typer.Option("--logs", metavar="DIR", help="Keep the serial logs here.")] = None,
    as_json: Json = False,
) -> None:
    """Prove that an ISO is a router: a client on its LAN fetches 20 MB through it from a provider at its WAN.

    Both are guests of their own. Nothing may be open to the provider. Exit 0 when all of that holds.

    Examples:

      livebuilder vm route out/router.iso --usb stick.img

      livebuilder vm route out/router.iso --memory 128M --logs proof/ --json
    """
    from livebuilder.cache import Cache, cache_root
    from livebuilder.inspection import read_system
    from livebuilder.sizes import parse_size
    from livebuilder.vm.accelerator import find_accelerator
    from livebuilder.vm.machine import machine_named
    from livebuilder.vm.routing import routing_proof, routing_to_json

    with as_usage():
        pc = machine_named(machine)
        memory_bytes = parse_size(memory) if memory else None
    system = read_system(iso)
    accelerator = find_accelerator(pc.program, cache=Cache(cache_root()))
    with _folder_for_logs(logs) as folder:
        proof = routing_proof(
            iso, system, stick=usb, logs=folder, machine=pc, accelerator=accelerator, memory_bytes=memory_bytes
        )
        show(routing_to_json(proof), "\n".join(proof.story), as_json=as_json)
        if not proof.success:
            raise typer.Exit(1)
