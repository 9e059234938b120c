"""Which bytes are written, as arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import GIB, MIB
from livebuilder.usb.plan import StickIdentity, plan_stick, plan_storage_behind
from livebuilder.usb.prepare import scratch_folder, table_extents, volume_extents

ID = StickIdentity.random()


def _file(path: Path, size: int, *data: int) -> Path:
    with path.open("xb") as stream:
        stream.truncate(size)
        for offset in data:
            stream.seek(offset)
            stream.write(b"x")
    return path


@pytest.mark.parametrize("table", ["gpt", "dos"])
@pytest.mark.parametrize("partition_bytes", [None, 100 * MIB])
@pytest.mark.parametrize("extra", [0, 512, 600 * 512])
def test_the_edges_of_disk_and_partition_are_written_whole(
    tmp_path: Path, table: str, partition_bytes: int | None, extra: int
) -> None:
    size = 300 * MIB + extra
    plan = plan_stick(size_bytes=size, partition_bytes=partition_bytes, table=table, identity=ID)
    extents = (
        *table_extents(_file(tmp_path / "table", size), plan),
        *volume_extents(_file(tmp_path / "volume", plan.partition_bytes, 50 * MIB), plan),
    )
    covered: set[int] = set()
    for extent in extents:
        sectors = range(extent.offset // 512, extent.end // 512)
        assert covered.isdisjoint(sectors), "no byte is written twice"
        covered.update(sectors)
    start, end = plan.partition_offset_bytes, plan.partition_offset_bytes + plan.partition_bytes
    for edge in ((0, MIB), (size - MIB, size), (start, start + MIB), (end - MIB, end), (start + 50 * MIB,) * 2):
        assert covered.issuperset(range(edge[0] // 512, edge[1] // 512))
    assert len(covered) * 512 < 6 * MIB
    assert max(extent.end for extent in extents) == size


def test_a_partition_may_be_smaller_than_the_stick_but_not_larger() -> None:
    plan = plan_stick(size_bytes=GIB, partition_bytes=100 * MIB + 5, identity=ID)
    assert (plan.size_bytes, plan.partition_bytes) == (GIB, 100 * MIB)
    with pytest.raises(LivebuilderError, match=r"its partition can have 1022\.0 MiB, not 1\.0 GiB"):
        plan_stick(size_bytes=GIB, partition_bytes=GIB, identity=ID)


def test_storage_begins_at_the_next_mib_behind_the_iso_and_takes_the_rest() -> None:
    plan = plan_storage_behind(30 * MIB + 2048, size_bytes=GIB + 512, disk_id=0xABCD, identity=ID)
    assert (plan.number, plan.partition_offset_bytes, plan.partition_bytes) == (2, 31 * MIB, GIB - 31 * MIB)
    assert (plan.table, plan.disk_id, plan.partition_type) == ("dos", "0x0000abcd", "83")


@pytest.mark.parametrize(("size", "said"), [(40 * MIB, "leave it 9.0 MiB; take 47M or more"), (MIB, "take 47M")])
def test_no_room_for_storage_is_said_with_what_would_do(size: int, said: str) -> None:
    with pytest.raises(LivebuilderError, match="there can be no storage behind the") as caught:
        plan_storage_behind(31 * MIB, size_bytes=size, disk_id=1, identity=ID)
    assert said in caught.value.message


def test_a_full_scratch_folder_is_told_before_anything_is_built() -> None:
    with pytest.raises(LivebuilderError, match="takes up to") as caught, scratch_folder(10**18):
        pytest.fail("there is no such room")
    assert "TMPDIR=" in (caught.value.hint or "")
