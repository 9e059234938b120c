"""Files from a web server: small ones into memory, large ones into the cache by their SHA-256.

What was begun is gone on with (RFC 9110, 14: Range and If-Range), by the next attempt or the next run. A server that
does not know ranges, or whose file has changed, sends it from the start. Nothing gets its final name before its hash
is right.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar
from urllib.parse import urlsplit

import httpx
from loguru import logger

from livebuilder import __version__
from livebuilder.cache import Cache
from livebuilder.console import Progress
from livebuilder.errors import LivebuilderError, UsageError

KEPT: Final = "downloads"  # whole files, by SHA-256
_BEGUN: Final = "downloads-begun"
_MOST_TEXT_BYTES: Final = 8 << 20
_MOST_FILE_BYTES: Final = 2 << 30
_LONGEST_PAUSE_SECONDS: Final = 60.0
_TRY_LATER = frozenset((408, 425, 429, 500, 502, 503, 504))
_ABSENT = frozenset((404, 410))

Result = TypeVar("Result")


class _TryLaterError(Exception):
    """The server is there and cannot serve now; it may have said for how many seconds."""

    def __init__(self, reason: str, *, seconds: float = 0) -> None:
        super().__init__(reason)
        self.seconds = seconds


def check_base(url: str) -> str:
    """The address of a server without the slash at its end. Raises `UsageError` when it is none."""
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.fragment
        parts.port  # noqa: B018 # raises for what is none
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(f"{url!r} is not the address of a server", hint="it looks like https://HOST/PATH")
    if parts.username or parts.password:
        raise UsageError("the server's address has a password in it", hint="put it into ~/.netrc instead")
    return url.strip().rstrip("/")


def file_sha256(path: Path) -> str:
    """The SHA-256 of what is in a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kept_file(cache: Cache, sha256: str) -> Path | None:
    """The file with this hash, whole, from the cache, or None; what has gone bad there does not count."""
    path = cache.find(KEPT, sha256)
    return path if path and path.is_file() and file_sha256(path) == sha256 else None


@dataclass(frozen=True)
class _Begun:
    """A file that has not arrived whole: `part` is its beginning, `validator` what If-Range says of it."""

    part: Path
    validator: Path

    @property
    def size_bytes(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def forget(self) -> None:
        """Begin again."""
        self.part.unlink(missing_ok=True)
        self.validator.write_text("")

    def remove(self) -> None:
        """Leave nothing of it."""
        self.part.unlink(missing_ok=True)
        self.validator.unlink(missing_ok=True)


class Mirror:
    """A server below one address. `pauses` are the seconds before each further attempt after one that failed."""

    def __init__(self, base: str, *, pauses: Sequence[float] = (1, 3, 9)) -> None:
        self.base = check_base(base)
        self._pauses = pauses
        try:
            self._client = httpx.Client(
                follow_redirects=True,
                timeout=httpx.Timeout(30, connect=15),
                # Not compressed on the way: ranges and hashes are of the file as it is.
                headers={"User-Agent": f"livebuilder/{__version__}", "Accept-Encoding": "identity"},
                event_hooks={"request": [self._refuse_downgrade]},
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            raise LivebuilderError(
                f"the environment's settings for the network cannot be used: {error}",
                hint="env | grep -i -e _proxy -e SSL_CERT",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._client.close()

    def url(self, path: str) -> str:
        """The whole address of a file."""
        return f"{self.base}/{path}"

    def read(self, path: str) -> bytes | None:
        """A small file, or None where there is none. Raises `LivebuilderError`."""
        return self._persist(path, lambda: self._read(path))

    def _read(self, path: str) -> bytes | None:
        with self._client.stream("GET", self.url(path)) as response:
            if response.status_code in _ABSENT:
                return None
            self._check(response)
            data = bytearray()
            for block in response.iter_raw():
                data += block
                self._check_size(path, len(data), most=_MOST_TEXT_BYTES)
            return bytes(data)

    def size_of(self, path: str) -> int | None:
        """How many bytes a file has, or None when the server does not say. Raises `LivebuilderError`."""
        response = self._persist(path, lambda: self._client.head(self.url(path)))
        length = response.headers.get("Content-Length", "")
        return int(length) if response.status_code == httpx.codes.OK and length.isdecimal() else None

    def obtain(self, path: str, *, sha256: str, cache: Cache, progress: Progress) -> Path:
        """A file, fetched into the cache unless it is there; its SHA-256 is what was asked for.

        Raises `LivebuilderError` when it cannot be had or is another file.
        """
        with _reserved(cache, sha256) as begun, cache.place(KEPT, sha256) as draft:
            if kept := kept_file(cache, sha256):
                draft.hardlink_to(kept)  # another run was quicker
            else:
                self._complete(path, begun, sha256, progress)
                begun.part.replace(draft)
        return cache.folder(KEPT) / sha256

    def _complete(self, path: str, begun: _Begun, sha256: str, progress: Progress) -> None:
        """Fetch what is lacking of a file; what was there of it may turn out to be of another one."""
        while True:
            resumed = begun.size_bytes > 0
            self._persist(path, lambda: self._fetch(path, begun, progress), advance=lambda: begun.size_bytes)
            found, size_bytes = file_sha256(begun.part), begun.size_bytes
            if found == sha256:
                return
            begun.forget()
            if not resumed:
                raise LivebuilderError(
                    f"{self.url(path)} is not the file it should be: it has {size_bytes} bytes and the SHA-256 {found},"
                    f" and the list says {sha256}",
                    hint="type it again, and if it stays so, use another mirror and tell the one who runs this one",
                )
            logger.warning("the part of {} that was there does not fit: fetching it from the start", path)

    def _fetch(self, path: str, begun: _Begun, progress: Progress) -> None:
        """One attempt to get the rest of the file."""
        headers = {}
        if have := begun.size_bytes:
            headers["Range"] = f"bytes={have}-"
            if validator := begun.validator.read_text():
                headers["If-Range"] = validator
        with self._client.stream("GET", self.url(path), headers=headers) as response:
            if have and response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                return  # nothing is missing, or it is another file: the hash tells
            self._check(response)
            if response.status_code != httpx.codes.PARTIAL_CONTENT:
                have = 0
                begun.validator.write_text(_validator(response))
            elif not re.match(rf"bytes {have}-", response.headers.get("Content-Range", "")):
                begun.forget()
                raise _TryLaterError("the server sent another part than it was asked for")
            length = response.headers.get("Content-Length", "")
            total = have + int(length) if length.isdecimal() else 0
            with begun.part.open("ab" if have else "wb") as file:
                for block in response.iter_raw():
                    file.write(block)
                    have += len(block)
                    self._check_size(path, have, most=_MOST_FILE_BYTES)
                    progress(have, max(have, total))

    def _persist(self, path: str, attempt: Callable[[], Result], *, advance: Callable[[], int] = lambda: 0) -> Result:
        """What `attempt` gives, at the latest after all pauses; where more bytes came in, they are counted anew."""
        failures, furthest = 0, advance()
        while True:
            try:
                return attempt()
            except (httpx.HTTPError, httpx.InvalidURL, _TryLaterError) as error:
                failures = 1 if advance() > furthest else failures + 1
                furthest = max(furthest, advance())
                reason = str(error) or type(error).__name__
                if _is_final(error) or failures > len(self._pauses):
                    raise LivebuilderError(
                        f"{self.url(path)} cannot be fetched: {reason}",
                        hint="look at the address and the network, and type it again: what has come is kept",
                    ) from error
                pause = max(self._pauses[failures - 1], getattr(error, "seconds", 0))
                logger.warning("{}: {}; trying again in {:.0f} s", self.url(path), reason, pause)
                time.sleep(pause)

    def _check(self, response: httpx.Response) -> None:
        status = f"{response.status_code} {response.reason_phrase}".strip()
        if response.status_code in _TRY_LATER:
            raise _TryLaterError(f"the server answers {status}", seconds=_retry_after(response))
        if not response.is_success:
            raise LivebuilderError(
                f"{response.url} cannot be fetched: the server answers {status}", hint="look at the address"
            )

    def _check_size(self, path: str, size_bytes: int, *, most: int) -> None:
        if size_bytes > most:
            raise LivebuilderError(
                f"{self.url(path)} has more than {most} bytes, which is not what it should be",
                hint="look at the address",
            )

    def _refuse_downgrade(self, request: httpx.Request) -> None:
        if self.base.startswith("https:") and request.url.scheme != "https":
            raise LivebuilderError(
                f"the server sends us on to {request.url}, where anyone on the way can change what we get",
                hint="use another mirror",
            )


@contextmanager
def _reserved(cache: Cache, sha256: str) -> Iterator[_Begun]:
    """What is there of a file, for us alone; when the block ends well, there is no more need of it.

    Another run that wants the same file waits, until the whole one is in its place.
    """
    folder = cache.folder(_BEGUN)
    begun = _Begun(folder / f"{sha256}.part", folder / f"{sha256}.validator")
    try:
        lock = begun.validator.open("a")
    except OSError as error:
        raise LivebuilderError(
            f"the cache folder {folder} cannot be written: {error.strerror}",
            hint="set XDG_CACHE_HOME to a folder you can write",
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        begun.validator.touch()  # the run before may have finished, and removed it
        yield begun
        begun.remove()


def _validator(response: httpx.Response) -> str:
    """What If-Range may say later (RFC 9110, 13.1.5): a strong entity tag, else the date of the last change."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag.startswith('"') else str(response.headers.get("Last-Modified", ""))


def _retry_after(response: httpx.Response) -> float:
    """The seconds the server asks us to wait (RFC 9110, 10.2.3), within reason."""
    text = str(response.headers.get("Retry-After", ""))
    try:
        seconds = float(text) if text.isdecimal() else parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return 0
    return min(max(seconds, 0), _LONGEST_PAUSE_SECONDS)


def _is_final(error: Exception) -> bool:
    """Whether another attempt would end in the same way: a wrong certificate, a redirect in a circle."""
    if isinstance(error, (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects)):
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
