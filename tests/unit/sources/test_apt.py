import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from livebuilder import process
from livebuilder.deb822 import parse_paragraphs
from livebuilder.errors import LivebuilderError
from livebuilder.sources.apt import (
    FRESH_SECONDS,
    RETRY_SECONDS,
    PrivateApt,
    Suite,
    SuiteState,
    debian_suites,
    parse_deb822_sources,
    parse_one_line_sources,
    read_sources,
    render_conf,
)

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MAIN = Suite("http://mirror.example/debian", "bookworm", ("main",))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deb http://mirror.example/debian bookworm main", [MAIN]),
        ("  deb   http://mirror.example/debian\tbookworm   main # by hand", [MAIN]),
        (
            "deb http://a.example/debian sid main contrib",
            [Suite("http://a.example/debian", "sid", ("main", "contrib"))],
        ),
        ("deb file:/srv/flat ./", [Suite("file:/srv/flat", "./")]),
        # for another architecture of the host's; what is built here has its own
        ("deb [arch=amd64] http://mirror.example/debian bookworm main", [MAIN]),
        ("deb [ arch=amd64,arm64 lang-=de ] http://mirror.example/debian bookworm main", [MAIN]),
        # signatures are verified, whatever the host says
        ("deb [trusted=yes allow-insecure=yes] http://mirror.example/debian bookworm main", [MAIN]),
        (
            f"deb [signed-by={KEYRING} check-valid-until=no] http://mirror.example/debian bookworm main",
            [Suite(MAIN.uri, "bookworm", ("main",), (KEYRING,), (("check-valid-until", "no"),))],
        ),
        (
            "deb [signed-by=/a.gpg,/b.gpg] http://mirror.example/debian bookworm main",
            [Suite(MAIN.uri, "bookworm", ("main",), ("/a.gpg", "/b.gpg"))],
        ),
        # a fingerprint does not say whose key it is
        ("deb [signed-by=0123456789ABCDEF0123456789ABCDEF01234567] http://mirror.example/debian bookworm main", [MAIN]),
        ("# deb http://mirror.example/debian bookworm main", []),
        ("deb-src http://mirror.example/debian bookworm main", []),
        ("deb http://mirror.example/debian", []),
        ("", []),
    ],
)
def test_one_line(line: str, expected: list[Suite]) -> None:
    assert list(parse_one_line_sources(line)) == expected


def test_deb822() -> None:
    text = f"""# the archive
Types: deb deb-src
URIs: http://a.example/debian http://b.example/debian
Suites: bookworm bookworm-updates
# not non-free
Components: main
 contrib
Signed-By: {KEYRING}
Architectures: amd64
Trusted: yes
Check-Date: no
 Trusted: yes

types: deb
uris: file:/srv/flat
suites: ./

Types: deb-src
URIs: http://sources.example/debian
Suites: sid
Components: main

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: sid
Components: main

Types: deb
URIs: http://inline.example/debian
Suites: sid
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 /9sAAAA
 -----END PGP PUBLIC KEY BLOCK-----
"""
    assert list(parse_deb822_sources(text)) == [
        *(
            Suite(
                f"http://{host}.example/debian",
                suite,
                ("main", "contrib"),
                (KEYRING,),
                (("check-date", "no Trusted: yes"),),
            )
            for host in "ab"
            for suite in ("bookworm", "bookworm-updates")
        ),
        Suite("file:/srv/flat", "./"),
        Suite("http://inline.example/debian", "sid", ("main",)),
    ]


@pytest.mark.parametrize("word", ["no", "No", "false", "0", "off", "without", "disable"])
def test_disabled(word: str) -> None:
    assert not list(parse_deb822_sources(f"Types: deb\nURIs: file:/a\nSuites: b\nComponents: main\nEnabled: {word}\n"))


@given(st.text(), st.booleans())
def test_any_text_is_no_traceback(text: str, old: bool) -> None:
    for suite in (parse_one_line_sources if old else parse_deb822_sources)(text):
        assert suite.uri and suite.name


def test_paragraphs_keep_continuation_lines() -> None:
    text = "A: 1\nB: x,\n y\n\n \nC: 2\n# no\nD:\n e\n"
    assert list(parse_paragraphs(text)) == [{"A": "1", "B": "x,\ny"}, {"C": "2", "D": "\ne"}]


def test_which_files_are_read(tmp_path: Path) -> None:
    parts = tmp_path / "sources.list.d"
    parts.mkdir()
    (tmp_path / "sources.list").write_text(
        "deb http://z.example/debian one main\ndeb cdrom:[Debian 12]/ bookworm main\n"
    )
    (parts / "b.list").write_text("deb http://z.example/debian two main\ndeb http://z.example/debian one main\n")
    (parts / "a.sources").write_text("Types: deb\nURIs: http://z.example/debian\nSuites: three\nComponents: main\n")
    for name in ("c.list.disabled", "d.sources~", "e", "f.list.save"):
        (parts / name).write_text("deb http://z.example/debian never main\n")
    assert [suite.name for suite in read_sources(tmp_path)] == ["one", "three", "two"]
    assert read_sources(tmp_path / "nothing") == ()


@pytest.mark.parametrize(
    ("signed_by", "keyrings", "used"),
    [
        ((KEYRING,), (), True),
        (("/usr/share/keyrings/debian-archive-keyring.pgp",), (), True),
        (("/etc/apt/keyrings/debian-archive-bookworm-stable.gpg",), (), True),
        ((), (KEYRING,), True),  # the signature has to tell
        ((), (), False),
        (("/usr/share/keyrings/nodesource.gpg",), (KEYRING,), False),
        ((KEYRING, "/usr/share/keyrings/mine.gpg"), (KEYRING,), False),
        (("/usr/share/keyrings/not-debian-archive-keyring.gpg",), (KEYRING,), False),
    ],
)
def test_which_suites_are_debian_s(signed_by: tuple[str, ...], keyrings: tuple[str, ...], used: bool) -> None:
    suite = Suite("http://mirror.example/debian", "bookworm", ("main",), signed_by)
    assert debian_suites([suite], keyrings=keyrings) == ((suite,) if used else ())


def test_a_suite_is_rendered_without_what_is_the_host_s_own() -> None:
    (suite,) = parse_one_line_sources(
        "deb [arch=amd64 trusted=yes check-date=no] http://m.example/debian sid main contrib"
    )
    assert suite.render([KEYRING]) == (
        "Types: deb\nURIs: http://m.example/debian\nSuites: sid\nComponents: main contrib\n"
        f"Signed-By: {KEYRING}\nTargets: Packages\nCheck-Date: no\n"
    )
    assert next(parse_deb822_sources(suite.render([KEYRING]))).signed_by == (KEYRING,)


@pytest.mark.parametrize(
    ("state", "age", "due"),
    [
        (SuiteState(), 10**9, True),
        (SuiteState(checked=1000), 1, False),
        (SuiteState(checked=1000), FRESH_SECONDS - 1, False),
        (SuiteState(checked=1000), FRESH_SECONDS, True),
        (SuiteState(checked=1000, failure="no"), RETRY_SECONDS - 1, False),
        (SuiteState(checked=1000, failure="no"), RETRY_SECONDS, True),
        (SuiteState(checked=1000), -1, True),  # the clock was set back
    ],
)
def test_when_lists_are_asked_for_again(state: SuiteState, age: int, due: bool) -> None:
    assert state.needs_update(state.checked + age) is due


@pytest.mark.parametrize(
    ("origin", "usable", "foreign"),
    [("Debian", True, False), ("Debian Backports", True, False), ("", False, False), ("Debianish", False, True)],
)
def test_whose_a_suite_is(origin: str, usable: bool, foreign: bool) -> None:
    state = SuiteState(origin=origin)
    assert (state.usable, state.foreign) == (usable, foreign)


def test_the_configuration_has_everything_below_its_folder() -> None:
    conf = render_conf(Path("/cache/apt"), architecture="i386", apt_etc=Path("/etc/apt"))
    assert 'APT::Architecture "i386";\n' in conf
    assert 'Dir::State::lists "/cache/apt/lists";\n' in conf
    assert "#clear APT::Update::Post-Invoke;\n" in conf
    lines = conf.splitlines()
    assert lines.index("#clear APT::Architectures;") < lines.index('APT::Architectures { "i386"; };')


def sources(folder: Path, text: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "sources.list").write_text(text)
    return folder


def test_no_source_of_debian_s(tmp_path: Path) -> None:
    etc = sources(
        tmp_path / "etc", "deb [signed-by=/usr/share/keyrings/nodesource.gpg] http://n.example/ nodistro main\n"
    )
    with pytest.raises(LivebuilderError, match=r"none of the enabled sources in .* is Debian's own") as caught:
        PrivateApt(tmp_path / "apt", architecture="i386", apt_etc=etc)
    assert "debian-archive-keyring" in str(caught.value.hint)


def test_no_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "SEARCH_PATH", str(tmp_path))
    etc = sources(tmp_path / "etc", f"deb [signed-by={KEYRING}] http://m.example/debian sid main\n")
    with pytest.raises(LivebuilderError, match="no apt") as caught:
        PrivateApt(tmp_path / "apt", architecture="i386", apt_etc=etc).renew()
    assert "directory" in str(caught.value.hint)
    with pytest.raises(LivebuilderError, match="no apt"):
        PrivateApt(tmp_path / "apt", architecture="i386", apt_etc=tmp_path / "nothing")
    assert not (tmp_path / "apt").exists()


def test_one_at_a_time(tmp_path: Path) -> None:
    etc = sources(tmp_path / "etc", f"deb [signed-by={KEYRING}] http://m.example/debian sid main\n")
    apts = [PrivateApt(tmp_path / "apt", architecture="i386", apt_etc=etc) for _ in range(2)]
    got_in = threading.Event()

    def second() -> None:
        with apts[1].lock():
            got_in.set()

    with apts[0].lock():
        thread = threading.Thread(target=second)
        thread.start()
        assert not got_in.wait(0.3)
    assert got_in.wait(10)
    thread.join()


def test_a_state_without_its_lists_is_no_state(tmp_path: Path) -> None:
    etc = sources(tmp_path / "etc", f"deb [signed-by={KEYRING}] http://m.example/debian sid main\n")
    apt = PrivateApt(tmp_path / "apt", architecture="i386", apt_etc=etc)
    (suite,) = apt.suites
    folder = tmp_path / "apt" / "suites"
    folder.mkdir(parents=True)
    kept = folder / f"{apt.key(suite)}.json"
    kept.write_text(
        '{"checked": 5, "origin": "Debian", "release": "x_InRelease", "release_sha256": "0", "date": "today"}'
    )
    assert apt.state(suite) == SuiteState()
    (tmp_path / "apt" / "lists").mkdir()
    (tmp_path / "apt" / "lists" / "x_InRelease").touch()
    assert apt.state(suite).usable
    assert apt.usable_suites() == (suite,)
    assert apt.problems() == ()
    for damaged in ("", "[]", '{"more": 1}', "{"):
        kept.write_text(damaged)
        assert apt.state(suite) == SuiteState()
    assert "never tried" in apt.problems()[0]


def test_problems_tell_old_from_missing_lists(tmp_path: Path) -> None:
    etc = sources(tmp_path / "etc", f"deb [signed-by={KEYRING}] http://m.example/debian sid main\n")
    apt = PrivateApt(tmp_path / "apt", architecture="i386", apt_etc=etc)
    folder = tmp_path / "apt" / "suites"
    folder.mkdir(parents=True)
    kept = folder / f"{apt.key(apt.suites[0])}.json"
    kept.write_text(
        '{"checked": 5, "failure": "it burns", "origin": "Debian", "date": "Sat, 11 Jul 2026 09:05:42 UTC"}'
    )
    (problem,) = apt.problems()
    assert "it burns" in problem and "those of Sat, 11 Jul 2026 09:05:42 UTC are used" in problem
    kept.write_text('{"checked": 5, "failure": "it burns"}')
    assert "missing" in apt.problems()[0]
    kept.write_text('{"checked": 5, "origin": "Elsewhere"}')
    assert apt.problems() == ()
