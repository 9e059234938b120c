"""Sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import GIB, KIB, MIB, align_up, parse_size, render_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("512", 512),
        ("64M", 64 * MIB),
        ("64m", 64 * MIB),
        (" 512 KiB ", 512 * KIB),
        ("700MB", 700 * MIB),
        ("2G", 2 * GIB),
        ("1T", 1024 * GIB),
        ("10B", 10),
    ],
)
def test_sizes_people_write(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5M", "1e6", "64 MM", "64Mi", "1P", "M64", "1 2", "0x10"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(LivebuilderError, match="is not a size") as caught:
        parse_size(text)
    assert caught.value.hint is not None and "64M" in caught.value.hint


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (1023, "1023 B"), (KIB, "1.0 KiB"), (3 * MIB + 400 * KIB, "3.4 MiB"), (5 * 1024 * GIB, "5.0 TiB")],
)
def test_sizes_for_a_reader(size_bytes: int, text: str) -> None:
    assert render_size(size_bytes) == text


@given(st.integers(0, 10**18 - 1), st.sampled_from(["", "K", "M", "G", "T"]), st.sampled_from(["", "B", "iB"]))
def test_a_number_and_a_unit_are_always_understood(number: int, unit: str, suffix: str) -> None:
    if not unit and suffix == "iB":
        suffix = "B"
    factor = 1024 ** " KMGT".index(unit or " ")
    assert parse_size(f"{number}{unit}{suffix}") == number * factor


@given(st.integers(0, 2**60))
def test_what_is_shown_is_within_a_twentieth_of_a_unit(size_bytes: int) -> None:
    number, unit = render_size(size_bytes).split()
    factor = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024 * GIB}[unit]
    assert abs(float(number) * factor - size_bytes) <= 0.0501 * factor


@given(st.integers(0, 2**60), st.integers(1, 2**20))
def test_align_up_is_the_next_multiple(value: int, alignment: int) -> None:
    aligned = align_up(value, alignment)
    assert aligned % alignment == 0
    assert 0 <= aligned - value < alignment


@given(st.text(max_size=12))
def test_any_text_is_a_size_or_a_clear_error(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except LivebuilderError as error:
        assert "is not a size" in error.message
