from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from livebuilder.vm.serial import GuestError, SerialLine

LOG = Path("logs/boot.log")


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def line(ends: tuple[socket.socket, socket.socket]) -> SerialLine:
    return SerialLine(ends[0].fileno(), log=LOG)


@pytest.fixture
def guest(ends: tuple[socket.socket, socket.socket]) -> socket.socket:
    return ends[1]


def test_the_same_words_can_be_waited_for_again(line: SerialLine, guest: socket.socket) -> None:
    guest.sendall(b"boot 1\r\nboot 2\r\n")
    assert [line.wait_for(r"^boot (\d)$", timeout_seconds=5)[1] for _ in range(2)] == ["1", "2"]
    with pytest.raises(GuestError, match=r"did not say '\^boot' within 0\.05 seconds"):
        line.wait_for("^boot", timeout_seconds=0.05)
    assert line.text == "boot 1\nboot 2\n"


def test_a_letter_that_comes_in_two_pieces_is_one(line: SerialLine, guest: socket.socket) -> None:
    data = "Grüße".encode()
    guest.sendall(data[:3])
    with pytest.raises(GuestError):
        line.wait_for("Grü", timeout_seconds=0.05)
    guest.sendall(data[3:])
    assert line.wait_for("Grü.*e", timeout_seconds=5)[0] == "Grüße"


def test_noise_on_the_line_is_no_reason_to_fail(line: SerialLine, guest: socket.socket) -> None:
    guest.sendall(b"\xff\x00\xfe login:")
    line.wait_for(" login:", timeout_seconds=5)


def test_the_error_shows_the_last_lines_and_names_the_log(line: SerialLine, guest: socket.socket) -> None:
    guest.sendall(b"".join(b"line %d\r\n\r\n" % number for number in range(40)))
    line.wait_for("line 39", timeout_seconds=5)
    with pytest.raises(GuestError) as failed:
        line.wait_for("login:", timeout_seconds=0.01)
    shown = failed.value.message.splitlines()
    assert shown == [
        "the guest did not say 'login:' within 0.01 seconds; its last lines:",
        *(f"    line {number}" for number in range(25, 40)),
    ]
    assert failed.value.log == LOG
    assert failed.value.hint == "less logs/boot.log   # all the guest said"


def test_what_moves_the_cursor_is_not_shown(line: SerialLine, guest: socket.socket) -> None:
    guest.sendall(b"\x1b[80D\r\nmenu\x1b[80D\r\n/ # \x1b[6n\x1b[7m\x07\r\n\x1b[?25hend")
    line.wait_for("end", timeout_seconds=5)
    assert line.last_lines() == ("menu", "/ # ", "end")


def test_a_guest_that_said_nothing(line: SerialLine) -> None:
    with pytest.raises(GuestError, match=r"last lines:\n    \(it said nothing\)"):
        line.wait_for("login:", timeout_seconds=0.01)


@pytest.mark.parametrize(
    "last",
    [
        "Kernel panic - not syncing: No working init found",
        "livebuilder: cannot go on: the root has no /sbin/init",
        "Loading /boot/vmlinuz... failed: Bad file number",
        "Loading /boot/initramfs...failed: No such file or directory",
    ],
)
def test_last_words_end_the_wait(line: SerialLine, guest: socket.socket, last: str) -> None:
    guest.sendall(f"[  1.0] {last}\r\n".encode())
    with pytest.raises(GuestError, match=re.escape(f"said {last!r}")):
        line.wait_for("login:", timeout_seconds=600)
    line.wait_for(last.rpartition(" ")[2], timeout_seconds=5, unless=None)


def test_a_closed_line_ends_the_wait(line: SerialLine, guest: socket.socket) -> None:
    guest.sendall(b"bye\r\n")
    guest.close()
    line.wait_for("bye", timeout_seconds=5)
    with pytest.raises(GuestError, match="the line was closed while we waited for 'login:'"):
        line.wait_for("login:", timeout_seconds=600)
    with pytest.raises(GuestError, match="typing 'root' on the serial line failed"):
        line.type_text("root")


def test_forget_skips_what_was_said(line: SerialLine, guest: socket.socket) -> None:
    guest.sendall(b"READY old\n")
    line.forget()
    guest.sendall(b"READY new\n")
    assert line.wait_for(r"READY (\w+)\n", timeout_seconds=5)[1] == "new"


def test_what_is_typed_arrives_with_a_carriage_return(line: SerialLine, guest: socket.socket) -> None:
    line.type_line("echo ü")
    assert guest.recv(100) == "echo ü\r".encode()


def test_a_terminal_that_ends_is_a_closed_line() -> None:
    ours, theirs = os.openpty()
    line = SerialLine(ours, log=LOG)
    os.close(theirs)
    with pytest.raises(GuestError, match="the line was closed"):
        line.wait_for("login:", timeout_seconds=600)
    os.close(ours)
