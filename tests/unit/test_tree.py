"""The root tree: parents, order, conflicts, overlays, removal with hard links, following symlinks."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.tree import (
    Content,
    Entry,
    Kind,
    RootTree,
    TreeError,
    device,
    directory,
    file,
    hardlink,
    normal_path,
    symlink,
)
from tests.support.trees import facts, parts, trees


@pytest.mark.parametrize(
    ("given_path", "path"),
    [("a", "a"), ("./a", "a"), ("a//b/", "a/b"), ("a/./b", "a/b"), (".", ""), ("./", ""), ("", ""), ("..a/b", "..a/b")],
)
def test_paths_are_made_plain(given_path: str, path: str) -> None:
    assert normal_path(given_path) == path


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/etc/passwd", "absolute"),
        ("../up", "climbs out"),
        ("a/../b", "climbs out"),
        ("a/..", "climbs out"),
        ("a\0b", "NUL"),
        ("d/" + "n" * 256, "more than 255 bytes"),
        ("é" * 128, "more than 255 bytes"),
    ],
)
def test_paths_that_may_not_be_are_refused_by_name(path: str, reason: str) -> None:
    with pytest.raises(TreeError, match=reason) as caught:
        RootTree([file(path, "x", source="evil.tar")])
    assert "evil.tar" in caught.value.message


def test_the_longest_name_linux_holds_is_taken() -> None:
    assert "é" * 127 + "x" in RootTree([file("é" * 127 + "x", "")])


def test_missing_parents_become_plain_folders_until_they_are_given() -> None:
    tree = RootTree([file("a/b/c", "x")])
    assert [(e.path, e.kind, e.mode) for e in tree][:2] == [
        ("a", Kind.DIRECTORY, 0o755),
        ("a/b", Kind.DIRECTORY, 0o755),
    ]
    tree.add(directory("a", mode=0o700))
    assert tree["a"].mode == 0o700
    with pytest.raises(TreeError, match="/a is given twice"):
        tree.add(directory("a", mode=0o755))


def test_the_root_folder_is_nobodys_business_and_a_nameless_file_is_refused() -> None:
    tree = RootTree([directory(".", mode=0o700), directory("./", mode=0o711)])
    assert len(tree) == 0
    with pytest.raises(TreeError, match="without a name"):
        tree.add(file("./.", "x"))


@given(trees())
def test_folders_come_before_what_is_in_them(tree: RootTree) -> None:
    seen = {""}
    for entry in tree:
        assert entry.parent in seen, entry.path
        if entry.kind is Kind.DIRECTORY:
            seen.add(entry.path)
    tree.verify()


@given(trees(), st.randoms())
def test_the_order_of_adding_does_not_matter(tree: RootTree, random: object) -> None:
    entries = list(tree)
    random.shuffle(entries)  # type: ignore[attr-defined]
    again = RootTree(entries)
    assert [e.path for e in again] == [e.path for e in tree]
    assert facts(again) == facts(tree)


CONFLICTS = [
    (file("x", "one", source="first"), file("x", "two", source="second"), "twice with different content"),
    (file("x", "one", source="first"), file("x", "one", mode=0o600, source="second"), "0644.*0600"),
    (file("x", "one", source="first"), symlink("x", "one", source="second"), "symlink to one"),
    (symlink("x", "a", source="first"), symlink("x", "b", source="second"), "to a.*to b"),
    (device("x", char=(1, 3), source="first"), device("x", char=(1, 5), source="second"), "char"),
    (device("x", char=(1, 3), source="first"), device("x", block=(1, 3), source="second"), "block"),
    (directory("x", source="first"), file("x", "", source="second"), "directory.*file"),
    (device("x", char=(1, 3), source="first"), file("x/y", "", source="second"), "/x/y of second lies below /x"),
    (file("x", "", source="first"), file("x/y/z", "", source="second"), "is a file of first"),
    (symlink("x", "/etc", source="first"), file("x/passwd", "", source="second"), "is a symlink of first"),
    (file("x/y", "", source="second"), symlink("x", "/etc", source="first"), "paths of second lie below it"),
]


@pytest.mark.parametrize(("first", "second", "reason"), CONFLICTS, ids=lambda value: getattr(value, "path", None))
def test_contradictions_are_refused_naming_both_sources(first: Entry, second: Entry, reason: str) -> None:
    tree = RootTree([first])
    before = facts(tree)
    with pytest.raises(TreeError, match=reason) as caught:
        tree.add(second)
    assert first.source in caught.value.message
    assert second.source in caught.value.message
    assert facts(tree) == before


def test_saying_the_same_twice_is_fine(tmp_path: Path) -> None:
    on_disk = tmp_path / "x"
    on_disk.write_bytes(b"..one..")
    tree = RootTree([file("x", "one"), Entry("x", Kind.FILE, 0o644, mtime=5, content=Content.from_bytes(b"one"))])
    tree.add(file("x", Content.from_file(on_disk, offset=2, size=3)))
    assert len(tree) == 1


@pytest.mark.parametrize(
    "bad",
    [symlink("x", ""), symlink("x", "a\0b"), symlink("x", "t" * 4096), hardlink("x", "x"), hardlink("x", "../y")],
)
def test_links_that_cannot_be_are_refused(bad: Entry) -> None:
    with pytest.raises(TreeError):
        RootTree([bad])


def test_a_hard_link_needs_a_file() -> None:
    for entries in (
        [hardlink("a", "b")],
        [hardlink("a", "b"), directory("b")],
        [hardlink("a", "b"), hardlink("b", "c")],
    ):
        with pytest.raises(TreeError, match=r"hard link to /(b|c)"):
            RootTree(entries).verify()


def test_overlay_lets_files_win_and_folders_keep_their_content() -> None:
    tree = RootTree([directory("etc", mode=0o755), file("etc/old", "1"), file("etc/both", "1"), symlink("l", "etc")])
    tree.overlay(RootTree([directory("etc", mode=0o700), file("etc/both", "2"), file("l", "now a file")]))
    assert tree["etc"].mode == 0o700
    assert {e.path for e in tree} == {"etc", "etc/old", "etc/both", "l"}
    assert tree["etc/both"].content.read() == b"2"
    assert tree["l"].kind is Kind.FILE


def test_an_implied_folder_does_not_overrule_a_given_one() -> None:
    tree = RootTree([directory("root", mode=0o700, source="base")])
    tree.overlay(RootTree([file("root/x", "")]))
    assert tree["root"].mode == 0o700


@pytest.mark.parametrize(
    ("below", "above", "culprit"),
    [
        (symlink("lib", "usr/lib", source="base"), file("lib/x", "", source="files"), "/lib"),
        (file("etc/x", "", source="base"), file("etc", "", source="files"), "/etc"),
    ],
)
def test_overlay_refuses_to_trade_a_folder_for_something_else(below: Entry, above: Entry, culprit: str) -> None:
    tree = RootTree([below, file("other", "1", source="base")])
    before = facts(tree)
    with pytest.raises(TreeError, match=f"{culprit} of base .* of files"):
        tree.overlay(RootTree([above, file("other", "2", source="files")]))
    assert facts(tree) == before


def test_overlay_keeps_the_two_sides_hard_links_apart() -> None:
    tree = RootTree([file("a", "old"), hardlink("b", "a"), hardlink("c", "a")])
    tree.overlay(RootTree([file("b", "new"), hardlink("aa", "b")]))
    tree.verify()
    read = {e.path: tree.content_of(e).read() for e in tree}
    assert read == {"a": b"old", "aa": b"new", "b": b"new", "c": b"old"}
    assert tree["aa"].target == "b"


@given(trees(), trees())
def test_overlay_gives_the_union_in_which_the_upper_wins(lower: RootTree, upper: RootTree) -> None:
    below, above = facts(lower), facts(upper)
    given_folders = {e.path for e in upper if e.kind is Kind.DIRECTORY and "implied" not in e.source}
    try:
        lower.overlay(upper)
    except TreeError:
        assert facts(lower) == below
        return
    lower.verify()
    merged = facts(lower)
    assert merged.keys() == below.keys() | above.keys()
    for path, fact in merged.items():
        wins = path in above and (above[path].kind is not Kind.DIRECTORY or path in given_folders or path not in below)
        assert fact._replace(names=frozenset()) == (above if wins else below)[path]._replace(names=frozenset())


def test_a_file_passes_on_to_its_next_name() -> None:
    tree = RootTree([file("m", "data", mode=0o751), hardlink("z", "m"), hardlink("b", "m")])
    tree.remove("/m")
    assert tree["b"].kind is Kind.FILE
    assert (tree["b"].mode, tree["b"].content.read()) == (0o751, b"data")
    assert tree["z"].target == "b"
    tree.remove("z")
    tree.remove("b")
    assert len(tree) == 0


def test_removing_a_folder_takes_what_is_below_and_no_more() -> None:
    tree = RootTree([file("a/f", "1"), file("a/d/g", "2"), file("a-b", "3"), hardlink("kept", "a/f")])
    tree.remove("a")
    tree.remove("never/there")
    assert [(e.path, e.kind) for e in tree] == [("a-b", Kind.FILE), ("kept", Kind.FILE)]
    assert tree["kept"].content.read() == b"1"


@given(trees(), st.integers(0, 1000))
def test_removal_leaves_a_sound_tree_and_every_other_path(tree: RootTree, number: int) -> None:
    paths = [e.path for e in tree]
    if not paths:
        return
    gone = paths[number % len(paths)]
    left = {p: f for p, f in facts(tree).items() if p != gone and not p.startswith(gone + "/")}
    tree.remove(gone)
    tree.verify()
    expected = {p: f._replace(names=frozenset(n for n in f.names if n in left)) for p, f in left.items()}
    assert facts(tree) == expected


RESOLVED = [
    ("usr/bin/sh", "usr/bin/busybox"),
    ("/bin/sh", "usr/bin/busybox"),
    ("lib/../bin/./busybox", "usr/bin/busybox"),
    ("etc/absolute", "usr/bin/busybox"),
    ("../../bin", "usr/bin"),
    ("nowhere", None),
    ("bin/sh/below-a-file", None),
    ("loop/a", None),
    ("dangling", None),
]


@pytest.mark.parametrize(("path", "leads_to"), RESOLVED)
def test_symlinks_are_followed_inside_the_tree(path: str, leads_to: str | None) -> None:
    tree = RootTree(
        [
            symlink("bin", "usr/bin"),
            directory("lib"),
            file("usr/bin/busybox", "x"),
            symlink("usr/bin/sh", "busybox"),
            symlink("etc/absolute", "/bin/sh"),
            symlink("loop", "loop"),
            symlink("dangling", "../../../none"),
        ]
    )
    found = tree.resolve(path)
    assert (found.path if found else None) == leads_to


def test_content_is_read_in_pieces_from_its_place(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    spool.write_bytes(bytes(range(200)))
    content = Content.from_file(spool, offset=10, size=100)
    assert [len(piece) for piece in content.pieces(piece_bytes=30)] == [30, 30, 30, 10]
    assert content.read() == bytes(range(10, 110))
    assert content.same_as(Content.from_bytes(bytes(range(10, 110))))
    assert not content.same_as(Content.from_bytes(bytes(range(11, 111))))
    assert b"".join(Content.from_bytes(b"abcde").pieces(piece_bytes=2)) == b"abcde"


def test_a_file_that_changed_meanwhile_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"long enough")
    content = Content.from_file(path)
    path.write_bytes(b"short")
    with pytest.raises(LivebuilderError, match=r"log got shorter"):
        content.read()
    path.unlink()
    with pytest.raises(LivebuilderError, match=r"log cannot be read"):
        content.read()


@given(st.lists(parts(), min_size=1, max_size=5).map("/".join))
def test_every_name_a_file_system_holds_is_kept(path: str) -> None:
    tree = RootTree([file(path, "x")])
    assert path in tree
    assert [e.path for e in tree][-1] == path


def test_what_comes_in_goes_where_the_links_of_the_root_lead() -> None:
    base = RootTree(
        [symlink("lib", "usr/lib"), file("usr/lib/libc.so", ""), symlink("var/run", "/run"), directory("run")]
    )
    given = RootTree(
        [
            directory("lib", mode=0o700),
            file("lib/modules/1/a.ko", "a"),
            hardlink("lib/modules/1/b.ko", "lib/modules/1/a.ko"),
            directory("var", mode=0o700),
            file("var/run/pid", "1"),
            symlink("var/lib", "../lib"),
        ]
    )
    placed = given.placed_in(base)
    assert facts(placed) == facts(
        RootTree(
            [
                file("usr/lib/modules/1/a.ko", "a"),
                hardlink("usr/lib/modules/1/b.ko", "usr/lib/modules/1/a.ko"),
                directory("var", mode=0o700),
                file("run/pid", "1"),
                symlink("var/lib", "../lib"),
            ]
        )
    )
    base.overlay(placed)
    assert base.resolve("lib/modules/1/b.ko") and base.resolve("lib/libc.so")


@given(trees())
def test_without_links_everything_goes_where_it_says(tree: RootTree) -> None:
    assert facts(tree.placed_in(RootTree())) == facts(tree)
