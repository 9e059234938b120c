"""Images to boot, and what a failed boot leaves to read."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.builds import BuiltImage, run_command, shared_folder

# Half the time of the default image to its prompt: no programs and drivers that a stick does without, and gzip.
_SMALL = """\
name = "small"
[root]
packages = ["-dnsmasq-base", "-nftables", "-openntpd", "-ppp", "-wide-dhcpv6-client"]
[modules]
features = ["usb-storage", "f2fs", "btrfs"]
[output]
compression = "gzip"
"""


def build_small(folder: Path, *settings: str) -> None:
    """Build the small image into `folder`; `settings` are KEY=VALUE, as for `build --set`."""
    profile = folder.with_suffix(".toml")
    profile.write_text(_SMALL)
    words = [word for setting in settings for word in ("--set", setting)]
    outcome = run_command("build", profile, "--output", folder, *words, timeout_seconds=900)
    assert outcome.status == 0, outcome.stderr


@pytest.fixture(scope="session")
def small_image(tmp_path_factory: pytest.TempPathFactory) -> BuiltImage:
    """A router that boots quickly; nobody writes into its folder."""
    return BuiltImage(shared_folder(tmp_path_factory, "small-image", build_small))


# What a guest's kernel says when QEMU 7.2 (TCG) gives it an interrupt just behind a cmpxchg8b: the flags that are saved
# then have bits of a pointer in them, and with the wrong ones the way back is a double fault. Seen twice in some
# thousand boots, both times in the kernel's kmem_cache_alloc.
_QEMU_FAULT = "Kernel panic - not syncing: Fatal exception in interrupt"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that meets it is run once more; every other failure is one."""
    for item in items:
        if item.get_closest_marker("vm"):
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=_QEMU_FAULT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the logs of the boots that a failed test is about."""
    report = yield
    if report.failed:
        logs = sorted({log for value in getattr(item, "funcargs", {}).values() for log in _logs_in(value)})
        if logs:
            report.sections.append(("boot logs", "\n".join(map(str, logs))))
    return report


def _logs_in(value: Any) -> Iterable[Path]:
    if isinstance(log := getattr(value, "log", None), Path):
        yield log
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _logs_in(part)
    elif isinstance(value, dict):
        yield from _logs_in(list(value.values()))
    elif hasattr(value, "__dataclass_fields__"):
        yield from _logs_in([getattr(value, name) for name in value.__dataclass_fields__])
