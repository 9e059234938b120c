"""What udevd knows, where it runs. The only module that knows pyudev."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import pyudev

from livebuilder.usb.signature import Signature

Properties = Callable[[str], Mapping[str, str]]  # from "8:16" to what udev knows of that device


@cache  # pyudev asks ldconfig each time
def _context() -> pyudev.Context | None:
    try:
        return pyudev.Context()
    except (ImportError, OSError):  # no libudev here
        return None


def udev_properties() -> Properties:
    """What asks udev; it knows nothing of any device where there is no libudev."""
    context = _context()

    def properties(number: str) -> Mapping[str, str]:
        major, _, minor = number.partition(":")
        if context is None or not (major + minor).isdigit():
            return {}
        try:
            device = pyudev.Devices.from_device_number(context, "block", os.makedev(int(major), int(minor)))
            return dict(device.properties)
        except (pyudev.DeviceNotFoundError, OSError, UnicodeDecodeError):  # unplugged, or its name is no text
            return {}

    return properties


def udev_listener(timeout_seconds: float) -> Callable[[], bool] | None:
    """What waits until something happens to a block device, or for `timeout_seconds`, and says whether it did.

    None where no udevd runs.
    """
    context = _context() if Path("/run/udev/control").exists() else None
    if context is None:
        return None
    monitor = pyudev.Monitor.from_netlink(context)
    monitor.filter_by("block")
    monitor.start()

    def listen() -> bool:
        happened = monitor.poll(timeout=timeout_seconds) is not None
        while happened and monitor.poll(timeout=0.2) is not None:  # one stick makes a handful of events
            pass
        return happened

    return listen


def udev_signature(properties: Mapping[str, str]) -> Signature | None:
    """What stands on a device by its properties."""
    if not properties.get("ID_FS_TYPE"):
        return None
    return Signature(
        properties["ID_FS_TYPE"], plain(properties.get("ID_FS_LABEL_ENC", "")), properties.get("ID_FS_UUID", "")
    )


def plain(encoded: str) -> str:
    r"""udev's ID_…_ENC, in which what is not plain is written `\x20`."""
    raw = re.sub(r"\\x([0-9a-fA-F]{2})", lambda match: chr(int(match[1], 16)), encoded)
    return raw.encode("latin-1", "replace").decode("utf-8", "replace").strip()
