"""A live USB stick with storage: the PC starts from it alone, and its settings are there in the next boot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from livebuilder.sizes import MIB
from livebuilder.usb.devices import describe
from livebuilder.usb.live import plan_live, write_iso
from livebuilder.usb.plan import StickIdentity
from livebuilder.usb.target import open_target
from livebuilder.vm.accelerator import TCG
from livebuilder.vm.machine import Guest, ImageBoot, Stick, machine_named
from livebuilder.vm.session import Session, run_guest
from tests.support.boots import SECONDS, observe, power_off
from tests.support.builds import BuiltImage

pytestmark = pytest.mark.vm

SETTING = "/etc/config/kept"


@pytest.fixture(scope="module")
def live_stick(small_image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("live") / "stick.img"
    with path.open("xb") as stream:
        stream.truncate(256 * MIB)
    plan = plan_live(small_image.iso, size_bytes=256 * MIB, storage=True, identity=StickIdentity.random())
    with open_target(describe(path), writable=True) as target:
        write_iso(target, plan)
    return path


@contextmanager
def _booting(stick: Path, log: Path) -> Iterator[Session]:
    """A PC with the stick and an empty CD drive."""
    blank = log.with_suffix(".iso")
    blank.write_bytes(bytes(MIB))
    guest = Guest(
        machine=machine_named("pc-2000"), boot=ImageBoot(blank), sticks=(Stick(stick, boot_index=0),)
    )  # fmt: skip
    with run_guest(guest, log=log, accelerator=TCG) as session:
        session.wait_for("boot: ", timeout_seconds=SECONDS)
        session.type_text("\r")
        yield session


def test_settings_are_kept_on_the_stick_it_started_from(live_stick: Path, tmp_path: Path) -> None:
    with _booting(live_stick, tmp_path / "first.log") as session:
        boot, shell = observe(session)
        assert (boot.record.storage.state, boot.record.storage.device) == ("persistent", "/dev/sda2")
        assert boot.record.warnings == []
        assert shell.run(f"test -e {SETTING}").status != 0
        assert shell.run(f"echo kept > {SETTING}").status == 0
        power_off(session)
    with _booting(live_stick, tmp_path / "second.log") as session:
        boot, shell = observe(session)
        assert boot.record.storage.state == "persistent"
        assert shell.run(f"cat {SETTING}").output.strip() == "kept"
        power_off(session)
