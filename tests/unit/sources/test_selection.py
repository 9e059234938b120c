import pytest

from livebuilder.sources.selection import is_left_out, kept_paths


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("usr/share/doc", True), ("usr/share/doc/thing/copyright", True), ("usr/share/documents/x", False),
        ("usr/share/man/man8/thing.8.gz", True), ("etc/init.d/thing", True), ("etc/thing.conf", False),
        ("usr/lib/i386-linux-gnu/libz.a", True), ("usr/lib/i386-linux-gnu/libz.so.1", False),
        ("sbin/e2scrub_all", True),
        ("usr/libexec/e2fsprogs/e2scrub_fail", True), ("sbin/e2fsck", False),
        ("lib/udev/rules.d/96-e2scrub.rules", True),
        ("lib/udev/rules.d/60-block.rules", False), ("bin/busybox", False), ("lib/firmware/a.fw", False),
    ],
)  # fmt: skip
def test_tables(path: str, left_out: bool) -> None:
    assert is_left_out(path) is left_out


def test_folders_stay_when_they_hold_something_or_are_shipped_empty() -> None:
    folders = ["usr", "usr/bin", "usr/share", "usr/share/doc", "usr/share/doc/x", "usr/share/empty", "var", "var/lib",
               "etc", "etc/cron.d", "usr/share/man"]  # fmt: skip
    paths = ["usr/bin/x", "usr/share/doc/x/copyright", "etc/cron.d/x"]
    assert kept_paths(paths, folders=folders) == {
        "usr", "usr/bin", "usr/bin/x", "usr/share", "usr/share/empty", "var", "var/lib",
    }  # fmt: skip
