"""initramfs/preinit/75_mount_extroot: the overlay of 10.03 and 12.09, or a root in memory that says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.assets import asset
from livebuilder.process import run
from tests.support.init import SHELLS

_STAND_IN = """#!/bin/sh
echo "$*" | sed "s|$ROOT/|/|g" >>"$ROOT/record"
case $1-$* in
    mv-*) exec "$@" ;;
    *$FAIL*) exit 1 ;;
esac
"""


class Preinit:
    """A root with a stick on /overlay, as /init leaves it; every mount is written down."""

    def __init__(self, root: Path, shell: str) -> None:
        self.root, self.shell = root, shell
        for folder in ("etc/livebuilder", "proc", "dev"):
            (root / folder).mkdir(parents=True)
        (root / "etc/banner").write_text("OpenWrt\n")
        (root / "etc/livebuilder/boot.json").write_text("volatile\n")
        (root / "etc/livebuilder/boot.json.ready").write_text("persistent\n")
        (root / "stand-in").write_text(_STAND_IN)
        (root / "stand-in").chmod(0o755)

    def boot(self, *, filesystems: str = "nodev\toverlay\n", fail: str = "nothing") -> list[str]:
        (self.root / "proc/filesystems").write_text(filesystems)
        script = f'boot_hook_add() {{ echo "$1 $2"; "$2"; }}; . {asset("initramfs/preinit/75_mount_extroot")}; echo on'
        env = {"ROOT": str(self.root), "RUN": str(self.root / "stand-in"), "FAIL": fail}
        done = run([*self.shell.split(), "-c", script], env=env)
        assert done.stdout == "preinit_main do_mount_extroot\non\n" and not done.stderr
        record = self.root / "record"
        return record.read_text().splitlines() if record.exists() else []

    @property
    def record(self) -> str:
        return (self.root / "etc/livebuilder/boot.json").read_text()


@pytest.fixture(params=SHELLS)
def preinit(request: pytest.FixtureRequest, tmp_path: Path) -> Preinit:
    return Preinit(tmp_path / "root", request.param)


_PIVOT = [
    "mount -o move /proc /mnt/proc", "pivot_root /mnt /mnt/rom", "mount -o move /rom/dev /dev",
    "mount -o move /rom/sys /sys", "mount -o move /rom/tmp /tmp", "mount -o move /rom/overlay /overlay",
    "umount /rom/proc",
]  # fmt: skip


@pytest.mark.parametrize(
    ("filesystems", "mount"),
    [
        (
            "nodev\toverlay\n",
            "-t overlay -o noatime,lowerdir=/,upperdir=/overlay/upper,workdir=/overlay/work overlayfs:",
        ),
        ("nodev\toverlayfs\n", "-t overlayfs -o noatime,lowerdir=/,upperdir=/overlay/upper overlayfs:"),
        ("nodev\tmini_fo\n", "-t mini_fo -o base=/,sto=/overlay/upper mini_fo:"),
    ],
)
def test_the_overlay_is_laid_in_the_way_of_the_kernel(preinit: Preinit, filesystems: str, mount: str) -> None:
    commands = preinit.boot(filesystems=filesystems)
    assert commands[1:] == ["mount -o remount,ro none /", f"mount {mount}/overlay /mnt", *_PIVOT]
    assert preinit.record == "persistent\n"


@pytest.mark.parametrize("fail", ["overlayfs:/overlay", "pivot_root"])
def test_what_fails_leaves_the_root_in_memory_and_says_so(preinit: Preinit, fail: str) -> None:
    commands = preinit.boot(fail=fail)
    assert commands[-1] == "mount -o remount,rw none /"
    assert preinit.record == "volatile\n"
    assert "CHANGES ARE NOT KEPT" in (preinit.root / "etc/banner").read_text()
    assert "CHANGES ARE NOT KEPT" in (preinit.root / "dev/kmsg").read_text()


def test_a_pivot_that_fails_gives_proc_back(preinit: Preinit) -> None:
    commands = preinit.boot(fail="pivot_root")
    assert commands[-3:] == ["mount -o move /mnt/proc /proc", "umount /mnt", "mount -o remount,rw none /"]


def test_without_a_stick_nothing_is_done(preinit: Preinit) -> None:
    (preinit.root / "etc/livebuilder/boot.json.ready").unlink()
    assert preinit.boot() == []
    assert preinit.record == "volatile\n"
