"""Time zones: a name of the host's zoneinfo, or the rule itself, as POSIX writes it and the C library reads it."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from pathlib import Path

_NAME = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_TIME = r"[+-]?\d{1,3}(?::\d\d){0,2}"
_DATE = rf"(?:M\d{{1,2}}\.[1-5]\.[0-6]|J?\d{{1,3}})(?:/{_TIME})?"
# POSIX.1-2017, base definitions 8.3, with the hours of RFC 8536.
_RULE = re.compile(rf"{_NAME}{_TIME}(?:{_NAME}(?:{_TIME})?(?:,{_DATE},{_DATE})?)?")


def posix_timezone(text: str) -> str:
    """`CET-1CEST,M3.5.0,M10.5.0/3` as it is, or what stands for `Europe/Berlin` today. Raises `ValueError`."""
    if _RULE.fullmatch(text):
        return text
    path = next((path for folder in zoneinfo.TZPATH if (path := _zone_file(Path(folder), text)).is_file()), None)
    if path is None:
        near = difflib.get_close_matches(text, sorted(zoneinfo.available_timezones()), n=1)
        meant = f"did you mean {near[0]}?" if near else "write one like Europe/Berlin, or a rule like CET-1CEST"
        raise ValueError(f"this system knows no time zone {text!r}; {meant}")
    # RFC 8536, 3.3: the last line is the rule for all that is to come; version 1 has none.
    data = path.read_bytes()
    rule = data.rstrip(b"\n").rpartition(b"\n")[2].decode("ascii", "replace")
    if not data.startswith(b"TZif") or not _RULE.fullmatch(rule):
        raise ValueError(f"{path} has no rule in it; write the rule itself, as in CET-1CEST,M3.5.0,M10.5.0/3")
    return rule


def _zone_file(folder: Path, name: str) -> Path:
    return folder / (name if re.fullmatch(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*", name) else "none")
