"""A guest's shell, used over its serial line as a patient person would: type, read, type again.

Whatever is typed is echoed, wrapped and may be cut in two by messages of the kernel. Every command is therefore
put between marks which the echo cannot contain (the shell itself puts their two halves together), and is typed
again when its answer does not come: commands have to be such that doing them twice is doing them once.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from livebuilder.vm.serial import GuestError, SerialLine

CONSOLE_QUESTION = "Please press Enter to activate this console"
# At the end of all that was said; busybox' ash then asks the terminal where its cursor is.
_PROMPT = r"[#$] (?:\x1b\[6n)?\Z"
PROMPT_SECONDS = 5.0


@dataclass(frozen=True)
class Answer:
    """What a command printed, and the status it ended with."""

    status: int
    output: str


class GuestShell:
    """The shell at the other end of `line`, which must be waiting for commands: see `activate_console`."""

    def __init__(self, line: SerialLine) -> None:
        self._line = line
        self._count = 0

    def run(self, command: str, *, timeout_seconds: float = 20, attempts: int = 3) -> Answer:
        """Run one line of sh; raises `GuestError` when no attempt is answered within `timeout_seconds`."""
        while True:
            self._count += 1
            attempts -= 1
            self._line.forget()
            self._line.type_line(f"echo LB''{self._count}=; {command}; echo LB''{self._count}:$?")
            answer = rf"LB{self._count}=\n((?:.*\n)*?.*?)LB{self._count}:(\d+)\n"
            try:
                match = self._line.wait_for(answer, timeout_seconds=timeout_seconds)
            except GuestError as error:
                if attempts <= 0:
                    raise self._line.failure(f"the guest's shell did not answer {command!r}") from error
            else:
                return Answer(int(match[2]), match[1])

    def read_json(self, path: str, *, attempts: int = 5) -> dict[str, Any]:
        """The JSON object in the guest's file `path`, read again while a message of the kernel is in the middle of it.

        Raises `GuestError` when there is no such file, or none of the attempts gives JSON.
        """
        answer = Answer(0, "")
        for _ in range(attempts):
            answer = self.run(f"cat {path}")
            try:
                data = json.loads(answer.output)
            except ValueError:
                continue
            if isinstance(data, dict):
                return data
        raise self._line.failure(f"{path} could not be read, `cat` ended with {answer.status}")


def activate_console(line: SerialLine, *, timeout_seconds: float) -> GuestShell:
    """Press Enter as the console asks, and give the shell once it answers.

    Raises `GuestError` when that takes longer than `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    line.wait_for(CONSOLE_QUESTION, timeout_seconds=timeout_seconds)
    shell = GuestShell(line)
    while True:
        line.type_line()
        with suppress(GuestError):  # a login throws away what is typed before its shell asks for it
            line.wait_for(_PROMPT, timeout_seconds=PROMPT_SECONDS)
        try:
            # The kernel's messages go on into the log, but no longer into what we read.
            shell.run("dmesg -n 1", timeout_seconds=PROMPT_SECONDS, attempts=1)
        except GuestError:
            if time.monotonic() > deadline:
                raise
        else:
            return shell
