"""The initramfs: what /init is told, what is in each archive, and what decides its bytes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder import cpio
from livebuilder.assets import asset
from livebuilder.cache import Cache
from livebuilder.compression import COMPRESSIONS, GZIP, NONE, XZ, ZSTD, Compression
from livebuilder.image.ext2 import plan_ext2
from livebuilder.image.initramfs import (
    ImageFacts,
    Initramfs,
    init_scripts,
    init_tree,
    make_initramfs,
    piece_compression,
    render_image_conf,
    root_uuid,
    tools_tree,
)
from livebuilder.image.payload import PIECE_BYTES, split_layers
from livebuilder.image.squashfs import IMAGE_PATH, SquashfsRoot
from livebuilder.process import run
from livebuilder.tree import Content, Kind, RootTree, directory, file, symlink
from tests.support.images import list_archive, plain_archives

ROOT = RootTree([directory("etc"), file("etc/preinit", "#!/bin/sh\n", mode=0o755), file("data", bytes(1000))])
FACTS = ImageFacts(
    version="0.1.0", name="attic-pc", kernel_release="6.1.0-50-686", root_mode="ext2",
    root=plan_ext2(ROOT, free_bytes=0), root_init="/etc/preinit", label="rootfs_data", settle_seconds=15,
    modules_root=("loop", "ext4"), modules_storage=("sd_mod", "usb-storage"), modules_filesystems=("overlay",),
)  # fmt: skip
EARLY = (RootTree([file("early", "e")]), RootTree([file("init", "i", mode=0o755)]))


def sourced(text: str, tmp_path: Path) -> dict[str, str]:
    """What a shell has in its variables after it read the text."""
    (tmp_path / "image.conf").write_text(text)
    names = re.findall(r"^(\w+)=", text, re.MULTILINE)
    script = '. ./image.conf; for name; do eval "printf \'%s=%s\\0\' \\"$name\\" \\"\\$$name\\""; done'
    printed = run(["dash", "-c", script, "sh", *names], cwd=tmp_path).stdout
    return dict(line.split("=", 1) for line in printed.split("\0")[:-1])


def test_image_conf_is_what_init_reads(tmp_path: Path) -> None:
    values = sourced(render_image_conf(FACTS), tmp_path)
    assert values["LB_NAME"] == "attic-pc"
    assert values["LB_ROOT_KIB"] == str(FACTS.root.size_bytes // 1024)
    assert values["LB_ROOT_ENTRIES"] == str(FACTS.root.entries)
    assert values["LB_SYSTEM_KIB"] == "0"
    assert values["LB_MODULES_STORAGE"] == "sd_mod usb-storage"
    read = {name for text in init_scripts().values() for name in re.findall(r"\$\{?(LB_[A-Z_]+)", text)}
    assert values.keys() <= read, "what nobody reads need not be said"


def test_image_conf_of_a_squashfs_is_what_init_reads(tmp_path: Path) -> None:
    image = SquashfsRoot(Content.from_bytes(bytes(132 * 1024)), 256 * 1024, 80_000, 12, 50 * 1024, 1_500_001)
    values = sourced(render_image_conf(replace(FACTS, root_mode="squashfs", root=image)), tmp_path)
    assert {name: values[name] for name in values if name.startswith("LB_ROOT_")} == {
        "LB_ROOT_MODE": "squashfs", "LB_ROOT_KIB": "132", "LB_ROOT_USED_KIB": "79", "LB_ROOT_NEEDED_KIB": "1465",
        "LB_ROOT_ENTRIES": "12", "LB_ROOT_DATA_KIB": "50", "LB_ROOT_LOOP": "7", "LB_ROOT_SOURCE": "/dev/root",
        "LB_ROOT_INIT": "/etc/preinit",
    }  # fmt: skip
    read = {name for text in init_scripts().values() for name in re.findall(r"\$\{?(LB_[A-Z_]+)", text)}
    assert values.keys() <= read


def test_a_squashfs_is_the_last_and_travels_as_it_is(tmp_path: Path) -> None:
    image = Content.from_bytes(b"hsqs" * 1000)
    made = make_initramfs(
        EARLY, (), RootTree(), compression=ZSTD, epoch=0, cache=Cache(tmp_path / "cache"), image=image
    )
    *_, last = plain_archives(made.data)
    tree, _ = cpio.read_archive(last)
    assert (tree[IMAGE_PATH].content.read(), made.layers) == (image.read(), ())
    assert image.read() in made.data


def test_links_that_are_not_roots_are_listed_by_owner(tmp_path: Path) -> None:
    root = RootTree([symlink("mine", "x"), file("theirs", "x")])
    for number, path in enumerate(("b", "a/link", "a/with space")):
        root.add(replace(symlink(path, "x"), uid=1000, gid=number // 2))
    *_, last = plain_archives(made(tmp_path, compression=XZ, root=root).data)
    tree, _ = cpio.read_archive(last)
    assert {entry.path: entry.content.read() for entry in tree if entry.kind is Kind.FILE} == {
        "payload/links.1000:0": b"./a/link\0./b\0",
        "payload/links.1000:1": b"./a/with space\0",
    }


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40))
def test_no_text_gets_out_of_its_quotes(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    conf = render_image_conf(replace(FACTS, root_init=text))
    assert sourced(conf, tmp_path_factory.mktemp("conf"))["LB_ROOT_INIT"] == text


def test_a_root_keeps_its_uuid_by_its_name() -> None:
    assert root_uuid("attic-pc") == root_uuid("attic-pc") != root_uuid("attic-pd")
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", root_uuid("x"))


def test_the_tree_of_init() -> None:
    tree = init_tree(image_conf="LB_NAME=x\n")
    assert tree["init"].mode == 0o755
    assert tree["etc/livebuilder/image.conf"].content.read() == b"LB_NAME=x\n"
    library = {path.name for path in asset("initramfs/lib").glob("*.sh")}
    assert {entry.name for entry in tree if entry.parent == "lib/livebuilder"} == library
    assert init_scripts()["init"] == asset("initramfs/init").read_text()


def test_the_tree_of_tools() -> None:
    modules = RootTree([file("lib/modules/1/modules.dep", "")])
    tree = tools_tree(busybox=Content.from_bytes(b"\x7fELF"), modules=modules)
    assert (tree["bin/busybox"].mode, tree["bin/sh"].target) == (0o755, "busybox")
    assert (tree["dev/console"].kind, tree["dev/console"].device, tree["dev/console"].mode) == (
        Kind.CHAR,
        (5, 1),
        0o600,
    )
    assert (tree["dev/null"].device, tree["dev/null"].mode) == ((1, 3), 0o666)
    assert "lib/modules/1/modules.dep" in tree


def made(tmp_path: Path, *, compression: Compression, root: RootTree = ROOT, epoch: int = 100) -> Initramfs:
    _, layers = split_layers([("10-root", root)])
    return make_initramfs(EARLY, layers, root, compression=compression, epoch=epoch, cache=Cache(tmp_path / "cache"))


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_what_the_kernel_finds(tmp_path: Path, name: str) -> None:
    initramfs = made(tmp_path, compression=COMPRESSIONS[name])
    listed = []
    for number, data in enumerate(plain_archives(initramfs.data)):
        (tmp_path / f"{number}.cpio").write_bytes(data)
        listed.append(set(list_archive(tmp_path / f"{number}.cpio")))
    suffix = {"none": "", "gzip": ".gz", "xz": ".xz", "zstd": ""}[name]
    assert listed == [{"early"}, {"init"}, {"payload", f"payload/10-root.000.cpio{suffix}"}]
    assert len(initramfs.data) % 4 == 0


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_a_plain_archive_begins_at_a_multiple_of_4(tmp_path: Path, name: str) -> None:
    data = made(tmp_path, compression=COMPRESSIONS[name]).data
    headers = [match.start() for match in re.finditer(rb"070701[0-9A-F]{104}", data)]
    assert bool(headers) is (name != "zstd")
    assert all(at % 4 == 0 for at in headers)


def test_busybox_unpacks_no_zstd() -> None:
    assert [piece_compression(one) for one in (NONE, GZIP, XZ, ZSTD)] == [NONE, GZIP, XZ, NONE]


def test_pieces_make_up_their_layer(tmp_path: Path) -> None:
    big = RootTree([file("big", bytes(range(256)) * (2 * PIECE_BYTES // 256))])
    initramfs = made(tmp_path, compression=NONE, root=big)
    (layer,) = initramfs.layers
    assert len(layer.pieces) == 3
    tree, end = cpio.read_archive(b"".join(layer.pieces))
    assert end == layer.plain_size
    assert tree["big"].content.same_as(big["big"].content)


def test_the_bytes_depend_on_what_is_in_it_only(tmp_path: Path) -> None:
    first = made(tmp_path / "one", compression=XZ)
    assert made(tmp_path / "two", compression=XZ).sha256 == first.sha256
    again = made(tmp_path / "one", compression=XZ)
    assert (again.sha256, again.layers[0].from_cache, first.layers[0].from_cache) == (first.sha256, 1, 0)
    newer = RootTree(replace(entry, mtime=5000) for entry in ROOT)
    newest = RootTree(replace(entry, mtime=9000) for entry in ROOT)
    assert made(tmp_path, compression=NONE, root=newer).sha256 == made(tmp_path, compression=NONE, root=newest).sha256
    assert (
        made(tmp_path, compression=NONE, root=newer, epoch=101).sha256
        != made(tmp_path, compression=NONE, root=newer).sha256
    )
