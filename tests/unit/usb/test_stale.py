"""Which files of a stick are older than those of a disc: the same as /init finds (tests/init/test_init_upgrade.py)."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.image.files import parse_files, short_hash
from livebuilder.iso.plan import IMAGE_FILES
from livebuilder.iso.writer import write_iso
from livebuilder.tree import Content, RootTree, file, hardlink
from livebuilder.usb.stale import StaleReport, find_stale, image_files
from tests.support.isos import small_plan

OLD = "11111111 bin/same\n22222222 bin/changed\n33333333 usr/my file\n44444444 sbin/gone\n"
NEW = "11111111 bin/same\n2222aaaa bin/changed\n3333aaaa usr/my file\n55555555 bin/new\n"


def stick(*paths: str, stale: str = "", marked: bool = True) -> RootTree:
    tree = RootTree(file(path, f"mine: {path}") for path in paths)
    if marked:
        for name, text in (("image", "aaaa attic 2\n"), ("files", OLD), ("stale", stale)):
            tree.add(file(f".livebuilder/{name}", text))
    return tree


def find(tree: RootTree, image: str = NEW) -> StaleReport:
    return find_stale(tree, parse_files(image), volume="stick.img", against="router.iso")


def test_files_made_from_another_version() -> None:
    report = find(stick("upper/bin/same", "upper/bin/changed", "upper/usr/my file", "upper/sbin/gone", "upper/etc/x"))
    assert [(one.path, one.known) for one in report.files] == [("/bin/changed", True), ("/usr/my file", True)]
    assert report.used_with == "aaaa attic 2"
    assert report.render().splitlines()[-1] == "2 in all; booting with lb.stale=hide starts without them"


def test_with_the_image_it_was_used_with_nothing_is() -> None:
    report = find(stick("upper/bin/changed"), OLD)
    assert report.files == ()
    assert report.render() == "stick.img: no file hides one that router.iso has newer"


def test_what_was_stale_before_is_judged_by_what_it_was_made_from() -> None:
    tree = stick("upper/bin/changed", stale="2222aaaa bin/changed\n")
    assert find(tree).files == ()
    assert [one.path for one in find(tree, OLD).files] == ["/bin/changed"]


def test_what_was_put_aside_and_further_names_count() -> None:
    tree = stick("upper/x", ".livebuilder/aside/usr/my file")
    tree.add(hardlink("upper/bin/changed", "upper/x"))
    assert [one.path for one in find(tree).files] == ["/bin/changed", "/usr/my file"]


def test_without_a_mark_content_decides() -> None:
    tree = stick("upper/bin/changed", "upper/bin/new", marked=False)
    same = short_hash(Content.from_bytes(b"mine: upper/bin/new"))
    report = find(tree, f"2222aaaa bin/changed\n{same} bin/new\n")
    assert [(one.path, one.known) for one in report.files] == [("/bin/changed", False)]
    assert "its age is not known" in report.render() and report.used_with == ""


def test_a_disc_says_which_files_it_brings(tmp_path: Path) -> None:
    write_iso(small_plan(files={IMAGE_FILES: gzip.compress(NEW.encode(), mtime=0)}), tmp_path / "router.iso")
    assert image_files(tmp_path / "router.iso") == parse_files(NEW)


@pytest.mark.parametrize(("data", "said"), [(b"no gzip", "is damaged"), (None, "has no /files.gz")])
def test_a_disc_that_says_none_is_refused(tmp_path: Path, data: bytes | None, said: str) -> None:
    write_iso(small_plan(files={IMAGE_FILES: data} if data else {"x": b""}), tmp_path / "router.iso")
    with pytest.raises(LivebuilderError, match=said):
        image_files(tmp_path / "router.iso")
