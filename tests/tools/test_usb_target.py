"""The one descriptor, on image files and, where there are loop devices, on real block devices."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from livebuilder.errors import CommandError, LivebuilderError
from livebuilder.process import run
from livebuilder.sizes import MIB
from livebuilder.usb.devices import describe
from livebuilder.usb.extents import Extent, FileSlice
from livebuilder.usb.target import UNTOUCHED, UNVERIFIED, VERIFIED, Target, open_target
from tests.support.host import loop_device
from tests.support.users import as_ordinary_user

SIZE = 8 * MIB


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "stick.img"
    path.write_bytes(b"\xee" * SIZE)
    return path


@pytest.fixture
def loop(image: Path) -> Iterator[Path]:
    with loop_device(image) as device:
        yield device


@pytest.fixture(params=["image", pytest.param("loop", marks=pytest.mark.host("loop"))])
def path(request: pytest.FixtureRequest) -> Path:
    """An image file, then a block device."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Path)
    return found


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    said: list[str] = []
    number = logger.add(said.append, level="WARNING", format="{message}")
    yield said
    logger.remove(number)


def _extents(folder: Path) -> list[Extent]:
    source = folder / "source"
    source.write_bytes(os.urandom(3 * MIB))
    return [
        Extent(0, 512, b"\xaa" * 512),
        Extent(MIB, 2 * MIB + 512, FileSlice(source, 512)),
        Extent(SIZE - MIB, MIB),
    ]


def test_what_is_written_is_what_is_read_back_and_the_rest_stays(path: Path, image: Path, tmp_path: Path) -> None:
    extents, told = _extents(tmp_path), list[tuple[int, int]]()
    with open_target(describe(path), writable=True) as target:
        target.verify_identity()
        assert target.state == UNTOUCHED
        target.write_extents(extents, lambda done, total: told.append((done, total)))
        assert "half written: prepare it again" in target.state
        target.flush()
        assert target.state == UNVERIFIED
        target.reread_table()
        target.read_back(extents)
        assert target.state == VERIFIED
    source, total = (tmp_path / "source").read_bytes(), 3 * MIB + 1024
    head = b"\xaa" * 512 + b"\xee" * (MIB - 512) + source[512 : 2 * MIB + 1024]
    assert image.read_bytes() == head + b"\xee" * (SIZE - MIB - len(head)) + bytes(MIB)
    assert told[-1] == (total, total)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_byte_that_is_another_is_found_with_its_place(path: Path, tmp_path: Path) -> None:
    extents = _extents(tmp_path)
    with pytest.raises(LivebuilderError) as caught, open_target(describe(path), writable=True) as target:
        target.write_extents(extents)
        target.write(MIB + 1024, b"\x00" * 512)
        target.read_back(extents)
    assert "loses or changes data" in caught.value.message
    assert f"at byte {MIB + 1024}" in caught.value.message or f"at byte {MIB + 1025}" in caught.value.message
    assert f"{path} is not as it was written: prepare it again" in caught.value.message


@pytest.mark.host("loop")
def test_a_disk_is_read_past_the_page_cache(loop: Path) -> None:
    with open_target(describe(loop), writable=True) as target:
        assert fcntl.fcntl(target.fd, fcntl.F_GETFL) & os.O_DIRECT
        target.write(512, b"\x11" * 512)
        assert target.read(0, 1536) == b"\xee" * 512 + b"\x11" * 512 + b"\xee" * 512
    assert loop.read_bytes()[512:1024] == b"\x11" * 512


@pytest.mark.host("loop")
def test_extents_outside_of_the_stick_or_of_broken_sectors_are_a_bug_that_writes_nothing(
    loop: Path, image: Path
) -> None:
    with open_target(describe(loop), writable=True) as target:
        for extent in (Extent(SIZE, 512), Extent(SIZE - 512, 1024), Extent(-512, 512), Extent(1, 512), Extent(0, 100)):
            with pytest.raises(ValueError, match="bytes at"):
                target.write_extents([Extent(0, 512), extent])
    assert image.read_bytes() == b"\xee" * SIZE


# Nobody else's


def test_only_one_program_at_a_time(path: Path) -> None:
    with open_target(describe(path), writable=True):
        device = describe(path)
        with pytest.raises(LivebuilderError, match="left as it is") as caught, open_target(device, writable=True):
            pytest.fail("it is ours already")
    assert "in use" in caught.value.message or "locked by another" in caught.value.message
    with open_target(describe(path), writable=True):
        pass


@pytest.mark.host("loop")
def test_a_mounted_disk_is_in_use(loop: Path, tmp_path: Path) -> None:
    device = describe(loop)
    run(["mke2fs", "-q", "-F", loop])
    mountpoint = tmp_path / "mnt"
    mountpoint.mkdir()
    run(["mount", loop, mountpoint])
    try:
        with pytest.raises(LivebuilderError, match="is in use") as caught, open_target(device, writable=True):
            pytest.fail("it is mounted")
    finally:
        run(["umount", mountpoint])
    assert "umount" in (caught.value.hint or "")


@pytest.mark.host("loop")
def test_a_write_protected_disk_is_told(image: Path) -> None:
    with loop_device(image, read_only=True) as loop:
        device = describe(loop)
        with pytest.raises(LivebuilderError) as caught, open_target(device, writable=True) as target:
            target.write(0, bytes(512))
        with open_target(device, writable=False) as target:
            assert target.read(0, 512) == b"\xee" * 512
    assert "write protection switch" in (caught.value.hint or "")


def test_a_file_that_is_gone_is_told(image: Path) -> None:
    device = describe(image)
    image.unlink()
    with pytest.raises(LivebuilderError, match="is not there any more"), open_target(device, writable=True):
        pytest.fail("there is nothing")


def test_what_is_another_kind_of_file_by_now_is_not_opened(image: Path) -> None:
    device = describe(image)
    image.unlink()
    os.mkfifo(image)  # opening one waits for ever
    with pytest.raises(LivebuilderError, match="is no image any more"), open_target(device, writable=False):
        pytest.fail("it is no file")


def test_who_may_not_open_it_is_told_what_helps() -> None:
    path = Path("/etc/shadow")

    def refused() -> tuple[str, str | None]:
        try:
            with open_target(describe(path), writable=False):
                return "it was opened", None
        except LivebuilderError as error:
            return error.message, error.hint

    message, hint = as_ordinary_user(refused)
    assert message == f"{path} may not be opened by you: it was left as it is"
    assert hint == f"chmod u+rw {path}, if it is yours"


# The same as planned for


def test_a_file_of_the_same_name_is_another_file(image: Path) -> None:
    device = describe(image)
    with pytest.raises(LivebuilderError) as caught, open_target(device, writable=True) as target:
        image.rename(image.with_name("old"))
        image.write_bytes(b"\xee" * SIZE)
        target.verify_identity()
    assert "nothing was written: the name belongs to another now" in caught.value.message
    assert "is untouched" in caught.value.message


def test_a_file_that_grew_is_told(image: Path) -> None:
    device = describe(image)
    os.truncate(image, SIZE + 512)
    with (
        pytest.raises(LivebuilderError, match="size in bytes is 8389120, not 8388608"),
        open_target(device, writable=True) as target,
    ):
        target.verify_identity()


@pytest.mark.host("loop")
def test_another_disk_behind_the_same_node_is_told(loop: Path, tmp_path: Path) -> None:
    """As when one stick is unplugged and another plugged in between the plan and the first write."""
    device = describe(loop)
    run(["losetup", "--detach", loop])
    other = tmp_path / "other.img"
    other.write_bytes(b"\xdd" * (SIZE + MIB))
    run(["losetup", loop, other])
    with (
        pytest.raises(LivebuilderError, match=r"nothing was written.*size in bytes"),
        open_target(device, writable=True) as target,
    ):
        target.verify_identity()
    assert other.read_bytes() == b"\xdd" * (SIZE + MIB)


# How it is left


def test_an_error_half_way_says_so(path: Path, tmp_path: Path) -> None:
    source = tmp_path / "short"
    source.write_bytes(b"x" * 1000)
    with (
        pytest.raises(LivebuilderError, match=r"short ends at .*; .* is half written: write it again"),
        open_target(describe(path), writable=True, redo="write it again") as target,
    ):
        target.write_extents([Extent(0, MIB, FileSlice(source))])


def test_an_error_of_the_system_says_so_too(image: Path) -> None:
    with (
        pytest.raises(LivebuilderError, match=r"No such file.*; .*stick\.img is untouched"),
        open_target(describe(image), writable=True),
    ):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x")


def test_without_writing_there_is_no_state_to_tell(image: Path) -> None:
    with pytest.raises(LivebuilderError, match=r"^nothing found$"), open_target(describe(image), writable=False):
        raise LivebuilderError("nothing found")


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), SystemExit(130)])
def test_an_interruption_says_how_the_stick_is_left(
    image: Path, warnings: list[str], interruption: BaseException
) -> None:
    def stop(_done: int, _total: int) -> None:
        raise interruption

    with pytest.raises(type(interruption)), open_target(describe(image), writable=True) as target:
        target.write_extents([Extent(0, MIB)], stop)
    assert warnings == [f"interrupted: {image} is half written: prepare it again\n"]


_SCRIPT = """
import os, signal, sys
from pathlib import Path
from loguru import logger
from livebuilder.__main__ import _end
from livebuilder.usb.devices import describe
from livebuilder.usb.extents import Extent
from livebuilder.usb.target import open_target
logger.remove()
logger.add(sys.stderr, format="{message}", level="WARNING")
signal.signal(signal.SIGINT, _end)
with open_target(describe(Path(sys.argv[1])), writable=True) as target:
    target.write_extents([Extent(0, 4 << 20)], lambda done, total: os.kill(os.getpid(), signal.SIGINT))
"""


def test_ctrl_c_ends_with_130_and_one_line(image: Path) -> None:
    done = run([sys.executable, "-c", _SCRIPT, image], check=False, timeout_seconds=60)
    assert (done.returncode, done.stderr) == (
        128 + signal.SIGINT,
        f"interrupted: {image} is half written: prepare it again\n",
    )


@pytest.mark.host("loop")
def test_a_disk_that_cannot_be_read_says_where_and_what_to_look_at(loop: Path, image: Path) -> None:
    with open_target(describe(loop), writable=False) as target:
        os.truncate(image, MIB)
        with pytest.raises(LivebuilderError, match=rf"reading {loop} at byte {4 * MIB} failed: Input/output") as caught:
            target.read(4 * MIB, 512)
    assert "dmesg" in (caught.value.hint or "")


# For other programs


def test_other_programs_open_the_very_same_file(image: Path) -> None:
    run(["mke2fs", "-q", "-F", "-L", "hello", "-E", f"offset={MIB}", image, "4096k"])
    with open_target(describe(image), writable=True) as target:
        image.rename(image.with_name("renamed"))
        image.write_bytes(b"another")
        words = ["dumpe2fs", "-h", target.path_for_tools(MIB)]
        assert "hello" in run(words, pass_fds=(target.fd,)).stdout
        assert run(["cat", target.path_for_tools()], pass_fds=(target.fd,)).stdout_bytes[MIB:].count(b"hello")
        with pytest.raises(CommandError):
            run(words)  # without the descriptor it is nothing


@pytest.mark.host("loop")
def test_on_a_disk_too_while_it_is_ours(loop: Path) -> None:
    run(["mke2fs", "-q", "-F", "-L", "hello", "-E", f"offset={MIB}", loop, "4096k"])
    with open_target(describe(loop), writable=True) as target:
        name = target.path_for_tools(MIB)
        assert "hello" in run(["dumpe2fs", "-h", name], pass_fds=(target.fd,)).stdout
        run(["e2fsck", "-f", "-n", name], pass_fds=(target.fd,))
        run(["debugfs", "-w", "-R", "mkdir upper", name], pass_fds=(target.fd,))
        assert "upper" in run(["debugfs", "-R", "ls /", name], pass_fds=(target.fd,)).stdout


class Unplugged(Target):
    """A disk that sysfs does not know any more."""

    def _raise_if_gone(self, doing: str, *, number: int | None = None) -> None:
        self._number = os.makedev(4095, 1)
        super()._raise_if_gone(doing, number=number)


def test_a_disk_that_lost_contact_is_no_error_of_the_file_system(image: Path) -> None:
    with image.open("rb") as stream:  # writing to it fails
        target = Unplugged(describe(image), stream.fileno(), redo="prepare it again")
        with pytest.raises(LivebuilderError, match="was unplugged, or lost contact, while writing it"):
            target.write_extents([Extent(0, 512)])
    assert target.state == "half written: prepare it again"
