"""`livebuilder vm test` as its user runs it, from the disc: the proof, its JSON, and what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.vm.scenario import HOSTNAME_CONFIG, TOKEN_PATH
from tests.support.builds import BuiltImage, run_command
from tests.support.documents import assert_documented
from tests.support.sticks import ext4_state, read_file
from tests.vm.conftest import build_small

pytestmark = pytest.mark.vm


def test_the_proof_of_a_router_that_waits_at_its_menu_and_has_no_serial_console(tmp_path: Path) -> None:
    build_small(tmp_path / "image", "boot.timeout=0", 'boot.console=["tty0"]', "storage.label=attic")
    logs, stick = tmp_path / "logs", tmp_path / "stick.img"
    outcome = run_command(
        "vm", "test", BuiltImage(tmp_path / "image").iso, "--machine", "pc-modern", "--memory", "128M",
        "--logs", logs, "--stick", stick, "--json", timeout_seconds=600,
    )  # fmt: skip
    assert outcome.status == 0, outcome.stderr
    proof = outcome.json
    assert_documented("vm test", proof)
    assert (proof["success"], proof["reasons"]) == (True, [])
    assert (proof["machine"], proof["memory_bytes"]) == ("pc-modern", 128 * 1024 * 1024)
    assert [(boot["name"], boot["stick"], boot["token_found"]) for boot in proof["boots"]] == [
        ("first", True, False), ("second", True, True), ("control", False, False),
    ]  # fmt: skip
    assert [boot["record"]["storage"]["state"] for boot in proof["boots"]] == ["persistent", "persistent", "volatile"]
    assert [boot["record"]["root"]["mode"] for boot in proof["boots"]] == ["ext2"] * 3, "there is memory enough"
    for boot in proof["boots"]:
        assert Path(boot["log"]).is_relative_to(logs)
        assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in boot["screenshots"])
    assert [boot["changed"] for boot in proof["boots"]] == [[TOKEN_PATH, HOSTNAME_CONFIG], [], []]
    assert [boot["power_off"] for boot in proof["boots"]] == ["poweroff"] * 3
    assert "F1 help" not in (logs / "first.log").read_text(), "the menu is on the screen alone"
    assert ext4_state(stick).unmounted
    assert [boot["hostname"] for boot in proof["boots"]] == ["small", proof["hostname"], "small"]
    assert proof["token"] in (read_file(stick, f"upper{TOKEN_PATH}") or b"").decode()
    assert proof["hostname"] in (read_file(stick, f"upper{HOSTNAME_CONFIG}") or b"").decode()


def test_a_pc_too_small_for_the_loader_is_told_at_once(small_image: BuiltImage, tmp_path: Path) -> None:
    words = ("--memory", "8M", "--logs", tmp_path, "--json")
    outcome = run_command("vm", "test", small_image.iso, *words, timeout_seconds=600)
    assert (outcome.status, outcome.json["success"]) == (1, False)
    assert "failed: " in outcome.json["reasons"][0]
    assert "Loading /boot/vmlinuz" in (tmp_path / "first.log").read_text()
