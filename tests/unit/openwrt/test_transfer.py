"""Fetching from a server that breaks off, lies, is busy, sends us elsewhere: the file is right or is not there."""

from __future__ import annotations

import fcntl
import hashlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from livebuilder.cache import Cache
from livebuilder.errors import LivebuilderError, UsageError
from livebuilder.openwrt.transfer import Mirror, check_base, kept_file
from tests.support.releases import content
from tests.support.signing import loopback_certificate
from tests.support.web import Site, serving

DATA = content("rootfs", 500_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
NAME = "releases/rootfs.tar.gz"
PAUSES = (0.0, 0.0, 0.0)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site({NAME: DATA})) as site:
        yield site


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{message}", level="WARNING")
    yield lines
    logger.remove(sink)


def obtain(site: Site, cache: Cache, *, sha256: str = SHA256) -> bytes:
    seen: list[tuple[int, int]] = []
    with Mirror(site.address, pauses=PAUSES) as mirror:
        path = mirror.obtain(NAME, sha256=sha256, cache=cache, progress=lambda done, total: seen.append((done, total)))
    assert path == cache.root / "downloads" / sha256
    assert not seen or seen[-1] == (len(DATA), len(DATA))
    return path.read_bytes()


def parts(cache: Cache) -> dict[str, int]:
    """What is begun, and how many bytes of it there are."""
    return {path.suffix: path.stat().st_size for path in (cache.root / "downloads-begun").iterdir()}


def begin(cache: Cache, data: bytes, *, validator: str = "") -> None:
    """Leave what an earlier run may have left."""
    folder = cache.folder("downloads-begun")
    (folder / f"{SHA256}.part").write_bytes(data)
    if validator:
        (folder / f"{SHA256}.validator").write_text(validator)


def test_a_file_arrives_and_the_progress_is_told(site: Site, cache: Cache) -> None:
    seen: list[tuple[int, int]] = []
    with Mirror(site.address) as mirror:
        path = mirror.obtain(NAME, sha256=SHA256, cache=cache, progress=lambda *step: seen.append(step))
    assert path.read_bytes() == DATA
    assert seen == sorted(seen) and seen[-1] == (len(DATA), len(DATA)) and {total for _, total in seen} == {len(DATA)}
    assert parts(cache) == {}


def test_the_second_time_nothing_is_asked_for(site: Site, cache: Cache) -> None:
    obtain(site, cache)
    assert obtain(site, cache) == DATA
    assert site.asked(NAME) == [""]


def test_a_kept_file_that_went_bad_is_fetched_again(site: Site, cache: Cache) -> None:
    obtain(site, cache)
    (cache.root / "downloads" / SHA256).write_bytes(DATA[:-1])
    assert kept_file(cache, SHA256) is None
    assert obtain(site, cache) == DATA
    assert kept_file(cache, SHA256)


def test_a_connection_that_is_cut_is_taken_up_where_it_broke(site: Site, cache: Cache, said: list[str]) -> None:
    site.cuts[NAME] = [100_000, 50_000]
    assert obtain(site, cache) == DATA
    assert site.asked(NAME) == ["", "bytes=100000-", "bytes=150000-"]
    assert len(said) == 2 and "trying again" in said[0]


def test_as_long_as_bytes_come_in_it_goes_on(site: Site, cache: Cache) -> None:
    site.cuts[NAME] = [50_000] * 9
    assert obtain(site, cache) == DATA
    assert len(site.asked(NAME)) == 10


def test_when_none_come_any_more_it_ends_and_the_next_run_goes_on(site: Site, cache: Cache) -> None:
    site.cuts[NAME] = [100_000]
    site.answers[NAME] = [0, 503, 503, 503]
    with pytest.raises(LivebuilderError, match="cannot be fetched: the server answers 503") as caught:
        obtain(site, cache)
    assert "what has come is kept" in str(caught.value.hint)
    assert kept_file(cache, SHA256) is None
    assert parts(cache)[".part"] == 100_000
    assert obtain(site, cache) == DATA
    assert site.asked(NAME)[-1] == "bytes=100000-"
    assert parts(cache) == {}


def test_a_server_without_ranges_sends_it_from_the_start(site: Site, cache: Cache) -> None:
    site.ranges = False
    site.cuts[NAME] = [100_000]
    assert obtain(site, cache) == DATA
    assert site.asked(NAME) == ["", "bytes=100000-"]


def test_without_ranges_the_same_cut_again_and_again_ends(site: Site, cache: Cache) -> None:
    site.ranges = False
    site.cuts[NAME] = [100_000, 90_000, 100_000, 90_000, 100_000, 90_000]
    with pytest.raises(LivebuilderError, match="cannot be fetched"):
        obtain(site, cache)
    assert len(site.asked(NAME)) == 4


@pytest.mark.parametrize("tags", [True, False])
def test_the_file_changed_on_the_server_meanwhile(site: Site, cache: Cache, tags: bool, said: list[str]) -> None:
    """With an entity tag the server notices, without one the hash does."""
    begin(cache, content("old", 100_000), validator='"of another file"' if tags else "")
    assert obtain(site, cache) == DATA
    asked = ["bytes=100000-"] if tags else ["bytes=100000-", ""]
    assert site.asked(NAME) == asked
    assert ["does not fit" in line for line in said] == ([] if tags else [True])


def test_a_date_will_do_where_there_is_no_tag(site: Site, cache: Cache) -> None:
    site.tags = False
    site.headers["Last-Modified"] = "Mon, 23 Sep 2024 12:34:46 GMT"
    site.cuts[NAME] = [100_000]
    site.answers[NAME] = [0, 503, 503, 503]
    with pytest.raises(LivebuilderError):
        obtain(site, cache)
    (validator,) = (cache.root / "downloads-begun").glob("*.validator")
    assert validator.read_text() == "Mon, 23 Sep 2024 12:34:46 GMT"


def test_a_weak_tag_vouches_for_no_bytes(site: Site, cache: Cache) -> None:
    site.tags = False
    site.headers["ETag"] = 'W/"1"'
    site.cuts[NAME] = [100_000]
    site.answers[NAME] = [0, 503, 503, 503]
    with pytest.raises(LivebuilderError):
        obtain(site, cache)
    (validator,) = (cache.root / "downloads-begun").glob("*.validator")
    assert validator.read_text() == ""


def test_all_of_it_was_there_already(site: Site, cache: Cache) -> None:
    begin(cache, DATA)
    assert obtain(site, cache) == DATA
    assert site.asked(NAME) == [f"bytes={len(DATA)}-"]


def test_more_than_all_of_it_was_there(site: Site, cache: Cache) -> None:
    begin(cache, DATA + b"x")
    assert obtain(site, cache) == DATA
    assert site.asked(NAME) == [f"bytes={len(DATA) + 1}-", ""]


@pytest.mark.parametrize("wrong", [DATA[:-1], DATA[:-1] + b"x", b""])
def test_another_file_under_the_right_name(site: Site, cache: Cache, wrong: bytes) -> None:
    site.files[NAME] = wrong
    with pytest.raises(LivebuilderError, match="is not the file it should be") as caught:
        obtain(site, cache)
    found = hashlib.sha256(wrong).hexdigest()
    assert f"{len(wrong)} bytes and the SHA-256 {found}, and the list says {SHA256}" in caught.value.message
    assert list((cache.root / "downloads").iterdir()) == []
    assert ".part" not in parts(cache)
    assert site.asked(NAME) == [""]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(site: Site, cache: Cache, status: int) -> None:
    site.answers[NAME] = [status, status]
    assert obtain(site, cache) == DATA
    assert len(site.asked(NAME)) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
def test_one_that_refuses_is_not(site: Site, cache: Cache, status: int) -> None:
    site.answers[NAME] = [status]
    with pytest.raises(LivebuilderError, match=f"/{NAME} cannot be fetched: the server answers {status}"):
        obtain(site, cache)
    assert len(site.asked(NAME)) == 1


def test_it_waits_as_long_as_the_server_asks_for(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    site.answers[NAME] = [503]
    for text, seconds in (("7", 7), ("86400", 60), ("Mon, 23 Sep 2024 12:34:46 GMT", 2), ("soon", 2)):
        site.headers["Retry-After"] = text
        site.answers[NAME] = [503]
        with Mirror(site.address, pauses=(2,)) as mirror:
            assert mirror.read(NAME) == DATA
        assert pauses.pop() == seconds


def test_a_redirect_is_followed(site: Site, cache: Cache) -> None:
    site.files["elsewhere/x"] = site.files.pop(NAME)
    site.redirects[NAME] = "/elsewhere/x"
    site.cuts["elsewhere/x"] = [100_000]
    assert obtain(site, cache) == DATA
    assert site.asked("elsewhere/x") == ["", "bytes=100000-"]


@pytest.mark.parametrize(("target", "said"), [("/round", "redirects"), ("ftp://127.0.0.1/x", "ftp"), ("http://[", "")])
def test_a_redirect_to_nowhere(site: Site, cache: Cache, target: str, said: str) -> None:
    site.redirects |= {NAME: target, "round": f"/{NAME}"}
    with pytest.raises(LivebuilderError, match="cannot be fetched") as caught:
        obtain(site, cache)
    assert said in caught.value.message
    assert len(site.asked(NAME)) < 15


def test_nobody_listens(cache: Cache) -> None:
    with socket.socket() as held, serving(Site()) as site:
        held.bind(("127.0.0.1", 0))
        site.address = f"http://127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(LivebuilderError, match="refused"):
            obtain(site, cache)


def test_two_runs_that_want_the_same_file_fetch_it_once(site: Site, cache: Cache) -> None:
    site.stalls[NAME] = 100_000
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(obtain(site, cache))) for _ in range(2)]
    threads[0].start()
    assert site.stalled.wait(20)
    threads[1].start()
    del site.stalls[NAME]
    site.released.set()
    for thread in threads:
        thread.join(30)
    assert results == [DATA, DATA]
    assert site.asked(NAME) == ["", "bytes=100000-"]


def test_a_file_is_somebody_else_s_until_it_is_in_its_place(
    site: Site, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock outlasts the rename; else a run that waited would find nothing, and fetch it a second time."""
    land = Path.replace
    locked: list[bool] = []

    def watched(path: Path, target: Path) -> Path:
        (validator,) = (cache.root / "downloads-begun").glob("*.validator")
        with validator.open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                locked.append(target == cache.root / "downloads" / SHA256)
        return land(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    assert obtain(site, cache) == DATA
    assert locked == [False, True]


def test_a_cache_that_cannot_be_written(site: Site, cache: Cache) -> None:
    cache.folder("downloads-begun").joinpath(f"{SHA256}.validator").mkdir()
    with pytest.raises(LivebuilderError, match="downloads-begun cannot be written"):
        obtain(site, cache)


def test_a_full_disk_is_explained(site: Site, cache: Cache) -> None:
    cache.folder("downloads-begun").joinpath(f"{SHA256}.part").symlink_to("/dev/full")
    with pytest.raises(LivebuilderError, match="cannot be written: No space left on device"):
        obtain(site, cache)


def test_small_files(site: Site) -> None:
    site.files["small"] = b"text"
    with Mirror(f"{site.address}/", pauses=PAUSES) as mirror:
        assert mirror.read("small") == b"text"
        assert mirror.read("none") is None
        assert mirror.size_of(NAME) == len(DATA)
        assert mirror.size_of("none") is None
        site.files["small"] = bytes(9 << 20)
        with pytest.raises(LivebuilderError, match="more than"):
            mirror.read("small")


@pytest.mark.parametrize("url", ["", "openwrt.example", "ftp://openwrt.example", "http://", "http://[", "https://h:port",
                                 "https://h/?x=1", "https://h/#x"])  # fmt: skip
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(UsageError, match="is not the address of a server"):
        check_base(url)


def test_a_password_does_not_belong_into_an_address() -> None:
    with pytest.raises(UsageError, match="password") as caught:
        check_base("https://me:secret@openwrt.example/")
    assert "secret" not in caught.value.message


def test_settings_of_the_environment_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "gopher://openwrt.example")
    with pytest.raises(LivebuilderError, match="settings for the network"):
        Mirror("https://openwrt.example")


def test_an_unknown_certificate_is_refused_at_once(cache: Cache, tmp_path: Path, said: list[str]) -> None:
    with serving(Site({NAME: DATA}), certificate=loopback_certificate(tmp_path / "x.pem")) as site:
        with pytest.raises(LivebuilderError, match=r"(?i)certificate"):
            obtain(site, cache)
        assert site.requests == [] and said == []


def test_from_a_safe_connection_nobody_is_sent_to_an_unsafe_one(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    pem = loopback_certificate(tmp_path / "x.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    with serving(Site({NAME: DATA}), certificate=pem) as safe:
        assert obtain(safe, cache) == DATA
        safe.redirects["list"] = f"{site.address}/{NAME}"
        with Mirror(safe.address) as mirror, pytest.raises(LivebuilderError, match="sends us on to http:"):
            mirror.read("list")
    assert site.requests == []
