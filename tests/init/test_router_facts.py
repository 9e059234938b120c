"""initramfs/router/lib: one option changed in place, facts for whoever asks, events of interfaces."""

from __future__ import annotations

import pytest

from livebuilder.process import run
from tests.support.router import AWKS, Router

_CONFIG = """\
# a comment
config interface 'lan'
	option ipaddr '192.168.1.1' # the address
	# another
	option netmask '255.255.255.0'

config system
	option hostname 'router'

config interface "wan" # uplink
	list dns '192.0.2.1'
	list dns '192.0.2.2'
	option proto dhcp

config system
	option hostname 'second'
"""


# --- config_set ----------------------------------------------------------------------------------------------------


def _changed(before: str, after: str) -> list[tuple[str, str]]:
    old, new = before.splitlines(), after.splitlines()
    return [(line, "-") for line in old if line not in new] + [(line, "+") for line in new if line not in old]


@pytest.mark.parametrize(
    ("section", "option", "value", "change"),
    [
        ("lan", "ipaddr", "10.0.0.1", [
            ("\toption ipaddr '192.168.1.1' # the address", "-"), ("\toption ipaddr '10.0.0.1'", "+"),
        ]),
        ("lan", "gateway", "10.0.0.2", [("\toption gateway '10.0.0.2'", "+")]),
        ("lan", "netmask", "", [("\toption netmask '255.255.255.0'", "-")]),
        ("wan", "proto", "it's", [("\toption proto dhcp", "-"), ('\toption proto "it\'s"', "+")]),
        ("wan", "dns", "192.0.2.9 192.0.2.8", [
            ("\tlist dns '192.0.2.1'", "-"), ("\tlist dns '192.0.2.2'", "-"),
            ("\toption dns '192.0.2.9 192.0.2.8'", "+"),
        ]),
        ("@system[0]", "hostname", "attic", [("\toption hostname 'router'", "-"), ("\toption hostname 'attic'", "+")]),
        ("@system[1]", "hostname", "attic", [("\toption hostname 'second'", "-"), ("\toption hostname 'attic'", "+")]),
        ("lan", "key", "a\\n$(id)&`x` \\", [("\toption key 'a\\n$(id)&`x` \\'", "+")]),
    ],
)  # fmt: skip
def test_one_option_is_changed_in_place(
    router: Router, section: str, option: str, value: str, change: list[tuple[str, str]]
) -> None:
    router.write("etc/config/test", _CONFIG).chmod(0o600)
    quoted = "'" + value.replace("'", "'\\''") + "'"
    done = router.snippet(f"config_set test '{section}' {option} {quoted}")
    assert (done.returncode, done.stderr) == (0, "")
    assert _changed(_CONFIG, router.read("etc/config/test")) == change
    assert [file.name for file in (router.root / "etc/config").glob("test*")] == ["test"]
    assert (router.root / "etc/config/test").stat().st_mode & 0o777 == 0o600
    if not section.startswith("@"):
        assert router.snippet(f'config_load test; config_get x {section} {option}; printf %s "$x"').stdout == value


@pytest.mark.parametrize("awk", AWKS)
def test_every_awk_puts_a_new_option_behind_the_last_one_of_its_section(router: Router, awk: str) -> None:
    file = router.write("etc/config/test", _CONFIG)
    done = run(
        [*awk.split(), "-f", str(router.root / "lib/config_set.awk"), str(file)],
        env={"SECTION": "lan", "OPTION": "mtu", "VALUE": "1400", "LC_ALL": "C"},
    )
    assert done.stdout == _CONFIG.replace("'255.255.255.0'\n", "'255.255.255.0'\n\toption mtu '1400'\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("test guest ipaddr 1", "there is no section guest"),
        ("test '@system[2]' hostname x", "there is no section @system[2]"),
        ("nothing lan ipaddr 1", "there is no section lan"),
        ("test lan key 'one\"'\\''two'", "cannot hold both kinds of quotes"),
        ("test lan key 'one\ntwo'", "nor more than one line"),
    ],
)
def test_what_cannot_be_set_changes_nothing(router: Router, words: str, said: str) -> None:
    router.write("etc/config/test", _CONFIG)
    done = router.snippet(f"config_set {words}")
    assert done.returncode == 1
    assert said in done.stderr
    assert router.read("etc/config/test") == _CONFIG
    assert not list((router.root / "etc/config").glob("*.new"))


# --- facts ---------------------------------------------------------------------------------------------------------

_FACTS = '. "$ROOT/lib/router/facts.sh"\n'


def test_facts_are_written_whole_and_read_by_key(router: Router) -> None:
    done = router.snippet(
        f"{_FACTS}facts_write wan state=up 'reason=a = b' dns=\n"
        'facts_get x wan reason; echo "$x"; facts_get x wan dns; echo "$x$?"; facts_get x wan sta; echo "$x$?"\n'
        'facts_get x none state; echo "$x$?"'
    )
    assert done.stdout == "a = b\n0\n1\n1\n"
    assert router.read("tmp/run/router/wan") == "state=up\nreason=a = b\ndns=\n"
    assert [file.name for file in (router.root / "tmp/run/router").iterdir()] == ["wan"]


def test_some_facts_change_and_the_others_stay(router: Router) -> None:
    router.snippet(f"{_FACTS}facts_write lan state=up address=1 ports=eth0; facts_change lan address=2 moved_from=1")
    assert router.read("tmp/run/router/lan") == "address=2\nmoved_from=1\nstate=up\nports=eth0\n"


def test_a_value_with_a_line_break_adds_no_key(router: Router) -> None:
    router.snippet(f"{_FACTS}facts_write wan 'domain=a\nstate=up'")
    assert router.read("tmp/run/router/wan") == "domain=a\n"


# --- events --------------------------------------------------------------------------------------------------------


def test_events_reach_every_script_in_order_and_a_broken_one_stops_nobody(router: Router) -> None:
    for file in (router.root / "etc/hotplug.d/iface").glob("*"):
        file.unlink()
    router.write("etc/hotplug.d/iface/30-last", 'run tell "$ACTION $INTERFACE $DEVICE"\n')
    router.write("etc/hotplug.d/iface/20-broken", "if then (\n")
    router.write("etc/hotplug.d/iface/15-leaves", "exit 3\n")
    router.write("etc/hotplug.d/iface/10-first", "run first; INTERFACE=changed\n")
    done = router.snippet('. "$ROOT/lib/router/events.sh"; iface_event ifup wan pppoe-wan; echo "$?"')
    assert done.stdout == "0\n"
    assert router.commands == ["first", "tell ifup wan pppoe-wan"]


def test_without_any_script_an_event_is_nothing(router: Router) -> None:
    for file in (router.root / "etc/hotplug.d/iface").glob("*"):
        file.unlink()
    assert router.snippet('. "$ROOT/lib/router/events.sh"; iface_event ifup wan wan').returncode == 0
