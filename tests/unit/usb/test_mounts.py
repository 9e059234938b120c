from __future__ import annotations

import os
from pathlib import Path

from livebuilder.usb.mounts import Mount, mount_point_of, parse_mountinfo


def test_mountinfo() -> None:
    text = (
        r"36 35 98:0 /mnt1 /mnt/with\040space rw,noatime master:1 - ext3 /dev/sdb1 rw,errors=continue" + "\n"
        "24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw\n"
        "not a line\n\n"
    )
    assert parse_mountinfo(text) == (
        Mount("36", "98:0", "/mnt/with space", "ext3", "/dev/sdb1"),
        Mount("24", "0:6", "/dev", "devtmpfs", "devtmpfs"),
    )


def test_what_a_folder_lies_on(tmp_path: Path) -> None:
    assert mount_point_of(Path("/proc/self/fd")) == Path("/proc")
    point = mount_point_of(tmp_path)
    assert point is not None and os.path.ismount(point)
    assert tmp_path.is_relative_to(point) and tmp_path.stat().st_dev == point.stat().st_dev
