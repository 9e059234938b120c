"""What leads from one tree to another."""

from __future__ import annotations

from hypothesis import given

from livebuilder.tree import RootTree, directory, file
from livebuilder.usb.changes import differences, plan_changes
from tests.support.trees import trees


@given(trees(), trees())
def test_a_plan_leads_from_any_tree_to_any_other(current: RootTree, wanted: RootTree) -> None:
    tree = RootTree(current)
    for change in plan_changes(current, wanted):
        if change.action == "remove":
            assert not any(entry.parent == change.entry.path for entry in tree), "leaves first"
            tree.remove(change.entry.path)
        elif change.action == "make":
            assert change.entry.path not in tree
            assert not change.entry.parent or change.entry.parent in tree
            tree.add(change.entry)
        else:
            old = tree[change.entry.path]
            assert set(old.xattrs) <= set(change.entry.xattrs), "nothing has to be taken away"
            kept = [entry for entry in tree if entry.path != change.entry.path]
            tree = RootTree([change.entry, *kept])
    assert differences(tree, wanted) == []
    assert plan_changes(wanted, wanted) == ()


def test_only_what_differs_is_touched() -> None:
    tree = RootTree([file("a/b", b"1"), file("a/c", b"2"), directory("d"), file("e", b"")])
    other = RootTree([file("a/b", b"1"), file("a/c", b"3"), directory("d"), file("e", b"")])
    changes = [(change.action, change.entry.path) for change in plan_changes(tree, other)]
    assert changes == [("remove", "a/c"), ("make", "a/c"), ("set", "a")]


def test_differences_are_in_words() -> None:
    found = RootTree([file("a", b"1"), file("b", b"")])
    wanted = RootTree([file("a", b"1", mode=0o600), file("c", b"")])
    assert differences(found, wanted) == [
        "/a differs: '0o644' for '0o600'", "/b should not be there", "/c is missing"
    ]  # fmt: skip
