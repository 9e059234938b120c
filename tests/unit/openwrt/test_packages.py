"""The feeds that a user names: addresses, folders and lines of opkg's."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.feed import Feed
from livebuilder.openwrt.packages import named_feeds
from tests.support.ipks import ARCHITECTURE, KERNEL, small_root

CORE, BASE = "targets/x86/generic/packages", f"packages/{ARCHITECTURE}/base"


def test_a_feed_by_opkgs_own_line() -> None:
    assert named_feeds(["src/gz mine https://a/b/", "src two /c"], small_root()) == (
        Feed("mine", "https://a/b"), Feed("two", "/c"),
    )  # fmt: skip


def test_a_release_has_the_feeds_of_the_root_below_it(tmp_path: Path) -> None:
    feeds = named_feeds(["https://a/releases/23.05.5/"], small_root())
    assert {feed.url.removeprefix("https://a/releases/23.05.5/") for feed in feeds} >= {
        CORE, BASE, f"targets/x86/generic/kmods/{KERNEL}",
    }  # fmt: skip
    (tmp_path / BASE).mkdir(parents=True)
    assert named_feeds([str(tmp_path)], small_root()) == (Feed("base", f"{tmp_path}/{BASE}"),), "what is not there"
    (tmp_path / BASE).rmdir()
    with pytest.raises(LivebuilderError, match="has no feed for this root"):
        named_feeds([str(tmp_path)], small_root())


def test_any_other_folder_is_a_feed(tmp_path: Path) -> None:
    (feed,) = named_feeds([str(tmp_path)], small_root())
    assert (feed.url, feed.address) == (str(tmp_path), tmp_path.name)
