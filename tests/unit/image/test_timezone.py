"""livebuilder.image.timezone: names of the host's zoneinfo and rules of POSIX."""

from __future__ import annotations

import time
import zoneinfo
from pathlib import Path

import pytest

from livebuilder.image.timezone import posix_timezone

RULES = (
    "UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "EST5EDT,M3.2.0,M11.1.0", "<+0330>-3:30", "IST-5:30",
    "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", "IST-1GMT0,M10.5.0,M3.5.0/1", "XXX3YYY,J60,300/25",
)  # fmt: skip


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_left_as_it_is(rule: str) -> None:
    assert posix_timezone(rule) == rule


@pytest.mark.parametrize(
    ("name", "rule"),
    [("Europe/Berlin", "CET-1CEST,M3.5.0,M10.5.0/3"), ("UTC", "UTC0"), ("Asia/Kathmandu", "<+0545>-5:45")],
)
def test_a_name_is_the_last_line_of_its_file(name: str, rule: str) -> None:
    assert posix_timezone(name) == rule


def test_every_zone_of_the_host_has_a_rule_that_we_read() -> None:
    folders = [Path(folder) for folder in zoneinfo.TZPATH if Path(folder).is_dir()]
    names = [name for name in zoneinfo.available_timezones() if any((folder / name).is_file() for folder in folders)]
    assert len(names) > 300
    assert all(posix_timezone(name) for name in names)


def test_the_rule_says_the_same_as_the_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the C library: in winter and in summer, on both halves of the earth."""
    for name in ("Europe/Berlin", "America/St_Johns", "Australia/Sydney", "Asia/Kathmandu"):
        told = []
        for zone in (name, posix_timezone(name)):
            monkeypatch.setenv("TZ", zone)
            time.tzset()
            told.append([time.strftime("%F %T %Z", time.localtime(at)) for at in (1_900_000_000, 1_915_000_000)])
        assert told[0] == told[1]
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "hint"),
    [("Europe/Berln", "did you mean Europe/Berlin"), ("../../../etc/passwd", "knows no time zone"), ("", "a rule like"),
     ("Europe", "knows no time zone"), ("CET-1CEST,M3.5.0", "knows no time zone"), ("/etc/localtime", "knows no")],
)  # fmt: skip
def test_what_nobody_knows(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        posix_timezone(text)
