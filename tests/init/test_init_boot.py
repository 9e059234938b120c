"""initramfs/init from its first line to its last, on a machine made of files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from livebuilder.assets import asset
from livebuilder.process import run
from tests.init.test_init_rootimage import add_payload, configure
from tests.init.test_init_search import ext4
from tests.support.documents import assert_documented
from tests.support.init import LIBRARIES, InitMachine


@pytest.fixture
def built(machine: InitMachine) -> InitMachine:
    configure(machine)
    add_payload(machine, layers=("10-packages", "40-files"))
    return machine


def _summary(machine: InitMachine) -> str:
    lines = [line for line in machine.console.splitlines() if line.startswith("livebuilder: root=")]
    assert len(lines) == 1
    assert lines[0] in (machine.root / "dev/ttyS0").read_text()
    assert lines[0] in machine.log
    return lines[0]


def test_without_a_stick(built: InitMachine, tmp_path: Path) -> None:
    built.add_disk("sda1", ext4(tmp_path / "other", label="it's mine"))
    built.write("proc/cmdline", 'quiet lb.foo lb.settle=3 "lb.bar=a \\"b"\n')
    assert built.boot().returncode == 0
    assert built.commands[-1] == "switch_root -c /dev/console /newroot /etc/preinit"
    pattern = r'livebuilder: root=ext2 storage=volatile reason="no stick labelled rootfs_data" seconds=\d+\.\d'
    assert re.fullmatch(pattern, _summary(built))
    assert '/dev/sda1 ext4 label="it\'s mine" -- to use it: e2label /dev/sda1 rootfs_data' in built.console
    record = built.record
    assert record["version"] == 1
    assert record["name"] == "attic pc"
    assert record["root"]["mode"] == "ext2"
    assert record["root"]["device"] == "/dev/loop7"
    assert record["root"]["attempts"] == 1
    assert record["root"]["reason"] is None
    assert record["memory"] == {"total_kib": 96000, "available_kib": 60000, "needed_kib": 4096 + 6144}
    assert record["storage"]["state"] == "volatile"
    assert 3 <= record["storage"]["waited_seconds"] < 4
    assert record["storage"]["device"] is None
    assert record["storage"]["candidates"] == [
        {"device": "/dev/sda1", "label": "it's mine", "fstype": "ext4",
         "uuid": "01111111-2222-3333-4444-555555555555",
         "cure": {"command": "e2label /dev/sda1 rootfs_data", "erases": False, "here": False}},
    ]  # fmt: skip
    assert record["parameters"]["unknown"] == ["lb.foo", "lb.bar=a \\b"]


def test_with_a_stick(built: InitMachine, tmp_path: Path) -> None:
    built.add_disk("sdb1", ext4(tmp_path / "stick"))
    built.boot()
    assert built.commands[-1] == "switch_root -c /dev/console /merged /etc/preinit"
    pattern = r"livebuilder: root=ext2 storage=persistent device=/dev/sdb1 label=rootfs_data seconds=\d+\.\d"
    assert re.fullmatch(pattern, _summary(built))
    storage = built.record["storage"]
    assert (storage["state"], storage["device"], storage["fstype"]) == ("persistent", "/dev/sdb1", "ext4")
    assert (storage["label"], storage["reason"], storage["fsck"]) == ("rootfs_data", None, None)
    assert storage["candidates"] == []
    assert built.record["warnings"] == ["/dev/sdb1 was not checked: this root has no e2fsck"]


def test_a_stick_that_is_write_protected(built: InitMachine, tmp_path: Path) -> None:
    built.add_disk("sdb1", ext4(tmp_path / "stick"), read_only=True)
    built.boot()
    assert _summary(built).startswith(
        'livebuilder: root=ext2 storage=read-only reason="/dev/sdb1 is write-protected" device=/dev/sdb1'
        " label=rootfs_data seconds="
    )


def test_of_two_sticks_both_are_in_the_record(built: InitMachine, tmp_path: Path) -> None:
    built.add_disk("sda1", ext4(tmp_path / "one", uuid="21111111-2222-3333-4444-555555555555"))
    built.add_disk("sdb1", ext4(tmp_path / "two"))
    built.boot()
    record = built.record
    assert record["storage"]["device"] == "/dev/sdb1"
    assert [(each["device"], each["cure"]) for each in record["storage"]["candidates"]] == [("/dev/sda1", None)]
    assert "2 devices are labelled rootfs_data" in record["warnings"][0]


def test_the_record_is_as_documented(built: InitMachine, tmp_path: Path) -> None:
    records = []
    built.write("proc/cmdline", "lb.settle=1 lb.foo\n")
    built.add_disk("sda1", ext4(tmp_path / "other", label="photos"))
    (tmp_path / "blank").write_bytes(bytes(4096))
    built.add_disk("sdc", tmp_path / "blank")
    built.boot()
    records.append(built.record)
    built.write("proc/mounts", "rootfs / rootfs rw 0 0\n")
    add_payload(built, layers=("10-packages", "40-files"))
    built.add_disk("sdb1", ext4(tmp_path / "stick"))
    built.boot()
    records.append(built.record)
    assert [record["storage"]["state"] for record in records] == ["volatile", "persistent"]
    assert_documented("boot.json", *records, may_lack={"root.reason"})


def test_another_label(built: InitMachine, tmp_path: Path) -> None:
    built.write("proc/cmdline", 'lb.label="my stick"\n')
    built.add_disk("sda1", ext4(tmp_path / "one"))
    built.add_disk("sdb1", ext4(tmp_path / "two", label="my stick"))
    built.boot()
    assert 'device=/dev/sdb1 label="my stick" seconds=' in _summary(built)
    assert built.record["storage"]["candidates"][0]["cure"]["command"] == "e2label /dev/sda1 'my stick'"


def test_drivers_for_disks_are_loaded_by_what_the_pci_bus_says(built: InitMachine, tmp_path: Path) -> None:
    ide = "pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80"
    built.write("sys/bus/pci/devices/0000:00:01.1/modalias", f"{ide}\n")
    built.write("sys/bus/pci/devices/0000:00:03.0/modalias", "pci:v0000BC01d0000BC01sv00001AF4sd00001100bc02sc00i00\n")
    built.write("proc/cmdline", "lb.settle=5\n")
    built.add_disk("sdb1", ext4(tmp_path / "stick"))
    built.boot()
    loads = [line for line in built.commands if line.startswith("modprobe")]
    assert f"modprobe -a -q {ide}" in loads
    assert not [line for line in loads if "bc02" in line], "a network card"
    assert not (built.root / "run/disks-pending").exists()
    assert _summary(built).startswith("livebuilder: root=ext2 storage=persistent device=/dev/sdb1 ")


def test_storage_switched_off_loads_and_reads_nothing(built: InitMachine, tmp_path: Path) -> None:
    built.write("proc/cmdline", "lb.storage=off\n")
    built.add_disk("sda1", ext4(tmp_path / "stick"))
    built.boot()
    assert 'storage=volatile reason="switched off with lb.storage=off"' in _summary(built)
    assert [line for line in built.commands if line.startswith("modprobe")] == [
        "modprobe -a -q crc32c_generic loop ext4"
    ]
    assert built.record["storage"]["candidates"] == []


def test_hostile_labels_stay_json_and_stay_off_the_console(built: InitMachine, tmp_path: Path) -> None:
    label = 'a"\\\x1b[2J\n\xe4\xff'.encode("latin-1")
    image = ext4(tmp_path / "hostile")
    data = bytearray(image.read_bytes())
    data[1024 + 0x78 : 1024 + 0x88] = label.ljust(16, b"\0")
    image.write_bytes(data)
    built.add_disk("sda", image)
    built.boot()
    assert built.record["storage"]["candidates"][0]["label"] == 'a"\\\x1b[2J\n\ufffd\ufffd'
    assert "\x1b" not in built.console
    assert 'label="a"\\?[2J???"' in built.console


def test_without_devtmpfs_dev_is_made_by_hand(built: InitMachine) -> None:
    built.failing["mount -t devtmpfs *"] = 1
    built.boot()
    assert "mount -t tmpfs -o mode=0755,size=512k dev /dev" in built.commands
    assert "mknod -m 600 /dev/console c 5 1" in built.commands
    assert "mdev -s" in built.commands
    assert built.commands[-1].startswith("switch_root")


def test_initramfs_on_the_command_line_does_not_leak(built: InitMachine) -> None:
    built.hooks["switch_root"] = 'echo "INITRAMFS=${INITRAMFS-unset}"'
    assert "INITRAMFS=unset\n" in built.boot(env={"INITRAMFS": "1"}).stdout


def test_an_init_that_breaks_ends_in_a_shell(built: InitMachine) -> None:
    configure(built, LB_ROOT_LOOP="7; exit 3")
    built.boot()
    assert "cannot go on: /init ended before it could hand over" in built.console


def test_the_library_is_complete_and_sourced_in_full() -> None:
    listed = asset("initramfs/init").read_text()
    words = re.search(r"for library in (.*?); do", listed, re.DOTALL)
    assert words is not None
    assert tuple(words[1].replace("\\", "").split()) == LIBRARIES
    assert {path.stem for path in asset("initramfs/lib").glob("*.sh")} == set(LIBRARIES)


def test_joined_into_one_script_shellcheck_has_nothing_to_say(tmp_path: Path) -> None:
    init = asset("initramfs/init").read_text()
    head, _, rest = init.partition("for library in")
    steps = rest.partition("\ndone\n")[2]
    library = "".join(asset(f"initramfs/lib/{name}.sh").read_text() for name in LIBRARIES)
    joined = tmp_path / "init"
    joined.write_text(head + library + steps)
    done = run(["shellcheck", "--norc", "--shell=sh", joined], check=False)
    assert done.stdout == ""


def test_a_variable_that_nobody_sets_would_be_found(tmp_path: Path) -> None:
    joined = tmp_path / "init"
    joined.write_text('#!/bin/sh\necho "$nobody_sets_this"\n')
    assert "SC2154" in run(["shellcheck", "--norc", "--shell=sh", joined], check=False).stdout
