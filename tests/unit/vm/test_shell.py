"""The shell's side is a real sh on a real terminal, which echoes and wraps as a guest's does."""

from __future__ import annotations

import os
import pty
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import livebuilder.vm.shell
from livebuilder.vm.serial import GuestError, GuestTimeout, SerialLine
from livebuilder.vm.shell import Answer, GuestShell, activate_console

StartShell = Callable[..., SerialLine]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartShell]:
    """Starts `program` on a terminal; scripts in `tmp_path/bin` stand before the real tools."""
    started: list[tuple[int, int]] = []

    def start(*program: str) -> SerialLine:
        child, terminal = pty.fork()
        if child == 0:
            path = f"{tmp_path}/bin:{os.environ['PATH']}"
            os.execvpe(program[0], program, {"PATH": path, "PS1": "$ ", "ENV": str(tmp_path / "profile")})
        started.append((child, terminal))
        return SerialLine(terminal, log=tmp_path / "boot.log")

    yield start
    for child, terminal in started:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)


SHELLS = (("busybox", "ash", "-i"), ("dash", "-i"))


def tool(folder: Path, name: str, script: str) -> None:
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize("program", SHELLS, ids=lambda program: program[0])
def test_what_a_command_prints_and_its_status(start: StartShell, program: tuple[str, ...]) -> None:
    shell = GuestShell(start(*program))
    assert shell.run("printf 'one\\ntwo\\n'; false") == Answer(1, "one\ntwo\n")
    assert shell.run("printf 'no end of line'") == Answer(0, "no end of line")
    assert shell.run("true") == Answer(0, "")
    assert shell.run("(exit 42)") == Answer(42, "")


def test_a_line_longer_than_the_terminal_is_wide(start: StartShell) -> None:
    words = " ".join(f"word{number}" for number in range(60))
    assert GuestShell(start(*SHELLS[0])).run(f"echo {words}") == Answer(0, f"{words}\n")


def test_the_marks_are_not_found_in_the_echo(start: StartShell) -> None:
    """A terminal that only echoes must never count as an answer."""
    with pytest.raises(GuestError, match="the guest's shell did not answer 'true'"):
        GuestShell(start("cat")).run("true", timeout_seconds=0.3, attempts=2)


CUT = """
echo() {
	case $1 in
	LB1:*) command echo "LB[    9.1] usb 1-1: new device"; command echo "${1#LB}" ;;
	*) command echo "$@" ;;
	esac
}
"""


def test_a_command_is_typed_again_when_the_mark_is_cut_in_two(start: StartShell, tmp_path: Path) -> None:
    (tmp_path / "profile").write_text(CUT)
    line = start(*SHELLS[1])
    assert GuestShell(line).run("printf done", timeout_seconds=1) == Answer(0, "done")
    assert "LB[    9.1] usb 1-1: new device\n1:0\n" in line.text


INTERRUPTED = """
printf() {{
	[ ! -e {said} ] || {{ command printf "$@"; return; }}
	: > {said}
	command printf '{{"ver[   9.1] usb 1-1: new device\nsion": 1}}'
}}
"""


def test_json_is_read_again_when_a_message_is_in_the_middle(start: StartShell, tmp_path: Path) -> None:
    record, said = tmp_path / "boot.json", tmp_path / "said"
    record.write_text('{"version": 1}')
    (tmp_path / "profile").write_text(INTERRUPTED.format(said=said))
    assert GuestShell(start(*SHELLS[1])).read_json(str(record)) == {"version": 1}
    assert said.exists()


@pytest.mark.parametrize("program", SHELLS, ids=lambda program: program[0])
def test_a_file_is_read_without_any_program(start: StartShell, tmp_path: Path, program: tuple[str, ...]) -> None:
    file = tmp_path / "file"
    file.write_text("  a\\nb *\n\nno end of line")
    shell = GuestShell(start(*program))
    assert shell.run("PATH=/nowhere").status == 0
    assert shell.read_file(str(file)) == Answer(0, "  a\\nb *\n\nno end of line\n")
    assert shell.read_file(str(tmp_path / "none")).status != 0


@pytest.mark.parametrize("content", [None, "[1]", "{", "nothing"])
def test_what_is_no_json_object_is_refused(start: StartShell, tmp_path: Path, content: str | None) -> None:
    record = tmp_path / "boot.json"
    if content is not None:
        record.write_text(content)
    with pytest.raises(GuestError, match=rf"{record} could not be read \(status {2 * (content is None)}\)"):
        GuestShell(start(*SHELLS[1])).read_json(str(record), attempts=2)


CONSOLE = """
echo 'Please press Enter to activate this console.'
read -r enter
exec dash -i
"""


def test_the_console_is_activated_with_enter(start: StartShell, tmp_path: Path) -> None:
    tool(tmp_path, "console", CONSOLE)
    tool(tmp_path, "dmesg", f'printf "%s\\n" "$*" > {tmp_path}/asked')
    shell = activate_console(start("console"), timeout_seconds=20)
    assert shell.run("echo here") == Answer(0, "here\n")
    assert (tmp_path / "asked").read_text() == "-n 1\n"


def test_what_is_typed_too_early_is_typed_again(
    start: StartShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login throws away what was typed ahead: here the first two lines."""
    monkeypatch.setattr(livebuilder.vm.shell, "PROMPT_SECONDS", 0.5)
    tool(tmp_path, "console", CONSOLE.replace("exec", "read -r lost\nexec"))
    shell = activate_console(start("console"), timeout_seconds=30)
    assert shell.run("echo here") == Answer(0, "here\n")


def test_a_shell_that_asks_for_nothing_is_taken(start: StartShell) -> None:
    assert activate_console(start(*SHELLS[1]), timeout_seconds=20).run("echo here") == Answer(0, "here\n")


def test_a_shell_that_says_nothing_is_found(start: StartShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livebuilder.vm.shell, "INVITATION_SECONDS", 0.2)
    assert activate_console(start("dash", "-s"), timeout_seconds=20).run("echo here") == Answer(0, "here\n")


def test_an_offer_is_declined(start: StartShell, tmp_path: Path) -> None:
    """As a router's first console does, which offers to set a password."""
    offer = f"printf 'Set one now? [y/N] '\nread -r answer\necho \"$answer\" > {tmp_path}/answer\nexec"
    tool(tmp_path, "console", CONSOLE.replace("exec", offer))
    assert activate_console(start("console"), timeout_seconds=20).run("echo here") == Answer(0, "here\n")
    assert (tmp_path / "answer").read_text() == "\n"


LOGIN = """
printf 'attic-pc login: '
read -r name
[ "$name" = root ] || exit
{password}
exec dash -i
"""


def test_a_login_is_told_who_we_are(start: StartShell, tmp_path: Path) -> None:
    tool(tmp_path, "console", LOGIN.format(password=""))
    assert activate_console(start("console"), timeout_seconds=20).run("echo here") == Answer(0, "here\n")


def test_a_password_is_not_guessed(start: StartShell, tmp_path: Path) -> None:
    tool(tmp_path, "console", LOGIN.format(password="printf 'Password: '; read -r password"))
    with pytest.raises(GuestError, match="the console asks for a password, so that nobody gets a shell there"):
        activate_console(start("console"), timeout_seconds=20)


@pytest.mark.parametrize(
    "last", ["Kernel panic - not syncing: no init", "livebuilder: cannot go on: the root has no x"]
)
def test_a_guest_that_gave_up_is_not_waited_for(start: StartShell, tmp_path: Path, last: str) -> None:
    tool(tmp_path, "console", f"echo '{last}'; printf 'livebuilder# '; exec sleep 600")
    with pytest.raises(GuestError, match=f"the guest said '{last}'"):
        activate_console(start("console"), timeout_seconds=600)


def test_where_no_shell_answers_it_is_given_up(start: StartShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(livebuilder.vm.shell, "PROMPT_SECONDS", 0.2)
    with pytest.raises(GuestTimeout, match=r"no shell answers on the serial line within 0\.3 seconds"):
        activate_console(start("cat"), timeout_seconds=0.3)
