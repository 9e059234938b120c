"""router save, revert and set: settings that come back whole, changes that happen whole or not at all."""

from __future__ import annotations

import re
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from livebuilder.process import Completed
from tests.support.builds import snapshot
from tests.support.router import SHELLS, Router, wait_for, wait_for_commands
from tests.support.status import make_running_router, write_facts, write_record

STICK = "overlay/.livebuilder"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(params=SHELLS)
def router(tmp_path: Path, request: pytest.FixtureRequest) -> Router:
    router = make_running_router(tmp_path, request.param)
    for number, driver in (("0", "e100"), ("1", "8139too"), ("2", "8139too")):
        router.write(f"sys/class/net/eth{number}/address", f"00:0d:b9:00:00:0{number}\n")
        router.write(f"sys/class/net/eth{number}/ifindex", f"{number}\n")
        router.write(f"sys/class/net/eth{number}/device/uevent", f"DRIVER={driver}\n")
    router.write("sys/class/net/lo/address", "00:00:00:00:00:00\n")
    return router


def said(router: Router, *words: str, **env: str) -> str:
    done = router.script("usr/bin/router", *words, env=env)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def refused(router: Router, *words: str, status: int = 1, **env: str) -> str:
    """It ended with an error and what to type, and changed nothing on the way."""
    before = snapshot(router.root / "etc", router.root / "overlay")
    done = router.script("usr/bin/router", *words, env=env)
    assert (done.returncode, done.stdout) == (status, ""), done
    assert re.match(r"router: error: .*\n  try: .+\n", done.stderr, re.DOTALL) or "usage: router" in done.stderr
    assert snapshot(router.root / "etc", router.root / "overlay") == before
    return done.stderr


def start(router: Router) -> str:
    """What the next start says on a console before init."""
    router.write("dev/tty1", "")
    done = router.script("etc/preinit")
    assert (done.stderr, router.commands[-1]) == ("", "/sbin/init")
    return router.read("dev/tty1")


def settings(router: Router) -> dict[str, tuple[int, int, str]]:
    """Everything below /etc but what is no setting: mode, owner, content."""
    etc = router.root / "etc"
    found = {}
    for path in sorted(etc.rglob("*")):
        name = path.relative_to(etc)
        if name.parts[0] != "livebuilder":
            facts = path.lstat()
            data = str(path.readlink()) if path.is_symlink() else path.read_text() if path.is_file() else ""
            found[str(name)] = (facts.st_mode, facts.st_uid, data)
    return found


# --- the command ---------------------------------------------------------------------------------------------------


def test_help_is_the_page_of_the_documentation(router: Router) -> None:
    usage = said(router, "help")
    assert usage == said(router, "--help") == said(router, "-h")
    page = (REPOSITORY / "docs/router-command.md").read_text()
    commands = [re.split(r"  +", line[7:])[0] for line in usage.splitlines()]
    assert len(commands) == 15
    for command in commands:
        assert f"`{command}`" in page, command
    documented = set(re.findall(r"^\| `(router .*?)` \|", page, re.MULTILINE))
    assert documented == set(commands)


_USAGE = [
        "", "stauts", "status --jsno", "status --json x", "history x", "revert 1 2", "confirm now", "set", "set lnag",
        "set wan", "set wan dhpc", "set wan dhcp now", "set wan pppoe", "set wan card", "set dns",
]  # fmt: skip


def test_a_wrong_command_shows_the_usage(router: Router) -> None:
    for words in _USAGE:
        assert "usage: router status" in refused(router, *words.split(), status=2)


# --- commit points -------------------------------------------------------------------------------------------------


def test_a_commit_point_is_all_of_etc_for_root_only(router: Router) -> None:
    assert said(router, "save", "before", "the", "new\nprovider") == "Saved as 1.\n"
    point = router.root / STICK / "history/1"
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in (*point.iterdir(), point, point.parent)} == {
        "about": "0o600", "settings.tar.gz": "0o600", "1": "0o700", "history": "0o700",
    }  # fmt: skip
    with tarfile.open(point / "settings.tar.gz") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert names == set(settings(router)) and not any(name.startswith("livebuilder") for name in names)
    assert re.fullmatch(r"   1  \d{4}-\d\d-\d\d \d\d:\d\d  before the new provider\n", said(router, "history"))


def test_ten_are_kept_and_numbers_only_grow(router: Router) -> None:
    for number in range(1, 13):
        assert said(router, "save") == f"Saved as {number}.\n"
    assert sorted(int(path.name) for path in (router.root / STICK / "history").iterdir()) == list(range(3, 13))
    assert [line.split()[0] for line in said(router, "history").splitlines()] == [str(n) for n in range(3, 13)]


@pytest.mark.parametrize("broken", ["volatile", "gone", "full"])
def test_nothing_is_saved_when_settings_are_not_kept(router: Router, broken: str) -> None:
    if broken == "volatile":
        write_record(router, state="volatile", reason="no stick labelled rootfs_data", device=None)
        assert "CHANGES ARE NOT KEPT: this system runs from memory only, no stick" in refused(router, "save")
    elif broken == "gone":
        (router.root / "sys/class/block/sda1/dev").unlink()
        assert "CHANGES ARE NO LONGER KEPT, /dev/sda1 was there at boot and is gone" in refused(router, "save")
    else:
        router.write(STICK, "no folder can be made here")
        assert "the stick did not take it" in router.script("usr/bin/router", "save").stderr
    assert "nothing" in router.script("usr/bin/router", "revert").stderr or broken == "full"


def test_a_stick_that_goes_while_it_is_written_has_not_kept_it(router: Router) -> None:
    tool = router.root.parent / "tools/tar"
    tool.write_text(f'#!/bin/sh\nrm -f {router.root}/sys/class/block/sda1/dev\nPATH=/usr/bin:/bin exec tar "$@"\n')
    tool.chmod(0o755)
    done = router.script("usr/bin/router", "save")
    if router.shell == "dash":  # busybox ash takes its own tar
        assert done.returncode == 1 and "is gone" in done.stderr


def test_half_a_commit_point_is_none(router: Router) -> None:
    said(router, "save")
    router.write(f"{STICK}/history/2/about", "time=1\nwords=half\n")
    assert "half" not in said(router, "history")
    assert "there is no whole commit point 2" in refused(router, "revert", "2")
    router.write(f"{STICK}/history/1/settings.tar.gz", "damaged")
    for words in (["revert"], ["revert", "1"], ["revert", "9"], ["revert", "01"], ["revert", "../1"], ["revert", ""]):
        refused(router, *words)


# --- going back ----------------------------------------------------------------------------------------------------


def change_everything(router: Router) -> None:
    """Every kind of change that a person or a program can make below /etc."""
    etc = router.root / "etc"
    router.write("etc/config/network", "config interface 'lan'\n")
    (etc / "config/system").unlink()
    (etc / "passwd").chmod(0o600)
    (etc / "mine/deep").mkdir(parents=True)
    router.write("etc/mine/deep/.hidden file", "x")
    (etc / "hosts").unlink()
    (etc / "hosts").mkdir()
    router.write("etc/hosts/inside", "x")
    (etc / "dropbear").rmdir() if not any((etc / "dropbear").iterdir()) else None
    (etc / "dropbear-was").symlink_to("nowhere")
    (etc / "rc.d/S12log").unlink()
    (etc / "rc.d/S12log").symlink_to("../init.d/other")
    (etc / "rc.d/S20network").unlink()
    (etc / "rc.d/S20network").mkdir()
    (etc / "shells").unlink()
    (etc / "shells").symlink_to("config")
    router.write("etc/livebuilder/wan", "00:0d:b9:00:00:02\n")


def test_the_next_start_goes_back_and_touches_only_what_differs(router: Router) -> None:
    before = settings(router)
    said(router, "save", "good")
    change_everything(router)
    changed = settings(router)
    assert "The next start goes back to 1; what is there then is saved first." in said(router, "revert")
    assert "The next start goes back to 1.\n" in said(router, "history") and settings(router) == changed
    untouched = {
        name: (router.root / "etc" / name).lstat().st_ctime_ns for name in ("shadow", "init.d/boot", "rc.d/S95done")
    }
    done = start(router)
    assert settings(router) == before
    assert router.read("etc/livebuilder/wan") == "00:0d:b9:00:00:02\n", "that is no setting"
    assert "router: these are the settings of commit point 1; those before it are: router revert 2\n" in done
    assert {name: (router.root / "etc" / name).lstat().st_ctime_ns for name in untouched} == untouched
    assert not (router.root / STICK / "revert").exists()
    assert "these are the settings of commit point 1" in said(router, "status")
    assert "before going back to 1" in said(router, "history")

    said(router, "revert", "2")
    start(router)
    assert settings(router) == changed
    assert start(router) == "", "once"


def test_a_power_cut_while_going_back_is_made_good_by_the_next_start(router: Router) -> None:
    for _ in range(10):
        said(router, "save")
    before = settings(router)
    change_everything(router)
    said(router, "revert", "1")
    plan = router.read(f"{STICK}/revert")
    start(router)
    router.write("etc/hosts.put-back", "half a fi")
    router.write("etc/config/network", "")
    router.write(f"{STICK}/revert", plan)
    assert "these are the settings of commit point 1" in start(router), "it was not cleared away meanwhile"
    assert settings(router) == before


@pytest.mark.parametrize("broken", ["damaged", "missing", "full", "nonsense"])
def test_when_going_back_fails_the_router_starts_as_it_is_and_says_so(router: Router, broken: str) -> None:
    said(router, "save")
    change_everything(router)
    said(router, "revert")
    archive = router.root / STICK / "history/1/settings.tar.gz"
    if broken == "damaged":
        archive.write_bytes(archive.read_bytes()[:200])
    elif broken == "missing":
        archive.unlink()
    elif broken == "nonsense":
        router.write(f"{STICK}/revert", "../../etc\n")
    else:
        (router.root.parent / "recorder").unlink()
        router.failing = "sync"
    before = settings(router)
    done = start(router)
    assert settings(router) == before
    assert "nothing was changed" in done and "nothing was changed" in said(router, "status")
    assert start(router) == "", "it is not tried for ever"


def test_a_start_that_keeps_nothing_leaves_the_plan_alone(router: Router) -> None:
    """Failsafe, say: the stick is there, but not laid over the root."""
    said(router, "save")
    said(router, "revert")
    write_record(router, state="volatile", reason="failsafe mode", failsafe=True)
    before = settings(router)
    assert "going back to commit point 1 has to wait, because FAILSAFE MODE" in start(router)
    assert (router.root / STICK / "revert").exists() and settings(router) == before


def test_whoever_is_locked_out_plans_a_revert_in_failsafe(router: Router) -> None:
    said(router, "save")
    router.write("etc/config/network", "locked out\n")
    write_record(router, state="volatile", reason="failsafe mode", failsafe=True)
    assert "The next start goes back to 1" in said(router, "revert", "1")
    refused(router, "revert", "2")
    write_record(router)
    start(router)
    assert "locked out" not in router.read("etc/config/network")


# --- set -----------------------------------------------------------------------------------------------------------

_NETWORK = ["/etc/init.d/network restart"]
_DNSMASQ = ["/etc/init.d/dnsmasq restart"]
_LAN = ["/etc/init.d/network restart lan"]


def options(router: Router, config: str, section: str, *names: str) -> list[str]:
    script = f'config_load {config}; for name in {" ".join(names)}; do config_get x {section} $name -; echo "$x"; done'
    return router.snippet(script).stdout.splitlines()


def services(router: Router) -> list[str]:
    return [command for command in router.commands if command != "sync"]


_SET: list[tuple[str, tuple[str, ...], list[str], list[str]]] = [
    ("dhcp 192.168.1.50-192.168.1.99", ("dhcp", "lan", "start", "limit"), ["50", "50"], _DNSMASQ),
    ("dhcp 1-254", ("dhcp", "lan", "start", "limit"), ["1", "254"], _DNSMASQ),
    ("lan 10.1.1.1/24", ("network", "lan", "ipaddr", "netmask"), ["10.1.1.1", "255.255.255.0"], _LAN),
    ("lan 172.16.0.9/22", ("network", "lan", "ipaddr", "netmask"), ["172.16.0.9", "255.255.252.0"], _LAN),
    (
        "wan static 203.0.113.5/24 203.0.113.1",
        ("network", "wan", "proto", "ipaddr", "netmask", "gateway", "dns"),
        ["static", "203.0.113.5", "255.255.255.0", "203.0.113.1", "-"],
        _NETWORK,
    ),
    (
        "wan static 203.0.113.5/30 203.0.113.6 9.9.9.9 1.1.1.1",
        ("network", "wan", "gateway", "dns"),
        ["203.0.113.6", "9.9.9.9 1.1.1.1"],
        _NETWORK,
    ),
    ("wan card eth2", ("network", "wan", "device"), ["00:0d:b9:00:00:02"], _NETWORK),
    ("wan card e100", ("network", "wan", "device"), ["00:0d:b9:00:00:00"], _NETWORK),
    ("wan card 00:0D:B9:00:00:01", ("network", "wan", "device"), ["00:0d:b9:00:00:01"], _NETWORK),
    ("wan card auto", ("network", "wan", "device"), ["auto"], _NETWORK),
    ("hostname attic", ("system", "cfg1", "hostname"), ["attic"], ["hostname attic", *_DNSMASQ]),
    ("dns 9.9.9.9 149.112.112.112", ("network", "wan", "dns"), ["9.9.9.9 149.112.112.112"], _NETWORK),
    ("dns auto", ("network", "wan", "dns"), ["-"], _NETWORK),
]


def test_what_is_set_is_written_and_read_by_its_service(router: Router) -> None:
    for words, where, values, commands in _SET:
        router.record.unlink(missing_ok=True)
        assert said(router, "set", *words.split()) == ""
        assert options(router, *where) == values, words
        assert services(router) == commands, words
        assert not (router.root / "etc/livebuilder/pending").exists()


@pytest.mark.parametrize(
    "zone",
    ["UTC0", "CET-1CEST,M3.5.0,M10.5.0/3", "<+0545>-5:45", "EST5EDT", "IST-2IDT,M3.4.4/26,M10.5.0",
     "<-02>2<-01>,M3.5.0/-1,M10.5.0/0"],
)  # fmt: skip
def test_time_zones(router: Router, zone: str) -> None:
    said(router, "set", "timezone", zone)
    assert options(router, "system", "cfg1", "timezone") == [zone] and router.read("tmp/TZ") == f"{zone}\n"


@pytest.mark.parametrize("zone", ["Europe/Berlin", "UTC", "", "CET-1CEST,M3.5.0", "UTC0\nx", "UTC0 x"])
def test_what_is_no_time_zone(router: Router, zone: str) -> None:
    assert "/usr/share/zoneinfo" in refused(router, "set", "timezone", zone, status=2)


_WRONG = (
    "lan", "lan 10.1.1.1", "lan 10.1.1.1/24 x", "lan 10.1.1/24", "lan 10.1.1.1/33", "lan 10.1.1.1/31",
    "lan 10.1.1.1/7",
    "lan 10.1.1.256/24", "lan 010.1.1.1/24", "lan 10.1.1.0/24", "lan 10.1.1.255/24", "lan 127.0.0.1/8",
    "lan 224.0.0.1/24", "lan 255.1.1.1/24", "lan 0.0.0.1/24", "lan 169.254.1.1/16", "lan $(id)/24",
    "lan fd00::1/64",
    "wan static 203.0.113.5/24", "wan static 203.0.113.5 203.0.113.1", "wan static 203.0.113.5/24 203.0.114.1",
    "wan static 203.0.113.5/24 203.0.113.5", "wan static 203.0.113.5/24 203.0.113.0",
    "wan static 203.0.113.5/24 203.0.113.255", "wan static 203.0.113.5/24 203.0.113.1 dns.example",
    "wan static 203.0.113.0/24 203.0.113.1", "wan card eth9", "wan card lo", "wan card 8139too", "wan card *",
    "wan card 00:00:00:00:00:00", "hostname -x", "hostname x-", "hostname a.b", "hostname " + "n" * 64,
    "hostname", "hostname ä", "dhcp 100", "dhcp 100-", "dhcp -100", "dhcp 0-10", "dhcp 10-9", "dhcp 10-255",
    "dhcp 192.168.2.1-192.168.2.9", "dhcp 1-2-3", "dhcp x-y",
    "dhcp 1 2", "dhcp 99999999999999999999-99999999999999999999", "dns 9.9.9", "dns 9.9.9.9 auto", "dns quad9",
)  # fmt: skip


def test_what_cannot_be_meant_is_refused_with_an_example(router: Router) -> None:
    for words in _WRONG:
        assert "  try: router set " in refused(router, "set", *words.split(), status=2)
    assert router.commands == []


def test_a_network_cannot_be_on_both_sides(router: Router) -> None:
    assert "the WAN is in that network, with 203.0.113.17/24" in refused(router, "set", "lan", "203.0.113.200/25")
    said_ = refused(router, "set", "wan", "static", "192.168.0.5/16", "192.168.0.1")
    assert "the LAN is in that network, with 192.168.1.1/24\n  try: router set lan 172.16.1.1/24" in said_
    write_facts(router, "wan", state="down", address="", prefix="")
    said(router, "set", "lan", "203.0.113.200/25")


def test_one_card_only_is_the_lans(router: Router) -> None:
    for name in ("eth1", "eth2"):
        shutil.rmtree(router.root / "sys/class/net" / name)
    assert "one card is the LAN's, and there is no other" in refused(router, "set", "wan", "card", "eth0")


def test_auto_forgets_the_card_that_was_kept(router: Router) -> None:
    router.write("etc/livebuilder/wan", "00:0d:b9:00:00:01\n")
    said(router, "set", "wan", "card", "auto")
    assert not (router.root / "etc/livebuilder/wan").exists()


def pppoe(router: Router, user: str, password: str) -> Completed:
    line = 'printf %s "$PASSWORD" | "$SHELL_OF_TEST" "$ROOT/usr/bin/router" set wan pppoe "$USER_OF_TEST"'
    if " " in router.shell:
        line = line.replace('"$SHELL_OF_TEST"', router.shell)
    return router.sh(["-c", line], env={"PASSWORD": password, "USER_OF_TEST": user, "SHELL_OF_TEST": router.shell})


@pytest.mark.parametrize(("user", "password"), [("me@isp", "secret"), ("o'neil", "pa ss\\$(id)`#"), ('a"b', "x\n")])
def test_pppoe_reads_the_password(router: Router, user: str, password: str) -> None:
    done = pppoe(router, user, password)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert options(router, "network", "wan", "proto", "username", "password") == ["pppoe", user, password.strip("\n")]
    assert (router.root / "etc/config/network").stat().st_mode & 0o777 == 0o600
    assert services(router) == _NETWORK


@pytest.mark.parametrize(("user", "password"), [("me", ""), ("", "x"), ("me", "'\""), ("m\ne", "x"), ("me", "a\tb")])
def test_pppoe_refuses_what_cannot_be_kept(router: Router, user: str, password: str) -> None:
    before = settings(router)
    done = pppoe(router, user, password)
    assert done.returncode == 2 and "user and password need" in done.stderr
    assert settings(router) == before and router.commands == []


# --- changes that wait ---------------------------------------------------------------------------------------------

_SSH = {"SSH_CONNECTION": "192.168.1.100 50000 192.168.1.1 22"}


@pytest.mark.parametrize("words", ["lan 10.1.1.1/24", "wan card eth2"])
def test_whoever_may_be_cut_off_has_to_confirm(router: Router, words: str) -> None:
    said_ = said(router, "set", *words.split(), **_SSH)
    assert "Without this within 60 seconds all is as before: router confirm\n" in said_
    action = "network restart lan" if words.startswith("lan") else "network restart"
    wait_for_commands(router, len(router.commands) + (f"setsid /lib/router/pending {action}" not in router.commands))
    assert services(router) == [f"setsid /lib/router/pending {action}"], "which does it"
    assert (router.root / "etc/livebuilder/pending").stat().st_mode & 0o777 == 0o600
    for other in (["set", "hostname", "x"], ["set", "lan", "10.2.2.2/24"]):
        assert "a change waits for its confirmation" in refused(router, *other)
    after = settings(router)
    assert said(router, "confirm") == "The change stays.\n"
    assert settings(router) == after
    assert "no change waits" in refused(router, "confirm")
    assert "not confirmed" not in start(router) and settings(router) == after


@pytest.mark.parametrize("words", ["hostname x", "dhcp 10-20", "dns 9.9.9.9", "wan dhcp", "timezone UTC0"])
def test_what_cuts_nobody_off_needs_no_confirmation(router: Router, words: str) -> None:
    said(router, "set", *words.split(), **_SSH)
    assert not any("setsid" in command for command in router.commands)
    assert not (router.root / "etc/livebuilder/pending").exists()


def test_a_change_that_nobody_confirms_is_taken_back(router: Router) -> None:
    router.write("etc/livebuilder/wan", "00:0d:b9:00:00:01\n")
    router.write("etc/config/network", router.read("etc/config/network").replace("'auto'", "'00:0d:b9:00:00:02'", 1))
    before = settings(router)
    said(router, "set", "wan", "card", "auto", **_SSH)
    assert settings(router) != before
    router.record.unlink()
    router.script("lib/router/pending", "network restart lan")
    assert [command for command in services(router) if "logger" not in command] == ["sleep 1", *_LAN, "sleep 60", *_LAN]
    assert settings(router) == before and router.read("etc/livebuilder/wan") == "00:0d:b9:00:00:01\n"
    assert not (router.root / "etc/livebuilder/pending").exists()
    assert "the last change was not confirmed: the settings are as they were before it" in said(router, "status")
    assert not (router.root / "tmp/lock/change").is_symlink()


@pytest.mark.parametrize("meanwhile", ["confirmed", "another change"])
def test_a_watcher_takes_back_only_its_own_change(router: Router, meanwhile: str) -> None:
    said(router, "set", "lan", "10.1.1.1/24", **_SSH)
    recorder = router.root.parent / "recorder"
    act = {
        "confirmed": f"rm {router.root}/etc/livebuilder/pending",
        "another change": f"echo 1 >{router.root}/tmp/run/router/pending.pid",
    }
    recorder.write_text(f'#!/bin/sh\necho "$*" >>"$RECORD"\n[ "$*" != "sleep 60" ] || {act[meanwhile]}\n')
    after = settings(router)
    router.script("lib/router/pending", "network restart")
    assert settings(router) == after and services(router)[-1] == "sleep 60"


@pytest.mark.parametrize("written", ["all", "nothing", "half"])
def test_a_power_cut_takes_back_what_was_not_confirmed(router: Router, written: str) -> None:
    before = settings(router)
    said(router, "set", "lan", "10.1.1.1/24", **_SSH)
    if written == "nothing":
        for name, (_, _, data) in before.items():
            if name.startswith("config/"):
                router.write(f"etc/{name}", data)
    elif written == "half":
        router.write("etc/config/network", router.read("etc/config/network").replace("255.255.255.0", "255.0.0.0"))
    done = start(router)
    assert settings(router) == before
    assert "router: the last change was not confirmed before the power went: the settings are as they were" in done
    assert start(router) == ""


def test_a_pending_change_that_cannot_be_read_stays_and_is_told(router: Router) -> None:
    said(router, "set", "lan", "10.1.1.1/24", **_SSH)
    router.write("etc/livebuilder/pending", "damaged")
    after = settings(router)
    assert "cannot be read: it stays" in start(router)
    assert settings(router) == after and not (router.root / "etc/livebuilder/pending").exists()


def test_a_change_that_cannot_be_written_is_taken_back(router: Router) -> None:
    router.write("etc/config/network", "config interface 'wan'\n\toption proto 'dhcp'\n")
    before = settings(router)
    done = router.script("usr/bin/router", "set", "lan", "10.1.1.1/28")
    assert done.returncode == 1 and "/etc/config/network could not be changed: nothing was" in done.stderr
    assert settings(router) == before and not (router.root / "etc/livebuilder/pending").exists()


# --- one at a time -------------------------------------------------------------------------------------------------


def test_while_something_else_is_at_it_nothing_is_changed(router: Router) -> None:
    (router.root / "proc/4242").mkdir()
    (router.root / "tmp/lock").mkdir(exist_ok=True)
    (router.root / "tmp/lock/change").symlink_to("4242")
    for number, word in enumerate(("save", "confirm"), 1):
        assert "the network or another router command is at work" in refused(router, word)
        assert router.commands == ["sleep 0.1"] * 300 * number
    (router.root / "proc/4242").rmdir()
    assert said(router, "save") == "Saved as 1.\n", "the other was killed"


_LEASE = {"ip": "10.1.1.33", "mask": "24", "router": "10.1.1.254", "dns": "", "lease": "600"}
# Whoever comes to one command stays there until the test lets it go on; whoever waits for a turn does wait.
_HOLDING = """#!/bin/sh
echo "$*" >>"$RECORD"
case $* in
'HELD_AT') while [ -e "$RECORD.held" ]; do sleep 0.02; done ;;
'sleep 0.1') sleep 0.02 ;;
esac
"""


def hold(router: Router, command: str) -> Path:
    """Let everybody stop at this command until the file is gone."""
    held = Path(f"{router.record}.held")
    held.touch()
    router.record.unlink(missing_ok=True)
    (router.root.parent / "recorder").write_text(_HOLDING.replace("HELD_AT", command))
    return held


def use_real_processes(router: Router) -> None:
    """Who holds something is looked for among the processes there are."""
    router.snippet("")  # makes the recorder
    shutil.rmtree(router.root / "proc")
    (router.root / "proc").symlink_to("/proc")


def get_lease(router: Router) -> Completed:
    """WAN gets an address of 10.1.1.0/24, from the client that the router started."""
    script = f"{router.shell} '{router.root}/lib/router/udhcpc' bound"
    return router.sh(["-c", f"echo $$ >'{router.root}/tmp/run/router-client.pid'; {script}; exit $?"], env=_LEASE)


@pytest.mark.parametrize(
    ("first", "held_at", "meanwhile", "in_the_end"),
    [
        ("set lan", "sync", "192.168.1.1", "192.168.1.1"),
        ("take back", "sync", "10.1.1.1", "192.168.1.1"),
        ("lease", "sleep 2", "192.168.1.1", "172.16.1.1"),
    ],
)
def test_a_change_and_a_lan_that_moves_by_itself_exclude_each_other(
    router: Router, first: str, held_at: str, meanwhile: str, in_the_end: str
) -> None:
    """Whoever comes second waits until the first is through, and then neither's work is lost."""
    use_real_processes(router)
    lease = partial(get_lease, router)
    set_lan = partial(router.script, "usr/bin/router", "set", "lan")
    if first == "set lan":
        work = [partial(set_lan, "10.1.1.1/24"), lease]
    elif first == "lease":
        work = [lease, partial(set_lan, "172.16.1.1/24")]
    else:
        set_lan("10.1.1.1/24")
        set_lan("172.16.1.1/24", env=_SSH)
        wait_for(lambda: any("setsid" in command for command in router.commands))
        work = [partial(router.script, "lib/router/pending", "network restart lan"), lease]
    write_facts(router, "lan", address="10.1.1.1", prefix="24", ports="eth1", moved_from="", reason="")
    held = hold(router, held_at)
    with ThreadPoolExecutor() as both:
        done = [both.submit(work[0])]
        wait_for(lambda: held_at in router.commands)
        done.append(both.submit(work[1]))
        wait_for(lambda: router.commands.count("sleep 0.1") >= 5)
        assert options(router, "network", "lan", "ipaddr") == [meanwhile]
        held.unlink()
    assert [(one.result().returncode, one.result().stderr) for one in done] == [(0, "")] * 2
    assert options(router, "network", "lan", "ipaddr") == [in_the_end]
    assert not list((router.root / "tmp/lock").iterdir())


def test_one_after_the_other_though_each_is_killed(router: Router) -> None:
    """The turn of one who died is had by one of those who wait for it, not by two that both saw him dead."""
    use_real_processes(router)
    look = 'readlink() { command readlink "$1"; sleep 0.05; }'  # so that others look meanwhile
    inside = 'mkdir "$ROOT/inside" && sleep 0.1 && echo >>"$ROOT/count" && rmdir "$ROOT/inside"'
    libraries = '. "$ROOT/lib/functions.sh"\n. "$ROOT/lib/router/lock.sh"'
    router.write("once", f"{libraries}\n{look}\ntake_turn it\n{inside}\nkill -9 $$\n")
    script = f'for _ in 1 2 3; do {router.shell} "$ROOT/once"; done'
    with ThreadPoolExecutor(4) as workers:
        done = list(workers.map(lambda _: router.sh(["-c", script]), range(4)))
    assert not any("mkdir" in one.stderr for one in done), done
    assert router.read("count") == "\n" * 12
