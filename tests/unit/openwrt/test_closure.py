import pytest

from livebuilder.openwrt.closure import ClosureError, Plan, closure
from livebuilder.openwrt.feed import Feed, Package, parse_packages
from tests.support.ipks import ARCHITECTURE, KERNEL, control_of

OTHER_KERNEL = "5.15.150-1-ffffffffffffffffffffffffffffffff"
ROOT = ("libc 1.2.4-4", f"kernel {KERNEL}", "busybox 1-1 Essential: yes", "libubox20230523 1-1 Provides: libubox")


def packages(*lines: str, feed: str = "core") -> list[Package]:
    """Packages by a line each: `NAME VERSION Field: value; Field: value`. They depend on nothing if not said."""
    found: list[Package] = []
    for line in lines:
        name, version, *rest = line.split(" ", 2)
        fields = {"Depends": "", **dict(word.split(": ", 1) for word in "".join(rest).split("; ") if word)}
        found += parse_packages(control_of(name, version, **fields), source=feed, feed=Feed(feed, f"/{feed}"))
    return found


def plan(
    *wanted: str, root: tuple[str, ...] = ROOT, feeds: list[Package], foreign_kernel: bool = False,
    architectures: frozenset[str] = frozenset(),
) -> Plan:  # fmt: skip
    installed = {package.name: package for package in packages(*root, feed="root")}
    return closure(wanted, installed, feeds, foreign_kernel=foreign_kernel, architectures=architectures)


def names(found: Plan) -> list[str]:
    assert found.problems == ()
    return [step.package.name for step in found.steps]


def test_each_after_what_it_depends_on() -> None:
    feeds = packages(
        "block-mount 1 Depends: libc, libblobmsg-json, libuci", "libblobmsg-json 1 Depends: libjson-c, libubox",
        "libjson-c 1 Depends: libc", "libuci 1 Depends: libubox, libblobmsg-json", "unrelated 1",
    )  # fmt: skip
    found = plan("block-mount", feeds=feeds)
    order = names(found)
    assert sorted(order) == ["block-mount", "libblobmsg-json", "libjson-c", "libuci"]
    assert (
        order.index("libjson-c") < order.index("libblobmsg-json") < order.index("libuci") < order.index("block-mount")
    )
    assert [step.wanted for step in found.steps] == [False, False, False, True]
    assert (found.kept, found.removals, found.left_out, found.choices) == ((), (), (), ())


def test_a_circle_ends() -> None:
    feeds = packages("a 1 Depends: b", "b 1 Depends: c", "c 1 Depends: a, b, c")
    assert names(plan("a", feeds=feeds)) == ["c", "b", "a"]
    assert names(plan("b", "a", feeds=feeds)) == ["a", "c", "b"]


def test_a_chain_of_any_length() -> None:
    feeds = packages(*(f"p{number} 1 Depends: p{number + 1}" for number in range(5000)), "p5000 1")
    order = names(plan("p0", feeds=feeds))
    assert (order[0], order[-1], len(order)) == ("p5000", "p0", 5001)


def test_what_is_there_stays() -> None:
    feeds = packages("libubox20240101 2 Provides: libubox", "busybox 2", "user 1 Depends: libubox, busybox (>= 1)")
    found = plan("busybox", "user", "libubox", feeds=feeds)
    assert names(found) == ["user"]
    assert [package.name for package in found.kept] == ["busybox", "libubox20230523"]


def test_what_is_there_is_exchanged_when_it_is_too_old() -> None:
    found = plan("user", feeds=packages("libubox20230523 2-1 Provides: libubox", "user 1 Depends: libubox (>= 2)"))
    assert [(step.package.version, step.wanted, step.replaces and step.replaces.version) for step in found.steps] == [
        ("2-1", False, "1-1"), ("1", True, None),
    ]  # fmt: skip


def test_the_newest_of_the_first_feed_that_has_it() -> None:
    feeds = [
        *packages("a 1.9-1", "a 1.10-1", feed="one"),
        *packages("a 1.10-1", "a 1.2-1", feed="two"),
    ]
    (step,) = plan("a", feeds=feeds).steps
    assert (step.package.version, step.package.feed and step.package.feed.name) == ("1.10-1", "one")


def test_alternatives_are_tried_in_turn() -> None:
    assert names(plan("a", feeds=packages("a 1 Depends: none | b (>= 9) | c", "b 1", "c 1"))) == ["c", "a"]
    assert names(plan("a", feeds=packages("a 1 Depends: b | busybox", "b 1"))) == ["a"]


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (["user"], "libssl-wolf"),
        (["user", "libssl-mbed"], "libssl-mbed"),
        (["libssl-open", "user"], "libssl-open"),
    ],
)
def test_among_packages_that_stand_in_for_a_name(wanted: list[str], taken: str) -> None:
    feeds = packages(
        *(f"libssl-{one} 1 Provides: libssl" for one in ("mbed", "open", "wolf")), "user 1 Depends: libssl"
    )
    found = plan(*wanted, feeds=feeds)
    assert set(names(found)) == {"user", taken}
    others = tuple(sorted({"libssl-mbed", "libssl-open", "libssl-wolf"} - {taken}))
    assert found.choices == ((("libssl", taken, others),) if len(wanted) == 1 else ())


def test_the_package_of_the_name_comes_before_one_that_stands_in_for_it() -> None:
    assert names(plan("wget", feeds=packages("zget 9 Provides: wget", "wget 1"))) == ["wget"]


def test_what_cannot_be_had_whole_is_passed_over_where_there_is_a_choice() -> None:
    feeds = packages(
        "user 1 Depends: lib", "lib-a 1 Provides: lib", "lib-z 1 Provides: lib; Depends: between",
        "between 1 Depends: nowhere", "user 2 Depends: lib, between",
    )  # fmt: skip
    found = plan("user", feeds=feeds)
    assert [str(step.package) for step in found.steps] == ["lib-a 1", "user 1"]
    (problem,) = plan("lib-z", feeds=feeds).problems
    assert problem == "between 1 needs nowhere, which is in none of the feeds"


def test_taking_a_package_out() -> None:
    root = (*ROOT, "dnsmasq 2.90-1")
    feeds = packages("dnsmasq-full 2.90-1 Conflicts: dnsmasq; Provides: dnsmasq")
    found = plan("-dnsmasq", "dnsmasq-full", root=root, feeds=feeds)
    assert names(found) == ["dnsmasq-full"]
    assert [package.name for package in found.removals] == ["dnsmasq"]


def kmod(name: str, kernel: str, more: str = "") -> str:
    return f"kmod-{name} 5.15.167-1 Depends: kernel (={kernel}){more}"


def test_of_modules_those_for_the_roots_kernel() -> None:
    feeds = packages(
        kmod("usb-storage", OTHER_KERNEL, ", kmod-scsi"), kmod("usb-storage", KERNEL, ", kmod-scsi"),
        kmod("scsi", KERNEL), kmod("scsi", OTHER_KERNEL),
    )  # fmt: skip
    found = plan("kmod-usb-storage", feeds=feeds)
    assert names(found) == ["kmod-scsi", "kmod-usb-storage"]
    assert {step.package.kernel for step in found.steps} == {KERNEL}


@pytest.mark.parametrize("exact", ["kernel (= 5.15.167~00ff-r1)", "kernel (=5.15.150-1-ff)"])
def test_modules_of_another_build_are_refused(exact: str) -> None:
    version = exact.removesuffix(")").split("=")[1].strip()
    feeds = packages(
        f"kmod-a 1 Depends: {exact}", f"kernel {version}", "user 1 Depends: kmod-a", kmod("b", KERNEL, ", kmod-a"),
    )  # fmt: skip
    for wanted, who in (
        ("kmod-a", "kmod-a"),
        ("user", "user 1 needs kmod-a"),
        ("kmod-b", "kmod-b 5.15.167-1 needs kmod-a"),
    ):
        found = plan(wanted, feeds=feeds)
        (problem,) = found.problems
        assert problem.startswith(who)
        assert problem.endswith(f", and the root's is {KERNEL}")
        assert found.hint is not None
        assert "that very build" in found.hint


def test_modules_for_a_root_that_does_not_know_its_kernel() -> None:
    (problem,) = plan("kmod-a", root=("libc 1",), feeds=packages(kmod("a", KERNEL))).problems
    assert problem.endswith("and the root's status file has no package named kernel")


def test_with_a_foreign_kernel_modules_are_left_out() -> None:
    feeds = packages(kmod("a", OTHER_KERNEL), "user 1 Depends: kmod-a, kmod-b, lib", "lib 1", f"kernel {OTHER_KERNEL}")
    found = plan("user", "kmod-c", "kmod-a", feeds=feeds, foreign_kernel=True)
    assert names(found) == ["lib", "user"]
    assert sorted(found.left_out) == ["kmod-a", "kmod-b", "kmod-c"]


def test_of_other_architectures_nothing_is_taken() -> None:
    feeds = packages("a 1 Architecture: all", "b 2 Architecture: x86_64", "b 1", "c 1 Architecture: x86_64")
    accepted = frozenset({"all", ARCHITECTURE})
    found = plan("a", "b", feeds=feeds, architectures=accepted)
    assert [(step.package.name, step.package.version) for step in found.steps] == [("a", "1"), ("b", "1")]
    (problem,) = plan("c", feeds=feeds, architectures=accepted).problems
    assert problem == "c is in the feeds only for x86_64, which is not what the root is for"


PROBLEMS = {
    "missing": (["block-mout"], "block-mout is in none of the feeds; the nearest are block-mount", None),
    "a dependency missing": (
        ["broken"], "broken 1 needs libnone (>= 2), which is in none of the feeds; the nearest are libone", None,
    ),
    "a dependency too old": (
        ["demanding"], "demanding 1 needs libone (>= 2), which is in none of the feeds: they have libone 1", "release",
    ),
    "libc": (["newlibc"], "newlibc 1 needs libc (>= 9), which does not go with libc 1.2.4-4 of the root", "own build"),
    "older than the root's": (
        ["backwards"], "backwards 1 needs busybox (= 0.5), which does not go with busybox 1-1, which the root", None,
    ),
    "two versions at once": (["two", "one"], "which does not go with lib", None),
    "conflict with the root": (["busybox-full"], "busybox-full 1 and busybox 1-1 cannot both be", '"-busybox"'),
    "conflict among themselves": (["left", "right"], "left 1 and right 1 cannot both be installed", "one of them only"),
    "not there to take out": (
        ["-busybx"], "busybx is to be taken out, but the root has no package of that name; the nearest are bus", None,
    ),
    "needed by the root": (["-libubox20230523"], "procd 1 needs libubox, which would be gone", '"-procd"'),
    "needed by what is wanted": (["-procd", "user"], "user 1 needs procd, which is to be taken out", '"-procd" away'),
    "essential": (["-busybox"], "no root works without it", None),
    "libc out": (["-libc"], "no root works without it", None),
    "breaks what stays": (["newer"], "procd-ujail 1 needs procd (= 1), which would be gone", '"-procd-ujail"'),
}  # fmt: skip


@pytest.mark.parametrize(("wanted", "says", "hint"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_problems(wanted: list[str], says: str, hint: str | None) -> None:
    root = (*ROOT, "procd 1 Depends: libubox", "procd-ujail 1 Depends: procd (= 1)")
    feeds = packages(
        "block-mount 1", "broken 1 Depends: libnone (>= 2)", "demanding 1 Depends: libone (>= 2)", "libone 1",
        "newlibc 1 Depends: libc (>= 9)", "libc 9", "backwards 1 Depends: busybox (= 0.5)", "busybox 0.5",
        "two 1 Depends: lib (= 2)", "one 1 Depends: lib (= 1)", "lib 1", "lib 2",
        "busybox-full 1 Conflicts: busybox", "left 1 Conflicts: right", "right 1", "user 1 Depends: procd", "procd 1",
        "newer 1 Depends: procd (>= 2)", "procd 2",
    )  # fmt: skip
    found = plan(*wanted, root=root, feeds=feeds)
    assert any(says in problem for problem in found.problems), found.problems
    with pytest.raises(ClosureError) as caught:
        found.require()
    assert caught.value.message == "\n".join(found.problems)
    assert hint is None or hint in (caught.value.hint or "")


def test_all_problems_at_once() -> None:
    found = plan("no-one", "no-two", feeds=packages("user 1"))
    assert found.problems == ("no-one is in none of the feeds", "no-two is in none of the feeds")


def test_a_sound_plan_is_handed_on() -> None:
    found = plan("user", feeds=packages("user 1"))
    assert found.require() is found
