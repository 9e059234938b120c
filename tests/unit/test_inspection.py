"""Telling files apart, and what is said of an initramfs and a kernel."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from livebuilder import cpio
from livebuilder.compression import COMPRESSIONS, GZIP, XZ
from livebuilder.errors import LivebuilderError
from livebuilder.inspection import InitramfsInspection, IsoInspection, KernelInspection, image_facts, inspect_file
from livebuilder.iso.plan import IMAGE_FACTS
from livebuilder.iso.writer import write_iso
from livebuilder.tree import Entry, Kind, RootTree, device, directory, file, hardlink, symlink
from tests.support.isos import small_plan
from tests.support.kernels import bzimage, pack
from tests.support.trees import facts

TREE = RootTree(
    [
        directory("etc", mode=0o750), file("etc/one", b"1", mode=0o4711), hardlink("etc/two", "etc/one"),
        symlink("link", "etc/one"), device("dev/console", char=(5, 1)), Entry("pipe", Kind.FIFO, 0o622, uid=7, gid=8),
    ]
)  # fmt: skip


def written(folder: Path, data: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(data)
    return path


def archive(tree: RootTree = TREE) -> bytes:
    return b"".join(cpio.archive(tree))


def test_the_three_kinds(tmp_path: Path) -> None:
    write_iso(small_plan(), tmp_path / "small.iso")
    assert isinstance(inspect_file(tmp_path / "small.iso"), IsoInspection)
    assert isinstance(inspect_file(written(tmp_path, bzimage())), KernelInspection)
    for compression in COMPRESSIONS.values():
        assert isinstance(inspect_file(written(tmp_path, compression.compress(archive()))), InitramfsInspection)


@pytest.mark.parametrize("packing", ["bzip2", "lzma"])
def test_packings_that_only_others_write(tmp_path: Path, packing: str) -> None:
    inspection = inspect_file(written(tmp_path, archive() + pack(archive(), packing) + bytes(4) + archive()))
    assert isinstance(inspection, InitramfsInspection)
    assert [one.compression for one in inspection.archives] == ["none", packing, "none"]
    assert all(facts(one.tree) == facts(TREE) for one in inspection.archives)


@pytest.mark.parametrize(("magic", "packing"), [(b"\x02\x21\x4c\x18", "lz4"), (b"\x89LZO\0\r\n\x1a\n", "lzo")])
def test_packings_that_are_named_and_no_more(tmp_path: Path, magic: bytes, packing: str) -> None:
    path = written(tmp_path, archive() + magic + bytes(range(1, 200)))
    with pytest.raises(LivebuilderError, match=f"byte {len(archive())} is packed with {packing}") as caught:
        inspect_file(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert caught.value.hint and caught.value.hint.startswith(f"tail -c +{len(archive()) + 1} {path} | {packing}")
    with pytest.raises(LivebuilderError, match=f"byte 0 is packed with {packing}"):
        inspect_file(written(tmp_path, magic + bytes(range(1, 200))))


def test_archives_behind_one_another(tmp_path: Path) -> None:
    path = written(
        tmp_path, archive() + bytes(512) + XZ.compress(archive() + bytes(8) + archive()) + GZIP.compress(archive())
    )
    inspection = inspect_file(path)
    assert isinstance(inspection, InitramfsInspection)
    assert [(one.name, one.compression) for one in inspection.archives] == [
        ("archive 0", "none"), ("archive 1", "xz"), ("archive 1", "xz"), ("archive 2", "gzip"),
    ]  # fmt: skip
    assert [one.packed_size > 0 for one in inspection.archives] == [True, True, False, True]
    assert all(one.plain_size == len(archive()) for one in inspection.archives)


def test_what_is_said_of_an_entry(tmp_path: Path) -> None:
    inspection = inspect_file(written(tmp_path, archive()))
    entries = {entry["path"]: entry for entry in inspection.to_json()["archives"][0]["entries"]}
    assert entries["etc"] == {"path": "etc", "kind": "directory", "mode": "0750", "uid": 0, "gid": 0, "mtime": 0}
    assert (entries["etc/one"]["size"], entries["etc/one"]["mode"]) == (1, "4711")
    assert (entries["etc/two"]["kind"], entries["etc/two"]["target"]) == ("hardlink", "etc/one")
    assert entries["dev/console"]["device"] == [5, 1]
    assert (entries["pipe"]["uid"], entries["pipe"]["gid"]) == (7, 8)
    assert "size" not in entries["link"] and entries["link"]["target"] == "etc/one"
    lines = inspection.render().splitlines()
    assert {
        "    d0750 0:0         0 etc",
        "    -4711 0:0         1 etc/one",
        "    -4711 0:0         1 etc/two link to etc/one",
        "    l0777 0:0         0 link -> etc/one",
        "    c0600 0:0      5, 1 dev/console",
        "    p0622 7:8         0 pipe",
    } <= set(lines)


def test_a_folder_that_is_not_in_the_archive_is_not_listed(tmp_path: Path) -> None:
    """Linux drops a file whose folder was not unpacked before it; to list the folder would hide that."""
    data = b"".join(cpio.archive([file("lost/file", b"x")]))
    inspection = inspect_file(written(tmp_path, data))
    assert [entry["path"] for entry in inspection.to_json()["archives"][0]["entries"]] == ["lost/file"]


def test_layers_are_put_together_from_their_pieces(tmp_path: Path) -> None:
    layer = archive(RootTree([file("big", bytes(5000))]))
    cut = [layer[:1000], layer[1000:3000], layer[3000:]]
    for suffix, pieces in (("", cut), (".xz", [XZ.compress(piece) for piece in cut])):
        tree = RootTree(file(f"payload/20-x.{n:03d}.cpio{suffix}", piece) for n, piece in enumerate(pieces))
        inspection = inspect_file(written(tmp_path, archive(tree)))
        assert isinstance(inspection, InitramfsInspection)
        last = inspection.archives[-1]
        assert (last.name, last.compression, last.plain_size) == ("layer 20-x", "xz" if suffix else "none", len(layer))
        assert last.packed_size == sum(map(len, pieces))
        assert last.tree["big"].content.size == 5000


def test_names_that_are_not_utf_8_are_shown(tmp_path: Path) -> None:
    inspection = inspect_file(written(tmp_path, archive(RootTree([file("n\udcffm", b"")]))))
    assert "n\\udcffm" in inspection.render()
    json.dumps(inspection.to_json()).encode()


def test_a_kernel_with_and_without_its_configuration(tmp_path: Path) -> None:
    told = inspect_file(written(tmp_path, bzimage())).to_json()
    assert (told["embedded_config"], told["unpacks"]) == (True, ["gzip", "xz"])
    untold = inspect_file(written(tmp_path, bzimage(config=None)))
    assert (untold.to_json()["embedded_config"], untold.to_json()["unpacks"]) == (False, None)
    assert "not said" in untold.render()


def test_what_an_iso_of_ours_says_of_itself(tmp_path: Path) -> None:
    def iso(text: bytes) -> Path:
        write_iso(small_plan(files={IMAGE_FACTS: text}), tmp_path / "x.iso")
        return tmp_path / "x.iso"

    assert image_facts(iso(b'{"label": "attic"}'))["label"] == "attic"
    for text, said in (
        (b"{", "damaged"),
        (b"[]", "does not name the label"),
        (b'{"label": 1}', "does not name the label"),
    ):
        with pytest.raises(LivebuilderError, match=said) as caught:
            image_facts(iso(text))
        assert "x.iso" in caught.value.message
    write_iso(small_plan(), tmp_path / "foreign.iso")
    with pytest.raises(LivebuilderError, match="was not made by livebuilder"):
        image_facts(tmp_path / "foreign.iso")


@pytest.mark.parametrize("data", [b"", b"\0" * 600, b"070707" + bytes(200), b"PK\x03\x04"])
def test_anything_else(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(LivebuilderError, match="is neither an ISO, nor an initramfs") as caught:
        inspect_file(written(tmp_path, data))
    assert caught.value.hint
