"""Where the program starts. It imports next to nothing, so that Ctrl-C is answered while the rest is still loaded."""

import os
import signal
import sys

_INTERRUPTED = 128 + signal.SIGINT


def main() -> None:
    """Run the command `livebuilder` and exit: 0, 1 for errors of ours, 2 for usage, 130 for SIGINT, 143 for SIGTERM."""
    heard = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # which a shell sets for jobs in the background
    if heard:
        signal.signal(signal.SIGINT, _end_at_once)
    from livebuilder import cli

    try:
        if heard:
            signal.signal(signal.SIGINT, _end)
        signal.signal(signal.SIGTERM, _end)
        cli.main()
    except SystemExit as end:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # all is tidied up: another one would only make a traceback
        if end.code == _INTERRUPTED:
            print("interrupted", file=sys.stderr)
        raise


def _end_at_once(_signal: int, _frame: object) -> None:
    """Nothing was begun that needs tidying up, and some callbacks of an import swallow every exception."""
    os.write(2, b"interrupted\n")
    os._exit(_INTERRUPTED)


def _end(number: int, _frame: object) -> None:
    """Leave every `with` on the way out, so that nothing half-made stays."""
    sys.exit(128 + number)


if __name__ == "__main__":
    main()
