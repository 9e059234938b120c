"""initramfs/lib/memory.sh: what is counted before it is taken."""

from __future__ import annotations

import pytest

from tests.support.init import InitMachine, meminfo


@pytest.mark.parametrize(
    ("total", "available", "free", "cached", "shared", "usable"),
    [
        (96000, 62000, 60000, 9000, 9000, 60000),  # slab that never comes back is in MemAvailable only
        (28904, 14608, 9860, 5740, 5740, 9860),  # 44 MB, as measured: the OOM killer came at 14,608
        (96000, 40000, 60000, 9000, 9000, 40000),  # watermarks: the kernel knows better when it is pessimistic
        (96000, 90000, 60000, 20000, 9000, 71000),  # page cache of real files comes back
        (96000, None, 60000, 9000, 9000, 60000),  # before Linux 3.14
    ],
)
def test_what_is_available(
    machine: InitMachine, total: int, available: int | None, free: int, cached: int, shared: int, usable: int
) -> None:
    machine.write("proc/meminfo", meminfo(total=total, available=available, free=free, cached=cached, shared=shared))
    assert machine.call('read_memory; echo "$MEMORY_TOTAL $MEMORY_AVAILABLE"').stdout == f"{total} {usable}\n"


@pytest.mark.parametrize(("need", "enough"), [(59999, True), (60000, True), (60001, False)])
def test_the_boundary(machine: InitMachine, need: int, enough: bool) -> None:
    done = machine.call(f'ROOT_MODE=ext2; expect_memory {need} && echo enough; echo "$PROBLEM"')
    said = f"not enough memory for ext2: need {need} KiB, have 60000 KiB"
    assert done.stdout == ("enough\n\n" if enough else f"{said}\n")
    assert (said in machine.log) is not enough


def test_few_pages_wait_to_be_written_while_unpacking(machine: InitMachine) -> None:
    machine.call("limit_dirty_pages")
    assert (machine.root / "proc/sys/vm/dirty_bytes").read_text() == "1048576\n"
    machine.call("restore_dirty_pages")
    assert (machine.root / "proc/sys/vm/dirty_ratio").read_text() == "20\n"


def test_a_kernel_without_these_settings_is_no_reason_to_stop(machine: InitMachine) -> None:
    (machine.root / "proc/sys/vm/dirty_bytes").unlink()
    (machine.root / "proc/sys/vm").rmdir()
    done = machine.call("limit_dirty_pages; restore_dirty_pages; echo on")
    assert (done.stdout, done.stderr) == ("on\n", "")


@pytest.mark.parametrize(("free", "enough"), [(8191, False), (8192, True)])
def test_the_stick_is_left_alone_when_its_drivers_would_not_fit(machine: InitMachine, free: int, enough: bool) -> None:
    machine.write("proc/meminfo", meminfo(total=50000, available=free, free=free))
    done = machine.call(
        "MEMORY_TOTAL=96000 MEMORY_AVAILABLE=60000 LB_STORAGE_LABEL=x LB_STORAGE_SETTLE=0 LB_MODULES_STORAGE=uas"
        '; find_storage; echo "$STORAGE_STATE|$STORAGE_REASON"; echo "$MEMORY_TOTAL $MEMORY_AVAILABLE"'
    )
    reason = "no stick labelled x" if enough else "not enough memory for the stick: need 8192 KiB, have 8191 KiB"
    assert done.stdout == f"volatile|{reason}\n96000 60000\n"
    assert (machine.commands == ["modprobe -a -q uas overlay"]) is enough


@pytest.mark.parametrize(("system", "need"), [(0, 4560), (2560, 4560), (8192, 10192)])
def test_what_the_router_takes_is_counted_when_it_is_more_than_the_work(
    machine: InitMachine, system: int, need: int
) -> None:
    done = machine.call(
        f'ROOT_MODE=tmpfs LB_SYSTEM_KIB={system}; expect_memory_beside_router 2000; echo "$MEMORY_NEEDED"'
    )
    assert done.stdout == f"{need}\n"
