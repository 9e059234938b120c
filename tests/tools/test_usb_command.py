"""`livebuilder usb …` on image files, as a user types it: what it prints, what it asks, what it refuses."""

from __future__ import annotations

import gzip
import signal
from pathlib import Path

import pytest

from livebuilder.iso.plan import IMAGE_FILES
from livebuilder.iso.writer import write_iso
from livebuilder.sizes import MIB
from tests.support.builds import BuiltImage, assert_refused, run_main, start
from tests.support.contents import a_router, a_stick, put
from tests.support.documents import assert_documented
from tests.support.isos import small_plan
from tests.support.sticks import ext4_state, probe, read_file


def blank(path: Path, size_bytes: int = 64 * MIB) -> Path:
    with path.open("wb") as stream:
        stream.truncate(size_bytes)
    return path


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """A stick that a router has used."""
    path = a_stick(tmp_path / "stick.img")
    put(path, a_router())
    return path


def test_prepare(tmp_path: Path) -> None:
    image = blank(tmp_path / "x.img")
    words = ("--fs", "ext3", "--label", "attic", "--table", "dos", "--size", "32M")
    planned = run_main("usb", "prepare", image, *words, "--dry-run", "--json").json
    assert not any(image.read_bytes())
    assert planned["device"]["path"] == str(image) and planned["plan"]["table"]["type"] == "dos"
    made = run_main("usb", "prepare", image, *words, "--yes", "--json").json
    assert_documented("usb prepare", made)
    assert (made["file_system"]["label"], made["file_system"]["size_bytes"]) == ("attic", 32 * MIB)
    assert probe(image)["LABEL"] == "attic" and ext4_state(image).unmounted


def test_an_image_with_something_else_in_it_needs_its_name(tmp_path: Path) -> None:
    image = blank(tmp_path / "x.img")
    with image.open("r+b") as stream:
        stream.write(b"my thesis")
    before = image.read_bytes()
    for words in (["--yes"], ["--erase", "y.img"], []):
        outcome = run_main("usb", "prepare", image, *words)
        assert outcome.status == 2 and "x.img" in outcome.stderr
        assert image.read_bytes() == before
    assert run_main("usb", "prepare", image, "--erase", "x.img").status == 0
    assert run_main("usb", "prepare", image, "--yes").status == 0, "a stick of ours may be made anew"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "which stick?"),
        (["x.img", "--fs", "vfat"], "keeps neither owners"),
        (["x.img", "--label", "rootfs data"], "' '"),
        (["x.img", "--table", "mbr"], "gpt or dos"),
        (["x.img", "--size", "lots"], "lots"),
    ],
)
def test_wrong_words_are_told_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    blank(tmp_path / "x.img")
    outcome = run_main("usb", "prepare", *words, "--yes")
    assert outcome.status == 2 and told in outcome.stderr
    assert not any((tmp_path / "x.img").read_bytes())


def test_what_is_no_stick_is_refused(tmp_path: Path) -> None:
    assert_refused(run_main("usb", "prepare", tmp_path / "none.img", "--yes"), "none.img")
    assert_refused(run_main("usb", "prepare", tmp_path, "--yes"), "is a folder")
    small = run_main("usb", "prepare", blank(tmp_path / "small", 3 * MIB), "--yes")
    assert small.status == 1 and "ext4 needs" in small.stderr


@pytest.mark.network
def test_write(default_image: BuiltImage, tmp_path: Path) -> None:
    image = blank(tmp_path / "live.img")
    words = ("usb", "write", default_image.iso, image, "--storage", "--fs", "ext2", "--label", "attic")
    planned = run_main(*words, "--dry-run", "--json").json
    assert planned["plan"]["storage"]["file_system"]["label"] == "attic" and not any(image.read_bytes())
    made = run_main(*words, "--yes", "--json").json
    assert_documented("usb write", made)
    assert run_main("usb", "write", default_image.iso, image, "--yes").status == 2, "it is no stick of ours any more"
    plain = run_main("usb", "write", default_image.iso, image, "--erase", "live.img", "--json").json
    assert_documented("usb write", plain)
    assert image.read_bytes()[: plain["iso_bytes"]] == default_image.iso.read_bytes()
    refused = run_main("usb", "write", default_image.kernel, image, "--erase", "live.img")
    assert_refused(refused, "not made to start from a USB stick")


def test_adopt(tmp_path: Path) -> None:
    image = tmp_path / "x.img"
    run_main("usb", "image", image, "--label", "photos")
    planned = run_main("usb", "adopt", image, "--dry-run", "--json").json
    assert planned["changes"] and probe(image)["LABEL"] == "photos"
    adopted = run_main("usb", "adopt", image, "--yes", "--json").json
    assert_documented("usb adopt", adopted, may_lack={"paths[]", "notes[]"})
    assert probe(image)["LABEL"] == "rootfs_data"
    assert run_main("usb", "check", image).status == 0
    assert "nothing to change" in run_main("usb", "adopt", image).stdout
    assert run_main("usb", "adopt", image, "--label", "attic", "--erase", "x.img").status == 0
    assert probe(image)["LABEL"] == "attic"


def test_check(stick: Path) -> None:
    before = stick.read_bytes()
    good = run_main("usb", "check", stick, "--json")
    assert good.status == 0 and good.json["fits"]
    bad = run_main("usb", "check", stick, "--label", "attic", "--json")
    assert bad.status == 1 and not bad.json["fits"]
    assert_documented("usb check", good.json, bad.json)
    tested = run_main("usb", "check", stick, "--write-test", "--yes")
    assert tested.status == 0 and stick.read_bytes() == before
    assert run_main("usb", "check", stick, "--write-test", "--erase", "stick.img").status == 0


def test_backup_and_restore(stick: Path, tmp_path: Path) -> None:
    archive, other = tmp_path / "b.tar.zst", tmp_path / "other.img"
    assert "goes into" in run_main("usb", "backup", stick, archive, "--label", "rootfs_data", "--dry-run").stdout
    assert not archive.exists()
    made = run_main("usb", "backup", stick, archive, "--json").json
    assert_documented("usb backup", made)
    assert run_main("usb", "backup", stick, archive).status == 1
    assert run_main("usb", "backup", stick, archive, "--force").status == 0
    run_main("usb", "image", other, "--label", "attic")
    words = ("usb", "restore", archive, other, "--label", "attic")
    before = other.read_bytes()
    assert "gives way to" in run_main(*words, "--dry-run").stdout and other.read_bytes() == before
    restored = run_main(*words, "--erase", "other.img", "--json").json
    assert_documented("usb restore", restored, may_lack={"kept[]", "removed[]"})
    assert run_main(*words, "--erase", "other.img").stdout.endswith("there was nothing to do\n")
    assert run_main("usb", "restore", archive, stick, "--yes").status == 0


def test_diff_against_a_disc(stick: Path, tmp_path: Path) -> None:
    iso = tmp_path / "router.iso"
    differences = run_main("usb", "diff", stick, "--json").json["differences"]
    listed = "".join(f"00000000 {one['path'][1:]}\n" for one in differences)
    write_iso(small_plan(files={IMAGE_FILES: gzip.compress(listed.encode(), mtime=0)}), iso)
    seen = run_main("usb", "diff", stick, "--against", iso, "--json").json
    assert_documented("usb diff --against", seen)
    assert seen["files"] and not any(one["known"] for one in seen["files"])
    assert "lb.stale=hide" in run_main("usb", "diff", stick, "--against", iso).stdout
    assert_refused(run_main("usb", "diff", stick, "--against", stick), "ISO")
    assert run_main("usb", "diff", stick, "/etc", "--against", iso).status == 2


def test_diff_and_reset(stick: Path) -> None:
    seen = run_main("usb", "diff", stick, "--json").json
    assert_documented("usb diff", seen, may_lack={"differences[].origin"})
    paths = {one["path"] for one in seen["differences"]}
    some = sorted(path for path in paths if path.startswith("/etc/"))[0]
    below = run_main("usb", "diff", stick, "/etc", "--label", "rootfs_data", "--json").json
    assert {one["path"] for one in below["differences"]} < paths | {"/etc"}
    before = stick.read_bytes()
    assert "is taken off" in run_main("usb", "reset", stick, "--label", "rootfs_data", "--dry-run").stdout
    assert stick.read_bytes() == before
    done = run_main("usb", "reset", stick, "--keep", some, "--yes", "--json").json
    assert_documented("usb reset", done, may_lack={"made[]"})
    assert {one["path"] for one in run_main("usb", "diff", stick, "--json").json["differences"]} == {some}
    assert run_main("usb", "reset", stick, "--erase", "stick.img").status == 0
    assert "nothing differs" in run_main("usb", "diff", stick).stdout
    assert read_file(stick, "upper/etc") is None


def test_list_shows_what_this_machine_has() -> None:
    everything = run_main("usb", "list", "--all", "--json").json
    lists = ("uses[]", "disk_uses[]", "findings[].level", "findings[].code", "findings[].text", "volumes[].uses[]")
    assert_documented("usb list", everything, may_lack={f"devices[].{key}" for key in lists})
    assert run_main("usb", "list").status == 0
    table = run_main("usb", "list", "--all", "--verbose").stdout
    assert all(f"{device['path']} " in table for device in everything["devices"])


def test_watching_goes_on_until_it_is_interrupted() -> None:
    with start("usb", "list", "--watch") as child:
        assert child.stdout and child.stderr
        assert child.stdout.readline()
        child.send_signal(signal.SIGINT)
        stderr = child.communicate(timeout=60)[1]
    assert child.returncode == 130
    assert "Traceback" not in stderr


def test_a_stick_that_is_there_is_not_waited_for(tmp_path: Path) -> None:
    image = blank(tmp_path / "x.img")
    assert run_main("usb", "prepare", image, "--watch", "--yes").status == 0
    assert probe(image)["LABEL"] == "rootfs_data"
