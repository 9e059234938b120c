"""A serial line: the one way in and out that every guest has, from the boot menu to the shell."""

from __future__ import annotations

import codecs
import errno
import os
import re
import select
import time
from pathlib import Path

from livebuilder.errors import LivebuilderError

# What tells that waiting any longer is in vain: the last words of the kernel, of our own /init, and of isolinux.
GAVE_UP = r"(?:Kernel panic - not syncing|livebuilder: cannot go on|Loading /\S+\.\.\. ?failed): .*(?=\n)"
_LAST_LINES = 15
_ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[@-~]|[^\[])|[\0-\x08\x0b-\x1f\x7f]")  # ECMA-48: CSI sequences, and the rest


class GuestError(LivebuilderError):
    """The guest did not do what was waited for, in one line `what`; `log` is the file with all it said."""

    def __init__(self, what: str, shown: str, *, log: Path) -> None:
        super().__init__(f"{what}; {shown}", hint=f"less {log}   # all the guest said")
        self.what = what
        self.log = log


class GuestTimeout(GuestError):
    """Time was up: the guest goes on, and may do it yet."""


class SerialLine:
    """The far end of a guest's serial line, over the file descriptor `fd` of a socket or a terminal.

    `text` is all that was read so far, line ends as `\\n`. Waiting looks at it from the end of the last match
    on, so that the same words can be waited for again. `log` is named in errors; somebody else writes it.
    """

    def __init__(self, fd: int, *, log: Path) -> None:
        self.log = log
        self.text = ""
        self._fd = fd
        self._place = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def wait_for(
        self, pattern: str, *, timeout_seconds: float, unless: str | None = GAVE_UP, meaning: str | None = None
    ) -> re.Match[str]:
        """The next match of `pattern` (a regular expression, `^` and `$` at line ends) in what the guest says.

        `meaning` is what errors call it, instead of the pattern.
        Raises `GuestTimeout` with the last lines when `timeout_seconds` pass, `GuestError` when the line is closed
        or when the guest says something that matches `unless` first.
        """
        deadline = time.monotonic() + timeout_seconds
        meaning = meaning or repr(pattern)
        while True:
            match = re.compile(pattern, re.MULTILINE).search(self.text, self._place)
            failure = re.compile(unless, re.MULTILINE).search(self.text, self._place) if unless else None
            if failure and (match is None or failure.start() < match.start()):
                raise self.failure(f"the guest said {failure[0]!r} while we waited for {meaning}")
            if match is not None:
                self._place = match.end()
                return match
            left = deadline - time.monotonic()
            if left <= 0:
                what = f"the guest did not say {meaning} within {timeout_seconds:g} seconds"
                raise self.failure(what, kind=GuestTimeout)
            if not self.read(left):
                raise self.failure(f"{self.describe_end()} while we waited for {meaning}")

    def forget(self) -> None:
        """Let the next wait begin with what the guest says from now on."""
        while select.select([self._fd], [], [], 0)[0] and self.read(0):
            pass
        self._place = len(self.text)

    def type_text(self, text: str) -> None:
        """Type on the line, as fast as the guest takes it."""
        data = text.encode()
        try:
            while data:
                data = data[os.write(self._fd, data) :]
        except OSError as error:
            raise self.failure(f"typing {text!r} on the serial line failed: {error.strerror}") from error

    def type_line(self, line: str = "") -> None:
        """Type `line` and Enter."""
        self.type_text(line + "\r")

    def read(self, timeout_seconds: float) -> bool:
        """Take in what the guest says within `timeout_seconds`; False when the line is closed for good."""
        if not select.select([self._fd], [], [], timeout_seconds)[0]:
            return True
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError as error:
            if error.errno not in (errno.ECONNRESET, errno.EIO):  # a socket's end, and a terminal's
                raise
            data = b""
        self.text += self._decoder.decode(data).replace("\r", "").replace("\0", "")
        return bool(data)

    def last_lines(self, count: int = _LAST_LINES) -> tuple[str, ...]:
        """The last lines the guest said, empty ones and what moves or colours a terminal's cursor left out."""
        return tuple(line for line in _ESCAPES.sub("", self.text).splitlines() if line.strip())[-count:]

    def describe_end(self) -> str:
        """Why the line is closed, for a message."""
        return "the line was closed"

    def failure(self, what: str, *, kind: type[GuestError] = GuestError) -> GuestError:
        """The error that says `what` went wrong and shows the last lines."""
        lines = self.last_lines() or ("(it said nothing)",)
        return kind(what, "\n".join(["its last lines:", *(f"    {line}" for line in lines)]), log=self.log)
