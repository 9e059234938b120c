from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from livebuilder.vm.machine import Media
from livebuilder.vm.scenario import (
    HOSTNAME_CONFIG,
    TOKEN_PATH,
    BootFacts,
    Proof,
    Setting,
    new_setting,
    proof_to_json,
    reasons_against,
)

SETTING = Setting("5f0c1d", "proof-5f0c1d")
PLAN = ["first", "second", "control"]


def record(state: str, reason: str | None = None, device: str | None = None) -> dict[str, Any]:
    return {"version": 1, "storage": {"state": state, "reason": reason, "device": device}}


FIRST = BootFacts(
    name="first",
    stick=True,
    log=Path("logs/first.log"),
    seconds=14.2,
    seconds_to_summary=9.1,
    seconds_to_prompt=10.4,
    summary="root=ext2 storage=persistent device=/dev/sda1 label=rootfs_data seconds=4.2",
    record=record("persistent", device="/dev/sda1"),
    hostname="livebuilder",
    token_found=False,
    changed=(TOKEN_PATH, HOSTNAME_CONFIG),
    power_off="poweroff",
    qemu_status=0,
    screenshots=(Path("logs/first-menu.png"),),
)
SECOND = replace(FIRST, name="second", hostname="proof-5f0c1d", token_found=True, changed=(), screenshots=())
CONTROL = replace(
    FIRST,
    name="control",
    stick=False,
    summary='root=ext2 storage=volatile reason="no stick labelled rootfs_data" seconds=19.0',
    record=record("volatile", "no stick labelled rootfs_data"),
    changed=(),
    screenshots=(),
)
GOOD = (FIRST, SECOND, CONTROL)
# Of a root that has no /etc/config/system.
NAMELESS = (replace(FIRST, changed=(TOKEN_PATH,)), replace(SECOND, hostname="(none)"), CONTROL)


def test_three_good_boots_leave_nothing_to_say_against_them() -> None:
    assert reasons_against(GOOD, setting=SETTING, expected=PLAN) == ()
    assert reasons_against(GOOD[:2], setting=SETTING, expected=PLAN[:2]) == ()


VOLATILE = {"record": record("volatile", "no stick"), "summary": "root=ext2 storage=volatile"}
READ_ONLY = {"record": record("read-only", "write-protected"), "summary": "root=ext2 storage=read-only"}

# What is changed in which boot, and the one reason it must give.
AGAINST: list[tuple[int, dict[str, Any], str]] = [
    (0, VOLATILE, "the first boot: storage is volatile, not persistent: no stick"),
    (1, VOLATILE, "the second boot: storage is volatile, not persistent: no stick"),
    (1, READ_ONLY, "the second boot: storage is read-only, not persistent: write-protected"),
    (0, {"summary": "root=ext2 storage=volatile"}, "the first boot: the record and the console's summary disagree"),
    (0, {"token_found": True}, "the first boot: the file of the first boot is there already"),
    (1, {"token_found": False}, "the second boot: the file written in the first boot is not there"),
    (2, {"token_found": True}, "the control boot: the file of the first boot is there already"),
    (0, {"hostname": "proof-5f0c1d"}, "the first boot: the host's name is proof-5f0c1d already"),
    (1, {"hostname": "livebuilder"}, "the second boot: the host's name is livebuilder, not proof-5f0c1d"),
    (2, {"hostname": "proof-5f0c1d"}, "the control boot: the host's name is proof-5f0c1d already"),
    (0, {"qemu_status": 1}, "the first boot: QEMU ended with status 1"),
    (
        2,
        {"record": record("persistent"), "summary": "root=ext2 storage=persistent"},
        "the control boot: changes are kept (persistent) though there is no stick",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("place", "changes", "reason"), AGAINST)
def test_whatever_is_wrong_is_said_in_words(place: int, changes: dict[str, Any], reason: str) -> None:
    boots = [replace(boot, **changes) if number == place else boot for number, boot in enumerate(GOOD)]
    assert reasons_against(boots, setting=SETTING, expected=PLAN) == (reason,)


def test_where_the_host_has_no_name_to_set_the_file_alone_is_the_proof() -> None:
    assert reasons_against(NAMELESS, setting=SETTING, expected=PLAN) == ()
    without = (NAMELESS[0], replace(NAMELESS[1], token_found=False), NAMELESS[2])
    assert reasons_against(without, setting=SETTING, expected=PLAN) == (
        "the second boot: the file written in the first boot is not there",
    )  # fmt: skip
    assert proof(NAMELESS).hostname is None and proof_to_json(proof(NAMELESS))["hostname"] is None
    assert "  now set: /etc/livebuilder/proof" in proof(NAMELESS).story


def test_a_boot_that_failed_says_why_and_which_boots_were_not_made() -> None:
    failed = BootFacts(name="first", stick=True, log=Path("l"), seconds=300, problems=("no prompt",))
    assert reasons_against([failed], setting=SETTING, expected=PLAN) == (
        "the first boot: no prompt",
        "the second boot was not made",
        "the control boot was not made",
    )


@pytest.mark.parametrize("record", [{}, {"storage": None}, {"storage": "persistent"}, {"storage": {}}])
def test_a_record_of_another_form_is_no_proof(record: dict[str, Any]) -> None:
    boots = [replace(FIRST, record=record), SECOND, CONTROL]
    assert "the first boot: storage is None, not persistent: None" in reasons_against(
        boots, setting=SETTING, expected=PLAN
    )  # fmt: skip


def test_a_setting_is_new_each_time() -> None:
    one, other = new_setting(), new_setting()
    assert one.token != other.token
    assert one.hostname == f"proof-{one.token[:6]}"


def proof(boots: tuple[BootFacts, ...], *reasons: str) -> Proof:
    return Proof(
        success=not reasons, reasons=reasons, image=Path("out/router.iso"), stick=Path("out/stick.img"), media=Media.CD,
        machine="pc-1997", memory_bytes=96 * 1024 * 1024, accelerator="tcg", setting=SETTING, boots=boots,
    )  # fmt: skip


def test_the_json_form_has_every_fact() -> None:
    data = json.loads(json.dumps(proof_to_json(proof(GOOD))))
    assert {key: data[key] for key in data if key not in ("boots", "story")} == {
        "version": 1, "success": True, "reasons": [], "image": "out/router.iso", "stick": "out/stick.img",
        "media": "cd", "machine": "pc-1997", "memory_bytes": 100663296, "accelerator": "tcg",
        "token": "5f0c1d", "hostname": "proof-5f0c1d",
    }  # fmt: skip
    assert data["story"] == list(proof(GOOD).story)
    assert data["boots"][0] == {
        "name": "first", "stick": True, "seconds_to_summary": 9.1, "seconds_to_prompt": 10.4, "seconds": 14.2,
        "summary": FIRST.summary, "record": FIRST.record, "hostname": "livebuilder", "token_found": False,
        "changed": ["/etc/livebuilder/proof", "/etc/config/system"], "power_off": "poweroff",
        "qemu_status": 0, "log": "logs/first.log", "screenshots": ["logs/first-menu.png"],
        "problems": [], "last_lines": [],
    }  # fmt: skip
    assert [boot["name"] for boot in data["boots"]] == PLAN


def test_the_story_of_a_proof() -> None:
    assert proof(GOOD).story == (
        "router.iso as cd in pc-1997 with 96.0 MiB (QEMU, tcg), stick stick.img",
        "first boot, with the stick",
        "  9.1 s  root=ext2 storage=persistent device=/dev/sda1 label=rootfs_data seconds=4.2",
        "  10.4 s  the console answers",
        "  storage is persistent on /dev/sda1",
        "  the host's name is livebuilder; /etc/livebuilder/proof is not there",
        "  now set: /etc/livebuilder/proof; hostname proof-5f0c1d in /etc/config/system",
        "  14.2 s  powered off with poweroff (QEMU ended with 0)",
        "  log: logs/first.log",
        "second boot, with the stick",
        "  9.1 s  root=ext2 storage=persistent device=/dev/sda1 label=rootfs_data seconds=4.2",
        "  10.4 s  the console answers",
        "  storage is persistent on /dev/sda1",
        "  the host's name is proof-5f0c1d; /etc/livebuilder/proof is there",
        "  14.2 s  powered off with poweroff (QEMU ended with 0)",
        "  log: logs/first.log",
        "control boot, without the stick",
        '  9.1 s  root=ext2 storage=volatile reason="no stick labelled rootfs_data" seconds=19.0',
        "  10.4 s  the console answers",
        "  storage is volatile: no stick labelled rootfs_data",
        "  the host's name is livebuilder; /etc/livebuilder/proof is not there",
        "  14.2 s  powered off with poweroff (QEMU ended with 0)",
        "  log: logs/first.log",
        "PROVED: what was set in the first boot was there after power-off, and only with the stick.",
    )


def test_the_story_of_a_failure_shows_the_last_lines() -> None:
    failed = BootFacts(
        name="first", stick=True, log=Path("logs/first.log"), seconds=300,
        problems=("no prompt",), last_lines=("Loading /boot/vmlinuz...",),
    )  # fmt: skip
    assert proof((failed,), "the first boot: no prompt").story == (
        "router.iso as cd in pc-1997 with 96.0 MiB (QEMU, tcg), stick stick.img",
        "first boot, with the stick",
        "  problem: no prompt",
        "    Loading /boot/vmlinuz...",
        "  log: logs/first.log",
        "NOT PROVED:",
        "  the first boot: no prompt",
    )


def test_without_the_control_the_story_claims_less() -> None:
    assert proof(GOOD[:2]).story[-1] == (
        "PROVED: what was set in the first boot was there after power-off. Not shown: that it is not there "
        "without the stick."
    )
