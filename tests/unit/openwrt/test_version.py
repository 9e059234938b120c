from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.openwrt.version import compare_versions

# Each line from older to newer.
ORDERED = [
    ["1~rc1-1", "1-1", "1-2", "1-10", "1a-1", "1.0-1", "2"],
    ["1.2.3~4afd-r1", "1.2.3-r1", "1.2.3-r2", "1.2.3-r10", "1.2.4-r1"],
    ["5.15.150-1-00ff", "5.15.167-1-0a", "5.15.167-1-0b", "6.6.73~ab-r1"],
    ["9:1", "10:0"],
    ["2020-01-01", "2020-10-01", "2024.07.14-1"],
    ["", "0a", "a", "z", "+", "/"],
    ["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a"],
]
SAME = [("1", "1-0"), ("1.0", "1.00"), ("0:1", "1"), ("a", "a0"), ("1.01", "1.1"), (" 1 ", "1")]


@pytest.mark.parametrize(("older", "newer"), [pair for line in ORDERED for pair in pairwise(line)])
def test_order(older: str, newer: str) -> None:
    assert compare_versions(older, newer) < 0
    assert compare_versions(newer, older) > 0


@pytest.mark.parametrize(("one", "other"), SAME)
def test_the_same(one: str, other: str) -> None:
    assert compare_versions(one, other) == compare_versions(other, one) == 0


texts = st.text(st.sampled_from("0129azAZ.+~-:é"), max_size=12)


@given(texts, texts, texts)
def test_it_is_an_order(one: str, two: str, three: str) -> None:
    assert compare_versions(one, one) == 0
    assert (compare_versions(one, two) > 0) == (compare_versions(two, one) < 0)
    if compare_versions(one, two) <= 0 and compare_versions(two, three) <= 0:
        assert compare_versions(one, three) <= 0
