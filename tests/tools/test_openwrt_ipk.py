"""Packages and roots of ours against tools that are not: tar, ar, dpkg, a shell, and opkg itself where there is one."""

from __future__ import annotations

import os
import random
from itertools import pairwise
from pathlib import Path

import pytest

from livebuilder.cache import Cache
from livebuilder.openwrt.ipk import read_ipk
from livebuilder.openwrt.opkg import DEFERRED, OfflineRoot
from livebuilder.openwrt.services import service_links
from livebuilder.openwrt.version import compare_versions
from livebuilder.process import require_tool, run
from livebuilder.tree import Kind, RootTree
from tests.support.chroot import enter, put_program
from tests.support.debs import everything, member
from tests.support.ipks import EPOCH, block_mount, control_of, ipk, service, small_root
from tests.support.trees import facts, listed_by_bsdtar, write_tree
from tests.unit.openwrt.test_version import ORDERED, SAME


def read(path: Path, tmp_path: Path) -> RootTree:
    return read_ipk(path, cache=Cache(tmp_path / "cache")).tree


def test_bsdtar_finds_in_a_package_what_we_read(tmp_path: Path) -> None:
    made = ipk("thing", members=everything())
    (tmp_path / "thing.ipk").write_bytes(made.data)
    tree = read(tmp_path / "thing.ipk", tmp_path)
    (tmp_path / "data.tar.gz").write_bytes(
        run(["bsdtar", "-xOf", tmp_path / "thing.ipk", "./data.tar.gz"]).stdout_bytes
    )
    listed = listed_by_bsdtar(tmp_path / "data.tar.gz")
    del listed["/"]
    found = facts(tree)
    assert listed.keys() == {path for path in found if path not in ("dev", "run")}
    for path, one in listed.items():
        if tree[path].kind is Kind.HARDLINK:
            continue  # it is the file it is another name of; the archive says something else of it
        fact = found[path]
        assert (one.kind, one.mode, one.owner, one.mtime, one.target, one.device) == (
            fact.kind, fact.mode, fact.owner, fact.mtime, fact.target, fact.device,
        ), path  # fmt: skip


@pytest.mark.parametrize("outer", ["bsdtar", "tar", "ar"])
@pytest.mark.parametrize("inner", ["gnutar", "ustar"])
def test_packages_made_by_tools(tmp_path: Path, outer: str, inner: str) -> None:
    """As scripts/ipkg-build does it, with GNU's tar and with another, and as ipkg-build did in the days of ar."""
    source, build = tmp_path / "source", tmp_path / "build"
    source.mkdir()
    (build / "control").mkdir(parents=True)
    write_tree(small_root(), source)
    (build / "control/control").write_text(control_of("thing", "2-1"))
    (build / "control/conffiles").write_text("/etc/passwd\n")
    (build / "debian-binary").write_text("2.0\n")
    for name, folder in {"data": source, "control": build / "control"}.items():
        run(["bsdtar", f"--format={inner}", "--numeric-owner", "-czf", build / f"{name}.tar.gz", "-C", folder, "."])
    parts = ["./debian-binary", "./data.tar.gz", "./control.tar.gz"]
    package = tmp_path / "thing.ipk"
    match outer:
        case "ar":
            run(["ar", "rc", package, *(part.removeprefix("./") for part in parts)], cwd=build)
        case "tar":
            run(["tar", "--format=gnu", "--numeric-owner", "--sort=name", "-czf", package, *parts], cwd=build)
        case _:
            run(["bsdtar", "--format=gnutar", "-czf", package, *parts], cwd=build)
    found = read_ipk(package, cache=Cache(tmp_path / "cache"))
    assert (found.name, found.version, found.conffiles) == ("thing", "2-1", ("/etc/passwd",))
    assert facts(found.tree, owner=False) == facts(small_root(), owner=False)


def test_dpkg_reads_the_old_kind_as_we_do(tmp_path: Path) -> None:
    made = ipk("thing", "1.2-3", [member("./usr/bin/thing", b"x", mode=0o755)], as_ar=True, Maintainer="x <x@y>")
    path = tmp_path / "thing.ipk"
    path.write_bytes(made.data)
    fields = read_ipk(path, cache=Cache(tmp_path / "cache")).fields
    theirs = run(["dpkg-deb", "--field", path]).stdout
    assert dict(line.split(": ", 1) for line in theirs.splitlines()) == fields


def dpkg_compares(one: str, other: str) -> int:
    for word, order in (("lt", -1), ("eq", 0), ("gt", 1)):
        if run(["dpkg", "--compare-versions", one, word, other], check=False).returncode == 0:
            return order
    raise AssertionError(f"dpkg cannot compare {one!r} and {other!r}")


def test_dpkg_orders_versions_as_we_do() -> None:
    rng = random.Random(7)
    pairs = [pair for line in ORDERED for pair in pairwise(line) if all(version[:1].isdigit() for version in pair)]
    pairs += [pair for pair in SAME if all(version[:1].isdigit() for version in pair)]
    for _ in range(60):
        one, other = ("1" + "".join(rng.choices("0129az.+~-", k=rng.randint(0, 6))) for _ in range(2))
        pairs.append((one.rstrip("-"), other.rstrip("-")))  # dpkg refuses an empty revision
    for one, other in pairs:
        ours = compare_versions(one, other)
        assert dpkg_compares(one, other) == (ours > 0) - (ours < 0), (one, other)


@pytest.mark.parametrize(
    "script", [service("95"), service("'07'", more='STOP="90" # late'), service("11", more="START=12\nUSE_PROCD=1")]
)
def test_a_shell_reads_the_same_place_in_the_order(tmp_path: Path, script: bytes) -> None:
    (tmp_path / "thing").write_bytes(script)
    told = run(["dash", "-c", '. "$1"; echo "${START:+S$START} ${STOP:+K$STOP}"', "sh", tmp_path / "thing"]).stdout
    links = service_links("thing", script.decode())
    assert links is not None
    assert {f"etc/rc.d/{word}thing" for word in told.split()} == links.keys()


FUNCTIONS = """\
default_postinst() {
	pkgname=${1##*/}
	pkgname=${pkgname%.*}
	( . "$IPKG_INSTROOT/usr/lib/opkg/info/$pkgname.postinst-pkg" )
}
"""
# As /etc/init.d/boot runs what is in /etc/uci-defaults.
BOOT = 'cd /etc/uci-defaults && for file in *; do ( . "./$file" ) && rm -f "$file"; done'


@pytest.mark.parametrize("shell", ["dash", "busybox"])
def test_a_deferred_postinst_runs_once_at_the_first_boot(tmp_path: Path, shell: str) -> None:
    """With IPKG_INSTROOT=/, in the order of installation; one that fails keeps no other from running."""
    scripts = {
        "failing": {"postinst-pkg": "echo failing >>/ran\nexit 3\n"},
        "own": {"postinst-pkg": 'echo "own $IPKG_INSTROOT $PKG_ROOT" >>"$IPKG_INSTROOT/ran"\n'},
        "old": {"postinst": '#!/bin/sh\n[ "$1" = configure ] && echo old >>$IPKG_INSTROOT/ran\n'},
    }
    root = OfflineRoot(small_root(files={"lib/functions.sh": FUNCTIONS}), epoch=EPOCH)
    for name, texts in scripts.items():
        (tmp_path / f"{name}.ipk").write_bytes(ipk(name, scripts=texts).data)
        root.install(read_ipk(tmp_path / f"{name}.ipk", cache=Cache(tmp_path / "cache")), wanted=True)
    tree = root.finished()
    assert root.deferred == list(scripts)
    target = tmp_path / "root"
    target.mkdir()
    for path in ("bin/sh", "bin/busybox", "bin/ls"):
        tree.remove(path)
    write_tree(tree, target)
    for program in (require_tool(shell), require_tool("busybox")):
        put_program(target, program)
    for name, program in {"sh": require_tool(shell), "rm": require_tool("busybox")}.items():
        (target / "bin" / name).symlink_to(program)
    # `logger` is not there, as it may not be on a broken system either: the loop goes on.
    run([*enter(target), "/bin/sh", "-c", BOOT], env={"PATH": "/bin"}, check=False)
    assert (target / "ran").read_text() == "failing\nown / /\nold\n"
    assert not (target / DEFERRED).exists()


# OpenWrt's opkg is in no distribution: LIVEBUILDER_OPKG names one that was built, and it reads what we wrote.
if OPKG := os.environ.get("LIVEBUILDER_OPKG"):

    def test_opkg_itself_reads_our_records(tmp_path: Path) -> None:
        root = OfflineRoot(
            small_root(files={"etc/opkg.conf": "dest root /\narch all 1\narch i386_pentium4 10\n"}), epoch=EPOCH
        )
        (tmp_path / "a.ipk").write_bytes(block_mount().data)
        root.install(read_ipk(tmp_path / "a.ipk", cache=Cache(tmp_path / "cache")), wanted=True)
        tree = root.finished()
        target = tmp_path / "root"
        target.mkdir()
        write_tree(tree, target)

        def opkg(*words: str) -> list[str]:
            return run(
                [str(OPKG), "--offline-root", target, "--conf", target / "etc/opkg.conf", *words]
            ).stdout.splitlines()

        assert "block-mount - 2024.07.14-1" in opkg("list-installed")
        files = {
            f"{target}/{entry.path}" for entry in read(tmp_path / "a.ipk", tmp_path) if entry.kind is not Kind.DIRECTORY
        }
        assert set(opkg("files", "block-mount")[1:]) == files
        assert opkg("list-changed-conffiles") == []
        assert opkg("install", "block-mount") == ["Package block-mount (2024.07.14-1) installed in root is up to date."]
        assert opkg("remove", "block-mount") == ["Removing package block-mount from root..."]
        assert not any((target / path).exists() for path in ("sbin/block", "etc/config/fstab"))
