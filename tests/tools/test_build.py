"""`livebuilder build`: what it writes, that it writes the same again, and what it does not touch."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from livebuilder.cache import cache_root
from livebuilder.process import run
from tests.support.builds import (
    NO_NETWORK,
    OUTPUTS,
    BuiltImage,
    SmallSystem,
    assert_refused,
    hashes,
    private_cache,
    run_command,
    run_main,
    snapshot,
)
from tests.support.documents import assert_documented
from tests.support.images import Listed, archives, image_conf, layers, list_archive, unpack

# Builds here are offline: what they need from the network is in the cache once the default image was built.
pytestmark = [pytest.mark.network, pytest.mark.usefixtures("default_image")]


def build(*words: str | Path, output: Path, **env: str) -> BuiltImage:
    """Build in this process from what is in the cache."""
    outcome = run_main("--quiet", "build", "--offline", *words, "-o", output, env=env)
    assert outcome.status == 0, outcome.stderr
    return BuiltImage(output)


def listing(image: BuiltImage, folder: Path) -> dict[str, Listed]:
    """What GNU cpio finds in the layers of the root, the later over the earlier."""
    found: dict[str, Listed] = {}
    for _, archive in sorted(layers(image.initramfs, folder).items()):
        found |= list_archive(archive)
    return found


def test_the_outputs_and_their_checksums(default_image: BuiltImage) -> None:
    assert tuple(sorted(path.name for path in default_image.folder.iterdir())) == OUTPUTS
    done = run(["sha256sum", "--check", "--strict", "sha256sums"], cwd=default_image.folder)
    said = [f"{name}: OK" for name in OUTPUTS if name != "sha256sums"]
    assert done.stdout.splitlines() == said
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o133 == 0 for path in default_image.folder.iterdir())


def test_the_manifest_is_true(default_image: BuiltImage, tmp_path: Path) -> None:
    manifest = default_image.manifest
    for part, path in (("kernel", default_image.kernel), ("initramfs", default_image.initramfs)):
        data = path.read_bytes()
        assert (manifest[part]["size"], manifest[part]["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    on_disc = tmp_path / "disc"
    run(["xorriso", "-osirrox", "on", "-indev", default_image.iso, "-extract", "/", on_disc])
    files = {str(path.relative_to(on_disc)): path for path in on_disc.rglob("*") if path.is_file()}
    listed = {entry["path"]: entry for entry in manifest["disc"]}
    assert set(files) - set(listed) == {"isolinux/boot.cat"}, "the catalogue is made by the writer"
    for path, entry in listed.items():
        if path != "isolinux/isolinux.bin":  # the writer fills its boot info table in
            data = files[path].read_bytes()
            assert (entry["size"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest()), path
    unpacked = layers(default_image.initramfs, tmp_path)
    assert [layer["name"] for layer in manifest["initramfs"]["layers"]] == sorted(unpacked)
    for layer in manifest["initramfs"]["layers"]:
        data = unpacked[layer["name"]].read_bytes()
        assert (layer["plain_size"], layer["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert layer["entries"] == len(list_archive(unpacked[layer["name"]]))
    assert str(Path.home()) not in json.dumps(manifest), "where it was built is nobody's business"


def test_every_debian_binary_names_its_source(default_image: BuiltImage) -> None:
    packages = {package["name"]: package for package in default_image.manifest["packages"]}
    kernel = f"linux-image-{default_image.manifest['kernel']['release']}"
    assert {"busybox-static", "dropbear-bin", "e2fsprogs", "libc6", kernel} <= packages.keys()
    assert packages["libc6"]["source"] == "glibc"
    assert any(word.startswith("glibc (= ") for word in packages["busybox-static"]["built_using"])
    for package in packages.values():
        assert package["architecture"] in ("i386", "all")
        assert package["source"] and package["source_version"] and len(package["sha256"]) == 64


def test_elsewhere_later_offline_and_by_others_it_is_the_same(default_image: BuiltImage, tmp_path: Path) -> None:
    """With every piece compressed anew, and the network out of reach."""
    while time.time() < default_image.iso.stat().st_mtime + 1.1:
        time.sleep(0.1)
    env = {
        **private_cache(tmp_path / "cache", cache_root()), **NO_NETWORK, "TZ": "Asia/Kathmandu", "LANG": "tr_TR.UTF-8",
        "SOURCE_DATE_EPOCH": str(default_image.manifest["source_date_epoch"]), "HOME": str(tmp_path),
        "PYTHONHASHSEED": "7",
    }  # fmt: skip
    (tmp_path / "here").mkdir()
    outcome = run_command("build", "--offline", "-o", "../elsewhere", cwd=tmp_path / "here", umask=0o077, env=env)
    assert outcome.status == 0, outcome.stderr
    assert list((tmp_path / "cache/livebuilder/pieces").iterdir()), "nothing was taken from the first build"
    assert hashes(tmp_path / "elsewhere") == hashes(default_image.folder)
    assert stat.S_IMODE((tmp_path / "elsewhere/router.iso").stat().st_mode) == 0o600
    assert list((tmp_path / "here").iterdir()) == []


def test_another_source_date_epoch_gives_another_disc(small_system: SmallSystem, tmp_path: Path) -> None:
    images = [
        build(small_system.profile, output=tmp_path / str(epoch), SOURCE_DATE_EPOCH=str(epoch))
        for epoch in (1_000_000_000, 1_000_000_001)
    ]
    assert hashes(images[0].folder)["small.iso"] != hashes(images[1].folder)["small.iso"]
    for image in images:
        epoch = image.manifest["source_date_epoch"]
        assert image.folder.name == str(epoch)
        newest = run_main("inspect", image.iso, "--json").json["newest"]
        assert newest == epoch


def test_inputs_in_another_folder_give_the_same(small_system: SmallSystem, tmp_path: Path) -> None:
    run(["cp", "-a", small_system.folder, tmp_path / "copy"])
    (tmp_path / "copy/root/etc").touch()  # a newer time, that SOURCE_DATE_EPOCH takes back
    (tmp_path / "copy/root/etc/preinit").touch()
    images = [
        build(folder / "small.toml", output=tmp_path / name, SOURCE_DATE_EPOCH="1000000000")
        for folder, name in ((small_system.folder, "one"), (tmp_path / "copy", "two"))
    ]
    assert hashes(images[0].folder) == hashes(images[1].folder)
    (tmp_path / "copy/root/etc/preinit").write_text("#!/bin/sh\necho down\n")
    other = build(tmp_path / "copy/small.toml", output=tmp_path / "three", SOURCE_DATE_EPOCH="1000000000")
    assert hashes(other.folder)["initramfs"] != hashes(images[0].folder)["initramfs"]


@pytest.fixture
def scene(tmp_path: Path) -> dict[str, str]:
    """An environment whose every usual place to write to is below the test's own folder; the cache is not."""
    for name in ("home", "tmp", "cwd"):
        (tmp_path / name).mkdir()
    return {
        "HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "XDG_CACHE_HOME": str(cache_root().parent),
    }  # fmt: skip


@pytest.mark.parametrize("output", ["out", "a/b/out", "there"])
def test_a_dry_run_changes_nothing(tmp_path: Path, scene: dict[str, str], output: str) -> None:
    (tmp_path / "cwd/there").mkdir()
    (tmp_path / "cwd/there/router.iso").write_text("an older one")
    before = snapshot(tmp_path)
    outcome = run_command(
        "build", "--offline", "--dry-run", "--json", "-o", output, cwd=tmp_path / "cwd", env=scene
    )  # fmt: skip
    assert outcome.status == 0, outcome.stderr
    assert outcome.json["files"][0] == "router.iso" and sorted(outcome.json["files"]) == list(OUTPUTS)
    assert snapshot(tmp_path) == before


def test_the_dry_run_s_plan_is_what_is_built(default_image: BuiltImage) -> None:
    plan = run_main("build", "--offline", "--dry-run", "--json").json
    manifest = default_image.manifest
    assert plan["packages"] == manifest["packages"]
    assert plan["root"] == manifest["root"]
    assert plan["epoch"] == manifest["source_date_epoch"]
    assert plan["layers"] == [
        {"name": layer["name"], "entries": layer["entries"]} for layer in manifest["initramfs"]["layers"]
    ]


def test_a_second_run_has_nothing_to_do(small_system: SmallSystem, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("build", "--offline", small_system.profile, "-o", out)
    first = run_main(*words, "--json").json
    before = snapshot(tmp_path)
    again = run_main(*words)
    assert "nothing to do" in again.stdout
    assert snapshot(tmp_path) == before
    second = run_main(*words, "--json").json
    assert (first["unchanged"], second["unchanged"]) == (False, True)
    assert {**second, "seconds": 0, "unchanged": False} == {**first, "seconds": 0}


@pytest.mark.parametrize("name", [name.replace("router", "small") for name in OUTPUTS])
@pytest.mark.parametrize("harm", ["flip", "gone", "binary"])
def test_harmed_outputs_are_made_anew(small_system: SmallSystem, tmp_path: Path, name: str, harm: str) -> None:
    sound = build(small_system.profile, output=tmp_path / "out")
    before = hashes(sound.folder)
    path = sound.folder / name
    data = path.read_bytes()
    match harm:
        case "flip":
            path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        case "gone":
            path.unlink()
        case "binary":
            path.write_bytes(b"\xff\xfe\0")
    (sound.folder / "kept").write_text("not ours")
    outcome = run_main("build", "--offline", small_system.profile, "-o", sound.folder, "--json")
    assert outcome.json["unchanged"] is False
    (sound.folder / "kept").unlink()
    assert hashes(sound.folder) == before


def test_one_changed_file_repacks_its_layer_only(tmp_path: Path) -> None:
    files = tmp_path / "files/etc"
    files.mkdir(parents=True)
    (files / "motd").write_text("one\n")
    (tmp_path / "mine.toml").write_text('[root]\nfiles = "files"\n[output]\ncompression = "gzip"\n')
    env = private_cache(tmp_path / "cache", cache_root())
    pieces = tmp_path / "cache/livebuilder/pieces"
    first = build(tmp_path / "mine.toml", output=tmp_path / "one", **env)
    known = {path.name for path in pieces.iterdir()}
    assert len(known) > 5
    (files / "motd").write_text("two\n")
    second = build(tmp_path / "mine.toml", output=tmp_path / "two", **env)
    (new,) = {path.name for path in pieces.iterdir()} - known
    assert (pieces / new).stat().st_size < 1000
    changed = [
        before["name"]
        for before, after in zip(
            first.manifest["initramfs"]["layers"], second.manifest["initramfs"]["layers"], strict=True
        )
        if before != after
    ]
    assert changed == ["40-files"]
    names = {name for name, digest in hashes(first.folder).items() if hashes(second.folder)[name] != digest}
    assert names == {*OUTPUTS} - {"router.manifest", "vmlinuz"}


def test_results_go_to_stdout_and_all_else_to_stderr(small_system: SmallSystem, tmp_path: Path) -> None:
    words = ("build", "--offline", small_system.profile, "-o")
    plain = run_main(*words, tmp_path / "plain")
    *files, last = plain.stdout.splitlines()
    assert [line.split()[0] for line in files] == [
        str(tmp_path / "plain" / name.replace("router", "small")) for name in OUTPUTS if name != "sha256sums"
    ]
    assert last.startswith("built: ")
    assert f"Writing {tmp_path / 'plain/small.iso'}" in plain.stderr.splitlines()
    loud = run_main("--verbose", *words, tmp_path / "loud")
    assert f"Writing {tmp_path / 'loud/small.iso'} took " in loud.stderr
    quiet = run_main("--quiet", *words, tmp_path / "quiet")
    assert quiet.stderr == ""
    assert len(quiet.stdout.splitlines()) == len(plain.stdout.splitlines())


def test_verbose_shows_commands_to_paste(tmp_path: Path) -> None:
    outcome = run_main("--verbose", "build", "--offline", "--set", 'root.packages=["dropbear-bin"]', "--dry-run")
    assert outcome.status == 0, outcome.stderr
    assert run_main("-v", "usb", "image", tmp_path / "x.img").stderr.count("$ mke2fs ") == 1


# Roots that are not Debian's


@pytest.fixture
def rich_root(small_system: SmallSystem, tmp_path: Path) -> Path:
    """A root with a bit of everything that an ordinary user can make."""
    root = tmp_path / "rich"
    run(["cp", "-a", small_system.root, root])
    long = root / ("d" * 100) / ("e" * 100)
    long.mkdir(parents=True)
    (long / ("f" * 200)).write_text("deep")
    (root / "etc/shadow").write_text("root::0:0:99999:7:::\n")
    (root / "etc/shadow").chmod(0o640)
    (root / "bin/su").write_text("#!/bin/sh\n")
    (root / "bin/su").chmod(0o4755)
    (root / "etc/one").write_text("linked")
    os.link(root / "etc/one", root / "etc/two")
    (root / "etc/mtab").symlink_to("../proc/mounts")
    os.mkfifo(root / "etc/pipe", 0o600)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    return root


def assert_rich(found: dict[str, Listed]) -> None:
    """GNU cpio lists what `rich_root` has."""
    assert found["etc/shadow"].mode == "-rw-r-----"
    assert found["bin/su"].mode == "-rwsr-xr-x"
    assert (found["etc/one"].links, found["etc/two"].links) == (2, 2)
    assert sorted(found[name].size for name in ("etc/one", "etc/two")) == [0, 6], "the last name brings the data"
    assert (found["etc/mtab"].mode, found["etc/mtab"].target) == ("lrwxrwxrwx", "../proc/mounts")
    assert found["etc/pipe"].mode == "prw-------"
    assert found["tmp"].mode == "drwxrwxrwt"
    assert found["/".join(("d" * 100, "e" * 100, "f" * 200))].size == 4
    assert found["dev/console"].mode == "crw-------" and found["dev/console"].device == (5, 1)
    for folder in ("dev", "proc", "sys", "overlay", "rom", "etc/livebuilder"):
        assert found[folder].mode.startswith("d"), "what /init needs is made where it is missing"


def test_a_directory_with_files_over_it(small_system: SmallSystem, rich_root: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    (files / "etc").mkdir(parents=True)
    (files / "srv/data").mkdir(parents=True)
    (files / "etc/one").write_text("no longer linked")
    (files / "etc/key").write_text("secret")
    (files / "etc/key").chmod(0o600)
    (files / "srv/data/log").write_text("")
    image = build(
        small_system.profile, "--set", f"root.path={rich_root}", "--set", f"root.files={files}",
        "--set", 'root.owners={"/srv/data" = "1000:100"}', output=tmp_path / "out",
    )  # fmt: skip
    found = listing(image, tmp_path)
    owner = (rich_root.stat().st_uid, rich_root.stat().st_gid)
    assert found["etc/shadow"].owner == owner, "the root's own owners are kept"
    assert (found["etc/key"].mode, found["etc/key"].owner) == ("-rw-------", (0, 0))
    assert (found["srv/data"].owner, found["srv/data/log"].owner) == ((1000, 100), (1000, 100))
    assert found["srv"].owner == (0, 0)
    assert found["etc/one"].size == len("no longer linked")
    assert found["etc/two"].size == 6, "the other name keeps the old bytes"
    folder = tmp_path / "unpacked"
    unpack(image.initramfs, folder, tmp_path)
    assert (folder / "etc/one").read_text() == "no longer linked"
    assert (folder / "etc/two").read_text() == "linked"
    assert (folder / "etc/preinit").read_text() == (rich_root / "etc/preinit").read_text()
    assert (folder / "bin/busybox").read_bytes() == (rich_root / "bin/busybox").read_bytes()


def test_a_directory_as_it_is(small_system: SmallSystem, rich_root: Path, tmp_path: Path) -> None:
    image = build(small_system.profile, "--set", f"root.path={rich_root}", output=tmp_path / "out")
    assert_rich(listing(image, tmp_path))
    conf = image_conf(image.initramfs, tmp_path)
    assert conf["LB_ROOT_ENTRIES"] == str(image.manifest["root"]["entries"] - 1), "two names of one file are one inode"
    assert conf["LB_MODULES_STORAGE"] == "", "usb-storage was not asked for"


def test_a_kernel_that_has_it_all_linked_in(small_system: SmallSystem, tmp_path: Path) -> None:
    """No module, no index of modules: its configuration alone says what it has, and it has no keyboard driver."""
    folder = tmp_path / small_system.release
    folder.mkdir()
    words = (small_system.profile, "--set", f"kernel.modules={folder}")
    assert_refused(run_main("build", "--offline", *words, "-o", tmp_path / "out"), "lacks", "loop", "ext4")
    told = {f"CONFIG_{name}": "y" for name in ("RD_GZIP", "BLK_DEV_LOOP", "EXT4_FS", "OVERLAY_FS", "BLK_DEV_SD")}
    (tmp_path / "vmlinuz").symlink_to(small_system.kernel)
    (tmp_path / f"config-{small_system.release}").write_text("".join(f"{o}={v}\n" for o, v in told.items()))
    image = build(*words, "--set", f"kernel.image={tmp_path / 'vmlinuz'}", output=tmp_path / "out")
    found = listing(image, tmp_path)
    assert not [path for path in found if path.endswith(".ko")]
    unpack(image.initramfs, tmp_path / "root", tmp_path)
    builtin = (tmp_path / "root/lib/modules" / small_system.release / "modules.builtin").read_text().split()
    assert builtin == ["kernel/loop.ko", "kernel/ext4.ko", "kernel/overlay.ko", "kernel/sd_mod.ko"]


def test_an_archive_made_by_somebody_else(small_system: SmallSystem, rich_root: Path, tmp_path: Path) -> None:
    """With owners and device nodes that only an archive can have where nobody is root."""
    archive = tmp_path / "root.tar.xz"

    def members() -> Iterator[tuple[tarfile.TarInfo, bytes]]:
        node = tarfile.TarInfo("./dev/sda1")
        node.type, node.mode, node.devmajor, node.devminor, node.gid = tarfile.BLKTYPE, 0o660, 8, 1, 6
        yield node, b""
        owned = tarfile.TarInfo("./srv/owned")
        owned.uid, owned.gid, owned.mode, owned.size, owned.mtime = 70_000, 33, 0o604, 3, 1_234_567_890
        yield owned, b"abc"

    with tarfile.open(archive, "w:xz", preset=0) as tar:
        tar.add(rich_root, ".")
        for member, data in members():
            tar.addfile(member, io.BytesIO(data))
    image = build(
        small_system.profile, "--set", "root.source=archive", "--set", f"root.path={archive}", output=tmp_path / "out"
    )
    found = listing(image, tmp_path)
    assert_rich(found)
    assert (found["dev/sda1"].mode, found["dev/sda1"].device, found["dev/sda1"].owner) == ("brw-rw----", (8, 1), (0, 6))
    assert (found["srv/owned"].mode, found["srv/owned"].owner) == ("-rw----r--", (70_000, 33))


def test_a_squashfs_has_what_the_root_has(small_system: SmallSystem, rich_root: Path, tmp_path: Path) -> None:
    os.setxattr(rich_root / "bin/su", "user.note", b"kept")
    words = ("--set", f"root.path={rich_root}", "--set", "root.mode=squashfs", "--set", "root.squashfs_block=64K")
    image = build(small_system.profile, *words, output=tmp_path / "out")
    root = image.manifest["root"]
    assert (root["mode"], image.manifest["initramfs"]["layers"], image.manifest["warnings"]) == ("squashfs", [], [])
    assert image_conf(image.initramfs, tmp_path)["LB_MODULES_ROOT"] == "loop squashfs"
    for archive in archives(image.initramfs, tmp_path):
        if "payload/root.squashfs" in list_archive(archive):
            run(["cpio", "-idm", "--quiet"], cwd=tmp_path, input_bytes=archive.read_bytes())
    squashfs = tmp_path / "payload/root.squashfs"
    assert squashfs.stat().st_size == root["image_bytes"]
    said = run(["unsquashfs", "-s", squashfs]).stdout
    assert "Compression xz" in said and "Block size 65536" in said
    listed = run(["unsquashfs", "-lln", squashfs]).stdout.splitlines()
    paths = (line.partition(" squashfs-root/")[2].partition(" -> ")[0] for line in listed)
    modes = {path: line.split()[0] for path, line in zip(paths, listed, strict=True) if path}
    ext2 = build(small_system.profile, *words[:2], output=tmp_path / "ext2")
    ordinary = listing(ext2, tmp_path / "layers")
    shared = image_conf(ext2.initramfs, tmp_path)["LB_SHARED"].split()
    assert {path: mode for path, mode in modes.items() if path not in shared} == {
        path: it.mode for path, it in ordinary.items()
    }
    assert set(shared) <= modes.keys(), "what travels once otherwise is whole here"
    folder = tmp_path / "unpacked"
    run(["unsquashfs", "-no-progress", "-user-xattrs", "-d", folder, squashfs, "bin", "etc"])
    assert os.getxattr(folder / "bin/su", "user.note") == b"kept"
    assert (folder / "etc/one").stat().st_ino == (folder / "etc/two").stat().st_ino
    inspected = run_main("inspect", "--json", image.initramfs).json
    assert_documented("inspect, of an initramfs", inspected)
    ours = inspected["archives"][-1]
    assert (ours["name"], ours["compression"], ours["block_size"]) == ("root.squashfs", "xz", 65536)
    assert ours["packed_size"] == root["image_bytes"]
    assert {entry["path"] for entry in ours["entries"]} == modes.keys()
    assert "root.squashfs: xz in blocks of 64.0 KiB" in run_main("inspect", image.initramfs).stdout


def test_a_squashfs_is_the_same_whoever_packs_it(small_system: SmallSystem, tmp_path: Path) -> None:
    words = ("--set", "root.mode=squashfs", "--set", "modules.features=[]")
    first = build(small_system.profile, *words, output=tmp_path / "one")
    env = private_cache(tmp_path / "cache", cache_root(), without=("pieces", "roots"))
    second = build(small_system.profile, *words, output=tmp_path / "two", **env)
    assert hashes(first.folder) == hashes(second.folder)
    plan = run_main("build", "--offline", small_system.profile, *words, "--dry-run", "--json").json
    assert_documented("build --dry-run", plan)
    assert (plan["root"]["mode"], plan["layers"]) == ("squashfs", [])
    assert plan["root"]["image_bytes"] == first.manifest["root"]["image_bytes"]
    dry = run_main("build", "--offline", small_system.profile, *words, "--dry-run").stdout
    assert "in memory squashfs of " in dry and ", blocks of 256.0 KiB" in dry


@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd"])
def test_every_compression_gives_the_same_root(small_system: SmallSystem, tmp_path: Path, compression: str) -> None:
    plain = listing(build(small_system.profile, output=tmp_path / "plain"), tmp_path / "1")
    image = build(
        small_system.profile, "--set", f"output.compression={compression}", "--set", "root.free=0", "--set",
        "modules.features=[]", output=tmp_path / "out",
    )  # fmt: skip
    assert listing(image, tmp_path / "2") == plain
    assert image.manifest["initramfs"]["compression"] == compression


def test_services_in_the_user_s_files_are_enabled(tmp_path: Path) -> None:
    scripts = tmp_path / "files/etc/init.d"
    scripts.mkdir(parents=True)
    for name, text in {
        "hello": "START=77\nSTOP=12\nstart() { :; }\n", "log": "START=13\nstart() { :; }\n",
    }.items():  # fmt: skip
        (scripts / name).write_text(f"#!/bin/sh /etc/rc.common\n{text}")
        (scripts / name).chmod(0o755)
    (tmp_path / "mine.toml").write_text('[root]\nfiles = "files"\n[output]\ncompression = "none"\n')
    found = listing(build(tmp_path / "mine.toml", output=tmp_path / "out"), tmp_path)
    links = {path.removeprefix("etc/rc.d/"): it.target for path, it in found.items() if path.startswith("etc/rc.d/")}
    assert links["S77hello"] == links["K12hello"] == "../init.d/hello"
    assert [link for link in links if link.endswith("log")] == ["S13log"], "the router's own link to it gave way"
    assert any(link.endswith("dropbear") for link in links)
    assert all(target.startswith("../init.d/") for target in links.values())


def test_a_service_that_does_not_say_when_to_run(tmp_path: Path) -> None:
    script = tmp_path / "files/etc/init.d/hello"
    script.parent.mkdir(parents=True)
    script.write_text("#!/bin/sh /etc/rc.common\nstart() { :; }\n")
    outcome = run_main("build", "--offline", "--dry-run", "--set", f"root.files={tmp_path / 'files'}")
    assert_refused(outcome, "/etc/init.d/hello", "START=50")


def test_lists_that_cannot_be_renewed_are_a_warning_and_with_strict_an_error(tmp_path: Path) -> None:
    env = {**private_cache(tmp_path / "cache", cache_root(), without=("apt",)), **NO_NETWORK}
    shutil.copytree(cache_root() / "apt", tmp_path / "cache/livebuilder/apt", symlinks=True)
    words = ("build", "--dry-run", "--json")
    before = run_command(*words, "--offline", env=env)
    refreshed = run_command(*words, "--refresh", env=env)
    assert (before.status, refreshed.status) == (0, 0), before.stderr + refreshed.stderr
    old = [warning for warning in refreshed.json["warnings"] if " are used" in warning]
    assert len(old) > len([warning for warning in before.json["warnings"] if " are used" in warning])
    assert all(f"warning: {warning}" in refreshed.stderr.splitlines() for warning in old)
    assert refreshed.json["packages"] == before.json["packages"]
    assert_refused(run_command(*words, "--strict", env=env), "the package lists of ", "--strict")
