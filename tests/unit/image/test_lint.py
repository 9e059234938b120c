"""What a script names and an image lacks is found; what is there is not complained about."""

from pathlib import Path

import pytest

from livebuilder.image.lint import Place, lint_image, place_of
from livebuilder.kernel.image import kernel_from_files
from livebuilder.kernel.modules import ModuleIndex
from livebuilder.tree import RootTree, directory, file, hardlink, symlink
from tests.support.kernels import write_kernel

APPLETS = frozenset({"[", "ash", "mount", "modprobe", "chroot", "switch_root", "losetup"})
LOG = '# shellcheck shell=sh\nrun() { ${RUN:+"$RUN"} "$@"; }\ninside() { run chroot "$NEW" "$@"; }\n'
INIT = """#!/bin/sh
. "$ROOT/lib/livebuilder/log.sh"
run mount -t proc proc /proc
run modprobe -q loop max_loop=8
inside e2fsck -p /dev/sda1
exec switch_root /new /sbin/init
"""
CONF = "LB_MODULES_ROOT='loop ext4'\nLB_LABEL=x\nLB_MODULES_FILESYSTEMS=\"overlay uhci-hcd\"\n"


def early() -> RootTree:
    tree = RootTree()
    tree.add(file("bin/busybox", b"\x7fELF", mode=0o755))
    tree.add(symlink("bin/sh", "busybox"))
    tree.add(file("lib/livebuilder/log.sh", LOG))
    return tree


def root() -> RootTree:
    tree = RootTree()
    tree.add(symlink("sbin", "usr/sbin"))
    tree.add(file("usr/sbin/init", b"\x7fELF", mode=0o755))
    tree.add(file("usr/sbin/e2fsck", b"\x7fELF", mode=0o755))
    tree.add(hardlink("usr/sbin/fsck.ext4", "usr/sbin/e2fsck"))
    tree.add(file("usr/sbin/notes", "not a program\n"))
    tree.add(symlink("usr/sbin/gone", "nowhere"))
    tree.add(directory("usr/sbin/folder"))
    tree.add(file("etc/rc.common", "#!/bin/sh\n", mode=0o755))
    return tree


def findings(
    scripts: dict[str, str], *, modules: frozenset[str] = frozenset({"loop", "ext4", "overlay", "uhci_hcd"})
) -> tuple[str, ...]:
    return lint_image(
        scripts,
        place=place_of(early(), name="initramfs", applets=APPLETS),
        other_root=place_of(root(), name="root", applets=frozenset()),
        modules=modules,
    )


def test_a_sound_image_has_no_findings() -> None:
    assert findings({"init": INIT, "lib/livebuilder/log.sh": LOG, "etc/livebuilder/image.conf": CONF}) == ()


@pytest.mark.parametrize(
    ("line", "finding"),
    [
        ("blkid", "blkid is neither a program of the initramfs nor an applet of busybox"),
        ("run blkid", "blkid is neither a program of the initramfs nor an applet of busybox"),
        ("run /sbin/mount", "/sbin/mount is neither a program of the initramfs nor an applet of busybox"),
        ("inside mount", "mount is neither a program of the root nor an applet of busybox"),
        ("inside notes", "notes is neither a program of the root nor an applet of busybox"),
        ("inside gone", "gone is neither a program of the root nor an applet of busybox"),
        ("inside folder", "folder is neither a program of the root nor an applet of busybox"),
        ("run modprobe nosuch", "the module nosuch is not in the image"),
        ("run modprobe -a -q loop usb-nosuch", "the module usb_nosuch is not in the image"),
        ('. "$ROOT/lib/livebuilder/other.sh"', "/lib/livebuilder/other.sh is not in the initramfs"),
    ],
)
def test_what_is_missing_is_named_with_the_script(line: str, finding: str) -> None:
    assert findings({"init": f"{INIT}{line}\n{line}\n", "log.sh": LOG}) == (f"init: {finding}",)


@pytest.mark.parametrize(
    "line",
    [
        "[ -e x ] && losetup",
        "inside fsck.ext4",
        "inside /sbin/e2fsck",
        "inside /usr/sbin/e2fsck",
        "command -v blkid >/dev/null && blkid",
        'run modprobe "$module"',
        "run modprobe -q loop nosuch=1",
        "run log",
        "log() { :; }; log",
    ],
)
def test_what_is_there_is_not(line: str) -> None:
    text = "#!/bin/sh\nlog() { :; }\n"
    assert findings({"init": f"{INIT}{line}\n", "log.sh": LOG, "other": text}) == ()


def test_modules_that_a_list_names() -> None:
    assert findings({"image.conf": CONF}, modules=frozenset({"loop", "overlay"})) == (
        "image.conf: the module ext4 is not in the image",
        "image.conf: the module uhci_hcd is not in the image",
    )


def test_first_lines_and_inittab() -> None:
    place = place_of(root(), name="root", applets=frozenset({"login"}))
    scripts = {
        "etc/init.d/a": "#!/bin/sh /etc/rc.common\nstart() { :; }\n",
        "etc/inittab": "# ::x:/nothing\n::sysinit:/sbin/init S\ntty1::askfirst:login -f root\n::shutdown:/sbin/gone\n",
        "etc/hosts": "127.0.0.1 localhost (nothing to run here\n",
    }
    assert lint_image(scripts, place=place, modules=frozenset()) == (
        "etc/init.d/a: /bin/sh is not in the root",
        "etc/inittab: /sbin/gone is neither a program of the root nor an applet of busybox",
    )


def test_without_the_other_root_what_runs_there_is_left_alone() -> None:
    place = Place("initramfs", APPLETS, frozenset(), frozenset({"/bin/sh"}))
    assert lint_image({"init": "#!/bin/sh\nchroot /new nosuch\n"}, place=place, modules=frozenset()) == ()


def test_the_modules_of_a_kernel_satisfy_the_lint(tmp_path: Path) -> None:
    index = ModuleIndex.from_kernel(kernel_from_files(*write_kernel(tmp_path)))
    script = {"init": "#!/bin/sh\nmodprobe ext4; modprobe i8042; modprobe crypto-sha256; modprobe uhci-hcd\n"}
    chosen = index.builtin.union(index.names(index.closure(["ext4", "uhci-hcd"])))
    assert findings(script, modules=chosen) == ()
    assert findings(script, modules=chosen - {"uhci_hcd"}) == ("init: the module uhci_hcd is not in the image",)
