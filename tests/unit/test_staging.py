"""Outputs land whole or not at all."""

import os
import signal
from pathlib import Path

import pytest

from livebuilder.errors import LivebuilderError
from livebuilder.staging import staged_folder, verify_writable
from tests.support.users import as_ordinary_user


def test_files_appear_together_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a/out"
    with staged_folder(target) as stage:
        (stage / "one").write_text("1")
        (stage / "two").write_text("2")
        assert not (target / "one").exists()
    assert sorted(path.name for path in target.iterdir()) == ["one", "two"]
    assert (target / "one").read_text() == "1"


@pytest.mark.parametrize("problem", [KeyboardInterrupt, RuntimeError, SystemExit])
def test_a_failed_run_leaves_what_was_there(tmp_path: Path, problem: type[BaseException]) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "one").write_text("old")
    with pytest.raises(problem), staged_folder(target) as stage:
        (stage / "one").write_text("new")
        raise problem
    assert [path.name for path in target.iterdir()] == ["one"]
    assert (target / "one").read_text() == "old"


def test_a_failed_run_makes_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), staged_folder(tmp_path / "a/b") as stage:
        (stage / "one").write_text("1")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_while_landing_waits_until_all_have_landed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def interrupted(self: Path, target: Path) -> Path:
        os.kill(os.getpid(), signal.SIGINT)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "out") as stage:
        for name in "abc":
            (stage / name).write_text(name)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "b", "c"]


def test_the_umask_decides_the_modes(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with staged_folder(tmp_path / "out") as stage:
            (stage / "one").write_text("1")
            (stage / "one").chmod(0o700)
    finally:
        os.umask(before)
    assert (tmp_path / "out/one").stat().st_mode & 0o777 == 0o640


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(LivebuilderError) as caught, staged_folder(tmp_path / "out"):
        pass
    assert "cannot be made" in caught.value.message


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(LivebuilderError) as caught, staged_folder(tmp_path / "out") as stage:
        (stage / "one").write_text("1")
        with Path("/dev/full").open("w") as full:  # the kernel's own ENOSPC
            full.write("x" * 10_000)
    assert "the disk is full" in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_impatient_user_cannot_stop_the_cleaning_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A second signal comes while the draft is being removed."""

    def ended(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, ended)
    rmdir = os.rmdir

    def interrupted(path: str, **how: int) -> None:
        os.kill(os.getpid(), number)
        rmdir(path, **how)

    try:
        with pytest.raises(KeyboardInterrupt), staged_folder(tmp_path / "out") as stage:
            (stage / "one").write_text("1")
            monkeypatch.setattr(os, "rmdir", interrupted)
            raise KeyboardInterrupt
        assert signal.getsignal(number) is ended
    finally:
        signal.signal(number, before)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_staged_in_another_is_not_named(tmp_path: Path) -> None:
    with (
        pytest.raises(LivebuilderError) as caught,
        staged_folder(tmp_path / "out") as outer,
        staged_folder(outer),
        Path("/dev/full").open("w") as full,
    ):
        full.write("x" * 10_000)
    assert f"writing to {tmp_path / 'out'} stopped" in caught.value.message


@pytest.mark.parametrize("below", ["", "a", "a/b/c"])
def test_what_can_be_written_is_not_refused_early(tmp_path: Path, below: str) -> None:
    verify_writable(tmp_path / below)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written_is_refused_early(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(LivebuilderError, match="Not a directory") as caught:
            verify_writable(target)
        assert str(target) in caught.value.message and caught.value.hint


def test_a_folder_of_somebody_else_is_refused_early(tmp_path: Path) -> None:
    def refused() -> str:
        try:
            verify_writable(Path("/usr/lib/out"))
        except LivebuilderError as error:
            return error.message
        return ""

    assert "/usr/lib" in as_ordinary_user(refused)
