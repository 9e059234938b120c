import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.openwrt.feed import (
    Feed,
    Relation,
    architectures_of,
    feeds_below,
    feeds_of,
    parse_depends,
    parse_packages,
)
from tests.support.damage import mutated
from tests.support.ipks import ARCHITECTURE, KERNEL, block_mount, ipk, small_root

CORE = Feed("core", "https://mirror.example/releases/23.05.5/targets/x86/generic/packages")
DISTFEEDS = """\
src/gz openwrt_core https://one.example/releases/23.05.5/targets/x86/generic/packages
src/gz openwrt_base https://one.example/releases/23.05.5/packages/i386_pentium4/base/
# src/gz openwrt_off https://one.example/off
src/gz "mine" "file:///srv/my feed"
src/gz openwrt_core https://two.example/again
"""


def test_an_index() -> None:
    made = [
        block_mount(depends="libc, libblobmsg-json20230523 (>= 1), a | b", conflicts="mounter-old (<< 2)"),
        ipk("x"),
    ]
    text = "\n".join(one.paragraph(hashes=("SHA256sum", "MD5Sum")) for one in made)
    first, second = parse_packages(text, source="core", feed=CORE)
    assert (first.name, first.version, first.architecture) == ("block-mount", "2024.07.14-1", ARCHITECTURE)
    assert first.depends == (
        (Relation("libc"),),
        (Relation("libblobmsg-json20230523", ">=", "1"),),
        (Relation("a"), Relation("b")),
    )
    assert first.names == ("block-mount", "block-mount-any", "mounter")
    assert first.conflicts == (Relation("mounter-old", "<<", "2"),)
    assert (first.filename, first.size_bytes, first.sha256) == (made[0].filename, len(made[0].data), made[0].sha256)
    assert len(first.md5) == 32
    assert first.feed == second.feed == CORE
    assert first.fields["Alternatives"].startswith("200:/bin/ls")
    assert second.names == ("x",)


def test_descriptions_have_lines_of_blanks_in_them() -> None:
    text = "Package: a\nVersion: 1\nDescription:  first\n \n Matches:\n  - Package: x\n \n\nPackage: b\nVersion: 2\n"
    assert [str(one) for one in parse_packages(text, source="core")] == ["a 1", "b 2"]


@pytest.mark.parametrize(
    ("text", "relations"),
    [
        ("kernel (=4.14.63-1-ab)", [("kernel", "=", "4.14.63-1-ab")]),
        ("a (>2), b (< 3)", [("a", ">=", "2"), ("b", "<=", "3")]),
        ("a (>> 2) *", [("a", ">>", "2")]),
        ("a ( 2 )", [("a", "=", "2")]),
        ("a,,b ,", [("a", "", ""), ("b", "", "")]),
        ("(nonsense", [("(nonsense", "", "")]),
    ],
)
def test_relations(text: str, relations: list[tuple[str, str, str]]) -> None:
    found = [one for group in parse_depends(text) for one in group]
    assert [(one.name, one.operator, one.version) for one in found] == relations


@pytest.mark.parametrize(
    ("relation", "admitted", "refused"),
    [
        (Relation("a"), ["0", "9:9"], []),
        (Relation("a", "=", "1-1"), ["1-1", "0:1-1"], ["1-2", "1"]),
        (Relation("a", "<<", "2"), ["1"], ["2", "3"]),
        (Relation("a", "<=", "2"), ["1", "2"], ["3"]),
        (Relation("a", ">=", "2"), ["2", "3"], ["1"]),
        (Relation("a", ">>", "2"), ["3"], ["1", "2"]),
    ],
    ids=str,
)
def test_which_versions_are_admitted(relation: Relation, admitted: list[str], refused: list[str]) -> None:
    assert [relation.admits(version) for version in admitted] == [True] * len(admitted)
    assert [relation.admits(version) for version in refused] == [False] * len(refused)


@pytest.mark.parametrize(
    ("text", "kernel"),
    [
        ("kernel (=5.15.167-1-ab), kmod-scsi-core", "5.15.167-1-ab"),
        ("kmod-scsi-core, kernel (= 6.6.73~ab-r1)", "6.6.73~ab-r1"),
        ("kernel (>= 5)", None),
        ("libc", None),
    ],
)
def test_which_kernel_a_module_is_for(text: str, kernel: str | None) -> None:
    (package,) = parse_packages(f"Package: a\nVersion: 1\nDepends: {text}\n", source="core")
    assert package.kernel == kernel


BROKEN = {
    "no name": "Version: 1\n",
    "a path for a name": "Package: ../../etc/passwd\nVersion: 1\n",
    "blanks in a name": "Package: a b\nVersion: 1\n",
    "no version": "Package: a\n",
    "climbs": "Package: a\nVersion: 1\nFilename: ../../a.ipk\n",
    "absolute": "Package: a\nVersion: 1\nFilename: /etc/passwd\n",
    "a query": "Package: a\nVersion: 1\nFilename: a.ipk?x\n",
    "size": "Package: a\nVersion: 1\nSize: -1\n",
    "hash": "Package: a\nVersion: 1\nSHA256sum: 123\n",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_a_damaged_index_is_refused_by_name(text: str) -> None:
    with pytest.raises(LivebuilderError, match=r"the list of core is damaged"):
        parse_packages(f"Package: sound\nVersion: 1\n\n{text}", source="the list of core")


def test_mutations_never_give_a_traceback() -> None:
    text = "\n".join(one.paragraph(hashes=("SHA256sum", "MD5Sum")) for one in (block_mount(), ipk("x"))).encode()
    for seed in range(300):
        try:
            parse_packages(mutated(text, seed).decode("utf-8", "replace"), source="the list of core")
        except LivebuilderError as error:
            assert "the list of core" in error.message


def test_the_feeds_a_root_names() -> None:
    root = small_root(files={
        "etc/opkg/distfeeds.conf": DISTFEEDS,
        "etc/opkg/customfeeds.conf": "# nothing\nsrc/gz first /srv/first\n",
        "etc/opkg/README": "src/gz no no\n",
    })  # fmt: skip
    assert feeds_of(root) == (
        Feed("first", "/srv/first"),
        Feed("openwrt_core", "https://one.example/releases/23.05.5/targets/x86/generic/packages"),
        Feed("openwrt_base", "https://one.example/releases/23.05.5/packages/i386_pentium4/base"),
        Feed("mine", "/srv/my feed"),
    )
    assert feeds_of(small_root()) == ()
    assert [feed.is_remote for feed in feeds_of(root)] == [False, True, True, False]


def test_the_oldest_roots_name_them_in_opkg_conf() -> None:
    root = small_root(
        files={"etc/opkg.conf": "src/gz packages http://old.example/backfire/10.03/x86/packages\ndest root /\n"}
    )
    assert feeds_of(root) == (Feed("packages", "http://old.example/backfire/10.03/x86/packages"),)


def test_the_same_feeds_of_a_mirror() -> None:
    root = small_root(files={"etc/opkg/distfeeds.conf": DISTFEEDS})
    assert feeds_below("https://mirror.example/23.05.5/", tree=root) == (
        Feed("openwrt_core", "https://mirror.example/23.05.5/targets/x86/generic/packages"),
        Feed("openwrt_base", "https://mirror.example/23.05.5/packages/i386_pentium4/base"),
    )


@pytest.mark.parametrize(("kernel", "folder"), [(KERNEL, KERNEL), ("6.6.73~0afe-r1", "6.6.73-1-0afe"), ("", None)])
def test_the_usual_feeds_of_a_root_that_names_none(kernel: str, folder: str | None) -> None:
    found = {
        feed.name: feed.url for feed in feeds_below("https://mirror.example/23.05.5", tree=small_root(), kernel=kernel)
    }
    targets = "https://mirror.example/23.05.5/targets/x86/generic"
    assert found.pop("core") == f"{targets}/packages"
    assert found.pop("kmods", None) == (f"{targets}/kmods/{folder}" if folder else None)
    assert found == {
        name: f"https://mirror.example/23.05.5/packages/{ARCHITECTURE}/{name}"
        for name in ("base", "luci", "packages", "routing", "telephony")
    }


def test_a_root_that_says_nothing_of_itself() -> None:
    with pytest.raises(LivebuilderError, match="does not say what it was made for"):
        feeds_below("https://mirror.example", tree=small_root(files={"etc/openwrt_release": ""}))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, {ARCHITECTURE}),
        ({"etc/opkg.conf": "arch i386_i486 10\narch all 1\n"}, {ARCHITECTURE, "i386_i486"}),
        (
            {
                "etc/openwrt_release": "",
                "usr/lib/os-release": 'ID=openwrt\nOPENWRT_ARCH="geode"\nOPENWRT_BOARD="x86/geode"\n',
            },
            {"geode"},
        ),
    ],
)
def test_which_architectures_a_root_takes(files: dict[str, str], expected: set[str]) -> None:
    installed = parse_packages("Package: a\nVersion: 1\nArchitecture: x86_64\n", source="s")
    assert architectures_of(small_root(files=files), ()) == expected | {"all", "noarch"}
    assert architectures_of(small_root(files=files), installed) == expected | {"all", "noarch", "x86_64"}


def test_a_root_that_does_not_tell_its_architecture_takes_any() -> None:
    assert architectures_of(small_root(files={"etc/openwrt_release": ""}), ()) == frozenset()
