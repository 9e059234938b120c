"""`livebuilder vm test` as its user runs it, from the disc: the proof, its JSON, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livebuilder.process import run
from livebuilder.vm.scenario import HOSTNAME_CONFIG, TOKEN_PATH
from tests.support.builds import BuiltImage, run_command
from tests.support.documents import assert_documented

pytestmark = pytest.mark.vm


def test_the_proof(small_image: BuiltImage, tmp_path: Path) -> None:
    logs, stick = tmp_path / "logs", tmp_path / "stick.img"
    outcome = run_command(
        "vm", "test", small_image.iso, "--machine", "pc-2000", "--memory", "128M", "--logs", logs, "--stick", stick,
        "--json", timeout_seconds=600,
    )  # fmt: skip
    assert outcome.status == 0, outcome.stderr
    proof = outcome.json
    assert_documented("vm test", proof)
    assert (proof["success"], proof["reasons"]) == (True, [])
    assert (proof["machine"], proof["memory_bytes"]) == ("pc-2000", 128 * 1024 * 1024)
    assert [(boot["name"], boot["stick"], boot["token_found"]) for boot in proof["boots"]] == [
        ("first", True, False), ("second", True, True), ("control", False, False),
    ]  # fmt: skip
    assert [boot["record"]["storage"]["state"] for boot in proof["boots"]] == ["persistent", "persistent", "volatile"]
    assert [boot["record"]["root"]["mode"] for boot in proof["boots"]] == ["ext2"] * 3, "there is memory enough"
    for boot in proof["boots"]:
        assert Path(boot["log"]).is_relative_to(logs)
        assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in boot["screenshots"])
    assert [boot["hostname"] for boot in proof["boots"]] == ["small", proof["hostname"], "small"]
    assert proof["token"] in content_of(stick, f"/upper{TOKEN_PATH}")
    assert proof["hostname"] in content_of(stick, f"/upper{HOSTNAME_CONFIG}")


def test_a_pc_too_small_for_the_loader_is_told_at_once(small_image: BuiltImage, tmp_path: Path) -> None:
    words = ("--memory", "8M", "--logs", tmp_path, "--json")
    outcome = run_command("vm", "test", small_image.iso, *words, timeout_seconds=600)
    assert (outcome.status, outcome.json["success"]) == (1, False)
    assert "failed: " in outcome.json["reasons"][0]
    assert "Loading /boot/vmlinuz" in (tmp_path / "first.log").read_text()


def content_of(stick: Path, path: str) -> str:
    """A file of the stick's file system, as e2fsprogs reads it."""
    (partition,) = json.loads(run(["sfdisk", "--json", stick]).stdout)["partitiontable"]["partitions"]
    return run(["debugfs", "-R", f"cat {path}", f"{stick}?offset={partition['start'] * 512}"]).stdout
