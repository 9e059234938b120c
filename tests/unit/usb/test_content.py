"""Which file system of a stick is meant."""

from __future__ import annotations

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.usb.blockdevice import BlockDevice, Volume
from livebuilder.usb.content import storage_volume


def test_which_volume_is_meant() -> None:
    def volume(number: int, fs: str, label: str) -> Volume:
        return Volume(path=f"/dev/sdx{number}", number=number, offset_bytes=0, size_bytes=1, fs=fs, label=label)

    def disk(*volumes: Volume) -> BlockDevice:
        return BlockDevice(path="/dev/sdx", kind="disk", size_bytes=9, volumes=volumes)

    vfat, data, right = volume(1, "vfat", "rootfs_data"), volume(2, "ext4", "data"), volume(3, "ext4", "rootfs_data")
    assert storage_volume(disk(vfat, data, right)) is right
    assert storage_volume(disk(vfat, data)) is data
    with pytest.raises(LivebuilderError, match="more than one that could be meant: /dev/sdx2 and /dev/sdx2"):
        storage_volume(disk(data, data))
    with pytest.raises(LivebuilderError, match="only vfat"):
        storage_volume(disk(vfat))
