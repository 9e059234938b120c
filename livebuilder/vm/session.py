"""A guest that runs: what it says on its serial line, and every hand we have on it.

    with run_guest(guest, log=Path("boot.log"), accelerator="tcg") as session:
        session.wait_for(r"login: ", timeout_seconds=60)
        session.type_line("root")

The serial line is a socket to us, and QEMU itself copies it to the log file, so the log is whole whatever
happens to us. Everything else goes over QMP. QEMU never outlives the `with` block: it is ended and reaped
there, at `atexit`, and, where util-linux' setpriv is installed, by the kernel when we are killed (by the death
of the thread that started it: a session belongs to one thread).
"""

from __future__ import annotations

import atexit
import logging
import os
import re
import select
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from livebuilder.errors import LivebuilderError
from livebuilder.process import Child, end, find_tool, require_tool, spawn, wait
from livebuilder.vm.machine import Control, Guest, Stick, qemu_argv, stick_device, verify_guest
from livebuilder.vm.screen import TEXT_ADDRESS, TEXT_BYTES, png_from_ppm, text_from_vga
from livebuilder.vm.serial import GuestError, GuestTimeout, SerialLine

START_SECONDS = 60.0
_QMP_SECONDS = 60.0
_REAP_SECONDS = 10.0
_KEYS = {" ": "spc", "=": "equal", ",": "comma", ".": "dot", "-": "minus", "_": "shift-minus"}
_SOCKET_PATH_BYTES = 107  # sun_path less its NUL, unix(7)

# The library would otherwise tell the terminal about connections that end because QEMU does.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class Session(SerialLine):
    """A running guest: its serial line, and hands on its keyboard, screen, USB sockets and power.

    Made by `run_guest`. Every method raises `GuestError` when QEMU is gone.
    """

    def __init__(
        self, child: Child, *, serial: socket.socket, qmp: QEMUMonitorProtocol, folder: Path, log: Path
    ) -> None:
        super().__init__(serial.fileno(), log=log)
        self.started = time.monotonic()
        self._child = child
        self._qmp = qmp
        self._folder = folder
        self._plugged = 0

    @property
    def pid(self) -> int:
        """QEMU's process."""
        return self._child.pid

    @property
    def seconds(self) -> float:
        """Seconds since the guest was started."""
        return time.monotonic() - self.started

    def describe_end(self) -> str:
        """How QEMU ended, for a message."""
        return f"QEMU ended with status {wait(self._child, timeout_seconds=_REAP_SECONDS)}"

    def command(self, name: str, /, **arguments: object) -> object:
        """Give QEMU a QMP command and return its answer; raises `GuestError` when QEMU refuses or is gone.

        An argument's `_` stands for `-`, as in QMP's names; https://www.qemu.org/docs/master/interop/qemu-qmp-ref.html
        """
        words = {key.replace("_", "-"): value for key, value in arguments.items()}
        try:
            return self._qmp.cmd(name, **words)
        except (QMPError, TimeoutError, OSError) as error:
            raise self.failure(f"QEMU did not do {name}: {error or type(error).__name__}") from error

    def press(self, *keys: str) -> None:
        """Press keys on the guest's keyboard, one after the other: `"ret"`, `"a"`, or together: `"ctrl-alt-delete"`.

        The names are QMP's QKeyCode.
        """
        for key in keys:
            self.command("send-key", keys=[{"type": "qcode", "data": code} for code in key.split("-")])

    def type_on_keyboard(self, text: str) -> None:
        """Type words and Enter on the guest's keyboard, as on one with American keys: letters, digits, ` =,.-_`."""
        self.press(*(_key(character) for character in text), "ret")

    def plug(self, stick: Stick) -> str:
        """Plug a stick in and return the name it can be unplugged by.

        With `snapshot` the stick is a copy made now, so plugging it in again brings the unchanged one.
        """
        self._plugged += 1
        name = f"plugged{self._plugged}"
        path = stick.path.absolute()
        if stick.snapshot:
            path = self._folder / f"{name}.img"
            shutil.copyfile(stick.path, path)
        file = {"driver": "file", "filename": os.fspath(path)}
        self.command("blockdev-add", driver="raw", node_name=f"{name}-image", read_only=stick.read_only, file=file)
        self.command("device_add", **stick_device(stick, name, drive=f"{name}-image"))
        return name

    def unplug(self, name: str) -> None:
        """Pull a stick out, as a user does, without asking the guest: `plug`'s name, or `stick0` for the first."""
        self.command("device_del", id=name)
        deadline = time.monotonic() + _QMP_SECONDS
        while name in self.plugged() or not self._released(f"{name}-image"):
            if time.monotonic() > deadline:
                raise self.failure(f"{name} is still plugged in after {_QMP_SECONDS:.0f} seconds")
            time.sleep(0.02)

    def _released(self, image: str) -> bool:
        """Whether QEMU let go of a stick's file, which it does a little after the device has gone."""
        nodes, drives = self.command("query-named-block-nodes", flat=True), self.command("query-block")
        assert isinstance(nodes, list) and isinstance(drives, list)
        if any(node["node-name"] == image for node in nodes):  # one of `plug`: ours to close
            with suppress(GuestError):
                self.command("blockdev-del", node_name=image)
            return False
        return all(drive["device"] != image for drive in drives)  # one of the argv: goes by itself

    def plugged(self) -> tuple[str, ...]:
        """The names of the sticks that are plugged in."""
        devices = self.command("qom-list", path="/machine/peripheral")
        assert isinstance(devices, list)
        return tuple(sorted(item["name"] for item in devices if item["type"] == "child<usb-storage>"))

    def pull_cable(self, card: int) -> None:
        """Pull the cable out of a network card, the first of which is 0: the guest sees that its link is gone."""
        self.command("set_link", name=f"network{card}", up=False)

    def plug_cable(self, card: int) -> None:
        """Plug in the cable that was pulled out."""
        self.command("set_link", name=f"network{card}", up=True)

    def screenshot(self, path: Path) -> Path:
        """Write a picture of the screen to `path`, as PNG."""
        picture = self._folder / "screen.ppm"
        self.command("screendump", filename=os.fspath(picture))
        path.write_bytes(png_from_ppm(picture.read_bytes()))
        picture.unlink()
        return path

    def screen_text(self) -> str:
        """The lines in the VGA's text memory: what is on a text screen, and some of what was scrolled away."""
        dump = self._folder / "screen.mem"
        self.command("pmemsave", val=TEXT_ADDRESS, size=TEXT_BYTES, filename=os.fspath(dump))
        text = text_from_vga(dump.read_bytes())
        dump.unlink()
        return text

    def wait_for_screen(self, pattern: str, *, timeout_seconds: float) -> re.Match[str]:
        """The first match of `pattern` in `screen_text`; raises `GuestTimeout` with the screen when time is up."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            text = self.screen_text()
            match = re.compile(pattern, re.MULTILINE).search(text)
            if match is not None:
                return match
            if time.monotonic() > deadline:
                raise GuestTimeout(
                    f"the screen did not show {pattern!r} within {timeout_seconds:g} seconds",
                    f"it shows:\n{text}",
                    log=self.log,
                )
            self.read(0.1)

    def wait_for_end(self, *, timeout_seconds: float) -> int:
        """QEMU's own exit status, after the guest powered the machine off (or rebooted: that ends QEMU too).

        Only then may the sticks' files be touched. Raises `GuestTimeout` when `timeout_seconds` pass.
        """
        deadline = time.monotonic() + timeout_seconds
        while self.read(max(0.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                what = f"the guest did not power off within {timeout_seconds:g} seconds"
                raise self.failure(what, kind=GuestTimeout)
        status = wait(self._child, timeout_seconds=_REAP_SECONDS)
        if status is None:
            raise self.failure("the serial line is closed but QEMU goes on")
        return status

    def cut_power(self) -> None:
        """Pull the plug: the guest gets no chance to write anything more."""
        self._child.kill()
        self._child.wait()


@contextmanager
def run_guest(guest: Guest, *, log: Path, accelerator: str) -> Iterator[Session]:
    """Start `guest` and give its session; QEMU is gone when the block ends, however it ends.

    `log` is written anew and keeps every byte of the serial line. Raises `LivebuilderError` when QEMU is not
    installed or will not start, with what it says itself.
    """
    require_tool(guest.machine.program)
    verify_guest(guest)
    log.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="livebuilder-vm-", dir=short_folder())))
        control = Control(serial=folder / "serial", qmp=folder / "qmp", log=log.absolute())
        listeners = [stack.enter_context(_listener(path)) for path in (control.serial, control.qmp)]
        said = stack.enter_context((folder / "stderr").open("w+b"))
        argv = qemu_argv(guest, accelerator=accelerator, control=control)
        # setpriv becomes QEMU: the process is QEMU's own, and the kernel ends it when we are killed outright.
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if find_tool("setpriv") else []
        child = spawn([*guard, *argv], stdout=said, stderr=said)
        reap = partial(end, child)
        atexit.register(reap)
        stack.callback(atexit.unregister, reap)
        stack.callback(reap)
        try:
            serial, qmp_line = (stack.enter_context(_accept(listener, child)) for listener in listeners)
            qmp = QEMUMonitorProtocol(qmp_line)
            stack.callback(_close, qmp)
            qmp.connect()
        except (QMPError, OSError) as error:
            status = reap()
            message = Path(said.name).read_text(encoding="utf-8", errors="replace").strip()
            raise LivebuilderError(
                f"{argv[0]} did not start (status {status}): {message or error}",
                hint="livebuilder --verbose vm …   # shows QEMU's command line",
            ) from error
        qmp.settimeout(_QMP_SECONDS)
        yield Session(child, serial=serial, qmp=qmp, folder=folder, log=log)


def _key(character: str) -> str:
    """The key, as `Session.press` takes it."""
    return f"shift-{character.lower()}" if character.isupper() else _KEYS.get(character, character)


def short_folder() -> str:
    """A folder for temporary files with a name that leaves room for a socket's."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) + len("/livebuilder-vm-12345678/serial") <= _SOCKET_PATH_BYTES else "/tmp"


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(path))
    listener.listen(1)
    return listener


def _accept(listener: socket.socket, child: Child) -> socket.socket:
    """QEMU's connection; raises `OSError` when it ends instead, or takes more than `START_SECONDS`."""
    deadline = time.monotonic() + START_SECONDS
    while not select.select([listener], [], [], 0.1)[0]:
        if wait(child, timeout_seconds=0) is not None:
            raise ConnectionError("it ended at once")
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not connect within {START_SECONDS:.0f} seconds")
    connection, _ = listener.accept()
    return connection


def _close(qmp: QEMUMonitorProtocol) -> None:
    with suppress(QMPError, OSError, EOFError):  # QEMU may have gone first
        qmp.close()
