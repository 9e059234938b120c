"""The errors a person can act on."""

from __future__ import annotations


class LivebuilderError(Exception):
    """Something the user can mend: `message` says what was being done to which thing, `hint` what to type next.

    Only `cli.main()` prints it, and exits 1.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class CommandError(LivebuilderError):
    """A program we ran ended badly; `argv`, `returncode` and `stderr` are kept for those who look closer."""

    def __init__(self, argv: list[str], returncode: int, stderr: str, *, hint: str | None = None) -> None:
        last = stderr.strip().splitlines()[-1:] or ["it printed nothing"]
        super().__init__(f"{argv[0]} failed with status {returncode}: {last[0]}", hint=hint)
        self.argv = argv
        self.returncode = returncode
        self.stderr = stderr


class UsageError(LivebuilderError):
    """The command line itself is off: exit 2."""
