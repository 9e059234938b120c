"""The host's apt in a private root of its own, without privileges and for another architecture.

State, lists and caches are ours; sources, keyrings, preferences, proxies and logins are the host's. Only sources that
are Debian's own are used: those signed by a Debian archive keyring whose signed Release file says `Origin: Debian`.
Each suite is updated by a run of its own, so that the exit code says which one failed.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from loguru import logger

from livebuilder.console import step
from livebuilder.deb822 import parse_paragraphs
from livebuilder.errors import CommandError, LivebuilderError
from livebuilder.process import find_tool, run

FRESH_SECONDS = 24 * 60 * 60  # lists younger than this are not asked for again
RETRY_SECONDS = 60 * 60  # after which a suite that failed is tried again

_KEYRING_FOLDER = Path("/usr/share/keyrings")
_KEYRING_NAME = re.compile(r"debian-archive-[a-z-]+\.(gpg|pgp|asc)")
_NOT_FROM_APT = (
    'use other sources: [kernel] image = "…" and modules = "…", [root] source = "directory" or "archive",'
    ' [initramfs] busybox = "…"'
)
# Options of a source that say how to fetch or how old is too old. Not kept: `arch` and `targets`, which are for the
# host and not for what is being built, and `trusted` and its like, because signatures are verified here.
_KEPT_OPTIONS = frozenset(
    ("by-hash", "check-date", "check-valid-until", "date-max-future", "inrelease-path", "pdiffs", "valid-until-max",
     "valid-until-min")
)  # fmt: skip
_NO = frozenset(("no", "false", "without", "off", "disable", "0"))  # as apt's StringToBool has them


@dataclass(frozen=True)
class Suite:
    """One suite of one of the host's sources. `signed_by` is empty when the source does not say who signs it."""

    uri: str
    name: str
    components: tuple[str, ...] = ()
    signed_by: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    @property
    def has_debian_keyring(self) -> bool:
        """Whether the source names Debian's keyring, and so is Debian's own by the host's word."""
        return bool(self.signed_by) and all(_KEYRING_NAME.fullmatch(Path(word).name) for word in self.signed_by)

    def render(self, keyrings: Sequence[str]) -> str:
        """The suite as a deb822 source (sources.list(5)) that trusts only `keyrings` unless it names Debian's."""
        fields = {
            "Types": "deb", "URIs": self.uri, "Suites": self.name, "Components": " ".join(self.components),
            "Signed-By": " ".join(self.signed_by or keyrings), "Targets": "Packages",
            **{key.title(): value for key, value in self.options},
        }  # fmt: skip
        return "".join(f"{key}: {value}\n" for key, value in fields.items() if value)


@dataclass(frozen=True)
class SuiteState:
    """What the last update of a suite gave; `failure` says why it failed, and is empty when it did not.

    `origin` is what the signed Release file says; the file is named `release` in the lists folder, has the hash
    `release_sha256` and is of `date`. They are empty when there are no lists of the suite.
    """

    checked: float = 0  # seconds since 1970
    failure: str = ""
    origin: str = ""
    release: str = ""
    release_sha256: str = ""
    date: str = ""

    @property
    def usable(self) -> bool:
        """Whether there are lists, signed by Debian, and they are Debian's."""
        return self.origin == "Debian" or self.origin.startswith("Debian ")

    @property
    def foreign(self) -> bool:
        """Whether the suite is known to be somebody else's."""
        return bool(self.origin) and not self.usable

    def needs_update(self, now: float) -> bool:
        """Whether it is time to ask for newer lists."""
        return not 0 <= now - self.checked < (RETRY_SECONDS if self.failure else FRESH_SECONDS)


def read_sources(apt_etc: Path) -> tuple[Suite, ...]:
    """The enabled binary sources of the host, suite by suite, in the order apt reads them (sources.list(5))."""
    parts = apt_etc / "sources.list.d"
    files = [apt_etc / "sources.list"]
    if parts.is_dir():
        files += sorted(file for file in parts.iterdir() if re.fullmatch(r"[\w.-]+\.(list|sources)", file.name))
    suites: dict[Suite, None] = {}
    for file in files:
        try:
            text = file.read_text("utf-8", "replace")
        except FileNotFoundError:
            continue
        except OSError as error:
            logger.warning("{} cannot be read: {}", file, error.strerror)
            continue
        parse = parse_deb822_sources if file.suffix == ".sources" else parse_one_line_sources
        suites |= dict.fromkeys(parse(text))
    return tuple(suite for suite in suites if not suite.uri.startswith("cdrom:"))


def parse_one_line_sources(text: str) -> Iterator[Suite]:
    """The suites of a `.list` file: `deb [option=value …] URI SUITE COMPONENT…`."""
    for line in text.splitlines():
        match = re.fullmatch(r"\s*deb\s+(?:\[([^]]*)\]\s*)?(\S+)\s+(\S+)((?:\s+\S+)*)\s*", line.split("#", 1)[0])
        if match is None:
            continue
        words = [word.partition("=") for word in (match[1] or "").split() if "=" in word]
        options = {key.rstrip("+-").lower(): value for key, _, value in words}
        signed_by = options.get("signed-by", "").replace(",", " ")
        yield _suite(match[2], match[3], match[4].split(), signed_by, options)


def parse_deb822_sources(text: str) -> Iterator[Suite]:
    """The suites of a `.sources` file; a paragraph may name several URIs and several suites."""
    for paragraph in parse_paragraphs(text):
        fields = {key.lower(): value for key, value in paragraph.items()}
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").lower() in _NO:
            continue
        for uri in fields.get("uris", "").split():
            for name in fields.get("suites", "").split():
                components = fields.get("components", "").split()
                yield _suite(uri, name, components, fields.get("signed-by", ""), fields)


def _suite(uri: str, name: str, components: Sequence[str], signed_by: str, options: Mapping[str, str]) -> Suite:
    # A key written into the source, or a bare fingerprint, does not say whose it is: Debian's keyrings will tell.
    keyrings = () if "BEGIN PGP" in signed_by else tuple(word for word in signed_by.split() if word.startswith("/"))
    kept = tuple(sorted((key, " ".join(value.split())) for key, value in options.items() if key in _KEPT_OPTIONS))
    return Suite(uri, name, tuple(components), keyrings, kept)


def debian_keyrings(apt_etc: Path) -> tuple[str, ...]:
    """The keyrings of Debian's archive on this host; empty when it has none."""
    for name in ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg"):
        if (_KEYRING_FOLDER / name).is_file():
            return (str(_KEYRING_FOLDER / name),)
    trusted = apt_etc / "trusted.gpg.d"
    return tuple(sorted(str(file) for file in trusted.glob("debian-archive-*") if _KEYRING_NAME.fullmatch(file.name)))


def debian_suites(suites: Iterable[Suite], *, keyrings: Sequence[str]) -> tuple[Suite, ...]:
    """Those that are Debian's own, or that do not say whose they are, so that the signature has to tell."""
    return tuple(suite for suite in suites if suite.has_debian_keyring or (not suite.signed_by and keyrings))


class PrivateApt:
    """apt with everything it writes below `folder`. The caller holds `lock()` while it asks apt for anything.

    Raises `LivebuilderError` when none of the host's sources can be Debian's.
    """

    def __init__(self, folder: Path, *, architecture: str, apt_etc: Path) -> None:
        self.folder = folder
        self.architecture = architecture
        self.apt_etc = apt_etc
        self.keyrings = debian_keyrings(apt_etc)
        self.suites = debian_suites(read_sources(apt_etc), keyrings=self.keyrings)
        if not self.suites:
            self.require()
            keyring = "" if self.keyrings else ", and Debian's keyring is not installed"
            raise LivebuilderError(
                f"none of the enabled sources in {apt_etc} is Debian's own{keyring}",
                hint="apt install debian-archive-keyring and add a Debian source, or " + _NOT_FROM_APT,
            )

    def require(self) -> None:
        """Raises `LivebuilderError` when this host has no apt."""
        if find_tool("apt-get") is None or find_tool("apt-cache") is None:
            raise LivebuilderError("this host has no apt, so Debian's packages cannot be had", hint=_NOT_FROM_APT)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other builds out while apt runs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                logger.info("Waiting for another build that is using apt")
                fcntl.flock(stream, fcntl.LOCK_EX)
            self._set_up()
            yield

    def _set_up(self) -> None:
        for name in ("lists/partial", "cache/archives/partial", "suites"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        for suite in self.suites:
            _write(self._source(suite), suite.render(self.keyrings))
        _write(self.folder / "apt.conf", render_conf(self.folder, architecture=self.architecture, apt_etc=self.apt_etc))

    def _source(self, suite: Suite) -> Path:
        return self.folder / "suites" / f"{self.key(suite)}.sources"

    def key(self, suite: Suite) -> str:
        """A name for what is kept of a suite."""
        return hashlib.sha256(suite.render(self.keyrings).encode()).hexdigest()[:16]

    def state(self, suite: Suite) -> SuiteState:
        """What the last update of a suite gave; a state that says nothing when there was none."""
        try:
            state = SuiteState(**json.loads((self.folder / "suites" / f"{self.key(suite)}.json").read_bytes()))
        except (OSError, ValueError, TypeError):
            return SuiteState()
        return SuiteState() if state.release and not (self.folder / "lists" / state.release).exists() else state

    def renew(self, *, refresh: bool = False, retry_failed: bool = False) -> None:
        """Fetch the lists that are old, or all with `refresh`; how it went is in each suite's state afterwards."""
        now = time.time()
        states = {suite: self.state(suite) for suite in self.suites}
        due = {
            suite: state
            for suite, state in states.items()
            if refresh or state.needs_update(now) or (retry_failed and state.failure)
        }
        if due:
            self.require()
            with self.lock():
                for suite, state in due.items():
                    if self.state(suite) == state:  # else another build was faster
                        self._renew(suite)

    def _renew(self, suite: Suite) -> None:
        with step(f"Fetching the package lists of {suite.name} for {self.architecture}"):
            failure = self._update(suite) and self._update(suite)  # mirrors in the middle of a change recover
            state = replace(self._lists(suite), checked=time.time(), failure=failure)
            if failure and not suite.signed_by and not state.origin:
                state = self._stranger(suite, state)
            _write(self.folder / "suites" / f"{self.key(suite)}.json", json.dumps(asdict(state)))

    def problems(self) -> tuple[str, ...]:
        """What is wrong with the lists, a sentence for each suite of Debian's that is missing or old."""
        states = ((suite, self.state(suite)) for suite in self.suites)
        return tuple(
            f"the package lists of {suite.name} ({suite.uri}) could not be fetched: {state.failure or 'never tried'};"
            + (f" those of {state.date} are used" if state.usable else " packages that are only there are missing")
            for suite, state in states
            if (state.failure or not state.checked) and not state.foreign
        )

    def _update(self, suite: Suite) -> str:
        """Run apt-get update for one suite; returns why it failed, or nothing."""
        done = run([*self.command("apt-get", [suite]), "update"], check=False)
        if done.returncode == 0:
            return ""
        lines = done.stderr.splitlines()
        errors = [line[2:].strip() for line in lines if line.startswith("E:")] or lines
        return _reason(errors) or f"apt-get update ended with {done.returncode}"

    def _lists(self, suite: Suite) -> SuiteState:
        """What the signed Release of a suite says; nothing when we have no lists of it."""
        fields = "$(FILENAME)\t$(TRUSTED)\t$(ORIGIN)"
        done = run([*self.command("apt-get", [suite]), "indextargets", "--format", fields], check=False)
        for line in done.stdout.splitlines():
            file, trusted, origin = line.split("\t")
            release = _release_of(Path(file))
            if trusted == "yes" and release is not None:
                data = release.read_bytes()
                date = re.search(rb"^Date: *(.*)$", data, re.MULTILINE)
                return SuiteState(
                    origin=origin,
                    release=release.name,
                    release_sha256=hashlib.sha256(data).hexdigest(),
                    date=date[1].decode("ascii", "replace") if date else "",
                )
        return SuiteState()

    def _stranger(self, suite: Suite, state: SuiteState) -> SuiteState:
        """The state of a suite no Debian key has signed: when it does not even say to be Debian's, it did not fail."""
        origin = self._unverified_origin(suite)
        return state if not origin or origin.startswith("Debian") else replace(state, origin=origin, failure="")

    def _unverified_origin(self, suite: Suite) -> str:
        """What an unsigned look at a suite says of whose it is: good enough to leave it out, never to use it."""
        helper = Path("/usr/lib/apt/apt-helper")
        if not helper.exists():
            return ""
        with tempfile.TemporaryDirectory(dir=self.folder) as workspace:
            for name in ("InRelease", "Release"):
                base = f"{suite.uri.rstrip('/')}/" + (
                    suite.name if suite.name.endswith("/") else f"dists/{suite.name}/"
                )
                release = Path(workspace) / name
                run([helper, "-c", self.folder / "apt.conf", "download-file", base + name, release], check=False)
                if release.exists():
                    match = re.search(r"^Origin: *(.*)$", release.read_text("utf-8", "replace"), re.MULTILINE)
                    return match[1] if match else "unknown"
        return ""

    def command(self, program: str, suites: Sequence[Suite]) -> list[str | os.PathLike[str]]:
        """The words that start one of apt's programs on these suites alone."""
        if len(suites) == 1:
            sources = self._source(suites[0])
        else:
            text = "\n".join(suite.render(self.keyrings) for suite in suites)
            sources = self.folder / "suites" / f"all-{hashlib.sha256(text.encode()).hexdigest()[:16]}.sources"
            _write(sources, text)
        return [program, "-c", self.folder / "apt.conf", "-o", f"Dir::Etc::sourcelist={sources}"]

    @property
    def fingerprint(self) -> str:
        """What answers depend on: the lists we have, suite by suite, and the host's preferences."""
        preferences = [self.apt_etc / "preferences", *sorted((self.apt_etc / "preferences.d").glob("*"))]
        texts = [file.read_bytes() for file in preferences if file.is_file()]
        lists = [(self.key(suite), self.state(suite).release_sha256) for suite in self.usable_suites()]
        return hashlib.sha256(repr((self.architecture, lists, texts)).encode()).hexdigest()

    def usable_suites(self) -> tuple[Suite, ...]:
        """The suites whose lists we have, signed and Debian's."""
        return tuple(suite for suite in self.suites if self.state(suite).usable)

    def reachable_names(self, names: Sequence[str]) -> list[str]:
        """Every real package that `names` depend on, near or far, they themselves included."""
        argv = self.command("apt-cache", self.usable_suites())
        without = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
        done = run([*argv, "depends", "--recurse", *without, *names], check=False)
        return sorted({line.strip() for line in done.stdout.splitlines() if re.fullmatch(r"[a-z0-9][\w.+-]*", line)})

    def candidates(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """The index entries of the versions apt would install; names it does not know are left out."""
        if not names:
            return {}
        argv = self.command("apt-cache", self.usable_suites())
        done = run([*argv, "show", "--no-all-versions", *names], check=False)
        asked = set(names)
        return {entry["Package"]: entry for entry in parse_paragraphs(done.stdout) if entry.get("Package") in asked}

    def all_names(self, prefix: str = "") -> list[str]:
        """The names of all packages, real and virtual, that begin with `prefix`."""
        return run(
            [*self.command("apt-cache", self.usable_suites()), "pkgnames", *filter(None, [prefix])]
        ).stdout.split()

    def providers(self, name: str) -> list[str]:
        """The real packages that provide a virtual one."""
        done = run([*self.command("apt-cache", self.usable_suites()), "showpkg", name], check=False)
        _, _, listed = done.stdout.partition("Reverse Provides:")
        return sorted({line.split()[0] for line in listed.splitlines() if line.strip()})

    def download(self, versions: Mapping[str, str], *, into: Path) -> list[Path]:
        """Fetch these packages in these versions, verified by apt against the signed lists, into a folder."""
        wanted = [f"{name}={version}" for name, version in sorted(versions.items())]
        try:
            run([*self.command("apt-get", self.usable_suites()), "download", *wanted], cwd=into)
        except CommandError as error:
            lines = [line[2:] for line in error.stderr.splitlines() if line.startswith("E:")]
            raise LivebuilderError(
                f"fetching {', '.join(wanted)} from Debian's archive failed: {_reason(lines) or error.message}",
                hint="look at the network, then run the same command again",
            ) from error
        return [file for file in sorted(into.iterdir()) if file.is_file()]


def render_conf(folder: Path, *, architecture: str, apt_etc: Path) -> str:
    """The apt.conf(5) of the private root; it is read after the host's own and overrides it."""
    values = {
        "APT::Architecture": architecture,
        "APT::Get::List-Cleanup": "false",
        "APT::Update::Error-Mode": "any",
        "APT::Get::AllowUnauthenticated": "false",
        "Acquire::AllowInsecureRepositories": "false",
        "Acquire::AllowWeakRepositories": "false",
        "Acquire::AllowDowngradeToInsecureRepositories": "false",
        "Acquire::GzipIndexes": "false",
        "Acquire::Retries": "1",
        "Acquire::http::Timeout": "20",
        "Acquire::https::Timeout": "20",
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
        "Dir::Cache": folder / "cache",
        "Dir::Cache::archives": "archives",
        "Dir::Cache::pkgcache": "pkgcache.bin",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Etc": apt_etc,
        "Dir::Etc::sourceparts": "/dev/null",
        **({"APT::Sandbox::User": "root"} if os.geteuid() == 0 else {}),  # our folder may be closed to _apt
    }
    hooks = [f"{who}::{when}" for who in ("APT::Update", "DPkg") for when in
             ("Pre-Invoke", "Post-Invoke", "Post-Invoke-Success")]  # fmt: skip
    cleared = [*hooks, "DPkg::Pre-Install-Pkgs", "APT::Architectures", "Acquire::Languages"]
    return (
        "".join(f"#clear {name};\n" for name in cleared)
        + "".join(f'{name} "{value}";\n' for name, value in values.items())
        + f'APT::Architectures {{ "{architecture}"; }};\nAcquire::Languages {{ "none"; }};\n'
    )


def _release_of(index: Path) -> Path | None:
    """The Release file that an index file in the lists folder belongs to, if both are there."""
    if index.exists():
        for release in index.parent.glob("*Release"):
            if index.name.startswith(release.name.removesuffix("Release").removesuffix("In")):
                return release
    return None


def _reason(errors: Sequence[str]) -> str:
    """The first of apt's messages on one line, without the address it happened to talk to."""
    return " ".join(re.sub(r"\[IP: [^]]*\]", "", errors[0]).split()) if errors else ""


def _write(path: Path, text: str) -> None:
    """Write a small file whole or not at all, and not when it says the same already."""
    try:
        if path.read_text() == text:
            return
    except (FileNotFoundError, UnicodeDecodeError):
        pass
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)
