from __future__ import annotations

from livebuilder.usb.mounts import Mount, parse_mountinfo


def test_mountinfo() -> None:
    text = (
        r"36 35 98:0 /mnt1 /mnt/with\040space rw,noatime master:1 - ext3 /dev/sdb1 rw,errors=continue" + "\n"
        "24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw\n"
        "not a line\n\n"
    )
    assert parse_mountinfo(text) == (
        Mount("98:0", "/mnt/with space", "ext3", "/dev/sdb1"),
        Mount("0:6", "/dev", "devtmpfs", "devtmpfs"),
    )
