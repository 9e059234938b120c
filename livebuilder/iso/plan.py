"""What is to be on a disc, and the rules that names and ids on it keep."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from livebuilder.errors import LivebuilderError
from livebuilder.iso.loader import Loader
from livebuilder.tree import Content

ISOLINUX_BIN = "isolinux/isolinux.bin"
BOOT_CATALOG = "isolinux/boot.cat"
# Says what the image is, on every ISO of ours; `vm test` reads from it which stick to make.
IMAGE_FACTS = "livebuilder.json"
# The files of its root, with short hashes, for `usb diff --against`.
IMAGE_FILES = "files.gz"

# Names that ISO 9660 at level 2, Joliet, Rock Ridge and ISOLINUX (any version, Rock Ridge or not) read alike.
_PART = re.compile(r"[A-Za-z0-9_]{1,30}")
_NAME = re.compile(r"(?=.{1,30}$)[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")
# Joliet keeps 16 characters where ISO 9660 keeps 32.
_VOLUME_ID = re.compile(r"[A-Z0-9_]{1,16}")
# Folders: ISO 9660 allows eight levels, the root being the first and the file the last.
_MAX_PARTS = 8
# A directory record counts years from 1900 in one byte.
_LAST_EPOCH = int(datetime(2155, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())


def volume_id_for(name: str) -> str:
    """A volume id made of a profile's name: capitals, digits and _, at most 16 (Joliet's limit)."""
    return re.sub(r"[^A-Z0-9]+", "_", name.upper())[:16].strip("_") or "LIVE"


@dataclass(frozen=True)
class IsoPlan:
    """A disc to be written: `files` by path on the disc, to which the loader's own files are added.

    `epoch`, in seconds since 1970, is every time on the disc. `mbr_id` is the disk id in the boot sector, by
    default made of the volume id; Linux shows it as the partition's PARTUUID.
    Raises `LivebuilderError` for names, ids and times the disc cannot hold, all of them at once.
    """

    volume_id: str
    files: Mapping[str, Content]
    loader: Loader
    epoch: int
    mbr_id: int | None = None

    def __post_init__(self) -> None:
        problems = [*self._id_problems(), *self._name_problems()]
        if problems:
            raise LivebuilderError("this disc cannot be written: " + "; ".join(problems))

    @property
    def disk_id(self) -> int:
        """The disk id that is written: `mbr_id`, or one made of the volume id; never 0, which means none."""
        if self.mbr_id is not None:
            return self.mbr_id
        return int.from_bytes(hashlib.sha256(self.volume_id.encode()).digest()[:4], "little") or 1

    def all_files(self) -> dict[str, Content]:
        """Everything on the disc but the boot catalogue, the loader's files as they are before they are written."""
        loader = {ISOLINUX_BIN: self.loader.isolinux_bin}
        loader |= {f"isolinux/{name}": path for name, path in self.loader.modules.items()}
        return {**{name: Content.from_bytes(path.read_bytes()) for name, path in loader.items()}, **self.files}

    def _id_problems(self) -> list[str]:
        problems = []
        if not _VOLUME_ID.fullmatch(self.volume_id):
            problems.append(f"the volume id {self.volume_id!r} is not 1 to 16 of A-Z, 0-9 and _")
        if not 0 <= self.epoch <= _LAST_EPOCH:
            problems.append(f"the time {self.epoch} is not between the years 1970 and 2155")
        if self.mbr_id is not None and not 1 <= self.mbr_id <= 0xFFFF_FFFF:
            problems.append(f"the disk id {self.mbr_id:#x} does not fit into 32 bits, or is 0")
        return problems

    def _name_problems(self) -> list[str]:
        problems: list[str] = []
        ours = {ISOLINUX_BIN, BOOT_CATALOG, *(f"isolinux/{name}" for name in self.loader.modules)}
        met = {path.upper(): path for path in ours}
        folders = {path.upper().rpartition("/")[0] for path in ours}
        for path, content in self.files.items():
            *parents, name = path.split("/")
            if not (all(map(_PART.fullmatch, parents)) and _NAME.fullmatch(name) and len(parents) < _MAX_PARTS - 1):
                problems.append(
                    f"{path!r} is not a name every boot loader reads (letters, digits, _ and one dot, at most 30)"
                )
            if path.upper() in met:
                problems.append(f"{path!r} and {met[path.upper()]!r} are one name on a disc, which knows capitals only")
            if content.size >= 1 << 32:
                problems.append(f"{path!r} has {content.size} bytes; a file on a disc has less than 4 GiB")
            met[path.upper()] = path
            above = path.upper().split("/")[:-1]
            folders.update("/".join(above[: i + 1]) for i in range(len(above)))
        problems += [f"{met[folder]!r} is a file and a folder" for folder in sorted(folders & set(met))]
        return problems
