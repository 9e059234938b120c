"""`livebuilder inspect`: the facts are those that xorriso, bsdtar and GNU cpio tell; damage never a traceback."""

from __future__ import annotations

import hashlib
import random
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from livebuilder import cpio
from livebuilder.compression import COMPRESSIONS, Compression
from livebuilder.errors import LivebuilderError
from livebuilder.inspection import inspect_file, read_system
from livebuilder.process import run
from livebuilder.tree import Kind, RootTree, device, directory, file, hardlink, symlink
from tests.support.builds import BuiltImage, SmallSystem, assert_refused, run_main
from tests.support.damage import mutated
from tests.support.images import Listed, archives, layers, list_archive
from tests.support.isos import SmallIso, structurally_mutated
from tests.support.kernels import bzimage

LETTERS = {"d": "directory", "-": "file", "l": "symlink", "c": "char", "b": "block", "p": "fifo"}
MODE_BITS = (0o400, 0o200, 0o100, 0o040, 0o020, 0o010, 0o004, 0o002, 0o001)
SECONDS = 20


def inspected(path: Path) -> Any:
    outcome = run_main("inspect", path, "--json")
    assert (outcome.status, outcome.stderr) == (0, "")
    return outcome.json


@pytest.mark.network
def test_an_iso_is_what_xorriso_says(default_image: BuiltImage) -> None:
    ours = inspected(default_image.iso)
    done = run(
        ["xorriso", "-indev", default_image.iso, "-toc", "-pvd_info", "-report_el_torito", "plain",
         "-report_system_area", "plain"]
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert ours["kind"] == "iso"
    assert re.search(rf"^Volume Id\s*: {re.escape(ours['volume_id'])}\s*$", said, re.MULTILINE)
    assert re.search(rf"^App Id\s*: {re.escape(ours['application_id'])}\s*$", said, re.MULTILINE)
    assert re.search(rf"^El Torito catalog\s*: {ours['catalog_sector']}\s", said, re.MULTILINE)
    (image,) = ours["boot_images"]
    boots = re.search(
        r"^El Torito boot img :\s+1\s+(\S+)\s+y\s+none\s+0x0000\s+0x00\s+(\d+)\s+(\d+)$", said, re.MULTILINE
    )
    assert boots
    assert (boots[1], int(boots[2]), int(boots[3])) == (image["platform"], image["load_sectors"], image["sector"])
    assert (image["platform"], image["media"], image["bootable"]) == ("BIOS", "no emulation", True)
    assert re.search(rf"^El Torito img path :\s+1\s+/{image['path']}$", said, re.MULTILINE)
    assert re.search(r"^El Torito img opts :\s+1\s+boot-info-table isohybrid-suitable$", said, re.MULTILINE)
    assert re.search(r"^System area summary: MBR isohybrid ", said, re.MULTILINE)
    (partition,) = ours["hybrid"]["partitions"]
    active = re.search(r"^MBR partition\s+:\s+1\s+0x80\s+0x(\w+)\s+(\d+)\s+(\d+)$", said, re.MULTILINE)
    assert active and partition["active"]
    assert (int(active[1], 16), int(active[2]), int(active[3])) == (
        partition["type"], partition["start_sector"], partition["sectors"],
    )  # fmt: skip
    assert ours["findings"] == []


@pytest.mark.network
def test_an_iso_s_files_are_those_that_xorriso_and_bsdtar_list(default_image: BuiltImage) -> None:
    ours = inspected(default_image.iso)
    done = run(["xorriso", "-indev", default_image.iso, "-find", "/", "-type", "f", "-exec", "report_lba", "--"])
    theirs = {}
    for line in done.stdout.splitlines():
        match = re.fullmatch(r"File data lba:\s+0 ,\s+(\d+) ,\s+\d+ ,\s+(\d+) , '/(.+)'", line)
        if match:
            theirs[match[3]] = (int(match[1]), int(match[2]))
    files = {f["path"]: (f["sector"], f["size_bytes"]) for f in ours["files"]}
    assert files.pop("isolinux/boot.cat") == (ours["catalog_sector"], 2048), "xorriso does not count it as a file"
    assert files == theirs
    joliet = run(["bsdtar", "-tf", default_image.iso, "--options", "!rockridge"]).stdout.split()
    assert {f["path"] for f in ours["joliet_files"]} <= set(joliet)
    assert {f["path"] for f in ours["joliet_files"]} == {*theirs, "isolinux/boot.cat"}
    times = run(["bsdtar", "-cf", "-", "--format=mtree", "--options=!all,time", f"@{default_image.iso}"]).stdout
    assert set(re.findall(r"time=(\d+)", times)) == {str(ours["oldest"])} == {str(ours["newest"])}


def facts(entry: dict[str, Any]) -> tuple[object, ...]:
    kind = "file" if entry["kind"] == "hardlink" else entry["kind"]
    target = entry["target"] if kind == "symlink" else ""
    return kind, int(entry["mode"], 8), (entry["uid"], entry["gid"]), tuple(entry.get("device", (0, 0))), target


def facts_listed(listed: Listed) -> tuple[object, ...]:
    """The same of a line of `cpio -itv`."""
    permissions = sum(
        bit for letter, bit in zip(listed.mode[1:], MODE_BITS, strict=True) if letter not in "-ST"
    )  # fmt: skip
    for at, bit in ((3, 0o4000), (6, 0o2000), (9, 0o1000)):
        permissions |= bit if listed.mode[at] in "sStT" else 0
    return LETTERS[listed.mode[0]], permissions, listed.owner, listed.device, listed.target


def assert_cpio_says(ours: dict[str, Any], archive: Path) -> None:
    theirs = list_archive(archive)
    entries = {entry["path"]: entry for entry in ours["entries"]}
    assert {path: facts(entry) for path, entry in entries.items()} == {
        path: facts_listed(listed) for path, listed in theirs.items()
    }
    for path, entry in entries.items():
        if entry["kind"] == "file" and theirs[path].links == 1:
            assert entry["size"] == theirs[path].size, path
    assert ours["plain_size"] == archive.stat().st_size


@pytest.mark.network
def test_an_initramfs_is_what_cpio_lists(default_image: BuiltImage, tmp_path: Path) -> None:
    ours = inspected(default_image.initramfs)
    assert (ours["kind"], ours["size"]) == ("initramfs", default_image.initramfs.stat().st_size)
    segments = [one for one in ours["archives"] if one["name"].startswith("archive ")]
    for one, archive in zip(segments, archives(default_image.initramfs, tmp_path), strict=True):
        assert_cpio_says(one, archive)
    by_name = {one["name"]: one for one in ours["archives"] if one["name"].startswith("layer ")}
    unpacked = layers(default_image.initramfs, tmp_path)
    assert set(by_name) == {f"layer {name}" for name in unpacked}
    for name, archive in unpacked.items():
        assert_cpio_says(by_name[f"layer {name}"], archive)
    (tmp_path / "files").mkdir()
    packages = unpacked["10-packages"]
    run(["cpio", "-idm", "--quiet", "--no-preserve-owner"], cwd=tmp_path / "files", input_bytes=packages.read_bytes())
    for entry in by_name["layer 10-packages"]["entries"]:
        if entry["kind"] == "file":
            data = (tmp_path / "files" / entry["path"]).read_bytes()
            assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())


@pytest.mark.network
def test_a_disc_s_system_is_its_kernel_and_the_root_as_it_runs(default_image: BuiltImage) -> None:
    kernel, root = read_system(default_image.iso)
    assert kernel == default_image.kernel.read_bytes()
    release = default_image.manifest["kernel"]["release"]
    for path in ("bin/busybox", "etc/preinit", "usr/sbin/dropbear", f"lib/modules/{release}/modules.dep"):
        assert root[path].kind is Kind.FILE, path
    assert "payload" not in root


def test_a_stranger_s_initramfs(tmp_path: Path) -> None:
    """One that GNU cpio wrote and xz packed, with the kernel's microcode in front, plain, as distributions do it."""
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/sh").write_text("#!")
    (root / "bin/sh").chmod(0o4711)
    (root / "init").symlink_to("bin/sh")
    (root / "kernel.bin").write_bytes(bytes(1000))
    plain = run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input_bytes=b".\nkernel.bin\n").stdout_bytes
    main = run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input_bytes=b".\nbin\nbin/sh\ninit\n").stdout_bytes
    packed = run(["xz", "--check=crc32", "-c"], input_bytes=main).stdout_bytes
    path = tmp_path / "initrd.img"
    path.write_bytes(plain + packed)
    ours = inspected(path)
    assert [(one["name"], one["compression"]) for one in ours["archives"]] == [
        ("archive 0", "none"),
        ("archive 1", "xz"),
    ]
    entries = {entry["path"]: entry for entry in ours["archives"][1]["entries"]}
    assert (entries["bin/sh"]["mode"], entries["init"]["target"]) == ("4711", "bin/sh")


@pytest.mark.network
def test_a_kernel_is_what_its_package_says(default_image: BuiltImage, small_system: SmallSystem) -> None:
    ours = inspected(default_image.kernel)
    assert ours["kind"] == "kernel"
    assert ours["size"] == default_image.kernel.stat().st_size
    assert ours["release"] == default_image.manifest["kernel"]["release"] == small_system.release
    assert ours["version"].startswith(f"{ours['release']} (debian-kernel@lists.debian.org)")
    assert ours["compression"] == "xz" if "CONFIG_KERNEL_XZ=y" in config(small_system) else ours["compression"]
    packed = re.search(r"CONFIG_KERNEL_(\w+)=y", config(small_system))
    assert packed and ours["compression"] == packed[1].lower()
    assert ours["boot_protocol"] == "2.15"


def config(system: SmallSystem) -> str:
    return (system.folder / f"boot/config-{system.release}").read_text()


def test_text_for_a_reader(default_image: BuiltImage) -> None:
    iso = run_main("inspect", default_image.iso).stdout
    assert "boot info table" in iso and "right" in iso and "boot/vmlinuz" in iso
    initramfs = run_main("inspect", default_image.initramfs).stdout
    assert re.search(r"^    c0600 0:0\s+5, 1 dev/console$", initramfs, re.MULTILINE)
    assert re.search(r"^    -0755 0:0\s+\d+ init$", initramfs, re.MULTILINE)
    assert re.search(r"^    l0777 0:0\s+0 bin/sh -> busybox$", initramfs, re.MULTILINE)
    kernel = run_main("inspect", default_image.kernel).stdout
    assert "bzImage" in kernel and "release" in kernel


@pytest.mark.parametrize("name", ["out/vmlinuz.sig", ".", "empty", "text"])
def test_what_is_none_of_the_three(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_text("a text\n" * 10_000)
    assert_refused(run_main("inspect", tmp_path / name), str(tmp_path / name))


# Damage


@contextmanager
def bounded() -> Iterator[None]:
    """Fail what takes too long: damage must not make a reader go round for ever."""

    def late(*_: object) -> None:
        raise AssertionError(f"still at it after {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def look(path: Path) -> str:
    """What `inspect` makes of a file: a report, or an error of ours; anything else gets through and fails the test."""
    with bounded():
        try:
            inspection = inspect_file(path)
            return f"report {inspection.to_json()['kind']} {len(inspection.render())}"
        except LivebuilderError as error:
            assert str(path) in error.message
            return "error"


def small_tree(compression: Compression) -> RootTree:
    """What an initramfs of ours looks like, without its bulk."""
    layer = RootTree(
        [directory("etc"), file("etc/motd", b"hello\n" * 50), file("etc/x", b"x"), hardlink("etc/y", "etc/x")]
    )
    data = b"".join(cpio.archive(layer))
    half = len(data) // 2
    pieces = [compression.compress(piece) for piece in (data[:half], data[half:])]
    tree = RootTree(
        [device("dev/console", char=(5, 1)), file("init", b"#!/bin/sh\n", mode=0o755), symlink("sh", "init")]
    )
    for number, piece in enumerate(pieces):
        tree.add(file(f"payload/10-x.{number:03d}.cpio{compression.suffix}", piece))
    return tree


def initramfs_bytes(compression: Compression, seed: int) -> bytes:
    """Two archives, damaged before or after they are packed, as the seed says."""
    rng = random.Random(seed)
    first = b"".join(cpio.archive(RootTree([file("first", b"1")])))
    second = b"".join(cpio.archive(small_tree(compression)))
    if rng.random() < 0.5:
        return mutated(first + compression.compress(second), seed)
    return first + compression.compress(mutated(second, seed))


@pytest.mark.parametrize("name", COMPRESSIONS)
def test_mutated_initramfs(tmp_path: Path, name: str) -> None:
    compression = COMPRESSIONS[name]
    sound = tmp_path / "sound"
    first = b"".join(cpio.archive(RootTree([file("first", b"1")])))
    sound.write_bytes(first + compression.compress(b"".join(cpio.archive(small_tree(compression)))))
    assert [one["name"] for one in inspected(sound)["archives"]] == ["archive 0", "archive 1", "layer 10-x"]
    outcomes = []
    for seed in range(30):
        path = tmp_path / f"{seed}.img"
        path.write_bytes(initramfs_bytes(compression, seed))
        outcomes.append(look(path))
    assert "error" in outcomes
    assert len(set(outcomes)) > 1, "some damage is only other content"


def test_mutated_isos(tmp_path: Path) -> None:
    small = SmallIso(tmp_path)
    outcomes = []
    path = tmp_path / "broken.iso"
    for seed in range(70):
        damaged = structurally_mutated(small.data, seed) if seed % 2 else mutated(small.data, seed)
        path.write_bytes(damaged)
        outcomes.append(look(path))
    assert "error" in outcomes
    assert sum(outcome.startswith("report iso") for outcome in outcomes) > 10


def test_mutated_kernels(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    outcomes = []
    for seed in range(40):
        path.write_bytes(mutated(bzimage(), seed))
        outcomes.append(look(path))
    assert {"error"} < set(outcomes)


@pytest.mark.parametrize(
    "data",
    [
        b"".join(cpio.archive(RootTree())) * 20_000,
        b"".join(cpio.archive(RootTree())) + bytes(30_000_000),
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03",
        b"070701" + b"FFFFFFFF" * 13,
    ],
    ids=["many archives", "padding", "a header alone", "the largest numbers"],
)  # fmt: skip
def test_files_made_to_keep_a_reader_busy(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "busy"
    path.write_bytes(data)
    look(path)


@pytest.mark.parametrize("name", ["gzip", "xz", "zstd"])
def test_a_bomb_is_told_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("livebuilder.inspection._LIMIT_BYTES", 1_000_000)
    path = tmp_path / "bomb"
    path.write_bytes(COMPRESSIONS[name].compress(bytes(3_000_000)))
    with pytest.raises(LivebuilderError, match=r"(more|larger) than 1000000 bytes"):
        inspect_file(path)
