"""The disc: an ISO 9660 image that boots as a CD and, written to a disk or a stick, as a disk.

pycdlib writes it. Then every time on it is set to the plan's, because pycdlib takes many of them from the clock,
and the whole is read back by our own reader and judged before it gets its name.
"""

from __future__ import annotations

import io
import os
import struct
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from livebuilder.errors import LivebuilderError
from livebuilder.iso.iso9660 import IsoError
from livebuilder.iso.lint import LOAD_SECTORS, lint_iso
from livebuilder.iso.plan import BOOT_CATALOG, ISOLINUX_BIN, IsoPlan
from livebuilder.iso.report import IsoReport, read_iso, time_fields
from livebuilder.sizes import MIB
from livebuilder.staging import staged_folder
from livebuilder.tree import Content

if TYPE_CHECKING:
    import pycdlib

_FILE_MODE = 0o100444
_FOLDER_MODE = 0o040555


def write_iso(plan: IsoPlan, path: Path) -> IsoReport:
    """Write the disc to `path`, whole or not at all, and return what was read back from it.

    Same plan, same bytes: neither the clock nor the time zone, the umask or the folder leaves a trace.
    Raises `IsoError` when what was read back is not what was planned, `LivebuilderError` when it cannot be written.
    """
    with staged_folder(path.parent) as stage:
        draft = stage / path.name
        _master(plan, draft)
        _set_times(draft, plan.epoch)
        report = read_iso(draft)
        errors = [finding.message for finding in lint_iso(report, plan) if finding.severity == "error"]
        if errors:
            raise IsoError(f"the disc {path} was not written as planned: {'; '.join(errors)}")
    return replace(report, path=os.fspath(path))


def _master(plan: IsoPlan, draft: Path) -> None:
    import pycdlib
    from pycdlib.pycdlibexception import PyCdlibException

    with ExitStack() as stack:
        disc = pycdlib.PyCdlib()
        try:
            # Level 2 is the lowest that holds names longer than 8.3; ISOLINUX reads it in every version.
            disc.new(
                interchange_level=2, vol_ident=plan.volume_id, sys_ident="LINUX", app_ident_str="LIVEBUILDER",
                rock_ridge="1.09", joliet=3,
            )  # fmt: skip
            stack.callback(disc.close)
            folders: set[str] = set()
            for name, content in sorted(plan.all_files().items()):
                _add_folders(disc, name, folders)
                stream = stack.enter_context(_stream(content))
                disc.add_fp(
                    stream, content.size, iso_path=_iso_path(name), rr_name=name.rpartition("/")[2],
                    joliet_path=f"/{name}", file_mode=_FILE_MODE,
                )  # fmt: skip
            disc.add_eltorito(
                _iso_path(ISOLINUX_BIN), bootcatfile=_iso_path(BOOT_CATALOG),
                rr_bootcatname=BOOT_CATALOG.rpartition("/")[2], joliet_bootcatfile=f"/{BOOT_CATALOG}",
                boot_load_size=LOAD_SECTORS, boot_info_table=True,
            )  # fmt: skip
            disc.add_isohybrid(mbr_id=plan.disk_id)
            with draft.open("wb") as stream:
                disc.write_fp(stream, blocksize=MIB)
        except PyCdlibException as error:
            raise IsoError(f"the disc {plan.volume_id} cannot be written: {error}") from error


def _add_folders(disc: pycdlib.PyCdlib, name: str, known: set[str]) -> None:
    parts = name.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if folder.upper() not in known:
            known.add(folder.upper())
            disc.add_directory(
                f"/{folder.upper()}", rr_name=parts[depth - 1], joliet_path=f"/{folder}", file_mode=_FOLDER_MODE
            )


def _iso_path(name: str) -> str:
    parents, _, last = name.upper().rpartition("/")
    return f"/{parents}/{last if '.' in last else last + '.'};1".replace("//", "/")


def _stream(content: Content) -> BinaryIO:
    # pycdlib reads a file from its beginning; a part of one has to be in memory.
    if content.path is None or content.offset:
        return io.BytesIO(content.read())
    try:
        stream = content.path.open("rb")
    except OSError as error:
        raise LivebuilderError(f"{content.path} cannot be read: {error.strerror}") from error
    if os.fstat(stream.fileno()).st_size < content.size:
        stream.close()
        raise LivebuilderError(f"{content.path} changed while it was being read", hint="run the same command again")
    return stream


def _set_times(draft: Path, epoch: int) -> None:
    """Write `epoch`, in UTC, to every place of the disc where a time stands."""
    at = time.gmtime(epoch)
    in_record = struct.pack(
        "<6Bb", at.tm_year - 1900, at.tm_mon, at.tm_mday, at.tm_hour, at.tm_min, at.tm_sec, 0
    )  # fmt: skip
    in_descriptor = time.strftime("%Y%m%d%H%M%S00", at).encode("ascii") + b"\0"
    fields = time_fields(draft)
    with draft.open("r+b") as stream:
        for found in fields:
            stream.seek(found.offset)
            stream.write(in_record if found.width == len(in_record) else in_descriptor)
