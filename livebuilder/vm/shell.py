"""A guest's shell, used over its serial line as a patient person would: type, read, type again.

Whatever is typed is echoed, wrapped and may be cut in two by messages of the kernel. Every command is therefore
put between marks which the echo cannot contain (the shell itself puts their two halves together), and is typed
again when its answer does not come: commands have to be such that doing them twice is doing them once.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

from livebuilder.vm.serial import GuestTimeout, SerialLine

CONSOLE_QUESTION = "Please press Enter to activate this console"
# The others stand at the end of all that was said; busybox' ash asks the terminal where its cursor is after a prompt.
_INVITATION = (
    rf"(?P<question>{CONSOLE_QUESTION})|(?P<login>\blogin: \Z)|(?P<password>[Pp]assword: \Z)"
    r"|(?P<offer>\[y/N\] \Z)|(?P<prompt>[#$] (?:\x1b\[6n)?\Z)"
)
INVITATION_SECONDS = 60.0  # after which a shell may be there that says nothing by itself
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
        """Run one line of sh; raises `GuestTimeout` when no attempt is answered within `timeout_seconds`."""
        while True:
            self._count += 1
            attempts -= 1
            self._line.forget()
            self._line.type_line(f"echo LB''{self._count}=; {command}; echo LB''{self._count}:$?")
            answer = rf"LB{self._count}=\n((?:.*\n)*?.*?)LB{self._count}:(\d+)\n"
            try:
                match = self._line.wait_for(answer, timeout_seconds=timeout_seconds)
            except GuestTimeout as error:
                if attempts <= 0:
                    what = f"the guest's shell did not answer {command!r}"
                    raise self._line.failure(what, kind=GuestTimeout) from error
            else:
                return Answer(int(match[2]), match[1])

    def read_file(self, path: str) -> Answer:
        """The lines of the guest's text file `path`, by what a shell can do itself: not every root has a `cat`."""
        return self.run(f"""while IFS= read -r line || [ -n "$line" ]; do printf '%s\\n' "$line"; done <{path}""")

    def read_json(self, path: str, *, attempts: int = 5) -> dict[str, Any]:
        """The JSON object in the guest's file `path`, read again while a message of the kernel is in the middle of it.

        Raises `GuestError` when there is no such file, or none of the attempts gives JSON.
        """
        answer = Answer(0, "")
        for _ in range(attempts):
            answer = self.read_file(path)
            try:
                data = json.loads(answer.output)
            except ValueError:
                continue
            if isinstance(data, dict):
                return data
        raise self._line.failure(f"{path} could not be read (status {answer.status})")


def activate_console(line: SerialLine, *, timeout_seconds: float) -> GuestShell:
    """Do what the console asks for (Enter, a user's name), and give its shell once that answers.

    What it offers, a password to be set for one, is declined.

    Raises `GuestError` when it asks for a password, `GuestTimeout` when no shell answers within `timeout_seconds`.
    """
    deadline = time.monotonic() + timeout_seconds
    patience = INVITATION_SECONDS
    shell = GuestShell(line)
    while (left := deadline - time.monotonic()) > 0:
        try:
            limit = min(patience, left)
            invitation = line.wait_for(_INVITATION, timeout_seconds=limit, meaning="a shell").lastgroup
        except GuestTimeout:
            invitation = None
        patience = PROMPT_SECONDS
        if invitation == "password":
            raise line.failure("the console asks for a password, so that nobody gets a shell there")
        if invitation != "prompt":
            line.type_line("root" if invitation == "login" else "")
        if invitation in ("question", "login", "offer"):
            continue
        try:  # more than once: a login throws away what is typed before its shell asks for it
            # The kernel's messages go on into the log, but no longer into what we read.
            shell.run("dmesg -n 1", timeout_seconds=PROMPT_SECONDS, attempts=1)
        except GuestTimeout:
            continue
        return shell
    raise line.failure(f"no shell answers on the serial line within {timeout_seconds:g} seconds", kind=GuestTimeout)
