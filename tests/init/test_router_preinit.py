"""initramfs/router/etc/preinit and the hooks of /lib/preinit: process 1 must reach /sbin/init whatever happens."""

from __future__ import annotations

import pytest

from tests.support.router import Router

_ALL_MOUNTED = "".join(f"x {target} x rw 0 0\n" for target in ("/proc", "/sys", "/dev", "/dev/pts", "/tmp"))


@pytest.fixture
def router(router: Router) -> Router:
    for tty in ("tty1", "ttyS0"):
        router.write(f"dev/{tty}", "")
    router.write("sys/class/tty/ttyS0/type", "4\n")
    router.write("sys/class/tty/console/active", "tty0 ttyS0\n")
    return router


def test_everything_is_mounted_and_init_started(router: Router) -> None:
    (router.root / "dev/pts").rmdir()
    done = router.script("etc/preinit")
    assert (done.returncode, done.stderr) == (0, "")
    assert router.commands == [
        "mount -t proc -o nosuid,nodev,noexec proc /proc",
        "mount -t sysfs -o nosuid,nodev,noexec sysfs /sys",
        "mount -t devtmpfs -o nosuid,mode=755 devtmpfs /dev",
        "mkdir /dev/pts",
        "mount -t devpts -o nosuid,noexec,gid=5,mode=620 devpts /dev/pts",
        "mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /tmp",
        "mkdir -p /tmp/run /tmp/log /tmp/lock /tmp/lib",
        "/sbin/init",
    ]


def test_what_is_mounted_stays(router: Router) -> None:
    router.write("proc/mounts", _ALL_MOUNTED)
    router.script("etc/preinit")
    assert router.commands == ["mkdir -p /tmp/run /tmp/log /tmp/lock /tmp/lib", "/sbin/init"]


def test_without_devtmpfs_the_nodes_are_made(router: Router) -> None:
    router.failing = "*devtmpfs*"
    router.script("etc/preinit")
    made = router.commands.index("mdev -s")
    assert router.commands[made - 1] == "mount -t tmpfs -o nosuid,mode=755 tmpfs /dev"


@pytest.mark.parametrize("hook", ["if then (", "exit 3", "echo 'unfinished", "nosuchcommand", ". /nowhere"])
def test_a_broken_hook_does_not_keep_init_from_starting(router: Router, hook: str) -> None:
    router.write("lib/preinit/05_broken", hook + "\n")
    router.script("etc/preinit")
    assert router.commands[-1] == "/sbin/init"


def test_without_the_trap_a_broken_hook_would_end_process_1(router: Router) -> None:
    preinit = router.read("etc/preinit")
    router.write("etc/preinit", preinit.replace("trap ", ": "))
    router.write("lib/preinit/05_broken", "if then (\n")
    router.script("etc/preinit")
    assert router.commands == []


def test_hooks_of_the_user_run_in_order(router: Router) -> None:
    for number in ("90", "30"):
        router.write(
            f"lib/preinit/{number}_mine",
            f"f{number}() {{ run said {number}; }}\nboot_hook_add preinit_main f{number}\n",
        )
    router.script("etc/preinit")
    assert [word for word in router.commands if word.startswith("said")] == ["said 30", "said 90"]


def test_a_full_inittab_is_not_touched(router: Router) -> None:
    before = (router.root / "etc/inittab").stat()
    router.script("etc/preinit")
    after = (router.root / "etc/inittab").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("absent", ["no node", "no hardware"])
def test_a_console_that_is_absent_is_set_aside_and_taken_back(router: Router, absent: str) -> None:
    original = router.read("etc/inittab")
    if absent == "no node":
        (router.root / "dev/ttyS0").unlink()
    else:
        router.write("sys/class/tty/ttyS0/type", "0\n")
    router.script("etc/preinit")
    assert router.read("etc/inittab") == original.replace("\nttyS0:", "\n#absent#ttyS0:")
    router.write("dev/ttyS0", "")
    router.write("sys/class/tty/ttyS0/type", "4\n")
    router.script("etc/preinit")
    assert router.read("etc/inittab") == original


def test_other_lines_of_inittab_are_kept_as_they_are(router: Router) -> None:
    text = "# a comment: with: colons\n\n::sysinit:/rcS S boot\n#ttyS0::askfirst:/mine\nttyS9::respawn:/x \\n  y"
    router.write("etc/inittab", text)
    router.script("etc/preinit")
    assert router.read("etc/inittab") == text.replace("ttyS9", "#absent#ttyS9") + "\n"


@pytest.mark.parametrize(("active", "set_speed"), [("tty0 ttyS0", False), ("tty0", True), ("tty0 ttyS00", True)])
def test_a_port_that_is_no_kernel_console_gets_a_speed(router: Router, active: str, set_speed: bool) -> None:
    router.write("sys/class/tty/console/active", active + "\n")
    router.script("etc/preinit")
    assert ("stty -F /dev/ttyS0 115200" in router.commands) is set_speed
