import pytest

from livebuilder.deb822 import parse_paragraphs


@pytest.mark.parametrize(
    ("text", "paragraphs"),
    [
        ("", []),
        ("A: 1\nB: 2\n", [{"A": "1", "B": "2"}]),
        ("A: 1\n\n\n\nB: 2", [{"A": "1"}, {"B": "2"}]),
        ("A: 1\n \t\nB: 2\n", [{"A": "1"}, {"B": "2"}]),
        ("A: 1\n \n two\n\nB: 2\n", [{"A": "1\n\ntwo"}, {"B": "2"}]),
        ("A: 1\n \n\nB: 2\n", [{"A": "1\n"}, {"B": "2"}]),
        ("A:\n one: 1\n\ttwo\n# nothing\n three\nB : 2:3\n", [{"A": "\none: 1\ntwo\nthree", "B": "2:3"}]),
        ("nonsense\nA: 1\n", [{"A": "1"}]),
    ],
)
def test_paragraphs(text: str, paragraphs: list[dict[str, str]]) -> None:
    assert list(parse_paragraphs(text)) == paragraphs
