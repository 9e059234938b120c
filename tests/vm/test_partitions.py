"""A disk with many partitions, primary and logical: each is told to the user, and what he is told to type is right."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.vm.machine import Stick
from tests.support.boots import Boot, booting, observe, power_off
from tests.support.builds import BuiltImage

pytestmark = pytest.mark.vm

# 3 is the extended partition, which holds 5 and 6.
_TABLE = """\
label: dos
start=1MiB, size=8MiB, type=c
start=9MiB, size=16MiB, type=83
start=25MiB, size=38MiB, type=f
start=26MiB, size=16MiB, type=83
start=43MiB, size=19MiB, type=83
"""
_UNUSED = range(26 * MIB, 42 * MIB)


def disk_with_partitions(path: Path) -> Path:
    """vfat "MUSIC" on 1, ext4 "photos" on 2, nothing on 5, ext3 "attic" on 6."""
    with path.open("xb") as stream:
        stream.truncate(64 * MIB)
    run(["sfdisk", "--quiet", path], input_bytes=_TABLE.encode())
    run(["mkfs.vfat", "-n", "MUSIC", f"--offset={MIB // 512}", path, str(8 * 1024)])
    for type_, label, start, size in (("ext4", "photos", 9, 16), ("ext3", "attic", 43, 19)):
        where = ["-E", f"offset={start * MIB}", path, f"{size}M"]
        run(["mke2fs", "-q", "-F", "-t", type_, "-L", label, *where])
    return path


@dataclass(frozen=True)
class Cured:
    """A boot that finds no stick, the command it gives for partition 2, and the boot after that."""

    before: Boot
    typed: str
    after: Boot
    found_later: str
    unused: bytes


@pytest.fixture(scope="module")
def cured(small_image: BuiltImage, tmp_path_factory: pytest.TempPathFactory) -> Cured:
    folder = tmp_path_factory.mktemp("partitions")
    disk = disk_with_partitions(folder / "disk.img")
    with booting(small_image, "lb.settle=6", sticks=[Stick(disk)], log=folder / "before.log") as session:
        before, shell = observe(session)
        cure = {candidate.device: candidate.cure for candidate in before.record.storage.candidates}["/dev/sda2"]
        assert cure and not cure.erases
        assert shell.run(cure.command).status == 0
        power_off(session)
    with booting(small_image, sticks=[Stick(disk)], log=folder / "after.log") as session:
        after, shell = observe(session)
        assert shell.run("echo kept > /etc/config/kept").status == 0
        found = shell.run("cat /overlay/upper/etc/config/kept").output
        power_off(session)
    with disk.open("rb") as stream:
        stream.seek(_UNUSED.start)
        return Cured(before, cure.command, after, found, stream.read(len(_UNUSED)))


class TestPartitions:
    """One disk in two boots: before and after the cure."""

    def test_every_partition_is_in_the_record_and_at_the_login(self, cured: Cured) -> None:
        boot = cured.before
        assert (boot.record.storage.state, boot.record.storage.reason) == ("volatile", "no stick labelled rootfs_data")
        seen = {disk.device: (disk.fstype, disk.label) for disk in boot.record.storage.candidates}
        assert {name: what for name, what in seen.items() if what[0]} == {
            "/dev/sda1": ("vfat", "MUSIC"), "/dev/sda2": ("ext4", "photos"), "/dev/sda6": ("ext3", "attic"),
        }  # fmt: skip
        assert "/dev/sda5" in seen and "/dev/sda" not in seen
        for line in (
            "/dev/sda1  vfat  label 'MUSIC'",
            "/dev/sda2  ext4  label 'photos'",
            "/dev/sda5  no file system  label ''",
            "/dev/sda6  ext3  label 'attic'",
            "to keep settings there: e2label /dev/sda6 rootfs_data && reboot",
        ):
            assert line in boot.login

    def test_the_extended_partition_is_none_to_be_used(self, cured: Cured) -> None:
        assert "/dev/sda3" not in cured.before.login

    def test_what_it_says_is_what_helps(self, cured: Cured) -> None:
        assert cured.typed == "e2label /dev/sda2 rootfs_data"
        storage = cured.after.record.storage
        assert (storage.state, storage.device, storage.fsck) == ("persistent", "/dev/sda2", 0)
        assert cured.found_later == "kept\n"
        assert {disk.device for disk in storage.candidates} >= {"/dev/sda1", "/dev/sda5", "/dev/sda6"}

    def test_what_was_empty_stays_empty(self, cured: Cured) -> None:
        assert not any(cured.unused)
