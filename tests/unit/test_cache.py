"""The cache: whole items or none."""

import os
import time
from pathlib import Path

import pytest

from livebuilder.cache import Cache, cache_root
from livebuilder.errors import LivebuilderError


def test_an_item_is_found_after_it_was_placed(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.find("pieces", "a") is None
    with cache.place("pieces", "a") as draft:
        draft.write_bytes(b"x")
        assert cache.find("pieces", "a") is None, "not before it is whole"
    found = cache.find("pieces", "a")
    assert found is not None
    assert found.read_bytes() == b"x"


def test_a_failed_item_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    with pytest.raises(RuntimeError), cache.place("pieces", "a") as draft:
        draft.write_bytes(b"half")
        raise RuntimeError
    assert list((tmp_path / "pieces").iterdir()) == []


def test_a_folder_placed_twice_keeps_the_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for text in ("first", "second"):
        with cache.place("trees", "t") as draft:
            draft.mkdir()
            (draft / "file").write_text(text)
    assert (tmp_path / "trees/t/file").read_text() == "first"
    assert len(list((tmp_path / "trees").iterdir())) == 1


def test_prune_forgets_what_nobody_used(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    for key in ("old", "new", "used"):
        with cache.place("pieces", key) as draft:
            draft.write_bytes(b"x")
    long_ago = time.time() - 100 * 24 * 3600
    for key in ("old", "used"):
        os.utime(tmp_path / "pieces" / key, (long_ago, long_ago))
    assert cache.find("pieces", "used")
    cache.prune()
    assert sorted(item.name for item in (tmp_path / "pieces").iterdir()) == ["new", "used"]


def test_the_root_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "livebuilder"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache/livebuilder"


def test_a_cache_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LivebuilderError) as caught:
        Cache(tmp_path / "file").folder("pieces")
    assert "XDG_CACHE_HOME" in str(caught.value.hint)
