"""The command line: what it takes, how it ends, what it loads; docs/commands.md says the same."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import livebuilder
from livebuilder.cli import app, source_date_epoch
from livebuilder.errors import UsageError
from livebuilder.process import run
from tests.support.builds import assert_refused, run_main

REPOSITORY = Path(__file__).parents[2]
MANUAL = (REPOSITORY / "docs/commands.md").read_text()
HEAVY = ("pydantic", "pycdlib", "qemu", "elftools", "zstandard", "rich", "ctypes", "loguru", "cryptography", "httpx")


def walk(command: object = None, name: str = "livebuilder") -> Iterator[tuple[str, object]]:
    """Every command with its whole name, as typer's parser has it."""
    command = typer.main.get_command(app) if command is None else command
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from walk(below, f"{name} {word}")


COMMANDS = dict(walk())
# A name that only groups commands has options of its own when it is the program itself.
DOCUMENTED = {name for name, command in COMMANDS.items() if name == "livebuilder" or not hasattr(command, "commands")}


def words_of(name: str) -> set[str]:
    """The options of a command with all their spellings, and the names of its arguments."""
    found = set()
    for parameter in COMMANDS[name].params:  # type: ignore[attr-defined]
        if parameter.param_type_name == "argument":
            found.add(parameter.metavar or parameter.human_readable_name)
        else:
            found |= {*parameter.opts, *parameter.secondary_opts}
    return {word.strip("[]{}") for word in found}


def manual_of(name: str) -> str:
    """The chapter of the manual about a command."""
    (chapter,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", MANUAL, re.MULTILINE | re.DOTALL)
    return str(chapter)


def documented_words(name: str) -> set[str]:
    """What the tables of options in the chapter name: `--output DIR`, `-o DIR` are two."""
    words = set()
    for table in re.findall(r"^\| (?:argument or )?option \|.*?(?=\n\n|\Z)", manual_of(name), re.MULTILINE | re.DOTALL):
        for row in table.splitlines()[2:]:
            words |= {code.split()[0] for code in re.findall(r"`([^`]+)`", row.split("|")[1])}
    return words


def test_the_walk_sees_the_commands() -> None:
    assert {
        "livebuilder", "livebuilder build", "livebuilder inspect", "livebuilder doctor", "livebuilder openwrt fetch",
        "livebuilder usb image", "livebuilder usb list", "livebuilder usb prepare", "livebuilder usb write",
        "livebuilder usb adopt", "livebuilder usb check", "livebuilder usb backup", "livebuilder usb restore",
        "livebuilder usb reset", "livebuilder usb diff", "livebuilder vm run", "livebuilder vm test",
        "livebuilder vm route",
    } == DOCUMENTED  # fmt: skip
    assert {"--output", "-o", "PROFILE.toml", "--dry-run"} <= words_of("livebuilder build")


def test_every_command_has_a_chapter_and_every_chapter_a_command() -> None:
    assert set(re.findall(r"^## (.+)$", MANUAL, re.MULTILINE)) == DOCUMENTED


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_the_manual_has_every_option_and_no_other(name: str) -> None:
    assert documented_words(name) - {"--help"} == words_of(name) - {"--help"}


@pytest.mark.parametrize("name", sorted(DOCUMENTED))
def test_every_option_is_used_in_some_test(name: str) -> None:
    tests = {path: path.read_text() for path in (REPOSITORY / "tests").rglob("test_*.py") if path != Path(__file__)}
    command = name.split()[1:]
    told = "".join(rf'"{word}", ' for word in command[:1])
    callers = [text for text in tests.values() if told in text]
    for option in {word for word in words_of(name) if word.startswith("--")} - {"--help"}:
        users = [text for text in callers if re.search(rf'"{option}"', text)]
        assert users, f"no test runs livebuilder {' '.join(command)} {option}"


@pytest.mark.parametrize("name", sorted(DOCUMENTED - {"livebuilder"}))
def test_the_manual_s_examples_are_words_the_command_takes(name: str) -> None:
    examples = [line for line in manual_of(name).splitlines() if line.startswith(name)]
    assert examples
    for example in examples:
        options = {word for word in example.split("#")[0].split("|")[0].split() if word.startswith("-")}
        assert options <= words_of(name), example


def test_the_readme_shows_commands_that_exist() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    shown = set(re.findall(r"^livebuilder((?: [a-z]+(?![\w./-]))+)", readme, re.MULTILINE))
    assert len(shown) > 4
    assert {f"livebuilder{words}" for words in shown} <= COMMANDS.keys()


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help_tells_every_option(name: str) -> None:
    outcome = run_main(*name.split()[1:], "--help")
    assert (outcome.status, outcome.stderr) == (0, "")
    for word in words_of(name):
        assert word in outcome.stdout


@pytest.mark.parametrize("name", sorted(DOCUMENTED - {"livebuilder"}))
def test_help_has_examples(name: str) -> None:
    assert f"Examples:\n\n    {name}" in run_main(*name.split()[1:], "--help").stdout


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv[1:] = ['--help']\n"
        "from livebuilder.cli import main\n"
        "try: main()\n"
        "finally: print(*sys.modules, file=sys.stderr)"
    )
    loaded = set(run([sys.executable, "-c", code]).stderr.split())
    assert {"livebuilder.cli", "typer"} <= loaded, "the list is one of modules"
    assert loaded.isdisjoint(HEAVY)
    assert {name for name in loaded if name.startswith("livebuilder")} == {
        "livebuilder", "livebuilder.cli", "livebuilder.cli.common", "livebuilder.cli.openwrt",
        "livebuilder.cli.usb", "livebuilder.cli.vm", "livebuilder.errors",
    }  # fmt: skip


def test_the_same_list_sees_heavy_parts_where_they_are_loaded() -> None:
    code = "import sys, livebuilder.build.run, livebuilder.vm.session, livebuilder.sources.deb; print(*sys.modules)"
    loaded = set(run([sys.executable, "-c", code]).stdout.split())
    assert {"pydantic", "qemu", "loguru"} <= loaded


def test_the_version_is_the_package_s() -> None:
    outcome = run_main("--version")
    assert (outcome.status, outcome.stdout, outcome.stderr) == (0, f"livebuilder {livebuilder.__version__}\n", "")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "livebuilder/__init__.py"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nosuch"], "--nosuch"),
        (["build", "--nosuch"], "--nosuch"),
        (["biuld"], "biuld"),
        (["build", "one.toml", "two.toml"], "two.toml"),
        (["build", "--set"], "--set"),
        (["inspect"], "FILE"),
        (["doctor", "--missing", "suse"], "suse"),
        (["--verbose", "--quiet", "doctor"], "--verbose and --quiet"),
        (["usb", "image"], "FILE"),
        (["usb", "image", "x.img", "--size", "big"], "'big' is not a size"),
        (["usb", "image", "x.img", "--fs", "ntfs"], "ntfs"),
        (["usb", "image", "x.img", "--fs", "xt4"], "did you mean ext4?"),
        (["usb", "image", "x.img", "--table", "mbr"], "'mbr'"),
        (["usb", "image", "x.img", "--label", "seventeen-letters"], "17 bytes"),
        (["vm", "run", "x.iso", "--machine", "pc-1979"], "pc-1979"),
        (["vm", "run", "x.iso", "--memory", "lots"], "'lots' is not a size"),
        (["vm", "test", "x.iso", "--machine", "pc-1979"], "pc-1979"),
        (["vm", "test", "x.iso", "--memory", "lots"], "'lots' is not a size"),
    ],
)
def test_wrong_words_end_with_2(words: list[str], said: str) -> None:
    assert_refused(run_main(*words), said, status=2)


@pytest.mark.parametrize("words", [[], ["usb"], ["vm"]])
def test_no_words_are_answered_with_the_usage(words: list[str]) -> None:
    outcome = run_main(*words)
    assert outcome.status == 2
    assert outcome.stdout.startswith("Usage: ") != outcome.stderr.startswith("Usage: ")


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "1.5", " 1", "0x10", "4294967296", "9" * 5000, "²"])
def test_a_source_date_epoch_that_is_none(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    with pytest.raises(UsageError) as caught:
        source_date_epoch()
    assert caught.value.message.startswith(f"SOURCE_DATE_EPOCH={text[:40]} ")
    assert len(caught.value.message) < 120
    outcome = run_main("build", "--offline", "--dry-run")
    assert_refused(outcome, "SOURCE_DATE_EPOCH", "try: ", status=2)


@pytest.mark.parametrize(("text", "epoch"), [("0", 0), ("1700000000", 1_700_000_000), ("4294967295", 2**32 - 1)])
def test_a_source_date_epoch(monkeypatch: pytest.MonkeyPatch, text: str, epoch: int) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", text)
    assert source_date_epoch() == epoch


def test_no_source_date_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    assert source_date_epoch() is None


def test_an_error_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is our bug: it must not look like a mistake of the user's."""

    def broken(_: Path) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    monkeypatch.setattr("livebuilder.inspection.inspect_file", broken)
    with pytest.raises(ZeroDivisionError):
        run_main("inspect", "x")


def test_json_is_utf_8_and_one_text(tmp_path: Path) -> None:
    path = tmp_path / "größe.img"
    path.write_bytes(b"")
    outcome = run_main("usb", "image", path, "--dry-run", "--json", "--label", "größe")
    assert outcome.status == 0, outcome.stderr
    assert json.loads(outcome.stdout)["file_system"]["label"] == "größe"
    assert "größe" in outcome.stdout
