"""QEMU for real, with a guest that is one boot sector: a machine is up in a moment, so every claim has its own."""

from __future__ import annotations

import os
import pty
import signal
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError
from livebuilder.process import run, spawn, wait
from livebuilder.vm.accelerator import KVM, TCG, find_accelerator, works
from livebuilder.vm.machine import MACHINES, Guest, ImageBoot, Machine, Media, Stick, machine_named
from livebuilder.vm.serial import GuestError, SerialLine
from livebuilder.vm.session import Session, run_guest
from tests.support.guests import talker
from tests.support.pictures import png_pixels

pytestmark = pytest.mark.vm

PC = machine_named("pc-1997")
SECONDS = 30
STICK_BYTES = 1024 * 1024


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return talker(tmp_path)


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    path = tmp_path / "stick.img"
    path.write_bytes(bytes(STICK_BYTES))
    return path


@contextmanager
def running(image: Path, *, machine: Machine = PC, media: Media = Media.IDE_DISK, **parts: Any) -> Iterator[Session]:
    guest = Guest(machine=machine, boot=ImageBoot(image, media), **parts)
    with run_guest(guest, log=image.parent / "logs" / "boot.log", accelerator=TCG) as session:
        session.wait_for("^READY$", timeout_seconds=SECONDS)
        yield session


def log_of(image: Path) -> str:
    return (image.parent / "logs" / "boot.log").read_text()


def is_alive(pid: int) -> bool:
    """Whether the process still runs: not gone, and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def eventually(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + SECONDS
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
@pytest.mark.parametrize("media", [Media.IDE_DISK, Media.USB_DISK])
def test_every_machine_boots_listens_and_powers_off(image: Path, stick: Path, machine: Machine, media: Media) -> None:
    with running(image, machine=machine, media=media, sticks=(Stick(stick),)) as session:
        session.type_text("a")
        session.wait_for("^heard a$", timeout_seconds=SECONDS)
        session.type_text("p")
        assert session.wait_for_end(timeout_seconds=SECONDS) == 0
        assert not is_alive(session.pid)
    assert log_of(image).splitlines() == ["READY", "heard a", "heard p"]


def test_an_image_that_boots_from_cd(image: Path) -> None:
    iso = image.parent / "talker.iso"
    options = ["-quiet", "-b", image.name, "-no-emul-boot", "-boot-load-size", "4"]
    run(["xorriso", "-as", "mkisofs", *options, "-o", iso, image.parent])
    with running(iso, media=Media.CD) as session:
        assert "Booting from DVD/CD" in session.screen_text()


def test_keyboard_and_screen(image: Path, tmp_path: Path) -> None:
    with running(image) as session:
        session.press("b", "shift-c")
        session.wait_for("pressed b\npressed C\n", timeout_seconds=SECONDS)
        session.wait_for_screen("^pressed C$", timeout_seconds=SECONDS)
        assert session.screen_text().endswith("READY\npressed b\npressed C")
        with pytest.raises(GuestError, match=r"(?s)did not show 'login:' within 0.2 seconds; it shows:\n.*pressed C"):
            session.wait_for_screen("login:", timeout_seconds=0.2)
        session.command("stop")  # the cursor blinks
        ours = session.screenshot(tmp_path / "ours.png")
        session.command("screendump", filename=str(tmp_path / "libpng.png"), format="png")
    assert png_pixels(ours.read_bytes()) == png_pixels((tmp_path / "libpng.png").read_bytes())
    assert len(set(png_pixels(ours.read_bytes())[2])) > 1, "the picture is of one colour"


def test_words_are_typed_on_the_keyboard(image: Path) -> None:
    with running(image) as session:
        session.type_on_keyboard("console=ttyS0,115200n8 a.b-c_d")
        typed = "".join(rf"pressed {character}\n" for character in "console=ttyS0,115200n8 a.b-c_d")
        session.wait_for(f"{typed}pressed ", timeout_seconds=SECONDS)


def test_a_time_out_shows_the_last_lines_and_leaves_the_log(image: Path) -> None:
    with running(image) as session:
        with pytest.raises(GuestError) as failed:
            session.wait_for("login:", timeout_seconds=0.2)
        assert failed.value.message == (
            "the guest did not say 'login:' within 0.2 seconds; its last lines:\n    READY"
        )  # fmt: skip
        assert failed.value.log.read_text() == log_of(image) == "READY\n"
        with pytest.raises(GuestError, match=r"did not power off within 0\.2 seconds"):
            session.wait_for_end(timeout_seconds=0.2)


def test_a_guest_that_ends_is_not_waited_for(image: Path) -> None:
    with running(image) as session:
        session.type_text("p")
        with pytest.raises(GuestError, match="QEMU ended with status 0 while we waited for 'login:'"):
            session.wait_for("login:", timeout_seconds=600)
        with pytest.raises(GuestError, match="QEMU did not do query-status"):
            session.command("query-status")


def test_what_qemu_refuses_is_said(image: Path) -> None:
    with running(image) as session, pytest.raises(GuestError, match="did not do device_del: Device 'x' not found"):
        session.unplug("x")


def usb_devices(session: Session) -> str:
    return str(session.command("human-monitor-command", command_line="info usb"))


def write_sector(session: Session, image: str) -> None:
    """Write over the first sector as the guest would: through the device, in QEMU's block layer."""
    drives = session.command("query-block")
    assert isinstance(drives, list)
    (device,) = (d["qdev"] for d in drives if image in (d["device"], d.get("inserted", {}).get("node-name")))
    session.command("human-monitor-command", command_line=f'qemu-io -d {device} "write -P 0x5a 0 512"')


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_sticks_are_plugged_in_and_pulled_out(image: Path, stick: Path, machine: Machine) -> None:
    with running(image, machine=machine) as session:
        assert session.plugged() == ()
        name = session.plug(Stick(stick, serial="FIRST1"))
        assert session.plugged() == (name,)
        assert f"ID: {name}" in usb_devices(session)
        session.unplug(name)
        assert session.plugged() == ()
        assert name not in usb_devices(session)
        again = session.plug(Stick(stick, serial="FIRST1"))  # the file was let go: nobody else holds its lock
        assert again != name
        session.unplug(again)


def test_a_stick_that_was_there_from_the_start_can_be_pulled_out(image: Path, stick: Path) -> None:
    with running(image, sticks=(Stick(stick),)) as session:
        assert session.plugged() == ("stick0",)
        session.unplug("stick0")
        assert session.plugged() == ()
        session.plug(Stick(stick))


KEPT = {
    "written to": (Stick(Path()), True),
    "snapshot": (Stick(Path(), snapshot=True), False),
    "write-protected": (Stick(Path(), read_only=True), False),
}


@pytest.mark.parametrize("plugged_later", [False, True])
@pytest.mark.parametrize("case", KEPT)
def test_a_stick_keeps_what_it_should(image: Path, stick: Path, case: str, plugged_later: bool) -> None:
    kind, kept = KEPT[case]
    this = Stick(stick, snapshot=kind.snapshot, read_only=kind.read_only)
    with running(image, sticks=() if plugged_later else (this,)) as session:
        name = session.plug(this) if plugged_later else "stick0"
        write_sector(session, f"{name}-image")
        session.type_text("p")
        session.wait_for_end(timeout_seconds=SECONDS)
    assert (stick.read_bytes()[:512] == b"\x5a" * 512) == kept
    assert stick.read_bytes()[512:] == bytes(STICK_BYTES - 512)


@pytest.mark.parametrize("media", Media)
def test_what_was_booted_is_never_written_to(image: Path, media: Media) -> None:
    before = image.read_bytes()
    guest = Guest(machine=PC, boot=ImageBoot(image, media))
    with run_guest(guest, log=image.parent / "boot.log", accelerator=TCG) as session:
        write_sector(session, "boot-image")
    assert image.read_bytes() == before


def test_a_missing_image_is_refused_before_qemu_starts(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError, match=r"no\.iso is no file that can be read"), running(tmp_path / "no.iso"):
        pytest.fail("it started")
    assert not (tmp_path / "logs").exists()


def test_what_qemu_says_when_it_will_not_start(image: Path) -> None:
    with (
        pytest.raises(LivebuilderError, match=r"did not start \(status 1\): .*'nonsense' is not a valid device model"),
        running(image, extra=("-device", "nonsense")),
    ):
        pytest.fail("it started")


def test_a_program_that_is_not_installed(image: Path) -> None:
    machine = Machine(**{**PC.__dict__, "program": "qemu-system-vax"})
    with (
        pytest.raises(LivebuilderError, match="qemu-system-vax is not installed") as refused,
        running(image, machine=machine),
    ):
        pytest.fail("it started")
    assert str(refused.value.hint).startswith("livebuilder doctor")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_exception_ends_qemu(image: Path, error: type[BaseException]) -> None:
    pid = 0
    with pytest.raises(error), running(image) as session:
        pid = session.pid
        assert is_alive(pid)
        raise error
    assert not is_alive(pid)


def test_nothing_is_left_in_the_folder_for_temporary_files(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(prefix="lb-") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        with running(image) as session:
            session.screenshot(image.parent / "screen.png")
            assert list(Path(folder).iterdir())
        assert list(Path(folder).iterdir()) == []


def test_a_folder_for_temporary_files_with_a_long_name(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = image.parent / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with running(image) as session:
        session.screen_text()


def test_the_power_can_be_cut(image: Path) -> None:
    with running(image) as session:
        session.cut_power()
        assert not is_alive(session.pid)


# A program of ours that forgets its session, or is ended from outside while it waits.
PROGRAM = """
    import sys
    from pathlib import Path
    from livebuilder.vm.machine import Guest, ImageBoot, Media, machine_named
    from livebuilder.vm.session import run_guest
    image, told, way = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    guest = Guest(machine=machine_named("pc-1997"), boot=ImageBoot(image, Media.IDE_DISK))
    context = run_guest(guest, log=image.with_suffix(".log"), accelerator="tcg")
    if way == "forgotten":
        session = context.__enter__()
        told.write_text(f"{session.pid}\\n")
        sys.exit(0)
    with context as session:
        told.write_text(f"{session.pid}\\n")
        session.wait_for("never", timeout_seconds=600)
"""


@pytest.mark.parametrize("way", ["forgotten", "SIGINT", "SIGTERM", "SIGKILL"])
def test_qemu_does_not_outlive_us(image: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told = image.parent / "pid"
    argv = [sys.executable, "-c", textwrap.dedent(PROGRAM), image, told, way]
    # Who is killed outright leaves its temporary folder behind: let that be in one of ours.
    with tempfile.TemporaryDirectory(prefix="lb-") as folder, (image.parent / "said").open("w+b") as said:
        monkeypatch.setenv("TMPDIR", folder)
        ours = spawn(argv, stdout=said, stderr=said)
        assert eventually(lambda: told.exists() and told.read_text().endswith("\n")), Path(said.name).read_text()
        if way != "forgotten":
            os.kill(ours.pid, getattr(signal, way))
        assert wait(ours, timeout_seconds=SECONDS) is not None
        assert eventually(lambda: not is_alive(int(told.read_text())))


# -- the accelerator -------------------------------------------------------------------------------------


def test_the_probe_tells_what_works_from_what_does_not() -> None:
    assert works(PC.program, TCG, timeout_seconds=SECONDS)
    assert not works(PC.program, "nonsense")
    assert not works(PC.program, TCG, timeout_seconds=0.01), "a guest that does not end in time"


def test_without_the_device_there_is_no_probe(tmp_path: Path) -> None:
    assert find_accelerator(PC.program, cache=Cache(tmp_path), device=tmp_path / "kvm") == TCG
    assert list(tmp_path.iterdir()) == []


def test_the_answer_is_what_the_probe_says_and_is_kept(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    found = find_accelerator(PC.program, cache=cache, device=Path("/dev/null"))
    assert found == (KVM if works(PC.program, KVM) else TCG)
    (kept,) = (tmp_path / "accelerator").iterdir()
    kept.write_text("kept")
    assert find_accelerator(PC.program, cache=cache, device=Path("/dev/null")) == "kept"


# -- by hand ---------------------------------------------------------------------------------------------


def test_by_hand_the_terminal_is_the_serial_console(image: Path, stick: Path) -> None:
    """`vm run` without the parser: QEMU takes the process's place; Ctrl-A X ends it."""
    child, terminal = pty.fork()
    if child == 0:
        program = (
            "import sys; from pathlib import Path; from livebuilder.vm.interactive import run_interactively;"
            "from livebuilder.vm.machine import Media;"
            "run_interactively(Path(sys.argv[1]), sticks=[Path(sys.argv[2])], media=Media.IDE_DISK)"
        )
        os.environ["XDG_CACHE_HOME"] = str(image.parent / "cache")
        os.execv(sys.executable, [sys.executable, "-c", program, str(image), str(stick)])
    line = SerialLine(terminal, log=image)
    line.wait_for("^READY$", timeout_seconds=SECONDS)
    line.type_text("\x03")  # Ctrl-C is the guest's
    line.wait_for("heard \x03", timeout_seconds=SECONDS)
    line.type_text("\x01x")
    line.wait_for("QEMU: Terminated", timeout_seconds=SECONDS)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
