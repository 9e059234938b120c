"""initramfs/router/lib/livebuilder/record.awk: the boot record in words, under every awk, whatever is in it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from livebuilder.process import run
from tests.support.router import AWKS, SHELLS, Router, make_router

_PROGRAM = "lib/livebuilder/record.awk"


def _record(**storage: Any) -> dict[str, Any]:
    return {
        "version": 1, "livebuilder": "0.1.0", "name": "attic-pc", "kernel": "6.1.0-50-686", "failsafe": False,
        "root": {"mode": "ext2", "device": "/dev/loop7", "uuid": "x", "size_bytes": 15728640, "used_bytes": 10485760,
                 "attempts": 1, "seconds": 1.23, "reason": None},
        "memory": {"total_kib": 98304, "available_kib": 61440, "needed_kib": 20000},
        "storage": {"state": "persistent", "reason": None, "device": "/dev/sda1", "label": "rootfs_data", "uuid": "u-1",
                    "fstype": "ext4", "by_mac": None, "fsck": 1, "waited_seconds": 1.2, "candidates": [], **storage},
        "parameters": {"unknown": ["lb.foo"]}, "warnings": [],
    }  # fmt: skip


def _candidate(
    device: str, label: str | None = "", *, fstype: str | None = "ext4", cure: dict[str, Any] | None = None
) -> dict[str, Any]:
    return {"device": device, "label": label, "fstype": fstype, "uuid": None, "cure": cure}


def _cure(command: str, *, erases: bool = False, here: bool = True) -> dict[str, Any]:
    return {"command": command, "erases": erases, "here": here}


_VOLATILE = {
    "state": "volatile", "reason": "no stick labelled rootfs_data", "device": None, "label": None, "fsck": None,
    "candidates": [
        _candidate("/dev/sda1", "backup", cure=_cure("e2label /dev/sda1 rootfs_data")),
        _candidate("/dev/sdb1", "ROOTFS_DATA", fstype="vfat", cure=_cure("mke2fs -t ext4 /dev/sdb1", erases=True)),
        _candidate("/dev/sdc", "other", fstype="f2fs", cure=_cure("f2fslabel /dev/sdc rootfs_data", here=False)),
        _candidate("/dev/sdd", None, fstype="iso9660"),
    ],
}  # fmt: skip


@pytest.fixture(params=AWKS)
def awk(request: pytest.FixtureRequest) -> list[str]:
    return str(request.param).split()


@pytest.fixture
def router(tmp_path: Path) -> Router:
    router = make_router(tmp_path, "dash")
    router.write("proc/mounts", "/dev/sda1 /overlay ext4 rw,relatime 0 0\noverlayfs:/overlay / overlay rw 0 0\n")
    router.write("sys/class/block/sda1/dev", "8:1\n")
    return router


def _view(router: Router, awk: list[str], view: str, record: object) -> str:
    text = record if isinstance(record, str) else json.dumps(record, ensure_ascii=False)
    router.write("etc/livebuilder/boot.json", text)
    done = run(
        [*awk, "-v", f"view={view}", "-f", router.root / _PROGRAM], env={"ROOT": str(router.root), "LC_ALL": "C"}
    )
    assert done.stderr == ""
    return done.stdout


# --- what is said --------------------------------------------------------------------------------------------------


def test_the_banner_is_short_when_settings_are_kept(router: Router, awk: list[str]) -> None:
    assert _view(router, awk, "banner", _record()) == (
        "\n  attic-pc\n  livebuilder 0.1.0, Linux 6.1.0-50-686\n\n  Settings are kept on /dev/sda1 (rootfs_data).\n\n"
    )


def test_the_banner_lists_every_partition_and_its_cure(router: Router, awk: list[str]) -> None:
    text = _view(router, awk, "banner", _record(**_VOLATILE))
    assert "\x1b[7m" in text and "* CHANGES ARE NOT KEPT: this system runs from memory only *" in text
    assert text.split("\x1b[0m")[1].split("\n") == [
        "",
        "",
        "  Why: no stick labelled rootfs_data",
        "  Seen:",
        "    /dev/sda1  ext4  label 'backup'",
        "      to keep settings there: e2label /dev/sda1 rootfs_data && reboot",
        "    /dev/sdb1  vfat  label 'ROOTFS_DATA'",
        "      to ERASE it and keep settings there: mke2fs -t ext4 /dev/sdb1 && reboot",
        "    /dev/sdc  f2fs  label 'other'",
        "      to keep settings there: f2fslabel /dev/sdc rootfs_data && reboot",
        "      (on another system: this one has no f2fslabel)",
        "    /dev/sdd  iso9660  label ''",
        "  All about it: lb-status",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("storage", "headline"),
    [
        ({}, "settings are kept on /dev/sda1 (rootfs_data)"),
        ({"state": "read-only", "reason": "why"}, "CHANGES ARE NOT KEPT: /dev/sda1 (rootfs_data) is read-only, why"),
        ({"state": "volatile", "reason": "why"}, "CHANGES ARE NOT KEPT: this system runs from memory only, why"),
        ({"state": "volatile"}, "CHANGES ARE NOT KEPT: this system runs from memory only"),
        ({"state": "hopeful"}, "NOBODY KNOWS WHETHER CHANGES ARE KEPT"),
    ],
)
def test_the_line(router: Router, awk: list[str], storage: dict[str, Any], headline: str) -> None:
    assert _view(router, awk, "line", _record(**storage)) == f"attic-pc: {headline}\n"


def test_failsafe_says_how_to_get_out_of_it(router: Router, awk: list[str]) -> None:
    reason = "failsafe mode: the settings on /dev/sda1 are not used; reboot starts with them again"
    found = _record(state="volatile", reason=reason, candidates=_VOLATILE["candidates"]) | {"failsafe": True}
    text = _view(router, awk, "banner", found)
    assert "\x1b[7m" in text and "* FAILSAFE MODE: CHANGES ARE NOT KEPT *" in text
    assert text.split("\x1b[0m")[1] == f"\n\n  Why: {reason}\n  All about it: lb-status\n\n"
    assert _view(router, awk, "line", found) == f"attic-pc: FAILSAFE MODE: CHANGES ARE NOT KEPT, {reason}\n"
    assert "  stick       /dev/sda1, ext4, rootfs_data\n" in _view(router, awk, "status", found)


def test_failsafe_without_a_stick_lists_what_there_is(router: Router, awk: list[str]) -> None:
    text = _view(router, awk, "banner", _record(**_VOLATILE) | {"failsafe": True})
    assert "FAILSAFE MODE" in text and "to keep settings there: e2label /dev/sda1 rootfs_data" in text


def test_the_machine_whose_settings_they_are_is_named(router: Router, awk: list[str]) -> None:
    found = _record(by_mac="52-54-00-12-34-56")
    where = "settings are kept on /dev/sda1 (rootfs_data, by-mac/52-54-00-12-34-56)"
    assert _view(router, awk, "line", found) == f"attic-pc: {where}\n"
    assert "  by-mac      52-54-00-12-34-56\n" in _view(router, awk, "status", found)


def test_a_record_without_a_state_is_damaged(router: Router, awk: list[str]) -> None:
    assert "missing or damaged" in _view(router, awk, "line", _record(state=None))


@pytest.mark.parametrize("state", ["read-only", "volatile", "nonsense"])
def test_nothing_but_persistent_gets_the_short_banner(router: Router, awk: list[str], state: str) -> None:
    assert "\x1b[7m" in _view(router, awk, "banner", _record(state=state))


def test_a_stick_that_is_gone_since_is_told(router: Router, awk: list[str]) -> None:
    (router.root / "sys/class/block/sda1/dev").unlink()
    assert _view(router, awk, "line", _record()) == (
        "attic-pc: CHANGES ARE NO LONGER KEPT, /dev/sda1 was there at boot and is gone\n"
    )


@pytest.mark.parametrize(
    "mounts", ["/dev/sda1 /overlay ext4 ro,relatime 0 0\n", "/dev/sda1 /overlay ext4 ro,rwx 0 0\n", ""]
)
def test_a_stick_that_became_read_only_since_is_told(router: Router, awk: list[str], mounts: str) -> None:
    router.write("proc/mounts", mounts)
    assert "/dev/sda1 can no longer be written" in _view(router, awk, "banner", _record())


def test_no_disk_at_all_is_said_only_by_a_record_that_knows(router: Router, awk: list[str]) -> None:
    said = "Seen: no disk or stick at all"
    assert said in _view(router, awk, "banner", _record(**{**_VOLATILE, "candidates": []}))
    assert said not in _view(router, awk, "banner", "damaged")
    (router.root / "sys/class/block/sda1/dev").unlink()
    assert said not in _view(router, awk, "banner", _record())


@pytest.mark.parametrize("view", ["banner", "status"])
@pytest.mark.parametrize("storage", [{}, _VOLATILE])
def test_every_warning_is_repeated(router: Router, awk: list[str], view: str, storage: dict[str, Any]) -> None:
    text = _view(router, awk, view, {**_record(**storage), "warnings": ["two sticks \x1b[2J", "full"]})
    assert "\n  WARNING: two sticks ?[2J\n  WARNING: full\n" in text


def test_the_status_names_every_fact(router: Router, awk: list[str]) -> None:
    text = _view(router, awk, "status", _record(**_VOLATILE))
    for fact in (
        "state       volatile", "why         no stick labelled rootfs_data", "version     0.1.0",
        "kernel      6.1.0-50-686", "root        ext2, /dev/loop7", "10240 KiB used, 15360 KiB in all",
        "memory      96 MiB, 60 MiB free before the root", "unknown     lb.foo", "e2label /dev/sda1 rootfs_data",
    ):  # fmt: skip
        assert fact in text
    text = _view(router, awk, "status", _record())
    assert "stick       /dev/sda1, ext4, rootfs_data" in text and "fsck        1" in text and "Seen" not in text


# --- what may be in it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ('a"b\\c/d', 'a"b\\c/d'),
        ("} ] , : {", "} ] , : {"),
        ("\x1b[2J\x1b]0;x\x07", "?[2J?]0;x?"),
        ("line\nbreak\ttab", "line break tab"),
        ("Büro €", "Büro €"),
        ("\u009b31m", "?31m"),
        ("\U0001f4be", "\U0001f4be"),
        ("%s %d %n", "%s %d %n"),
        ("&\\&", "&\\&"),
        ("$(reboot) `reboot`", "$(reboot) `reboot`"),
        ("'; reboot; '", "'; reboot; '"),
        ("\x7f", "?"),
    ],
)
@pytest.mark.parametrize("escaped", [False, True])
def test_a_hostile_label_is_only_text(router: Router, awk: list[str], label: str, shown: str, escaped: bool) -> None:
    record = _record(**{**_VOLATILE, "candidates": [_candidate("/dev/sda1", label)]})
    text = _view(router, awk, "banner", json.dumps(record, ensure_ascii=escaped))
    if escaped and label == "\U0001f4be":
        shown = "??"  # a surrogate pair: no label is worth the arithmetic
    assert f"    /dev/sda1  ext4  label '{shown}'\n" in text
    assert "  All about it: lb-status\n" in text


def test_bytes_that_are_no_utf8_do_not_reach_the_terminal(router: Router, awk: list[str]) -> None:
    record = json.dumps(_record(**{**_VOLATILE, "candidates": [_candidate("/dev/sda1", "a@b")]}))
    (router.root / "etc/livebuilder/boot.json").write_bytes(record.encode().replace(b"a@b", b"a\x9b\xffb"))
    done = run([*awk, "-v", "view=banner", "-f", router.root / _PROGRAM], env={"ROOT": str(router.root), "LC_ALL": "C"})
    assert b"label 'a??b'" in done.stdout_bytes


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", "{}", '{"storage":{"state":"persistent"}', '{"storage":{"state":"persistent"}} x',
        '{"storage":{"state":"persistent",}}', '{"storage":{"state":"persistent}}', '{"storage":"persistent"}',
        '{"storage":{"state":persistent}}', '{"storage":{"state":"\\x"}}', '{"storage":{"state":"\\u12"}}',
        "[" * 5000, '{"a":' * 5000, '"' + "\\" * 4001, "\x00\x00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("view", ["banner", "line", "status"])
def test_a_damaged_record_is_never_taken_for_persistent(router: Router, awk: list[str], text: str, view: str) -> None:
    said = _view(router, awk, view, text)
    assert "NOBODY KNOWS" in said and "missing or damaged" in said


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_record_cut_short_is_never_taken_for_persistent(router: Router, cut: int) -> None:
    text = json.dumps(_record())
    assert "NOBODY KNOWS" in _view(router, ["mawk"], "line", text[: len(text) * cut // 30])


def test_every_way_to_write_the_same_json(router: Router, awk: list[str]) -> None:
    wanted = _view(router, awk, "status", _record(**_VOLATILE))
    for text in (
        json.dumps(_record(**_VOLATILE), indent=4),
        json.dumps(_record(**_VOLATILE), separators=(",", ":")),
        "\r\n\t" + json.dumps(_record(**_VOLATILE), indent="\t").replace("\n", "\r\n") + "\n\n",
    ):
        assert _view(router, awk, "status", text) == wanted


@settings(
    max_examples=40, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)  # fmt: skip
@given(label=st.text(max_size=40))
def test_no_label_changes_what_stands_around_it(router: Router, label: str) -> None:
    label = label.encode("utf-8", "replace").decode()
    record = _record(**{**_VOLATILE, "candidates": [_candidate("/dev/sda1", label), _candidate("/dev/sdz9", "last")]})
    text = _view(router, ["mawk"], "banner", record)
    lines = text.split("Seen:\n")[1].split("\n")
    assert re.fullmatch(r"    /dev/sda1  ext4  label '.*'", lines[0])
    assert lines[1:] == ["    /dev/sdz9  ext4  label 'last'", "  All about it: lb-status", "", ""]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text.replace("\x1b[7m", "").replace("\x1b[0m", ""))


# --- the programs around it ----------------------------------------------------------------------------------------


@pytest.fixture(params=SHELLS)
def login(tmp_path: Path, request: pytest.FixtureRequest) -> Router:
    router = make_router(tmp_path, request.param)
    router.write("etc/livebuilder/boot.json", json.dumps(_record(**_VOLATILE)))
    return router


def _profile(login: Router) -> str:
    return login.sh(["-c", '. "$ROOT/etc/profile"']).stdout


def test_a_login_shows_the_banner(login: Router) -> None:
    assert "CHANGES ARE NOT KEPT" in _profile(login)


@pytest.mark.parametrize(
    ("field", "told"),
    [("*", True), ("", True), ("!", True), ("!$5$a$b", True), ("$5$salt$hash", False)],
)
def test_a_login_tells_when_root_has_no_password(login: Router, field: str, told: bool) -> None:
    login.write("etc/shadow", f"daemon:*:0:::::\nroot:{field}:0:0:99999:7:::\n")
    assert ("passwd && /etc/init.d/dropbear restart" in _profile(login)) is told


def test_lb_status(login: Router) -> None:
    assert "state       volatile" in login.script("usr/bin/lb-status").stdout
    assert json.loads(login.script("usr/bin/lb-status", "--json").stdout) == _record(**_VOLATILE)
    assert login.script("usr/bin/lb-status", "--help").stdout == "usage: lb-status [--json]\n"
    wrong = login.script("usr/bin/lb-status", "--jsno")
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (2, "", "usage: lb-status [--json]\n")


def test_lb_status_without_a_record(login: Router) -> None:
    (login.root / "etc/livebuilder/boot.json").unlink()
    assert "NOBODY KNOWS" in login.script("usr/bin/lb-status").stdout
    done = login.script("usr/bin/lb-status", "--json")
    assert done.returncode == 1 and "there is no boot record" in done.stderr
