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

# What tells that waiting any longer is in vain.
PANIC = r"Kernel panic - not syncing.*"
_LAST_LINES = 15


class GuestError(LivebuilderError):
    """The guest did not do what was waited for, in one line `what`; `log` is the file with all it said."""

    def __init__(self, what: str, shown: str, *, log: Path) -> None:
        super().__init__(f"{what}; {shown}", hint=f"less {log}   # all the guest said")
        self.what = what
        self.log = log


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

    def wait_for(self, pattern: str, *, timeout_seconds: float, unless: str | None = PANIC) -> re.Match[str]:
        """The next match of `pattern` (a regular expression, `^` and `$` at line ends) in what the guest says.

        Raises `GuestError` with the last lines when `timeout_seconds` pass, when the line is closed, or as soon
        as the guest says something that matches `unless`.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            match = re.compile(pattern, re.MULTILINE).search(self.text, self._place)
            if match is not None:
                self._place = match.end()
                return match
            failure = unless and re.compile(unless, re.MULTILINE).search(self.text, self._place)
            if failure:
                raise self.failure(f"the guest said {failure[0]!r} while we waited for {pattern!r}")
            left = deadline - time.monotonic()
            if left <= 0:
                raise self.failure(f"the guest did not say {pattern!r} within {timeout_seconds:g} seconds")
            if not self.read(left):
                raise self.failure(f"{self.describe_end()} while we waited for {pattern!r}")

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
        """The last lines the guest said, empty ones left out."""
        return tuple(line for line in self.text.splitlines() if line.strip())[-count:]

    def describe_end(self) -> str:
        """Why the line is closed, for a message."""
        return "the line was closed"

    def failure(self, what: str) -> GuestError:
        """The error that says `what` went wrong and shows the last lines."""
        lines = self.last_lines() or ("(it said nothing)",)
        return GuestError(what, "\n".join(["its last lines:", *(f"    {line}" for line in lines)]), log=self.log)
