"""What is on a stick, put there and looked at by our own code; and what a router's stick may hold."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.tree import Entry, Kind, RootTree, device, directory, file, hardlink, symlink
from livebuilder.usb.blockdevice import Volume
from livebuilder.usb.changes import differences
from livebuilder.usb.content import change_content, read_content
from livebuilder.usb.devices import describe
from livebuilder.usb.target import Target, open_target
from tests.support.sticks import stick_image

ALL_FEATURES = ("-b", "4096", "-O", "metadata_csum,64bit,orphan_file,inline_data,large_dir")


def a_stick(path: Path, fs: str = "ext4", *options: str, size_bytes: int = 24 * MIB) -> Path:
    """A stick as `usb image` makes it, or, with options for mke2fs, another file system in its partition."""
    stick_image(path, fs=fs, size_bytes=size_bytes)
    if options:
        run(["mke2fs", "-q", "-F", "-t", fs, *options, "-E", f"offset={MIB}", path, f"{size_bytes // MIB - 2}M"])
    return path


@contextmanager
def opened(path: Path, *, writable: bool = True) -> Iterator[tuple[Target, Volume]]:
    """The stick `path`, and its first file system."""
    device = describe(path)
    with open_target(device, writable=writable) as target:
        yield target, device.volumes[0]


def put(path: Path, tree: RootTree) -> None:
    """Have `tree`, and nothing else, on the stick."""
    with opened(path) as (target, volume):
        change_content(target, volume, lambda _: tree)


def assert_holds(path: Path, tree: RootTree) -> None:
    """That `tree`, and nothing else, is on the stick."""
    with opened(path, writable=False) as (target, volume), read_content(target, volume) as found:
        assert differences(found, tree) == []


def assert_sound(path: Path) -> None:
    """That e2fsck finds no fault with it."""
    done = run(["e2fsck", "-fn", f"{path}?offset={MIB}"], check=False)
    assert done.returncode == 0, done.stdout


def a_router() -> RootTree:
    """What a router's stick may hold: whiteouts, opaque folders, capabilities, names nobody expects."""
    big = random.Random(7).randbytes(3 * MIB + 17)
    return RootTree(
        [
            directory("upper"), directory("work"), Entry("work/work", Kind.DIRECTORY, 0),
            symlink(".fs_state", "2"),
            Entry("upper/etc", Kind.DIRECTORY, 0o2755, 0, 10, 1_700_000_000,
                  xattrs={"trusted.overlay.opaque": b"y", "trusted.overlay.origin": bytes(range(29))}),
            file("upper/etc/big", big), file("upper/etc/empty", b""),
            Entry("upper/etc/shadow", Kind.FILE, 0o4600, 65_534, 4_294_967_294, 2_400_000_000),
            Entry("upper/etc/old", Kind.FILE, 0o644, 70_000, 1, -7, xattrs={"user.empty": b"", "user.b": b"\0\n\xff"}),
            device("upper/etc/gone", char=(0, 0), mode=0), device("upper/etc/also-gone", char=(0, 0), mode=0),
            device("upper/disk", block=(8, 17)), device("upper/far", block=(300, 70_000)),
            device("upper/tty", char=(5, 300)), Entry("upper/pipe", Kind.FIFO, 0o600),
            symlink("upper/long", "x/" * 450), symlink("upper/tmp", "/tmp a/\"b\" <2>"),
            file("upper/ lead and trail ", b"1"), file('upper/qu"ote', b"2"), file("upper/<12>", b"3"),
            file("upper/#hash", b"4"), file("upper/-dash", b"5"), file("upper/a\tb", b"6"),
            file("upper/back\\slash", b"7"),
            file("upper/\udce9t\udce9", b"not UTF-8"), file("upper/über", b"8"), file("upper/" + "n" * 255, b"9"),
            Entry("upper/link", Kind.SYMLINK, 0o777, 5, 6, 7, target="there", xattrs={"trusted.overlay.x": b"z"}),
            file("upper/one", b"many names"), hardlink("upper/etc/two", "upper/one"),
            hardlink("upper/three", "upper/one"),
            file("upper/sparse", b"\0" * (2 * MIB) + b"end"),
        ]
    )  # fmt: skip
