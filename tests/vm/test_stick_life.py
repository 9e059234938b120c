"""A stick's life between a PC and a router: labelled wrong, adopted, used, looked into, reset."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.vm.machine import Stick
from tests.support.boots import booting, observe, power_off
from tests.support.builds import BuiltImage, run_main
from tests.support.sticks import stick_image

pytestmark = pytest.mark.vm

_SET = "sed -i s/small/attic/ /etc/config/system && echo hello >/root/note && rm /etc/shells && sync"


@pytest.fixture(scope="module")
def stick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stick_image(tmp_path_factory.mktemp("life") / "stick.img", label="rootfs-data")


def differences(stick: Path) -> dict[str, str]:
    report = run_main("usb", "diff", stick, "--json").json
    return {one["path"]: one["what"] for one in report["differences"]}


class TestLife:
    """In this order."""

    def test_a_near_miss_is_named_and_adopted_it_is_found(
        self, small_image: BuiltImage, stick: Path, tmp_path: Path
    ) -> None:
        with booting(small_image, "lb.settle=8", sticks=[Stick(stick)], log=tmp_path / "before.log") as session:
            before, _ = observe(session)
            power_off(session)
        assert before.record.storage.state == "volatile"
        assert before.record.storage.reason == (
            "no stick labelled rootfs_data, but /dev/sda1 (rootfs-data) seems to be meant:"
            " e2label /dev/sda1 rootfs_data"
        )
        assert before.record.storage.reason in before.login
        assert run_main("usb", "adopt", stick, "--yes").status == 0
        with booting(small_image, sticks=[Stick(stick)], log=tmp_path / "after.log") as session:
            after, _ = observe(session)
            power_off(session)
        assert after.record.storage.state == "persistent"

    def test_diff_lists_what_the_user_changed_and_reset_takes_it_back(
        self, small_image: BuiltImage, stick: Path, tmp_path: Path
    ) -> None:
        untouched = differences(stick)  # what the router itself made in its first boot: keys of the host and the like
        with booting(small_image, sticks=[Stick(stick)], log=tmp_path / "changed.log") as session:
            _, shell = observe(session)
            assert shell.run(_SET).status == 0
            power_off(session)
        changed = differences(stick)
        mine = {path: what for path, what in changed.items() if untouched.get(path) != what}
        assert mine == {"/etc/config/system": "changed", "/root/note": "changed", "/etc/shells": "deleted"}
        assert run_main("usb", "check", stick).status == 0
        assert run_main("usb", "reset", stick, "--yes", "--keep", "/root/note").status == 0
        assert differences(stick) == {"/root/note": "changed"}
        with booting(small_image, sticks=[Stick(stick)], log=tmp_path / "reset.log") as session:
            boot, shell = observe(session)
            assert (boot.record.storage.state, boot.record.storage.fsck) == ("persistent", 0)
            assert shell.run("hostname").output == "small\n", "as the image has it"
            assert shell.run("cat /root/note").output == "hello\n"
            assert shell.run("test -e /etc/shells").status == 0
            power_off(session)
