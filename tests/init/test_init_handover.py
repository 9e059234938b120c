"""initramfs/lib/handover.sh and rescue.sh: PID 1 ends in the root's init or in a shell, never otherwise."""

from __future__ import annotations

import pytest

from tests.support.init import InitMachine

_FACTS = "LB_ROOT_INIT=/etc/preinit ROOT_MODE=ext2 STORAGE_STATE=volatile; "


def test_everything_moves_and_proc_moves_last(machine: InitMachine) -> None:
    machine.write("newroot/etc/preinit", "#!/bin/sh\n").chmod(0o755)
    machine.write("newroot/bin/sh", "").chmod(0o755)
    machine.call(f"{_FACTS} hand_over; echo came back")
    assert machine.commands[-4:] == [
        "mount -o move /dev /newroot/dev", "mount -o move /sys /newroot/sys", "mount -o move /proc /newroot/proc",
        f"switch_root -c /dev/console {machine.root}/newroot /etc/preinit".replace(str(machine.root), ""),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "state", "exported"),
    [("ext2", "volatile", "unset"), ("ext2", "persistent", "unset"), ("tmpfs", "persistent", "unset"),
     ("tmpfs", "read-only", "unset"), ("tmpfs", "volatile", "1")],
)  # fmt: skip
def test_initramfs_is_exported_only_when_the_root_is_nothing_but_memory(
    machine: InitMachine, mode: str, state: str, exported: str
) -> None:
    machine.write("newroot/etc/preinit", "\x7fELF").chmod(0o755)
    machine.hooks["switch_root"] = 'echo "INITRAMFS=${INITRAMFS-unset}"'
    done = machine.call(f"{_FACTS} unset INITRAMFS; ROOT_MODE={mode} STORAGE_STATE={state}; hand_over")
    assert done.stdout == f"INITRAMFS={exported}\n"


@pytest.mark.parametrize("links", [{}, {"sbin/init": "/bin/busybox"}, {"sbin/init": "../bin/busybox"},
                                   {"sbin/init": "/etc/x", "etc/x": "../bin/busybox"},
                                   {"sbin": "/usr/sbin", "usr/sbin/init": "../../bin/busybox"}])  # fmt: skip
def test_the_init_is_found_through_links_of_the_root(machine: InitMachine, links: dict[str, str]) -> None:
    machine.write("newroot/bin/busybox", "\x7fELF").chmod(0o755)
    for name, target in links.items():
        path = machine.root / "newroot" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
    asked = "/sbin/init" if links else "/bin/busybox"
    assert machine.call(f"find_program {asked} && find_interpreter && echo found").stdout == "found\n"


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "the root has no /etc/preinit to hand over to"),
        ({"newroot/etc/preinit": ("#!/bin/sh\n", 0o644)}, "the root has no /etc/preinit to hand over to"),
        ({"newroot/etc/preinit": ("#!/bin/sh\n", 0o755)}, "/etc/preinit needs /bin/sh, which the root has not"),
        ({"newroot/etc/preinit": ("#! /bin/ash -x\n", 0o755)}, "/etc/preinit needs /bin/ash, which the root has not"),
    ],
)
def test_a_root_that_cannot_start_ends_in_a_shell(
    machine: InitMachine, files: dict[str, tuple[str, int]], said: str
) -> None:
    for name, (text, mode) in files.items():
        machine.write(name, text).chmod(mode)
    machine.call(f"{_FACTS} hand_over")
    assert f"livebuilder: cannot go on: {said}" in machine.console
    assert not [line for line in machine.commands if line.startswith(("switch_root", "mount -o move"))]


def test_links_that_go_in_circles_are_given_up(machine: InitMachine) -> None:
    for name, target in {"a": "/b", "b": "/a"}.items():
        (machine.root / "newroot" / name).symlink_to(target)
    assert machine.call("find_program /a || echo no").stdout == "no\n"


def test_a_rescue_shell_says_what_failed_on_every_console(machine: InitMachine) -> None:
    machine.call('rescue "the loop broke"')
    for name in ("tty0", "ttyS0"):
        assert "livebuilder: cannot go on: the loop broke\n" in (machine.root / "dev" / name).read_text()
    assert "cannot go on: the loop broke" in machine.log


def test_a_rescue_shell_nobody_uses_does_not_spin(machine: InitMachine) -> None:
    machine.call("rescue nobody")  # the stand-in ends it when it sleeps for an hour
    assert len([line for line in machine.commands if line.startswith("setsid")]) == 3
    assert machine.commands[-1] == "sleep 3600"


def test_a_rescue_shell_in_use_comes_back_as_often_as_it_is_left(machine: InitMachine) -> None:
    machine.hooks["setsid"] = (
        'n=$(wc -l <"$ROOT/used" 2>/dev/null || echo 0); echo x >>"$ROOT/used"'
        '; [ "$n" -ge 5 ] || echo "$((100 + n * 10)).00 1" >"$ROOT/proc/uptime"'
    )
    machine.call("rescue somebody")
    assert len([line for line in machine.commands if line.startswith("setsid")]) == 6 + 2


@pytest.mark.parametrize(("wanted", "shells"), [("no", 0), ("yes", 1)])
def test_lb_rescue_opens_one_shell_and_goes_on(machine: InitMachine, wanted: str, shells: int) -> None:
    done = machine.call(f"RESCUE_WANTED={wanted}; offer_rescue_shell; echo on")
    assert done.stdout == "on\n"
    assert len([line for line in machine.commands if line.startswith("setsid")]) == shells
    assert ("exit continues the boot" in machine.console) is bool(shells)
