"""initramfs/lib/rootimage.sh: one root, made once, verified; grown a bounded number of times; never trusted blindly."""

from __future__ import annotations

import gzip
import lzma
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder.cpio import archive
from livebuilder.image.payload import Layer, link_owners
from livebuilder.process import run
from livebuilder.tree import RootTree, directory, file, hardlink, symlink
from tests.support.init import InitMachine, meminfo

_UUID = "6f1d3b0c-2a4e-5c6d-8e7f-0123456789ab"
_PACK = {".xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32), ".gz": gzip.compress, "": bytes}
_PIECE = 4096


def tree() -> RootTree:
    """Names and modes that naive copying loses."""
    return RootTree(
        [
            directory("root", mode=0o700),
            directory("tmp", mode=0o1777),
            file("etc/preinit", "#!/bin/sh\n", mode=0o755),
            file("bin/sh", b"\x7fELF" + bytes(9000), mode=0o755),
            file("etc/my dir/a file", "spaces\n", mode=0o600),
            hardlink("etc/my dir/same", "etc/my dir/a file"),
            symlink("linuxrc", "bin/sh"),
        ]
    )


def add_payload(machine: InitMachine, *, suffix: str = ".xz", layers: tuple[str, ...] = ("10-packages",)) -> list[Path]:
    """The tree, cut into pieces, one archive a layer; a later layer has files of its own."""
    pieces = []
    for layer in layers:
        root = tree() if layer == layers[0] else RootTree([file(f"etc/{layer}", "layer\n")])
        data = b"".join(archive(root))
        for number, start in enumerate(range(0, len(data), _PIECE)):
            name = f"payload/{layer}.{number:03d}.cpio{suffix}"
            pieces.append(machine.write(name, _PACK[suffix](data[start : start + _PIECE])))
    return pieces


def configure(machine: InitMachine, **settings: str | int) -> None:
    """image.conf as the builder writes it."""
    values = {
        "LB_VERSION": "0.1.0", "LB_NAME": "'attic pc'", "LB_KERNEL": "6.1.0-50-686", "LB_ROOT_MODE": "ext2",
        "LB_ROOT_KIB": 4096, "LB_ROOT_BLOCK_SIZE": 1024, "LB_ROOT_BYTES_PER_INODE": 8192, "LB_ROOT_ENTRIES": 9,
        "LB_ROOT_UUID": _UUID, "LB_ROOT_LOOP": 7, "LB_ROOT_INIT": "/etc/preinit", "LB_STORAGE_LABEL": "rootfs_data",
        "LB_STORAGE_SETTLE": 2, "LB_MODULES_ROOT": "'crc32c_generic loop ext4'", "LB_MODULES_STORAGE": "'sd_mod uas'",
        **settings,
    }  # fmt: skip
    machine.write("etc/livebuilder/image.conf", "".join(f"{name}={value}\n" for name, value in values.items()))


_BUILD = 'read_image_configuration; build_root; echo "$ROOT_MODE|$ROOT_ATTEMPTS|$ROOT_REASON"'


def _room(machine: InitMachine, *rows: str) -> None:
    """What `stat -f -c '%S %b %f %c %d'` says, one row a call, the last one for ever."""
    machine.write("rows", "".join(f"{row}\n" for row in rows))
    tool = machine.root.parent / "tools/stat"
    tool.write_text('#!/bin/sh\nhead -n 1 "$ROOT/rows"\n[ "$(wc -l <"$ROOT/rows")" -eq 1 ] || sed -i 1d "$ROOT/rows"\n')
    tool.chmod(0o755)


@pytest.mark.parametrize("suffix", [".xz", ".gz", ""])
def test_layers_of_pieces_are_unpacked_in_order(machine: InitMachine, suffix: str) -> None:
    configure(machine)
    pieces = add_payload(machine, suffix=suffix, layers=("10-packages", "20-modules", "40-files"))
    assert len(pieces) > 4
    assert machine.call(_BUILD).stdout == "ext2|1|\n"
    root = machine.root / "newroot"
    assert (root / "etc/my dir/a file").read_text() == "spaces\n"
    assert (root / "etc/my dir/same").stat().st_ino == (root / "etc/my dir/a file").stat().st_ino
    assert (root / "root").stat().st_mode & 0o7777 == 0o700
    assert (root / "tmp").stat().st_mode & 0o7777 == 0o1777
    assert (root / "bin/sh").stat().st_size == 9004
    assert (root / "linuxrc").readlink() == Path("bin/sh")
    assert (root / "etc/20-modules").exists()
    assert (root / "etc/40-files").exists()
    assert [piece.stat().st_size for piece in pieces] == [0] * len(pieces)  # their memory is given back


def test_links_that_are_not_roots_are_given_to_their_owners(machine: InitMachine) -> None:
    """A list for each owner, as the builder writes it, after all is unpacked."""
    configure(machine)
    add_payload(machine)
    links = [replace(symlink(path, "x"), uid=7, gid=8) for path in ("etc/their link", "etc/it's\nlink")]
    for entry in link_owners([Layer("10-packages", (symlink("root's", "x"), *links))]):
        machine.write(entry.path, entry.content.read())
    machine.hooks["xargs"] = 'tr "\\0\\n" "|~" >>"$RECORD"; echo >>"$RECORD"'
    assert machine.call(_BUILD).stdout == "ext2|1|\n"
    at = machine.commands.index("xargs -0 chown -h 7:8")
    assert machine.commands[at + 1] == "./etc/their link|./etc/it's~link|"
    assert any(line.startswith("cpio") for line in machine.commands[:at])
    machine.failing["xargs*"] = 1
    add_payload(machine)
    machine.call(_BUILD)
    assert "the symbolic links of 7:8 could not be given to their owner" in machine.console


def test_the_image_is_allocated_made_and_named_before_it_is_mounted(machine: InitMachine) -> None:
    configure(machine)
    add_payload(machine)
    machine.call(_BUILD)
    order = [line.split()[0] for line in machine.commands]
    image = [
        order.index(name) for name in ("modprobe", "mknod", "fallocate", "mke2fs", "dd", "losetup", "cpio", "sync")
    ]
    assert image == sorted(image)
    assert "mount -t tmpfs -o size=8256k,mode=0700 image /image" in machine.commands
    assert "mknod -m 600 /dev/root b 7 7" in machine.commands
    assert "losetup /dev/loop7 /image/root.ext2" in machine.commands
    assert "mount -t ext2 -o noatime /dev/root /newroot" in machine.commands


def test_the_image_is_a_sound_ext2_with_the_uuid_of_the_build(machine: InitMachine) -> None:
    configure(machine)
    add_payload(machine)
    machine.call(_BUILD)
    image = machine.root / "image/root.ext2"
    assert run(["blkid", "-p", "-s", "UUID", "-o", "value", image]).stdout.strip() == _UUID
    assert run(["e2fsck", "-fn", image], check=False).returncode == 0
    assert image.stat().st_size == 4096 * 1024
    assert image.stat().st_blocks * 512 >= 4096 * 1024  # no holes


@pytest.mark.parametrize("named", [str(uuid.UUID(int=0)), "ffffffff-ffff-ffff-ffff-ffffffffffff", _UUID])
def test_any_uuid_is_written(machine: InitMachine, named: str) -> None:
    machine.write("image/root.ext2", bytes(2048))
    machine.call('write_uuid "$1"', named)
    assert (machine.root / "image/root.ext2").read_bytes()[1128:1144] == uuid.UUID(named).bytes


def test_mke2fs_does_not_wait_for_entropy(machine: InitMachine) -> None:
    configure(machine)
    add_payload(machine)
    machine.write("dev/urandom", "")
    machine.hooks["mke2fs"] = '[ ! -e "$ROOT/dev/urandom" ] || code=1'
    assert machine.call(_BUILD).stdout == "ext2|1|\n"
    assert (machine.root / "dev/urandom").exists()


def test_it_grows_an_eighth_at_a_time_and_not_for_ever(machine: InitMachine) -> None:
    configure(machine)
    add_payload(machine)
    machine.failing["cpio*"] = 1
    _room(machine, "1024 4000 3000 512 500", "1024 4000 0 512 400", "1024 4000 3000 512 500", "1024 4000 0 512 400",
          "1024 4000 3000 512 500", "1024 4000 0 512 400")  # fmt: skip
    machine.call(_BUILD)
    sizes = [line for line in machine.commands if line.startswith("fallocate")]
    kib = [4096, 4608, 5184]
    assert sizes == [f"fallocate -l {size * 1024} /image/root.ext2" for size in kib]
    assert machine.commands.count("losetup -d /dev/loop7") == 3
    assert "does not fit after 3 attempts" in machine.log
    assert "cannot go on" in machine.console  # tmpfs failed too: cpio fails everywhere


def test_what_does_not_fit_is_known_before_it_is_unpacked(machine: InitMachine) -> None:
    configure(machine, LB_ROOT_DATA_KIB=3500, LB_ROOT_ENTRIES=9)
    add_payload(machine)
    _room(machine, "1024 4000 3400 512 500", "1024 4500 3900 562 550", "1024 4500 100 562 500")
    assert machine.call(_BUILD).stdout == "ext2|2|\n"
    assert len([line for line in machine.commands if line.startswith("cpio")]) == 1
    assert "3500 KiB and 9 inodes do not fit into 3400 KiB and 500 inodes" in machine.log


def test_missing_entries_are_noticed(machine: InitMachine) -> None:
    configure(machine, LB_ROOT_ENTRIES=100)
    add_payload(machine)
    _room(machine, "1024 4000 3000 512 501", "1024 4000 2000 512 402")  # 110 used, 11 of them its own
    machine.call(_BUILD)
    assert "only 99 of 100 entries of the root were unpacked" in machine.log
    assert "root: attempt 2, tmpfs" in machine.log


@pytest.mark.parametrize("line", ["Buffer I/O error on dev loop7, logical block 5, lost async page write",
                                  "EXT4-fs error (device loop7): ext4_lookup:1855"])  # fmt: skip
def test_lost_writes_are_noticed(machine: InitMachine, line: str) -> None:
    configure(machine)
    add_payload(machine)
    machine.write("kernel-log", f"[1.0] livebuilder: root: attempt 1, ext2 of 4096 KiB\n[2.0] {line}\n")
    assert machine.call(_BUILD).stdout.startswith("tmpfs|2|writes to the root were lost: ")


@pytest.mark.parametrize("line", ["Buffer I/O error on dev sda1, lost async page write", "loop7: detected capacity"])
def test_other_devices_errors_are_not_ours(machine: InitMachine, line: str) -> None:
    configure(machine)
    add_payload(machine)
    machine.write("kernel-log", f"[1.0] livebuilder: root: attempt 1, ext2 of 4096 KiB\n[2.0] {line}\n")
    assert machine.call(_BUILD).stdout == "ext2|1|\n"


def test_errors_of_an_earlier_attempt_do_not_count(machine: InitMachine) -> None:
    configure(machine)
    add_payload(machine)
    machine.write("kernel-log", "loop7: error\n[1.0] livebuilder: root: attempt 1, ext2 of 4096 KiB\n")
    assert machine.call(_BUILD).stdout == "ext2|1|\n"


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: data[:30] + b"\xff" + data[31:]])
@pytest.mark.parametrize("suffix", [".xz", ".gz"])
def test_a_damaged_piece_is_named_and_nothing_is_handed_over(machine: InitMachine, suffix: str, damage: object) -> None:
    configure(machine)
    piece = add_payload(machine, suffix=suffix)[1]
    assert callable(damage)
    piece.write_bytes(damage(piece.read_bytes()))
    machine.call(_BUILD + "; echo handed over")
    assert f"{piece.name} exit 1" in machine.console
    assert "cannot go on" in machine.console


def test_an_initramfs_without_payload_says_so(machine: InitMachine) -> None:
    configure(machine)
    machine.call(_BUILD)
    assert "there is no payload in this initramfs" in machine.console


@pytest.mark.parametrize(
    ("failing", "reason"),
    [
        ("mount -t ext[24] *", "the ext2 image cannot be mounted"),
        ("losetup @/dev*", "losetup /dev/loop7 failed"),
        ("mke2fs*", "mke2fs failed (exit 1)"),
        ("fallocate*", "4096 KiB for the image could not be allocated"),
        ("mknod*", "mknod @/dev/loop7 failed"),
        ("mount -t tmpfs -o size*", "tmpfs of 4096 KiB failed"),
        ("dd *", "the root's UUID could not be written"),
    ],
)
def test_whatever_fails_the_same_payload_makes_a_tmpfs_root(machine: InitMachine, failing: str, reason: str) -> None:
    configure(machine)
    add_payload(machine)
    machine.failing[failing] = 1
    mode, attempts, why = machine.call(_BUILD).stdout.strip().split("|")
    assert (mode, why) == ("tmpfs", reason.replace("@", str(machine.root)))
    assert attempts in ("1", "2")
    assert (machine.root / "newroot/etc/preinit").exists()


def test_a_kernel_without_ext2(machine: InitMachine) -> None:
    configure(machine)
    add_payload(machine)
    machine.write("proc/filesystems", "nodev\ttmpfs\n")
    assert machine.call(_BUILD).stdout == "tmpfs|1|the kernel has neither ext2 nor ext4\n"


def test_ext2_is_not_begun_when_memory_is_short(machine: InitMachine) -> None:
    configure(machine)
    pieces = add_payload(machine)
    machine.write("proc/filesystems", "nodev\ttmpfs\n")
    machine.write("proc/meminfo", meminfo(total=40000, available=13311, free=13311))
    assert machine.call(_BUILD).stdout == (
        "tmpfs|1|not enough memory for ext2: need 13312 KiB, have 13311 KiB\n"  # 4096 + drivers + what must be left
    )
    assert not [line for line in machine.commands if line.startswith(("modprobe", "fallocate"))]
    assert [piece.stat().st_size for piece in pieces] == [0] * len(pieces)


def test_nothing_is_begun_when_memory_will_not_do_at_all(machine: InitMachine) -> None:
    configure(machine, LB_ROOT_DATA_KIB=4000)
    pieces = add_payload(machine)
    machine.write("proc/meminfo", meminfo(total=9000, available=3000, free=3000))
    machine.call(_BUILD)
    assert "not enough memory for ext2: need 10240 KiB, have 3000 KiB" in machine.console
    assert "not enough memory for tmpfs: need " in machine.console
    assert all(piece.stat().st_size for piece in pieces)
    assert not [line for line in machine.commands if line.startswith("mount")]


def test_tmpfs_can_be_asked_for(machine: InitMachine) -> None:
    configure(machine, LB_ROOT_MODE="tmpfs")
    add_payload(machine)
    assert machine.call(_BUILD).stdout == "tmpfs|1|\n"
    assert not [line for line in machine.commands if "loop" in line]


_MODULE = "lib/modules/6.1.0-50-686/kernel/loop.ko"


@pytest.mark.parametrize("mode", ["ext2", "tmpfs"])
def test_what_initramfs_and_root_share_travels_once(machine: InitMachine, mode: str) -> None:
    layer = b"".join(archive(RootTree([directory("bin"), directory(_MODULE.rpartition("/")[0]), file("etc/x", "x")])))
    machine.write("payload/10-packages.000.cpio", layer)
    machine.write("bin/busybox", "program").chmod(0o755)
    machine.write(_MODULE, "module").chmod(0o644)
    configure(machine, LB_ROOT_MODE=mode, LB_SHARED=f"'bin/busybox {_MODULE}'")
    assert machine.call(_BUILD).stdout == f"{mode}|1|\n"
    for path, mode_bits, text in (("bin/busybox", 0o755, "program"), (_MODULE, 0o644, "module")):
        copy = machine.root / "newroot" / path
        assert (copy.read_text(), copy.stat().st_mode & 0o777) == (text, mode_bits)
    assert (machine.root / "bin/busybox").exists()  # it is what runs all this
    assert not (machine.root / _MODULE).exists()  # the root's own is used from here on


def test_a_shared_file_that_cannot_be_copied_is_named(machine: InitMachine) -> None:
    add_payload(machine)
    configure(machine, LB_SHARED="bin/busybox")
    machine.failing["cp *"] = 1
    machine.call(_BUILD)
    assert "/bin/busybox could not be unpacked (cp exit 1)" in machine.console


@pytest.mark.parametrize(("free", "by_file"), [(4096 + 6144 + 4095, False), (4096 + 6144 + 4096, True)])
def test_a_layer_goes_by_way_of_a_file_only_where_there_is_memory_for_it(
    machine: InitMachine, free: int, by_file: bool
) -> None:
    configure(machine)
    add_payload(machine)
    machine.write("proc/meminfo", meminfo(total=60000, available=free, free=free))
    machine.hooks["cpio"] = 'ls "$ROOT/image" >"$ROOT/seen"'
    assert machine.call(_BUILD).stdout == "ext2|1|\n"
    assert ("layer.cpio" in (machine.root / "seen").read_text()) is by_file
    assert not (machine.root / "image/layer.cpio").exists()


def test_a_root_that_wants_it_is_mounted_by_the_name_of_its_loop_device(machine: InitMachine) -> None:
    """From 14.07 on /dev/root is of no use to OpenWrt, and in a /dev that lists it first, in its way."""
    configure(machine, LB_ROOT_SOURCE="/dev/loop7")
    add_payload(machine)
    machine.call(_BUILD)
    assert "mount -t ext2 -o noatime /dev/loop7 /newroot" in machine.commands
    assert not [line for line in machine.commands if "/dev/root" in line]
