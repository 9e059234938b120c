from __future__ import annotations

from pathlib import Path

import pytest

from livebuilder import cpio
from livebuilder.assets import asset
from livebuilder.errors import LivebuilderError
from livebuilder.tree import Kind, RootTree, file, symlink
from livebuilder.vm.machine import KernelBoot
from livebuilder.vm.peers import PROGRAMS, verify_peer, write_peer


def root() -> RootTree:
    """One that has all the programs, some as busybox' applets."""
    tree = RootTree(
        [file("usr/sbin/dnsmasq", b"dnsmasq"), file("bin/busybox", b"busybox"), file("init", b"the disc's")]
    )
    for name in set(PROGRAMS) - {"dnsmasq"}:
        tree.add(symlink(f"bin/{name}", "/bin/busybox"))
    return tree


def test_a_peer_is_the_disc_s_root_with_another_first_program(tmp_path: Path) -> None:
    boot = write_peer(b"kernel", root(), tmp_path)
    assert boot == KernelBoot(tmp_path / "vmlinuz", tmp_path / "initramfs", boot.append)
    assert boot.kernel.read_bytes() == b"kernel"
    tree, _ = cpio.read_archive((tmp_path / "initramfs").read_bytes())
    ours = {path.name: path.read_bytes() for path in asset("initramfs/peer").iterdir()}
    assert {entry.name: entry.content.read() for entry in tree if entry.parent == "peer"} == {
        name: data for name, data in ours.items() if name != "init"
    }
    assert (tree["init"].content.read(), tree["init"].mode) == (ours["init"], 0o755)
    assert tree["usr/sbin/dnsmasq"].content.read() == b"dnsmasq" and tree["bin/wget"].kind is Kind.SYMLINK


def test_what_a_root_lacks_is_named_at_once() -> None:
    verify_peer(root())
    tree = root()
    for path in ("usr/sbin/dnsmasq", "bin/udhcpc"):
        tree.remove(path)
    tree.add(symlink("sbin/udhcpc", "/nowhere"))
    with pytest.raises(LivebuilderError, match="has no dnsmasq, udhcpc"):
        verify_peer(tree)
