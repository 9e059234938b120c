"""What a build says of itself: sums, sizes, and the budget."""

import re
from pathlib import Path
from typing import Any

import pytest

from livebuilder.build.report import BuildReport, OutputFile, check_budget, layer_to_json, render_sha256sums
from livebuilder.errors import LivebuilderError
from livebuilder.image.payload import PackedLayer
from livebuilder.process import run
from livebuilder.tree import RootTree, file

ROOT = RootTree([file(f"usr/bin/p{number:02}", bytes(number * 100)) for number in range(20)])
ON_DISC = {"boot/vmlinuz": 50_000, "boot/initramfs": 1_950, "isolinux/isolinux.bin": 7}


def test_sha256sums_is_what_the_tool_checks(tmp_path: Path) -> None:
    files = []
    for name in ("b.iso", "a"):
        (tmp_path / name).write_text(name)
        digest = run(["sha256sum", tmp_path / name]).stdout.split()[0]
        files.append(OutputFile(name, len(name), digest))
    text = render_sha256sums(files)
    assert [line.split("*")[1] for line in text.splitlines()] == ["a", "b.iso"]
    (tmp_path / "sha256sums").write_text(text)
    assert run(["sha256sum", "--check", "--strict", "sha256sums"], cwd=tmp_path).stdout == "a: OK\nb.iso: OK\n"


@pytest.mark.parametrize("limit", [None, 1000, 1001])
def test_within_the_budget(limit: int | None) -> None:
    check_budget(1000, limit, root=ROOT, boot_files=ON_DISC)


@pytest.mark.parametrize("limit", [0, 1, 999])
def test_over_the_budget_by_the_byte(limit: int) -> None:
    with pytest.raises(LivebuilderError) as caught:
        check_budget(1000, limit, root=ROOT, boot_files=ON_DISC)
    assert f"has 1000 bytes, {1000 - limit} more than output.max_size = {limit}" in caught.value.message
    names = re.findall(r"^ +[\d.]+ \w+  (\S+)", caught.value.message, re.MULTILINE)
    assert names == [
        "boot/vmlinuz", "boot/initramfs", "/usr/bin/p19", "/usr/bin/p18", "/usr/bin/p17", "/usr/bin/p16",
        "/usr/bin/p15", "/usr/bin/p14", "/usr/bin/p13", "/usr/bin/p12",
    ]  # fmt: skip
    assert caught.value.hint


def report(**changes: Any) -> BuildReport:
    facts = {
        "folder": "out", "files": (OutputFile("a.iso", 2048, "ab" * 32),), "manifest": {"version": 1},
        "warnings": ("w",), "seconds": 1.23456, "unchanged": False,
    }  # fmt: skip
    return BuildReport(**{**facts, **changes})


def test_the_report_ends_with_facts() -> None:
    assert report().render() == f"out/a.iso  2.0 KiB  sha256 {'ab' * 32}\nbuilt: 1.2 s"
    assert report(unchanged=True).render().splitlines()[-1].startswith("nothing to do")


def test_the_report_as_json() -> None:
    data = report().to_json()
    assert data["seconds"] == 1.235
    assert data["files"] == [{"name": "a.iso", "size": 2048, "sha256": "ab" * 32}]
    assert (data["warnings"], data["unchanged"], data["manifest"]) == (["w"], False, {"version": 1})


def test_a_layer_as_json_does_not_say_what_the_cache_had() -> None:
    """It goes into the manifest, which is the same for the same inputs."""
    cold, warm = (PackedLayer("10", (b"abc", b"de"), 99, "ff", 3, known) for known in (0, 2))
    assert layer_to_json(cold) == layer_to_json(warm)
    assert (layer_to_json(cold)["packed_size"], layer_to_json(cold)["pieces"]) == (5, 2)
