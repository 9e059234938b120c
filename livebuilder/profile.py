"""The profile: one TOML file that says which kernel, root, modules, label and console. docs/profile.md has every key.

All problems of a profile are found in one go and reported together, each with the file and the key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from livebuilder.errors import LivebuilderError
from livebuilder.sizes import MIB, parse_size

BUILT_IN = "the built-in profile"
_HINT = "docs/profile.md lists every key; livebuilder build --help shows examples"


class ProfileError(LivebuilderError):
    """Everything that is wrong with a profile, one problem a line."""


def _size(value: object) -> object:
    if isinstance(value, str):
        try:
            return parse_size(value)
        except LivebuilderError as error:
            raise ValueError(str(error)) from error
    return value


def _budget(value: object) -> object:
    return None if value == "none" else _size(value)


def _absolute(value: str) -> str:
    if not value.startswith("/") or ".." in value.split("/"):
        raise ValueError("write an absolute path inside the root, as in /etc/preinit")
    return value


def _matching(pattern: str, description: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(pattern, value) is None:
            raise ValueError(f"{value!r} is not {description}")
        return value

    return AfterValidator(check)


def _label(value: str) -> str:
    # 16 bytes is what an ext2 superblock holds; a label every file system can carry is the only safe one.
    if not 1 <= len(value.encode()) <= 16:
        raise ValueError(f"{value!r} has {len(value.encode())} bytes; an ext label holds 1 to 16")
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", value):
        raise ValueError(f"{value!r} has characters other than letters, digits and _ . + -")
    return value


Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
Budget = Annotated[int | None, BeforeValidator(_budget)]
RootPath = Annotated[str, AfterValidator(_absolute)]
Name = Annotated[str, _matching(r"[a-z0-9][a-z0-9._-]{0,31}", "a name (a-z, 0-9, . _ -; at most 32)")]
PackageName = Annotated[str, _matching(r"[a-z0-9][a-z0-9.+-]+", "a Debian package name")]
ModuleWord = Annotated[str, _matching(r"[A-Za-z0-9_-]+", "a name of a feature or module")]
Console = Annotated[str, _matching(r"tty[A-Za-z]*\d+(,\d+[noe]?\d?r?)?", "a console (tty0, ttyS0,115200n8)")]
Label = Annotated[str, AfterValidator(_label)]
Owner = Annotated[str, _matching(r"\d+:\d+", "a numeric owner and group (0:0)")]
OneLine = Annotated[str, _matching(r"[^\x00-\x1f\x7f]*", "one line of text")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KernelSection(_Section):
    """Where the kernel and its modules come from."""

    source: Literal["debian", "files"] = "debian"
    flavour: Annotated[str, _matching(r"[a-z0-9-]+", "a Debian kernel flavour (686, 686-pae)")] = "686"
    image: str | None = None
    modules: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _files_when_named(cls, values: object) -> object:
        if isinstance(values, dict) and "source" not in values and ("image" in values or "modules" in values):
            return {**values, "source": "files"}
        return values

    @model_validator(mode="after")
    def _complete(self) -> KernelSection:
        if self.source == "files" and not (self.image and self.modules):
            raise ValueError('needs both image = "…/vmlinuz" and modules = "…/lib/modules/VERSION"')
        if self.source == "debian" and (self.image or self.modules):
            raise ValueError('has image or modules, which source = "debian" does not use')
        return self


class RootSection(_Section):
    """What the router's root is made of."""

    source: Literal["debian", "directory", "archive"] = "debian"
    packages: tuple[PackageName, ...] = Field(default=("dropbear-bin", "e2fsprogs"), strict=False)
    path: str | None = None
    files: str | None = None
    owners: dict[str, Owner] = {}
    init: RootPath = "/etc/preinit"
    mode: Literal["ext2", "tmpfs"] = "ext2"
    free: Size = 2 * MIB

    @model_validator(mode="after")
    def _complete(self) -> RootSection:
        if self.source != "debian" and not self.path:
            raise ValueError(f'source = "{self.source}" needs path = "…"')
        if self.source == "debian" and self.path:
            raise ValueError('has a path, which source = "debian" does not use')
        if self.source != "debian" and "packages" in self.model_fields_set:
            raise ValueError(f'has packages, which source = "{self.source}" does not use')
        return self


class ModulesSection(_Section):
    """Which drivers travel."""

    features: tuple[ModuleWord, ...] = Field(default=("cdrom", "usb-storage", "nic", "f2fs", "btrfs"), strict=False)
    extra: tuple[ModuleWord, ...] = Field(default=(), strict=False)


class StorageSection(_Section):
    """The stick that keeps the settings."""

    label: Label = "rootfs_data"
    settle: Annotated[int, Field(ge=0, le=300)] = 15


class BootSection(_Section):
    """What the boot menu and the kernel are told."""

    console: tuple[Console, ...] = Field(default=("tty0", "ttyS0,115200n8"), strict=False, min_length=1)
    timeout: Annotated[int, Field(ge=0, le=600)] = 3
    cmdline: OneLine = ""


class OutputSection(_Section):
    """What is written, and how large it may be."""

    compression: Literal["none", "gzip", "xz", "zstd"] = "xz"
    max_size: Budget = None


class Profile(_Section):
    """A whole profile; paths in it are relative to the file it came from."""

    name: Name = "router"
    kernel: KernelSection = KernelSection()
    root: RootSection = RootSection()
    modules: ModulesSection = ModulesSection()
    storage: StorageSection = StorageSection()
    boot: BootSection = BootSection()
    output: OutputSection = OutputSection()


def read_profile(path: Path | None, *, settings: Sequence[str] = ()) -> Profile:
    """The profile in `path` (None: the built-in one), changed by `settings`, each `KEY=VALUE` as in `root.free=4M`.

    Paths in the result are absolute. Raises `ProfileError` with every problem found.
    """
    where = str(path) if path else BUILT_IN
    values = _read_toml(path) if path else {}
    problems: list[str] = []
    for setting in settings:
        _apply(values, setting, problems)
    profile: Profile | None = None
    try:
        profile = Profile.model_validate(values)
    except ValidationError as error:
        problems += [f"{where}: {_describe(detail)}" for detail in error.errors()]
    if profile is not None:
        profile = _with_absolute_paths(profile, (path.parent if path else Path()).absolute())
        problems += [f"{where}: {problem}" for problem in _missing_files(profile)]
    if problems or profile is None:
        raise ProfileError("\n".join(problems), hint=_HINT)
    return profile


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ProfileError(
            f"the profile {path} cannot be read: {error.strerror}",
            hint="livebuilder build   # without a file, it builds the built-in profile",
        ) from error
    except (ValueError, RecursionError) as error:  # also text that is not UTF-8, and a number of 5,000 digits
        raise ProfileError(f"{path}: not TOML: {error}", hint=_HINT) from error


def _apply(values: dict[str, Any], setting: str, problems: list[str]) -> None:
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        problems.append(f"--set {setting}: write KEY=VALUE, as in --set storage.label=rootfs_data")
        return
    table = values
    for part in parts[:-1]:
        below = table.setdefault(part, {})
        if not isinstance(below, dict):
            problems.append(f"--set {setting}: {part} is not a section")
            return
        table = below
    table[parts[-1]] = _value(text)


def _value(text: str) -> object:
    """`text` as TOML if it is a TOML value (15, true, ["a"]), else as the string it is."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text


def _describe(detail: Mapping[str, Any]) -> str:
    """One problem in our words: pydantic's location and message, and the nearest name for an unknown key."""
    location = [str(part) for part in detail["loc"]]
    key = ".".join(location) or "the profile"
    kind = detail["type"]
    if kind == "extra_forbidden":
        known = _keys_at(location[:-1])
        near = get_close_matches(location[-1], known, n=1, cutoff=0.5)
        meant = (
            f"; did you mean {'.'.join([*location[:-1], near[0]])}?" if near else f"; known here: {', '.join(known)}"
        )
        return f"{key}: unknown key{meant}"
    message = str(detail["msg"]).removeprefix("Value error, ")
    if kind == "literal_error":
        message = f"{detail['input']!r} is not one of {detail['ctx']['expected']}"
    elif kind.endswith("_type"):
        message = f"{message[0].lower()}{message[1:]}, got {detail['input']!r}"
    return f"{key}: {message}"


def _keys_at(location: Sequence[str]) -> list[str]:
    fields = Profile.model_fields
    for part in location:
        section = fields[part].annotation if part in fields else None
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            return []
        fields = section.model_fields
    return list(fields)


def _with_absolute_paths(profile: Profile, base: Path) -> Profile:
    def absolute(value: str | None) -> str | None:
        return None if value is None else str(base / Path(value).expanduser())

    kernel = {"image": absolute(profile.kernel.image), "modules": absolute(profile.kernel.modules)}
    root = {"path": absolute(profile.root.path), "files": absolute(profile.root.files)}
    return profile.model_copy(
        update={"kernel": profile.kernel.model_copy(update=kernel), "root": profile.root.model_copy(update=root)}
    )


def _missing_files(profile: Profile) -> list[str]:
    wanted = {
        "kernel.image": (profile.kernel.image, Path.is_file, "file"),
        "kernel.modules": (profile.kernel.modules, Path.is_dir, "folder"),
        "root.path": (
            profile.root.path,
            Path.is_dir if profile.root.source == "directory" else Path.is_file,
            "folder" if profile.root.source == "directory" else "file",
        ),
        "root.files": (profile.root.files, Path.is_dir, "folder"),
    }
    return [
        f"{key}: there is no {noun} {value}"
        for key, (value, check, noun) in wanted.items()
        if value and not check(Path(value))
    ]
