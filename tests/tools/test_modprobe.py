"""What we write for modprobe, read by busybox: its depmod makes the same index, its modprobe loads in our order."""

import platform
from pathlib import Path

import pytest

from livebuilder.kernel.image import kernel_from_files, read_modules
from livebuilder.kernel.modules import ModuleIndex, indexed, module_tree
from livebuilder.process import require_tool, run
from livebuilder.tree import Kind, RootTree
from tests.support.chroot import enter, put_program
from tests.support.kernels import RELEASE, write_kernel, write_modules


def lines(text: str) -> set[tuple[str, ...]]:
    """Lines as sets of words: depmods differ in the order of what is independent."""
    return {(words[0], *sorted(words[1:])) for words in (line.split() for line in text.splitlines()) if words}


def test_our_index_is_that_of_busybox_depmod(tmp_path: Path) -> None:
    folder = write_modules(tmp_path / "lib/modules" / RELEASE)
    ours = indexed(read_modules(folder))
    run(["busybox", "depmod", "-b", tmp_path, RELEASE])
    for name in ("modules.dep", "modules.alias"):
        theirs = (folder / name).read_text()
        assert "ext4" in theirs
        assert lines(ours[name].content.read().decode()) == lines(theirs), name


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder with busybox in it, to be the root of a modprobe that asks which kernel runs: the host's."""
    root = tmp_path / "target"
    put_program(root, require_tool("busybox"))
    return root


def write(tree: RootTree, folder: Path) -> None:
    for entry in tree:
        path = folder / entry.path
        if entry.kind is Kind.DIRECTORY:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(entry.content.read())


@pytest.mark.parametrize("suffix", [".ko", ".ko.xz", ".ko.zst"])
def test_busybox_modprobe_loads_what_we_say_in_our_order(tmp_path: Path, target: Path, suffix: str) -> None:
    release = platform.release()
    kernel = kernel_from_files(*write_kernel(tmp_path, release=release, suffix=suffix))
    (target / "lib/modules").mkdir(parents=True, exist_ok=True)
    write(module_tree(kernel, ModuleIndex.from_kernel(kernel), ["ext4", "uhci-hcd", "r8169"]), target)

    def loaded(name: str) -> list[str]:
        done = run([*enter(target), require_tool("busybox"), "modprobe", "-D", name], check=False)
        return [ModuleIndex.names([line.split()[1]])[0] for line in done.stdout.splitlines() if line[:7] == "insmod "]

    ext4 = loaded("ext4")
    assert sorted(ext4) == ["crc32c_generic", "ext4", "jbd2", "mbcache"]
    assert ext4.index("crc32c_generic") < ext4.index("jbd2") < ext4.index("ext4") == 3
    assert loaded("fs-ext2") == ext4
    assert loaded("uhci_hcd") == ["usbcore", "ehci_hcd", "ehci_pci", "uhci_hcd"]
    assert loaded("r8169") == ["libphy", "realtek", "r8169"]
    assert loaded("loop") == []  # was not asked for
    builtin = run([*enter(target), require_tool("busybox"), "modprobe", "-q", "i8042"])
    assert builtin.returncode == 0
