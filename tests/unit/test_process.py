"""Running programs: what they get, what they print, how they fail."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loguru import logger

from livebuilder.errors import CommandError, LivebuilderError
from livebuilder.process import end, environment, find_tool, require_tool, run, spawn, wait


@pytest.fixture
def log() -> Iterator[list[str]]:
    said: list[str] = []
    number = logger.add(said.append, level="DEBUG", format="{message}")
    yield said
    logger.remove(number)


def test_output_comes_back_as_bytes_and_as_text() -> None:
    done = run(["sh", "-c", r"printf 'out\377'; printf err >&2"])
    assert (done.returncode, done.stdout_bytes, done.stderr) == (0, b"out\xff", "err")
    assert done.stdout == "out\ufffd"


def test_input_goes_in_and_without_one_there_is_none() -> None:
    assert run(["cat"], input_bytes=b"a\0b").stdout_bytes == b"a\0b"
    assert run(["cat"], input_bytes=b"").stdout_bytes == b""
    assert run(["cat"], timeout_seconds=20).stdout_bytes == b""


def test_a_file_goes_in_from_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(b"headbody")
    with (tmp_path / "given").open("rb", buffering=0) as stream:
        stream.seek(4)
        assert run(["cat"], input_file=stream).stdout_bytes == b"body"


def test_words_are_not_split_and_paths_are_words(tmp_path: Path) -> None:
    assert run(["printf", "%s|", "a b", "$HOME", tmp_path]).stdout == f"a b|$HOME|{tmp_path}|"


def test_a_failure_carries_what_ran_and_its_last_words() -> None:
    with pytest.raises(CommandError) as caught:
        run(["sh", "-c", "echo first >&2; echo the reason >&2; exit 3"])
    assert caught.value.message == "sh failed with status 3: the reason"
    assert caught.value.argv[0] == "sh"
    assert (caught.value.returncode, caught.value.stderr) == (3, "first\nthe reason\n")


def test_a_failure_that_complains_on_stdout_or_not_at_all_is_told_as_well() -> None:
    with pytest.raises(CommandError, match="on stdout"):
        run(["sh", "-c", "echo on stdout; exit 1"])
    with pytest.raises(CommandError, match="printed nothing"):
        run(["false"])


def test_a_failure_may_be_asked_for() -> None:
    assert run(["sh", "-c", "exit 9"], check=False).returncode == 9


def test_a_program_ended_by_a_signal_says_so() -> None:
    assert run(["sh", "-c", "kill -9 $$"], check=False).returncode == -signal.SIGKILL


def test_a_missing_program_is_named_with_the_way_to_get_it() -> None:
    for attempt in (lambda: run(["no-such-program-here"]), lambda: require_tool("no-such-program-here")):
        with pytest.raises(LivebuilderError, match="no-such-program-here is not installed") as caught:
            attempt()
        assert caught.value.hint is not None and "livebuilder doctor" in caught.value.hint
    assert find_tool("no-such-program-here") is None


def test_programs_are_found_in_sbin_too() -> None:
    found = find_tool("mke2fs")
    assert found is not None
    assert os.access(found, os.X_OK)


def test_a_program_that_takes_too_long_is_ended() -> None:
    with pytest.raises(LivebuilderError, match="sleep did not end within 0 seconds"):
        run(["sleep", "600"], timeout_seconds=0.1)


def test_the_environment_is_small_and_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LC_MESSAGES", "de_DE.UTF-8")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:1")
    names = {line.partition("=")[0]: line.partition("=")[2] for line in run(["env"]).stdout.splitlines()}
    assert names["LC_ALL"] == "C.UTF-8"
    assert names["https_proxy"] == "http://proxy.invalid:1"
    assert not {"LANG", "LC_MESSAGES", "LD_PRELOAD"} & names.keys()
    assert environment({"LC_ALL": "C", "EXTRA": "1"})["LC_ALL"] == "C"
    assert run(["sh", "-c", "echo $EXTRA"], env={"EXTRA": "1"}).stdout == "1\n"


def test_a_program_runs_where_it_is_told_to(tmp_path: Path) -> None:
    assert Path(run(["pwd"], cwd=tmp_path).stdout.strip()).samefile(tmp_path)


def test_the_log_has_a_line_one_can_paste_into_a_shell(log: list[str]) -> None:
    run(["printf", "%s", "it's a b"])
    (line,) = [line.strip() for line in log if line.startswith("$ printf")]
    assert shlex.split(line[2:]) == ["printf", "%s", "it's a b"]


def test_a_started_program_is_asked_to_end_and_reaped(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as out:
        child = spawn(["sleep", "600"], stdout=out, stderr=out)
        assert wait(child, timeout_seconds=0.05) is None
        assert os.getsid(child.pid) == child.pid, "a Ctrl-C at our terminal does not reach it"
        assert end(child) == -signal.SIGTERM
    assert not Path(f"/proc/{child.pid}").exists()


def test_a_program_that_will_not_end_is_made_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        child = spawn(["sh", "-c", "trap '' TERM; echo deaf; while :; do sleep 1; done"], stdout=out, stderr=out)
        while b"deaf" not in log.read_bytes():
            assert wait(child, timeout_seconds=0.02) is None
        assert end(child, grace_seconds=0.1) == -signal.SIGKILL


def test_a_program_that_ended_by_itself_keeps_its_status(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as out:
        child = spawn(["sh", "-c", "exit 4"], stdout=out, stderr=out)
        assert wait(child, timeout_seconds=20) == 4
        assert end(child) == 4


def test_a_program_that_takes_our_place_has_our_exit_status() -> None:
    script = "from livebuilder.process import become; print('before'); become(['sh', '-c', 'echo after; exit 5'])"
    done = run([sys.executable, "-c", script], check=False)
    assert (done.returncode, done.stdout) == (5, "before\nafter\n")
