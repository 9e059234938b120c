"""With CI=true a skipped test fails the run, in one process and in several."""

import os
import sys
from pathlib import Path

import pytest

from livebuilder.process import run

REPOSITORY = Path(__file__).parents[2]
SKIPPED = {
    "call": "import pytest\ndef test_one(): pytest.skip('why')\n",
    "mark": "import pytest\n@pytest.mark.skip\ndef test_one(): pass\n",
    "module": "import pytest\npytest.skip('why', allow_module_level=True)\n",
    "import": "import pytest\npytest.importorskip('no_such_module')\ndef test_one(): pass\n",
}


def status(folder: Path, text: str, *options: str, ci: str) -> int:
    """The exit status of a run of tests over a file with `text`, beside one test that passes."""
    (folder / "conftest.py").write_text("from tests.support.strict import pytest_sessionfinish\n")
    (folder / "test_it.py").write_text(text)
    (folder / "test_fine.py").write_text("def test_fine(): pass\n")
    words: list[str | Path] = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        folder,
        *options,
        folder,
    ]
    return run(words, check=False, env={"CI": ci, "PYTHONPATH": os.fspath(REPOSITORY)}).returncode


@pytest.mark.parametrize("kind", SKIPPED)
def test_a_skip_fails_in_ci(tmp_path: Path, kind: str) -> None:
    assert status(tmp_path, SKIPPED[kind], ci="true") == 1


def test_with_several_processes_too(tmp_path: Path) -> None:
    assert status(tmp_path, SKIPPED["call"], "-n", "2", ci="true") == 1
    assert status(tmp_path, "def test_one(): pass\n", "-n", "2", ci="true") == 0


def test_elsewhere_it_does_not(tmp_path: Path) -> None:
    assert status(tmp_path, SKIPPED["call"], ci="") == 0


def test_what_fails_or_passes_does_so_as_ever(tmp_path: Path) -> None:
    assert status(tmp_path, "def test_one(): pass\n", ci="true") == 0
    assert status(tmp_path, "def test_one(): assert 0\n", ci="true") == 1
    assert status(tmp_path, "syntax error", ci="true") == 2


def test_our_own_suite_has_the_hook() -> None:
    assert "pytest_sessionfinish" in (REPOSITORY / "tests/conftest.py").read_text()
