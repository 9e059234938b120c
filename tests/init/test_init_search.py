"""initramfs/lib/search.sh: the stick is found by its label, by the clock, and of two always the same one."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.process import run
from tests.support.init import InitMachine

_MIB = 1 << 20
_FIRST = "01111111-2222-3333-4444-555555555555"
_SECOND = "21111111-2222-3333-4444-555555555555"
_SEARCH = (
    'start_search; search rootfs_data "${SETTLE-15}"; choose; echo "status $?"; echo "$SEARCH_WAITED"; echo "$CHOSEN";'
    ' printf %s "$CANDIDATES"'
)

_EXPLAIN = (
    'LB_STORAGE_LABEL=rootfs_data; start_search; search rootfs_data "$SETTLE"; explain_absence; echo "$STORAGE_REASON"'
)


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    return ext4(tmp_path / "stick", uuid=_SECOND)


def ext4(path: Path, *, label: str = "rootfs_data", uuid: str = _FIRST) -> Path:
    with path.open("wb") as stream:
        stream.truncate(2 * _MIB)
    run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-L", label, "-U", uuid, path])
    return path


def test_a_partition_is_found_and_the_disk_around_it_is_not(machine: InitMachine, stick: Path) -> None:
    machine.add_disk("sda", stick)  # the same superblock, as an earlier life of the disk may have left it
    machine.add_disk("sda1", stick, parent="sda")
    status, waited, chosen, *candidates = machine.call(_SEARCH).stdout.splitlines()
    assert (status, chosen.split()[:3]) == ("status 0", ["sda1", "ext4", _SECOND])
    assert [(line.split()[0], line.split()[-1]) for line in candidates] == [("sda", "front"), ("sda1", "match")]
    assert int(waited) < 100


def test_a_whole_disk_is_found(machine: InitMachine, stick: Path) -> None:
    machine.add_disk("sdb", stick)
    assert machine.call(_SEARCH).stdout.splitlines()[2].startswith("sdb ext4")


@pytest.mark.parametrize("order", [("sda", "sdb"), ("sdb", "sda")])
def test_of_two_with_the_label_the_uuid_decides_not_the_port(
    machine: InitMachine, tmp_path: Path, stick: Path, order: tuple[str, str]
) -> None:
    machine.add_disk(order[0], stick)
    machine.add_disk(order[1], ext4(tmp_path / "twin"))
    chosen = machine.call(_SEARCH).stdout.splitlines()[2]
    assert chosen.split()[:3] == [order[1], "ext4", _FIRST]
    for name in order:
        assert f"/dev/{name} (" in machine.console
    assert f"taking /dev/{order[1]}" in machine.console


def test_a_clone_is_chosen_by_name(machine: InitMachine, stick: Path) -> None:
    machine.add_disk("sdb", stick)
    machine.add_disk("sda", stick)
    assert machine.call(_SEARCH).stdout.splitlines()[2].startswith("sda ")


def test_a_twin_a_moment_behind_is_waited_for(machine: InitMachine, tmp_path: Path, stick: Path) -> None:
    machine.add_disk("sda", stick)
    _plug_at(machine, 40, "sdb", ext4(tmp_path / "twin"))
    assert machine.call(_SEARCH).stdout.splitlines()[2].startswith("sdb ")


def test_while_drivers_for_disks_are_loaded_a_twin_is_waited_for(
    machine: InitMachine, tmp_path: Path, stick: Path
) -> None:
    machine.add_disk("sda", stick)
    machine.write("run/disks-pending", "")
    loaded = 'rm "$ROOT/run/disks-pending"'
    _plug_at(machine, 300, "sdb", ext4(tmp_path / "twin"), and_then=loaded)
    status, waited, chosen, *_ = machine.call(_SEARCH).stdout.splitlines()
    assert (status, chosen.split()[0]) == ("status 0", "sdb")
    assert 300 <= int(waited) < 450


def test_drivers_that_never_come_back_do_not_cost_the_stick(machine: InitMachine, stick: Path) -> None:
    machine.add_disk("sda", stick)
    machine.write("run/disks-pending", "")
    status, waited, chosen, *_ = machine.call(_SEARCH, env={"SETTLE": "4"}).stdout.splitlines()
    assert (status, chosen.split()[0]) == ("status 0", "sda")
    assert 400 <= int(waited) <= 430


def test_a_late_stick_is_used_at_once(machine: InitMachine, stick: Path) -> None:
    _plug_at(machine, 800, "sda", stick)
    status, waited, chosen, *_ = machine.call(_SEARCH).stdout.splitlines()
    assert (status, chosen.split()[0]) == ("status 0", "sda")
    assert 800 <= int(waited) <= 810, "nobody else is waited for"


def test_absence_is_noticed_when_the_time_is_up(machine: InitMachine, tmp_path: Path) -> None:
    machine.add_disk("sda", ext4(tmp_path / "other", label="photos"))
    status, waited, *_, candidate = machine.call(_SEARCH, env={"SETTLE": "4"}).stdout.splitlines()
    assert status == "status 1"
    assert 400 <= int(waited) <= 430
    assert candidate.split() == ["sda", "ext4", _FIRST, b"photos".hex(), "other"]


def test_without_time_to_wait_one_look_is_taken(machine: InitMachine, stick: Path) -> None:
    assert machine.call(_SEARCH, env={"SETTLE": "0"}).stdout.startswith("status 1\n")
    assert machine.commands == []
    machine.add_disk("sda", stick)
    assert machine.call(_SEARCH, env={"SETTLE": "0"}).stdout.startswith("status 0\n")


def test_a_stick_pulled_out_again_is_forgotten(machine: InitMachine, tmp_path: Path) -> None:
    machine.add_disk("sda", ext4(tmp_path / "other", label="photos"))
    machine.hooks["sleep"] = 'rm -rf "$ROOT/sys/class/block/sda"'
    assert machine.call(_SEARCH, env={"SETTLE": "2"}).stdout.splitlines()[3:] == []


def test_each_device_is_read_once(machine: InitMachine, tmp_path: Path) -> None:
    machine.add_disk("sda", ext4(tmp_path / "other", label="photos"))
    machine.call(_SEARCH, env={"SETTLE": "5"})
    assert machine.log.count("storage: sda is") == 1
    assert machine.commands.count("sleep 0.1") >= 40


def test_a_card_reader_is_looked_at_when_a_card_is_put_in(machine: InitMachine, stick: Path) -> None:
    machine.add_disk("sda", None)
    machine.hooks["sleep"] = (
        f'ln -sfn "{stick}" "$ROOT/dev/sda"; echo {stick.stat().st_size // 512} >"$ROOT/sys/class/block/sda/size"'
    )
    assert machine.call(_SEARCH).stdout.startswith("status 0\n")


@pytest.mark.parametrize("name", ["loop3", "ram0", "sr0", "fd0", "zram0", "nbd0", "mtdblock2"])
def test_what_cannot_be_a_stick_is_not_read(machine: InitMachine, stick: Path, name: str) -> None:
    machine.add_disk(name, stick)
    assert machine.call(_SEARCH, env={"SETTLE": "1"}).stdout.startswith("status 1\n")


@pytest.mark.parametrize("label", ["ROOTFS_DATA", "rootfs-data", "rootfs_data ", "Rootfs Data", "rootfsdata"])
def test_what_was_meant_to_be_the_label_is_named_with_its_cure(
    machine: InitMachine, tmp_path: Path, label: str
) -> None:
    machine.add_disk("sda1", ext4(tmp_path / "stick", label=label))
    done = machine.call(_EXPLAIN, env={"SETTLE": "1"})
    assert done.stdout == (
        f"no stick labelled rootfs_data, but /dev/sda1 ({label}) seems to be meant: e2label /dev/sda1 rootfs_data\n"
    )


@pytest.mark.parametrize("label", ["data", "rootfs", "rootfs_data2"])
def test_another_label_is_just_another(machine: InitMachine, tmp_path: Path, label: str) -> None:
    machine.add_disk("sda1", ext4(tmp_path / "stick", label=label))
    assert machine.call(_EXPLAIN, env={"SETTLE": "1"}).stdout == "no stick labelled rootfs_data\n"


def test_a_partition_that_is_named_so_is_no_file_system_that_is_labelled_so(
    machine: InitMachine, tmp_path: Path
) -> None:
    machine.add_disk("sda1", ext4(tmp_path / "stick", label=""))
    machine.write("sys/class/block/sda1/uevent", "DEVTYPE=partition\nPARTN=1\nPARTNAME=rootfs_data\n")
    assert machine.call(_EXPLAIN, env={"SETTLE": "1"}).stdout == (
        "no stick labelled rootfs_data, but /dev/sda1 (no label) seems to be meant: e2label /dev/sda1 rootfs_data\n"
    )


def test_a_label_in_front_of_the_partitions_is_named(machine: InitMachine, tmp_path: Path, stick: Path) -> None:
    machine.add_disk("sda", stick)
    machine.add_disk("sda1", ext4(tmp_path / "other", label="photos"), parent="sda")
    assert machine.call(_EXPLAIN, env={"SETTLE": "1"}).stdout == (
        "/dev/sda is labelled rootfs_data, but has partitions, and none of them is: livebuilder usb adopt /dev/sda\n"
    )


def test_fat_with_the_label_is_refused_whatever_its_case(machine: InitMachine, tmp_path: Path) -> None:
    image = tmp_path / "fat"
    with image.open("wb") as stream:
        stream.truncate(4 * _MIB)
    run(["mkfs.vfat", "-n", "ROOTFS_DATA", image])
    machine.add_disk("sda1", image)
    done = machine.call(_SEARCH + "; LB_STORAGE_LABEL=rootfs_data; explain_absence; echo; echo $STORAGE_REASON",
                        env={"SETTLE": "1"})  # fmt: skip
    assert done.stdout.startswith("status 1\n")
    assert "/dev/sda1 is labelled rootfs_data, but vfat cannot hold settings" in done.stdout


def test_a_label_of_another_case_is_another_label(machine: InitMachine, tmp_path: Path) -> None:
    machine.add_disk("sda", ext4(tmp_path / "loud", label="ROOTFS_DATA"))
    assert machine.call(_SEARCH, env={"SETTLE": "0"}).stdout.startswith("status 1\n")


def test_a_missing_node_is_made_from_sysfs(machine: InitMachine, stick: Path) -> None:
    machine.add_disk("sda", stick)
    (machine.root / "dev/sda").unlink()
    machine.hooks["mknod"] = f'ln -s "{stick}" "$ROOT/dev/sda"; exit 0'
    assert machine.call(_SEARCH).stdout.startswith("status 0\n")
    assert machine.commands[0] == "mknod -m 600 /dev/sda b 8 1"


@pytest.mark.parametrize(("found", "meanwhile"), [("1", "0"), ("30", "30")])
def test_usb_storage_hurries_unless_the_user_said_otherwise(machine: InitMachine, found: str, meanwhile: str) -> None:
    path = machine.write("sys/module/usb_storage/parameters/delay_use", f"{found}\n")
    machine.call("hurry_usb")
    assert path.read_text() == f"{meanwhile}\n"
    machine.call("unhurry_usb")
    assert path.read_text() == f"{found}\n"


def _plug_at(machine: InitMachine, hundredths: int, name: str, image: Path, *, and_then: str = ":") -> None:
    """Have the machine's clock, which the search moves by sleeping, plug a disk in."""
    folder = machine.root / "plugged" / name
    machine.add_disk(name, image)
    folder.parent.mkdir()
    (machine.root / "sys/class/block" / name).rename(folder)
    machine.hooks["sleep"] = (
        f'read -r up _ <"$ROOT/proc/uptime"; if [ "${{up%.*}}${{up#*.}}" -ge {hundredths + 308} ]'
        f' && [ -d "{folder}" ]; then mv "{folder}" "$ROOT/sys/class/block/{name}"; {and_then}; fi'
    )
