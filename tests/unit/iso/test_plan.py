import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.iso.plan import IsoPlan, volume_id_for
from livebuilder.tree import Content
from tests.support.isos import small_plan


@pytest.mark.parametrize(
    ("name", "volume_id"),
    [
        ("router", "ROUTER"),
        ("attic-pc", "ATTIC_PC"),
        ("a..b--c", "A_B_C"),
        ("very-long-name-of-a-profile", "VERY_LONG_NAME_O"),
        ("fifteen-chars--x", "FIFTEEN_CHARS_X"),
        ("...", "LIVE"),
    ],
)
def test_volume_id_for(name: str, volume_id: str) -> None:
    assert volume_id_for(name) == volume_id
    assert small_plan(volume_id=volume_id).volume_id == volume_id


def test_the_disk_id_is_given_or_made_of_the_volume_id_and_never_none() -> None:
    assert small_plan(mbr_id=0xCAFE0001).disk_id == 0xCAFE0001
    assert small_plan(volume_id="A").disk_id == small_plan(volume_id="A", epoch=5).disk_id != 0
    assert small_plan(volume_id="A").disk_id != small_plan(volume_id="B").disk_id


def test_all_files_are_the_loaders_and_the_given_ones() -> None:
    plan = small_plan(files={"README.txt": b"read me"})
    files = plan.all_files()
    assert files["isolinux/isolinux.bin"].read() == plan.loader.isolinux_bin.read_bytes()
    assert files["isolinux/ldlinux.c32"].read() == plan.loader.modules["ldlinux.c32"].read_bytes()
    assert files["README.txt"].read() == b"read me"


@pytest.mark.parametrize("name", ["README", "manifest.json", "a/b/c/d/e/f/g.txt", "x" * 30, "sha256sums", "A_1.b"])
def test_names_that_fit(name: str) -> None:
    assert name in small_plan(files={name: b""}).files


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/README",
        "a//b",
        "a/../b",
        "a.b.c",
        ".hidden",
        "name.",
        "a-b",
        "é",
        "a b",
        "x" * 31,
        "a/b/c/d/e/f/g/h",
        "a;1",
    ],
)
def test_names_that_do_not(name: str) -> None:
    with pytest.raises(LivebuilderError, match="is not a name every boot loader reads"):
        small_plan(files={name: b""})


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("readme", "README"), "'README' and 'readme' are one name on a disc"),
        (("isolinux/ISOLINUX.bin",), "are one name on a disc"),
        (("isolinux/boot.cat",), "are one name on a disc"),
        (("isolinux/ldlinux.c32",), "are one name on a disc"),
        (("Boot",), "'Boot' is a file and a folder"),
        (("isolinux",), "'isolinux' is a file and a folder"),
        (("a/b", "a/b/c"), "'a/b' is a file and a folder"),
    ],
)
def test_names_that_meet(files: tuple[str, ...], said: str) -> None:
    with pytest.raises(LivebuilderError, match=said):
        small_plan(files=dict.fromkeys(files, b""))


def test_a_file_of_four_gigabytes_is_refused() -> None:
    plan = small_plan()
    with pytest.raises(LivebuilderError, match=r"'big' has 4294967296 bytes; a file on a disc has less than 4 GiB"):
        IsoPlan("X", {"big": Content(1 << 32, b"")}, plan.loader, 0)
    assert IsoPlan("X", {"big": Content((1 << 32) - 1, b"")}, plan.loader, 0)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"volume_id": ""}, "the volume id '' is not"),
        ({"volume_id": "attic"}, "the volume id 'attic' is not"),
        ({"volume_id": "X" * 17}, "is not 1 to 16"),
        ({"epoch": -1}, "the time -1 is not"),
        ({"epoch": 5869583999 + 1}, "is not between the years 1970 and 2155"),
        ({"mbr_id": 0}, "or is 0"),
        ({"mbr_id": 1 << 32}, "does not fit into 32 bits"),
    ],
)
def test_ids_and_times_that_do_not_fit(changes: dict[str, object], said: str) -> None:
    with pytest.raises(LivebuilderError, match=said):
        small_plan(**changes)  # type: ignore[arg-type]


def test_everything_wrong_is_said_at_once() -> None:
    with pytest.raises(LivebuilderError) as caught:
        small_plan(files={"a-b": b"", "c d": b""}, volume_id="x", epoch=-5)
    for said in ("'a-b'", "'c d'", "volume id 'x'", "the time -5"):
        assert said in caught.value.message
