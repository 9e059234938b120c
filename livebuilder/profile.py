"""The profile: one TOML file that says which kernel, root, modules, label and console. docs/profile.md has every key.

All problems of a profile are found in one go and reported together, each with the file and the key.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from livebuilder.assets import asset
from livebuilder.errors import LivebuilderError, UsageError
from livebuilder.image.router import ROUTER_PACKAGES
from livebuilder.image.settings import (
    RouterSettings,
    host_name,
    parse_dhcp_range,
    parse_dns,
    parse_host_name,
    parse_lan,
    parse_password_hash,
    parse_wan,
)
from livebuilder.image.sshkeys import authorized_keys, is_key
from livebuilder.image.timezone import posix_timezone
from livebuilder.kernel.modules import feature_names
from livebuilder.openwrt.change import ChangeKind
from livebuilder.sizes import KIB, MIB, parse_size

BUILT_IN = "the built-in profile"
_FEATURE_ROUTER = "router"
# By the root's source: how a package is called, and what that is. `-NAME` takes one out.
_PACKAGE_NAMES = {
    "debian": (re.compile(r"-?[a-z0-9][a-z0-9.+-]+"), "a Debian package name"),
    "openwrt": (re.compile(r"-?[A-Za-z0-9][A-Za-z0-9_.+-]*"), "the name of an OpenWrt package"),
}
_FEED_LINE = re.compile(r"src(/gz)?\s")


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


def _checked_by(parse: Callable[[str], object]) -> Callable[[str], str]:
    """A check by a function that makes something else of it, which is made when all of the profile is known."""

    def check(value: str) -> str:
        parse(value)
        return value

    return check


def _unsupported_wifi(value: object) -> None:
    raise ValueError("the router has no wifi yet: use an access point on the lan")


def _label(value: str) -> str:
    # 16 bytes is what an ext2 superblock holds; a label every file system can carry is the only safe one.
    if not 1 <= len(value.encode()) <= 16:
        raise ValueError(f"{value!r} has {len(value.encode())} bytes; an ext label holds 1 to 16")
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", value):
        raise ValueError(f"{value!r} has characters other than letters, digits and _ . + -")
    return value


def _block_size(value: int) -> int:
    # Linux: SQUASHFS_FILE_MAX_SIZE; blocks smaller than a page are possible and of no use.
    if value.bit_count() != 1 or not 4 * KIB <= value <= MIB:
        raise ValueError("a squashfs has blocks of 4K, 8K, 16K … up to 1M")
    return value


def _feed(value: str) -> str:
    if "://" in value and not _FEED_LINE.match(value) and not re.fullmatch(r"https?://[^\s/?#@]+[^\s?#]*", value):
        raise ValueError(f"{value!r} is not the address of a release: it looks like https://HOST/releases/23.05.5")
    if _FEED_LINE.match(value) and not re.fullmatch(r"src(/gz)?\s+[\w.+-]+\s+(https?://[^\s?#@]+|/\S+)", value):
        raise ValueError(f"{value!r} is no feed: write src/gz NAME URL, as in OpenWrt's customfeeds.conf")
    return value


Size = Annotated[int, BeforeValidator(_size), Field(ge=0)]
BlockSize = Annotated[int, BeforeValidator(_size), AfterValidator(_block_size)]
Budget = Annotated[Annotated[int, Field(ge=0)] | None, BeforeValidator(_budget)]
RootPath = Annotated[str, AfterValidator(_absolute)]
Name = Annotated[str, _matching(r"[a-z0-9][a-z0-9._-]{0,31}", "a name (a-z, 0-9, . _ -; at most 32)")]
ModuleWord = Annotated[str, _matching(r"[A-Za-z0-9_-]+", "a name of a feature or module")]
Console = Annotated[str, _matching(r"tty[A-Za-z]*\d+(,\d+[noe]?\d?r?)?", "a console (tty0, ttyS0,115200n8)")]
Label = Annotated[str, AfterValidator(_label)]
Owner = Annotated[str, _matching(r"\d+:\d+", "a numeric owner and group (0:0)")]
FeedWord = Annotated[str, AfterValidator(_feed)]
Words = Annotated[str, _matching(r"[ -~]*", "one line of plain ASCII")]
NamePart = Annotated[
    str, _matching(r"[A-Za-z0-9._+~-]{0,32}", "a part of a name (letters, digits, . _ + ~ -; at most 32)")
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class KernelSection(_Section):
    """Where the kernel and its modules come from."""

    source: Literal["debian", "files"] = "debian"
    flavour: Annotated[str, _matching(r"[a-z0-9-]+", "a Debian kernel flavour (686, 686-pae, amd64)")] = "686"
    image: str | None = None
    modules: str | None = None


class RootSection(_Section):
    """What the router's root is made of."""

    source: Literal["debian", "directory", "archive", "openwrt"] = "debian"
    packages: tuple[str, ...] = Field(default=(), strict=False)
    path: str | None = None
    rootfs: str | None = None
    files: str | None = None
    owners: dict[RootPath, Owner] = {}
    init: RootPath = "/etc/preinit"
    mode: Literal["ext2", "squashfs", "tmpfs"] = "ext2"
    squashfs_block: BlockSize = 256 * KIB
    free: Size = 2 * MIB


class RouterSection(_Section):
    """What the default root is told, in the profile's words; `Profile.router_settings()` is what they say."""

    hostname: Annotated[str, AfterValidator(parse_host_name)] | None = None
    timezone: Annotated[str, AfterValidator(_checked_by(posix_timezone))] = "UTC0"
    lan: Annotated[str, AfterValidator(_checked_by(parse_lan))] = "192.168.1.1/24"
    wan: Annotated[str, AfterValidator(parse_wan)] = "auto"
    dhcp_range: str = "100-249"
    dns: tuple[Annotated[str, AfterValidator(parse_dns)], ...] = Field(default=(), strict=False)
    ssh_keys: tuple[str, ...] = Field(default=(), strict=False)
    root_password_hash: Annotated[str, AfterValidator(parse_password_hash)] | None = None
    wifi: Annotated[None, BeforeValidator(_unsupported_wifi)] = None


class OpenwrtSection(_Section):
    """What is done to an OpenWrt root, and where its packages come from."""

    keep: tuple[Annotated[ChangeKind, Field(strict=False)], ...] = Field(default=(), strict=False)
    feeds: tuple[FeedWord, ...] = Field(default=(), strict=False)
    keys: tuple[str, ...] = Field(default=(), strict=False)
    hash_only: bool = False


class InitramfsSection(_Section):
    """What runs before there is a root."""

    busybox: str | None = None


class ModulesSection(_Section):
    """Which drivers travel."""

    features: tuple[ModuleWord, ...] = Field(
        default=("cdrom", "usb-storage", "nic", "router", "f2fs", "btrfs"), strict=False
    )
    extra: tuple[ModuleWord, ...] = Field(default=(), strict=False)


class StorageSection(_Section):
    """The stick that keeps the settings."""

    label: Label = "rootfs_data"
    settle: Annotated[int, Field(ge=0, le=600)] = 15


class BootSection(_Section):
    """What the boot menu and the kernel are told."""

    console: tuple[Console, ...] = Field(default=("tty0", "ttyS0,115200n8"), strict=False, min_length=1)
    timeout: Annotated[int, Field(ge=0, le=600)] = 3
    cmdline: Words = ""


class OutputSection(_Section):
    """What is written, under which names, and how large it may be."""

    layout: Literal["flat", "openwrt"] = "flat"
    version: NamePart = ""
    extra: NamePart = ""
    compression: Literal["none", "gzip", "xz", "zstd"] = "xz"
    max_size: Budget = None


class Profile(_Section):
    """A whole profile; paths in it are relative to the file it came from."""

    name: Name = "router"
    kernel: KernelSection = KernelSection()
    root: RootSection = RootSection()
    router: RouterSection = RouterSection()
    openwrt: OpenwrtSection = OpenwrtSection()
    initramfs: InitramfsSection = InitramfsSection()
    modules: ModulesSection = ModulesSection()
    storage: StorageSection = StorageSection()
    boot: BootSection = BootSection()
    output: OutputSection = OutputSection()
    _file: str = PrivateAttr(default=BUILT_IN)

    def says(self, key: str) -> bool:
        """Whether the profile itself gives `key`, as in `root.init`, rather than leaving it to the default."""
        section, _, name = key.partition(".")
        return name in getattr(self, section).model_fields_set

    @property
    def features(self) -> tuple[str, ...]:
        """The features of the drivers that travel: what the default root needs only with that root, or when named."""
        chosen = self.modules.features
        if self.root.source == "debian" or self.says("modules.features"):
            return chosen
        return tuple(name for name in chosen if name != _FEATURE_ROUTER)

    def router_settings(self) -> RouterSettings:
        """What the default root is told."""
        told = self.router
        lan = parse_lan(told.lan)
        return RouterSettings(
            hostname=told.hostname or host_name(self.name),
            timezone=posix_timezone(told.timezone),
            lan=lan,
            wan=told.wan,
            dhcp_range=parse_dhcp_range(told.dhcp_range, lan),
            dns=told.dns,
            ssh_keys=told.ssh_keys,
            root_password_hash=told.root_password_hash,
        )

    def problem(self, key: str, message: str, *, hint: str | None) -> ProfileError:
        """What turned out to be wrong with the value of `key`, told as `read_profile` tells it: the file, the key."""
        return ProfileError(f"{self._file}: {key}: {message}", hint=hint)


def read_profile(path: Path | None, *, settings: Sequence[str] = ()) -> Profile:
    """The profile in `path` (None: the built-in one), changed by `settings`, each `KEY=VALUE` as in `root.free=4M`.

    Paths in the result are absolute. Raises `ProfileError` with every problem found, `UsageError` for a setting that
    is no KEY=VALUE.
    """
    where = str(path) if path else BUILT_IN
    values = _read_toml(path) if path else {}
    base = (path.parent if path else Path()).absolute()
    for setting in settings:
        _apply(values, setting)
    problems: list[str] = []
    profile: Profile | None = None
    try:
        profile = Profile.model_validate(_with_implied(values))
    except ValidationError as error:
        problems += [_describe(detail) for detail in error.errors()]
    problems += [
        *_combinations(values), *_wrong_packages(values), *_unknown_features(values), *_missing_files(values, base),
        *_wrong_range(values), *_wrong_keys(values, base),
    ]  # fmt: skip
    if problems or profile is None:
        raise ProfileError(
            "\n".join(f"{where}: {problem}" for problem in problems),
            hint=_hint(),
        )
    profile._file = where
    return _with_absolute_paths(profile, base)


def _hint() -> str:
    return f"{asset('docs/profile.md')} lists every key; livebuilder build --help shows examples"


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
        raise ProfileError(f"{path}: not TOML: {error}", hint=_hint()) from error


def _apply(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise UsageError(f"--set {setting}: write KEY=VALUE", hint="--set storage.label=rootfs_data")
    table = values
    for part in parts[:-1]:
        below = table.setdefault(part, {})
        if not isinstance(below, dict):
            raise UsageError(f"--set {setting}: {part} is not a section", hint="--set storage.label=rootfs_data")
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
    elif kind in ("tuple_type", "model_type", "dict_type"):
        message = f"should be {'a list' if kind == 'tuple_type' else 'a section'}, got {detail['input']!r}"
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


def _get(values: Mapping[str, Any], section: str, key: str) -> object:
    """What the TOML says, right or wrong; None where it says nothing."""
    table = values.get(section)
    return table.get(key) if isinstance(table, dict) else None


def _with_implied(values: dict[str, Any]) -> dict[str, Any]:
    """A kernel image of one's own needs no `source = "files"`."""
    kernel = values.get("kernel")
    if isinstance(kernel, dict) and "source" not in kernel and {"image", "modules"} & kernel.keys():
        values = {**values, "kernel": {**kernel, "source": "files"}}
    return values


def _combinations(values: dict[str, Any]) -> Iterator[str]:
    """Keys that need or exclude one another; looked for in the TOML itself, so that other mistakes hide none."""
    implied = _with_implied(values)
    kernel, root = _get(implied, "kernel", "source") or "debian", _get(values, "root", "source") or "debian"
    image, modules = _get(values, "kernel", "image"), _get(values, "kernel", "modules")
    from_root = root == "openwrt" and not modules  # then the root has the modules, and its image may have the kernel
    if kernel == "files" and not (image and modules) and not from_root:
        yield 'kernel: needs both image = "…/vmlinuz" and modules = "…/lib/modules/VERSION"'
    if kernel == "debian" and (image or modules):
        yield 'kernel: has image or modules, which source = "debian" does not use'
    if root in ("directory", "archive") and not _get(values, "root", "path"):
        yield f'root: source = "{root}" needs path = "…"'
    if root in ("debian", "openwrt") and _get(values, "root", "path"):
        yield f'root: has a path, which source = "{root}" does not use'
    if root == "openwrt" and not _get(values, "root", "rootfs"):
        yield 'root: source = "openwrt" needs rootfs = "openwrt-…-rootfs.tar.gz"'
    if root != "openwrt" and _get(values, "root", "rootfs"):
        yield f'root: has a rootfs, which source = "{root}" does not use'
    if root != "openwrt" and _get(values, "openwrt", "keep"):
        yield f'openwrt.keep: source = "{root}" changes nothing that could be kept'
    for key in ("feeds", "keys", "hash_only"):
        if root != "openwrt" and _get(values, "openwrt", key):
            yield f'openwrt.{key}: source = "{root}" gets nothing from feeds of OpenWrt'
    if _get(values, "openwrt", "keys") and _get(values, "openwrt", "hash_only"):
        yield "openwrt: keys and hash_only = true exclude each other"
    if root in ("directory", "archive") and _get(values, "root", "packages") is not None:
        yield f'root: has packages, which source = "{root}" does not use'
    if root != "debian" and "router" in values:
        yield f'router: is for the default root; a root with source = "{root}" is told by root.files'
    if _get(values, "root", "owners") and not _get(values, "root", "files"):
        yield "root.owners: has no files whose owners it could name: root.files is not set"


def _wrong_packages(values: Mapping[str, Any]) -> Iterator[str]:
    source, packages = _get(values, "root", "source") or "debian", _get(values, "root", "packages")
    if not isinstance(packages, list) or source not in ("debian", "openwrt"):
        return
    pattern, description = _PACKAGE_NAMES[str(source)]
    for name in packages:
        if isinstance(name, str) and pattern.fullmatch(name) is None:
            yield f"root.packages: {name!r} is not {description}"
        elif source == "debian" and isinstance(name, str) and name[0] == "-" and name[1:] not in ROUTER_PACKAGES:
            own = ", ".join(sorted(ROUTER_PACKAGES))
            yield f"root.packages: {name} takes nothing out: the packages of the router are {own}"


def _wrong_range(values: Mapping[str, Any]) -> Iterator[str]:
    """A `dhcp_range` that is none, or not inside the lan, if that is one."""
    told = RouterSection().model_dump() | (values["router"] if isinstance(values.get("router"), dict) else {})
    if not isinstance(told["dhcp_range"], str):
        return
    try:
        lan = parse_lan(told["lan"])
    except (ValueError, TypeError):
        lan = None
    try:
        parse_dhcp_range(told["dhcp_range"], lan)
    except ValueError as error:
        yield f"router.dhcp_range: {error}"


def _wrong_keys(values: Mapping[str, Any], base: Path) -> Iterator[str]:
    told = _get(values, "router", "ssh_keys")
    for value in told if isinstance(told, list) else []:
        if isinstance(value, str):
            try:
                _keys_of(value, base)
            except (RuntimeError, ValueError, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                yield f"router.ssh_keys: {'' if is_key(value) else f'{value}: '}{reason}"


def _keys_of(value: str, base: Path) -> tuple[str, ...]:
    """The lines that a key, or a path of a file with keys, stands for."""
    return authorized_keys(value if is_key(value) else _absolute_path(value, base).read_text("utf-8"))


def _unknown_features(values: Mapping[str, Any]) -> Iterator[str]:
    features = _get(values, "modules", "features")
    known = feature_names()
    for feature in features if isinstance(features, list) else []:
        if isinstance(feature, str) and feature not in known:
            near = get_close_matches(feature, known, n=1)
            meant = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            yield f"modules.features: there is no feature {feature!r}; {meant}"


def _missing_files(values: Mapping[str, Any], base: Path) -> Iterator[str]:
    in_folder = _get(values, "root", "source") == "directory"
    for section, key, folder in (
        ("kernel", "image", False),
        ("kernel", "modules", True),
        ("root", "path", in_folder),
        ("root", "rootfs", False),
        ("root", "files", True),
        ("initramfs", "busybox", False),
    ):
        value = _get(values, section, key)
        if isinstance(value, str):
            yield from _missing(section, key, value, base, folder=folder)
    yield from _missing_of_lists(values, base)


def _missing(section: str, key: str, value: str, base: Path, *, folder: bool) -> Iterator[str]:
    try:
        path = _absolute_path(value, base)
        if key == "rootfs":
            yield from _unclear_rootfs(path)
            return
        there = path.is_dir() if folder else path.is_file()
    except (RuntimeError, ValueError, OSError) as error:  # ~nobody/x, a NUL, a name that is too long
        yield f"{section}.{key}: {value!r} cannot be a path here: {error}"
        return
    if not there:
        yield f"{section}.{key}: there is no {'folder' if folder else 'file'} {path}"


def _missing_of_lists(values: Mapping[str, Any], base: Path) -> Iterator[str]:
    for key, folder in (("keys", False), ("feeds", True)):
        told = _get(values, "openwrt", key)
        for value in told if isinstance(told, list) else []:
            if isinstance(value, str) and not (folder and _is_remote(value)):
                yield from _missing("openwrt", key, value, base, folder=folder)


def _is_remote(feed: str) -> bool:
    """Whether a word of `openwrt.feeds` is no folder."""
    return "://" in feed or _FEED_LINE.match(feed) is not None


def _unclear_rootfs(pattern: Path) -> Iterator[str]:
    found = _matches(pattern)
    if not found:
        yield f"root.rootfs: there is no file {pattern}"
    elif len(found) > 1:
        names = ", ".join(path.name for path in found[:4])
        yield f"root.rootfs: {pattern} stands for {len(found)} files ({names}{', …' if found[4:] else ''}): name one"


def _matches(pattern: Path) -> list[Path]:
    """The files that a path, whose last part may have wildcards, stands for; a file of that very name comes first."""
    if pattern.is_file():
        return [pattern]
    return sorted(path for path in pattern.parent.glob(pattern.name) if path.is_file())


def _absolute_path(value: str, base: Path) -> Path:
    return base / Path(value).expanduser()


def _with_absolute_paths(profile: Profile, base: Path) -> Profile:
    def absolute(value: str | None) -> str | None:
        return None if value is None else str(_absolute_path(value, base))

    kernel = {"image": absolute(profile.kernel.image), "modules": absolute(profile.kernel.modules)}
    root = {"path": absolute(profile.root.path), "files": absolute(profile.root.files)}
    if profile.root.rootfs:
        root["rootfs"] = str(_matches(_absolute_path(profile.root.rootfs, base))[0])
    openwrt = {
        "keys": tuple(str(_absolute_path(key, base)) for key in profile.openwrt.keys),
        "feeds": tuple(feed if _is_remote(feed) else str(_absolute_path(feed, base)) for feed in profile.openwrt.feeds),
    }
    initramfs = {"busybox": absolute(profile.initramfs.busybox)}
    router = {"ssh_keys": tuple(dict.fromkeys(key for word in profile.router.ssh_keys for key in _keys_of(word, base)))}
    return profile.model_copy(
        update={
            "kernel": profile.kernel.model_copy(update=kernel),
            "root": profile.root.model_copy(update=root),
            "router": profile.router.model_copy(update=router),
            "openwrt": profile.openwrt.model_copy(update=openwrt),
            "initramfs": profile.initramfs.model_copy(update=initramfs),
        }
    )
