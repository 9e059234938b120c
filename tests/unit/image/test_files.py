"""The list of an image's files, by which a stick tells one image from another."""

from __future__ import annotations

import hashlib

from livebuilder.image.files import build_id, parse_files, render_files
from livebuilder.tree import RootTree, directory, file, hardlink, symlink

ROOT = RootTree(
    [
        file("bin/a b", "one"), hardlink("bin/c", "bin/a b"), symlink("bin/sh", "a b"), directory("usr/lib"),
        file("etc/config/network", "mine"), file("root/.profile", "mine"), file("usr/e\nd", ""), file("usr/é", ""),
        file("usr/ends ", ""), file("etcetera", "two"),
    ]
)  # fmt: skip


def test_files_of_the_image_and_only_those() -> None:
    one, two = (hashlib.sha256(text).hexdigest()[:8] for text in (b"one", b"two"))
    text = render_files(ROOT)
    assert text == f"{one} bin/a b\n{one} bin/c\n{two} etcetera\n"
    assert parse_files(text) == {"bin/a b": one, "bin/c": one, "etcetera": two}


def test_a_build_is_named_by_its_files() -> None:
    other = RootTree(ROOT)
    other.overlay(RootTree([file("etc/config/network", "theirs")]))
    assert build_id(render_files(other)) == build_id(render_files(ROOT))
    other.overlay(RootTree([file("etcetera", "three")]))
    assert build_id(render_files(other)) != build_id(render_files(ROOT))
    assert len(build_id("")) == 16
