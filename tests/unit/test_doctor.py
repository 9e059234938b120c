"""The doctor: its table, what it finds, and the line that mends each distribution."""

import shutil
from pathlib import Path

import pytest

from livebuilder import doctor, process
from livebuilder.doctor import DISTRIBUTIONS, Check, Need, check_needs, diagnose, missing_packages, read_needs
from livebuilder.usb import mounted
from livebuilder.usb.filesystem import FILE_SYSTEMS, check_command, label_command
from livebuilder.vm.machine import MACHINES

REPOSITORY = Path(__file__).parents[2]


def need(name: str, *, kind: str = "tool", need_for: str = "build", **packages: str) -> Need:
    return Need(kind, name, need_for, packages)  # type: ignore[arg-type]


def test_the_table_is_sound() -> None:
    needs = read_needs()
    assert len({(n.kind, n.name) for n in needs}) == len(needs) > 25
    assert {n.kind for n in needs} <= {"tool", "file", "lib", "python"}
    assert {n.need for n in needs} == {"build", "usb", "vm", "test"}
    for one in needs:
        assert "debian" in one.packages, "scripts/setup installs that column"
        if one.need != "test":
            assert set(one.packages) == set(DISTRIBUTIONS), one.name


def test_every_program_our_code_starts_is_in_the_table() -> None:
    known = {n.name for n in read_needs() if n.kind == "tool" and n.need != "test"}
    for started in (
        {machine.program for machine in MACHINES},
        {tool for kind in FILE_SYSTEMS.values() for tool in kind.tools},
        {label_command(kind, Path("i"), "l").argv[0] for kind in FILE_SYSTEMS.values()},
        {check_command(kind, Path("i")).argv[0] for kind in FILE_SYSTEMS.values()},
        set(mounted.TOOLS),
    ):
        assert started
        assert started <= known, started - known


def test_every_program_of_the_table_is_named_in_our_code() -> None:
    code = "".join(path.read_text() for path in (REPOSITORY / "livebuilder").rglob("*.py"))
    helpers = {"gpgv"}  # started by apt
    for one in read_needs():
        if one.kind == "tool" and one.need != "test" and one.name not in helpers:
            assert f'"{one.name}"' in code, one.name


def test_what_is_here_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "frob"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "frob.bin").write_text("")
    monkeypatch.setattr(process, "SEARCH_PATH", str(tmp_path))
    monkeypatch.setattr(doctor, "_FILE_FOLDERS", ("/nowhere", str(tmp_path)))
    needs = [
        need("frob"), need("frob.bin", kind="file"), need("libc.so.6", kind="lib"), need("json", kind="python"),
        need("nosuch"), need("nosuch.bin", kind="file"), need("libnosuch.so.9", kind="lib"),
        need("no_such_module", kind="python"),
    ]  # fmt: skip
    found = [check.path for check in check_needs(needs)]
    assert found[:3] == [str(program), str(tmp_path / "frob.bin"), "libc.so.6"]
    assert Path(str(found[3])).is_file()
    assert found[4:] == [None] * 4


def test_a_file_that_is_not_executable_is_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "frob").write_text("")
    monkeypatch.setattr(process, "SEARCH_PATH", str(tmp_path))
    assert check_needs([need("frob")])[0].path is None


def test_the_packages_of_what_is_missing() -> None:
    checks = [
        Check(need("one", debian="b", fedora="x"), None),
        Check(need("two", debian="a", arch="a"), None),
        Check(need("three", debian="b"), None),
        Check(need("four", debian="c"), "/bin/four"),
    ]
    assert missing_packages(checks, distribution="debian") == ["a", "b"]
    diagnosis = diagnose(checks)
    assert diagnosis.install == {"debian": "apt-get install a b", "fedora": "dnf install x", "arch": "pacman -S a"}
    text = diagnosis.render()
    assert "missing: debian b, fedora x" in text
    assert "  debian  apt-get install a b" in text
    assert "/bin/four" in text


@pytest.mark.parametrize(("need_for", "healthy"), [("build", False), ("usb", False), ("vm", False), ("test", True)])
def test_only_what_users_need_counts(need_for: str, healthy: bool) -> None:
    assert diagnose([Check(need("one", need_for=need_for, debian="a"), None)]).healthy is healthy
    assert diagnose([Check(need("one", need_for=need_for, debian="a"), "/bin/one")]).healthy is True


def test_nothing_to_install_is_not_said() -> None:
    diagnosis = diagnose([Check(need("one", debian="a"), "/bin/one")])
    assert diagnosis.install == {}
    assert "install" not in diagnosis.render()


def test_python_itself_is_not_asked_for_a_tool() -> None:
    assert shutil.which("python3"), "scripts/setup looks for it before there is a doctor"
    assert not any(n.name == "python3" for n in read_needs())
