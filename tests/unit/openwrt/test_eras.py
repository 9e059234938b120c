"""Every release has its era, and the manual shows the table that the program goes by."""

from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder.openwrt.eras import ERAS, NEWEST, OverlayBy, era_of, find_era, render_table
from livebuilder.openwrt.release import Release

MANUAL = Path(__file__).parents[3] / "docs/openwrt.md"


@pytest.mark.parametrize(
    ("version", "name"),
    [
        ("10.03", "10.03"), ("10.03.1", "10.03.1, 12.09"), ("12.09", "10.03.1, 12.09"), ("12.09.1", "10.03.1, 12.09"),
        ("14.07", "14.07"), ("15.05.1", "15.05"), ("17.01.7", "17.01, 18.06"), ("18.06-SNAPSHOT", "17.01, 18.06"),
        ("19.07.10", "19.07, 21.02"), ("21.02.7", "19.07, 21.02"), ("22.03.0-rc1", "22.03, 23.05"),
        ("23.05.5", "22.03, 23.05"), ("24.10.0", "24.10 and later"), ("25.12.1", "24.10 and later"),
    ],
)  # fmt: skip
def test_a_release_has_an_era(version: str, name: str) -> None:
    era, warning = era_of(Release("OpenWrt", version))
    assert (era.name, warning) == (name, None)


@pytest.mark.parametrize("version", ["SNAPSHOT", "", "31.05", "bleeding edge"])
def test_an_unknown_release_is_the_newest_era_and_said_so(version: str) -> None:
    release = Release("OpenWrt", version)
    assert find_era(release) is None
    era, warning = era_of(release)
    assert era is NEWEST
    assert warning and str(release) in warning and NEWEST.name in warning


def test_the_eras_follow_one_another() -> None:
    assert sorted(ERAS, key=lambda era: era.first) == list(ERAS)
    assert ERAS[0].first == (0, 0), "there is no release before the first"


def test_what_the_eras_share_and_where_they_part() -> None:
    assert {era.root_source for era in ERAS if era.overlay_by is OverlayBy.HOOK} == {"/dev/root"}
    assert {era.root_source for era in ERAS if era.overlay_by is OverlayBy.INIT} == {"/dev/loop7"}
    assert all(era.kernel_config["CONFIG_RD_GZIP"] == "y" and "CONFIG_RD_XZ" not in era.kernel_config for era in ERAS)
    assert all(era.overlay_fstype == "overlay" for era in ERAS if era.kernel_config.get("CONFIG_OVERLAY_FS"))


def test_the_manual_shows_this_table() -> None:
    assert render_table() in MANUAL.read_text()
