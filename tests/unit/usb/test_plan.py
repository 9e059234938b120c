from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import GIB, MIB
from livebuilder.usb.plan import LINUX_GUID, StickIdentity, StickPlan, plan_stick, plan_to_json, render_plan

IDENTITY = StickIdentity(
    UUID("ABCDEF01-2345-4678-89AB-CDEF01234567"),
    UUID("BBBBBBBB-2345-4678-89AB-CDEF01234567"),
    UUID("CCCCCCCC-2345-4678-89AB-CDEF01234567"),
)


def _plan(*, size_bytes: int = 64 * MIB, fs: str = "ext4", label: str = "rootfs_data", table: str = "gpt") -> StickPlan:
    return plan_stick(size_bytes=size_bytes, fs=fs, label=label, table=table, identity=IDENTITY)


def _problem(*, size_bytes: int = 64 * MIB, fs: str = "ext4", label: str = "rootfs_data", table: str = "gpt") -> str:
    with pytest.raises(LivebuilderError) as caught:
        _plan(size_bytes=size_bytes, fs=fs, label=label, table=table)
    return caught.value.message


def test_the_default_stick() -> None:
    plan = plan_stick(identity=IDENTITY)
    assert plan == _plan()
    assert (plan.size_bytes, plan.table, plan.file_system.name) == (64 * MIB, "gpt", "ext4")
    assert (plan.start_sector, plan.sectors) == (2048, 62 * 2048)
    assert (plan.partition_offset_bytes, plan.partition_bytes) == (MIB, 62 * MIB)
    assert (plan.partition_name, plan.label) == ("rootfs_data", "rootfs_data")
    assert plan.partition_type == LINUX_GUID
    assert plan.disk_id == "ABCDEF01-2345-4678-89AB-CDEF01234567"
    assert plan.partition_uuid == "BBBBBBBB-2345-4678-89AB-CDEF01234567"
    assert plan.file_system_uuid == "cccccccc-2345-4678-89ab-cdef01234567"


def test_a_dos_table_has_no_names_and_no_backup() -> None:
    plan = _plan(table="dos")
    assert (plan.disk_id, plan.partition_type) == ("0xabcdef01", "83")
    assert (plan.partition_name, plan.partition_uuid) == ("", "")
    assert plan.partition_bytes == 63 * MIB


def test_every_stick_has_ids_of_its_own() -> None:
    one, other = StickIdentity.random(), StickIdentity.random()
    assert len({one.disk, one.partition, one.file_system, other.disk, other.partition, other.file_system}) == 6


def test_a_dos_disk_id_is_never_zero() -> None:
    identity = StickIdentity(UUID(int=5), IDENTITY.partition, IDENTITY.file_system)
    assert plan_stick(table="dos", identity=identity).disk_id == "0x00000001"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"fs": "vfat"}, "vfat cannot keep the settings"),
        ({"fs": "exfat"}, "upper layer"),
        ({"fs": "ntfs"}, "trusted extended attributes"),
        ({"fs": "ext5"}, "did you mean ext"),
        ({"fs": "zfs!"}, "choose one of ext2, ext3, ext4, f2fs, btrfs"),
        ({"table": "mbr"}, "choose gpt or dos"),
        ({"table": "dos", "size_bytes": 3 * 1024 * GIB}, "a dos table reaches 2.0 TiB"),
        ({"size_bytes": 64 * MIB + 1}, "whole number of 512-byte sectors"),
        ({"size_bytes": 0}, "take 18M or more"),
        ({"size_bytes": 17 * MIB}, "leave it 15.0 MiB; take 18M or more"),
        ({"size_bytes": 64 * MIB, "fs": "f2fs"}, "take 66M or more"),
        ({"size_bytes": 16 * MIB, "fs": "btrfs"}, "take 32M or more"),
        ({"size_bytes": 17 * 1024 * GIB}, "ends at 16.0 TiB"),
        ({"label": ""}, "needs a label"),
        ({"label": "seventeen_bytes_x"}, "is 17 bytes long; one of ext4 holds 16"),
        ({"label": "neun_äöüß"}, None),
        ({"label": "ääääääääß"}, "is 18 bytes long"),
        ({"label": "x" * 37, "fs": "btrfs"}, "a GPT partition's name holds 36"),
        ({"label": "x" * 254, "fs": "btrfs", "table": "dos"}, None),
        ({"label": "x" * 255, "fs": "btrfs", "table": "dos"}, "one of btrfs holds 254"),
        ({"label": "x" * 512, "fs": "f2fs", "table": "dos", "size_bytes": 66 * MIB}, None),
        ({"label": "x" * 513, "fs": "f2fs", "table": "dos", "size_bytes": 66 * MIB}, "one of f2fs holds 512"),
        ({"label": "rootfs data"}, "' '"),
        ({"label": "rootfs_data "}, "' '"),
        ({"label": "it's"}, '"\'"'),
        ({"label": "a/b"}, "'/'"),
        ({"label": "a\nb"}, r"'\n'"),
        ({"label": "\udcff"}, "cannot carry"),
        ({"label": "\N{PENGUIN}"}, "cannot put into a GPT name"),
    ],
)  # fmt: skip
def test_each_rule(wrong: dict[str, str | int], said: str | None) -> None:
    if said is None:
        _plan(**wrong)  # type: ignore[arg-type]
    else:
        assert said in _problem(**wrong)  # type: ignore[arg-type]


def test_all_that_is_wrong_is_said_at_once() -> None:
    message = _problem(fs="vfat", table="mbr", size_bytes=1, label="a b")
    assert message.count("\n  - ") == 4
    for part in ("vfat", "'mbr'", "1 bytes", "'a b'"):
        assert part in message


@given(
    size_bytes=st.integers(0, 64 * GIB).map(lambda n: n // 512 * 512),
    fs=st.sampled_from(["ext2", "ext3", "ext4", "f2fs", "btrfs"]),
    table=st.sampled_from(["gpt", "dos"]),
)
def test_a_partition_is_aligned_and_leaves_the_tables_alone(size_bytes: int, fs: str, table: str) -> None:
    try:
        plan = _plan(size_bytes=size_bytes, fs=fs, table=table)
    except LivebuilderError:
        assert size_bytes < 67 * MIB
        return
    end = plan.partition_offset_bytes + plan.partition_bytes
    assert plan.partition_offset_bytes % MIB == end % MIB == 0
    assert end <= size_bytes - (33 * 512 if table == "gpt" else 0)
    assert size_bytes - end < 2 * MIB
    assert plan.partition_bytes >= plan.file_system.smallest_bytes


def test_a_plan_reads_well() -> None:
    assert render_plan(_plan()).splitlines() == [
        "size         64.0 MiB",
        "table        gpt, id ABCDEF01-2345-4678-89AB-CDEF01234567",
        f"partition    sector 2048, 62.0 MiB, type {LINUX_GUID}, named rootfs_data",
        "file system  ext4, labelled rootfs_data, UUID cccccccc-2345-4678-89ab-cdef01234567",
    ]
    assert "named" not in render_plan(_plan(table="dos"))


def test_a_plan_is_plain_data_too() -> None:
    assert json.loads(json.dumps(plan_to_json(_plan(table="dos")))) == {
        "size_bytes": 64 * MIB,
        "table": {"type": "dos", "id": "0xabcdef01"},
        "partition": {"start_sector": 2048, "sectors": 63 * 2048, "type": "83", "name": "", "uuid": ""},
        "file_system": {
            "type": "ext4",
            "label": "rootfs_data",
            "uuid": "cccccccc-2345-4678-89ab-cdef01234567",
            "offset_bytes": MIB,
            "size_bytes": 63 * MIB,
        },
    }
