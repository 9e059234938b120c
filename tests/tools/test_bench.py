"""`scripts/bench`: its comparators do what they say, and do it well. How long anything takes is not asserted here."""

from __future__ import annotations

import json
import lzma
import math
from dataclasses import replace
from pathlib import Path

import pytest

from livebuilder import cpio
from livebuilder.cache import Cache, cache_root
from livebuilder.errors import CommandError
from livebuilder.iso.lint import lint_iso
from livebuilder.iso.report import read_iso
from livebuilder.process import run
from livebuilder.sources.directory import root_tree_from_directory
from livebuilder.tree import Content, Kind, RootTree, directory, file, hardlink, symlink
from scripts.benchmarks.boots import Boots
from scripts.benchmarks.builds import INPUT_KINDS, SMALL_BLOCKS, Workshop, lay_out, make_workshop
from scripts.benchmarks.ratios import Row, in_turns, least, rows_to_json
from scripts.benchmarks.roots import Subject, empty_init, make_subject, render_sums
from tests.support.builds import SmallSystem
from tests.support.images import list_archive

_PROFILE = """\
name = "bench"
[kernel]
image = "{system.kernel}"
modules = "{system.modules}"
[root]
source = "directory"
path = "{system.root}"
files = "files"
[modules]
features = ["usb-storage"]
"""


@pytest.fixture
def workshop(small_system: SmallSystem, tmp_path: Path) -> Workshop:
    return make_workshop(tmp_path / "shop", cache=cache_root(), profile=_PROFILE.format(system=small_system))


def tree() -> RootTree:
    return RootTree(
        [
            directory("etc"),
            file("etc/a file", "spaces\n"),
            file("bin/program", b"\x7fELF" + bytes(5000), mode=0o755),
            hardlink("bin/same", "bin/program"),
            symlink("sh", "bin/program"),
        ]
    )


def test_a_row_compares_pair_by_pair() -> None:
    """The second pair was measured while the machine was busy with something else."""
    row = Row("row", "it", "s", 0.5, (1.0, 10.0, 1.2), (2.0, 20.0, 2.0))
    assert (row.ratio, row.reached) == (0.5, True)
    assert row.spread == pytest.approx(0.2)
    assert not Row("row", "it", "s", 0.49, row.ours, row.theirs).reached
    assert Row("row", "it", "s", 0.5, (1.0, 2.0, 9.0), (4.0,), paired=False).ratio == 0.5


@pytest.mark.parametrize(("ours", "theirs"), [((), ()), ((1.0,), (1.0, 2.0)), ((1.0,), (0.0,)), ((1.0,), (-1.0,))])
def test_a_row_without_measurements_to_compare_is_refused(ours: tuple[float, ...], theirs: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="row: "):
        Row("row", "it", "s", 1, ours, theirs)


def test_both_sides_take_turns_in_going_first() -> None:
    order: list[str] = []

    def side(name: str) -> float:
        order.append(name)
        return float(len(order))

    measured = in_turns(lambda: side("ours"), lambda: side("theirs"), pairs=3)
    assert order == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert measured == ((1.0, 4.0, 5.0), (2.0, 3.0, 6.0))


@pytest.mark.parametrize("wanted", [9, 10, 33, 63, 64])
def test_the_least_that_works_is_found_by_halving(wanted: int) -> None:
    tried: list[int] = []

    def works(number: int) -> bool:
        tried.append(number)
        return number >= wanted

    assert least(works, low=8, high=64) == wanted
    assert len(tried) <= 8


def test_what_never_works_is_not_compared() -> None:
    with pytest.raises(ValueError, match="64"):
        least(lambda _number: False, low=8, high=64)


def test_a_tree_on_disk_is_the_tree(tmp_path: Path) -> None:
    lay_out(tree(), tmp_path / "tree")
    found = root_tree_from_directory(tmp_path / "tree", owner=(0, 0))
    assert [entry.path for entry in found] == [entry.path for entry in tree()]
    for entry in tree():
        there = found[entry.path]
        assert there.mode == entry.mode or entry.kind is Kind.HARDLINK
        assert (there.target == entry.target) or entry.kind is Kind.HARDLINK
        if entry.kind in (Kind.FILE, Kind.HARDLINK):
            assert found.content_of(there).sha256 == tree().content_of(entry).sha256


def test_checksums_are_for_every_file_and_find_every_change(tmp_path: Path) -> None:
    sums = render_sums(tree())
    assert sums.count("\n") == 2, "one for each file, whatever names it has"
    lay_out(tree(), tmp_path / "tree")
    (tmp_path / "sums").write_text(sums)
    check: list[str | Path] = ["sha256sum", "--check", "--status", tmp_path / "sums"]
    assert run(check, cwd=tmp_path / "tree", check=False).returncode == 0
    (tmp_path / "tree/bin/program").write_bytes(b"\x7fELF" + bytes(4999) + b"x")
    assert run(check, cwd=tmp_path / "tree", check=False).returncode == 1


def test_the_pipeline_makes_a_disc_of_the_same_tree(workshop: Workshop, tmp_path: Path) -> None:
    """With and without blocks for two processors; it boots as CD and as disk, and every file is in it."""
    wanted = {"." if not path.name else str(path.relative_to(workshop.tree)) for path in workshop.tree.rglob("*")}
    for options in ("", SMALL_BLOCKS):
        seconds = workshop.theirs(xz_options=options)
        assert math.isfinite(seconds) and seconds > 0
        report = read_iso(workshop.folder / "theirs.iso")
        assert [finding for finding in lint_iso(report) if finding.severity == "error"] == []
        assert report.hybrid is not None
        packed = (workshop.disc / "boot/initramfs").read_bytes()
        on_disc = tmp_path / "initramfs"
        on_disc.unlink(missing_ok=True)
        run(["xorriso", "-osirrox", "on", "-indev", report.path, "-extract", "/boot/initramfs", on_disc])
        assert on_disc.read_bytes() == packed
        on_disc.unlink()
        archive = tmp_path / "archive"
        archive.write_bytes(lzma.decompress(packed))
        assert set(list_archive(archive)) - {"."} == wanted
        packed_as = run(["xz", "--robot", "--verbose", "--list", _named(packed, tmp_path)]).stdout
        assert "CRC32" in packed_as and "CRC64" not in packed_as


def _named(packed: bytes, folder: Path) -> Path:
    path = folder / "initramfs.xz"
    path.write_bytes(packed)
    return path


def test_a_pipeline_that_fails_is_no_measurement(workshop: Workshop) -> None:
    (workshop.disc / "isolinux/isolinux.bin").unlink()
    with pytest.raises(CommandError, match=r"isolinux\.bin"):
        workshop.theirs()


def test_our_build_starts_from_the_inputs_alone(workshop: Workshop) -> None:
    """Cold: nothing of ours is taken from before. After a change: all but what changed is, on both sides."""
    pieces = workshop.folder / "cache/livebuilder/pieces"
    assert workshop.ours() > 0
    first = {path.name for path in pieces.iterdir()}
    workshop.forget_pieces()
    assert {path.name for path in pieces.parent.iterdir()} <= set(INPUT_KINDS)
    assert workshop.ours() > 0
    assert {path.name for path in pieces.iterdir()} == first
    disc = (workshop.folder / "ours/bench.iso").read_bytes()
    workshop.change()
    assert workshop.ours() > 0
    new = {path.name for path in pieces.iterdir()} - first
    assert len(new) == 1 and (pieces / new.pop()).stat().st_size < 4096
    assert (workshop.folder / "ours/bench.iso").read_bytes() != disc
    ours, theirs = (path.read_text() for path in sorted(workshop.folder.glob("*/**/etc/config/bench")))
    assert ours == theirs == "option changed '1'\n"


def test_bench_json_is_what_the_documentation_says() -> None:
    row = Row("build", "a pipeline", "s", 1.5, (2.0, 4.0), (2.5, 5.0), note="a small system")
    data = json.loads(json.dumps(rows_to_json([row], facts={"processors": 2}), allow_nan=False))
    assert (data["version"], data["processors"]) == (1, 2)
    assert data["rows"][0]["ratio"] == 0.8
    assert {"name", "against", "unit", "ratio", "reach", "reached", "aside", "spread", "ours", "theirs", "note"} <= set(
        data["rows"][0]
    )
    assert data["rows"][0]["reached"] is True
    assert "build: 0.800 ×" in row.render()


def test_bench_refuses_words_it_does_not_know() -> None:
    done = run([Path("scripts/bench").absolute(), "buidls"], check=False)
    assert done.returncode == 2
    assert "buidls" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.vm
def test_the_seeds_way_works_and_damage_is_seen(small_system: SmallSystem, tmp_path: Path) -> None:
    """The comparator makes a root with every byte right; the same boot with one byte changed is not called clean."""
    values: dict[str, object] = {
        "name": "bench",
        "kernel": {"image": str(small_system.kernel), "modules": str(small_system.modules)},
        "root": {"source": "directory", "path": str(small_system.root)},
        "modules": {"features": ["usb-storage"]},
    }
    subject = make_subject(values, folder=tmp_path / "files", cache=Cache(cache_root()))
    boots = Boots(small_system.kernel, tmp_path)
    size_kib = subject.size_bytes // 1024
    seed = subject.seed(first_kib=size_kib - 200)
    assert boots.root_kind(seed, memory_mib=128) == "ext2"
    said = (tmp_path / "serial.log").read_text()
    assert "bench: image of " in said and "after 1 attempts" not in said, "it has to grow at least once"
    assert boots.has_floor(empty_init(), memory_mib=64)
    assert not boots.has_floor(b"".join(cpio.archive([directory("dev")])), memory_mib=64)
    root = RootTree(subject.plan.root)
    preinit = root["etc/preinit"]
    root.overlay(RootTree([replace(preinit, content=Content.from_bytes(preinit.content.read().upper()))]))
    damaged = Subject(replace(subject.plan, root=root))
    assert boots.root_kind(damaged.seed(first_kib=size_kib + 1000, passes=1), memory_mib=128) is None
    assert "bench: damaged" in (tmp_path / "serial.log").read_text()
