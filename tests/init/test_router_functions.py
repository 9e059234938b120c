"""initramfs/router/lib/functions.sh: settings in UCI's syntax, hooks of preinit."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.router import Router


def _get(router: Router, text: str, section: str, option: str) -> str:
    router.write("etc/config/test", text)
    done = router.snippet(f'config_load test; config_get x {section} {option} absent; printf "%s" "$x"')
    assert done.returncode == 0
    return done.stdout


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("\toption name 'one'", "one"),
        ("  option name one", "one"),
        ('option name "one two"', "one two"),
        ("option 'name' 'one'", "one"),
        ("option name 'one' # why", "one"),
        ("option name one # why", "one"),
        ("option name 'one'\r", "one"),
        ("option name one\r", "one"),
        ("option name 'it\"s'", 'it"s'),
        ("option name '$(touch hacked) `id` $HOME; *'", "$(touch hacked) `id` $HOME; *"),
        ("option name '\\n\\'", "\\n\\"),
        ("option name ''", "absent"),
        ("option name", "absent"),
        ("option name 'one'\noption name 'two'", "two"),
        ("list name 'one'\nlist name 'two'", "one two"),
        ("# option name 'one'", "absent"),
    ],
)
def test_a_value_is_read_as_written(router: Router, line: str, value: str) -> None:
    assert _get(router, f"config thing 'lan'\n{line}", "lan", "name") == value
    assert not list(Path.cwd().glob("hacked"))


@pytest.mark.parametrize(
    "line",
    [
        "option na;me 'one'", "option $(id) one", "optional name 'one'", "config thing 'l an'", "config thing 'x;id'",
        "config $(id)", "<<<<<<<", "config",
    ],
)  # fmt: skip
def test_a_line_that_is_not_understood_is_named_and_left_out(router: Router, line: str) -> None:
    router.write("etc/config/test", f"config thing 'lan'\noption name 'kept'\n{line}\nconfig thing 'wan'\n")
    done = router.snippet('config_load test; config_get x lan name; echo "$x $CONFIG_SECTIONS"')
    assert done.stderr == "/etc/config/test, line 3 is not understood and left out\n"
    assert done.stdout == "kept  lan wan\n"


def test_an_option_before_any_section_is_left_out(router: Router) -> None:
    router.write("etc/config/test", "option name 'one'\nconfig thing 'lan'\n")
    assert "line 1 is not understood" in router.snippet("config_load test").stderr


def test_an_option_after_a_bad_section_does_not_land_in_the_one_before(router: Router) -> None:
    assert _get(router, "config thing 'lan'\nconfig thing 'l;d'\noption name 'one'", "lan", "name") == "absent"


def test_sections_are_visited_in_order_and_by_type(router: Router) -> None:
    router.write("etc/config/test", "config a\nconfig b 'two'\nconfig a 'three'\n")
    done = router.snippet("config_load test; show() { echo $1; }; config_foreach show a")
    assert done.stdout == "cfg1\nthree\n"


def test_a_missing_file_is_told(router: Router) -> None:
    assert router.snippet("config_load nothing || echo none").stdout == "none\n"


def test_hooks_run_in_the_order_they_were_added(router: Router) -> None:
    done = router.snippet(
        "one() { echo one $1; }; two() { echo two $1; }; boot_hook_init main\n"
        "boot_hook_add main two; boot_hook_add main one; boot_run_hook main word; boot_run_hook never_made"
    )
    assert done.stdout == "two word\none word\n"


def test_mounted_looks_at_whole_names(router: Router) -> None:
    router.write("proc/mounts", "proc /proc proc rw 0 0\n/dev/sda1 /overlay2 ext4 rw 0 0\n")
    done = router.snippet("mounted /proc && echo proc; mounted /overlay || echo no overlay; mounted / || echo no root")
    assert done.stdout == "proc\nno overlay\nno root\n"
