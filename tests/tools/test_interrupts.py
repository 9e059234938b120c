"""A build that is ended before its end: Ctrl-C, SIGTERM, a full disk. What was there stays, and nothing is added."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from livebuilder.cache import cache_root
from livebuilder.process import run
from tests.support.builds import (
    COMMAND,
    OUTPUTS,
    SmallSystem,
    assert_refused,
    private_cache,
    run_command,
    run_main,
    snapshot,
    start,
)

# Builds here are offline: what they need from the network is in the cache once the default image was built.
pytestmark = [pytest.mark.network, pytest.mark.usefixtures("default_image")]

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
STEPS = ("Putting the root together", "Packing the initramfs", "Writing ")
SEEDS = range(9)


class Scene:
    """An output folder with an older build in it, and an environment whose every other place is watched too."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        for name in ("out", "tmp"):
            (folder / name).mkdir()
        for name in (*OUTPUTS, "small.iso", "small.manifest"):
            (self.out / name).write_text(f"an older {name}")
        self.env = {"TMPDIR": str(folder / "tmp"), **private_cache(folder / "cache", cache_root())}
        self.before = self.look()

    def look(self) -> object:
        return snapshot(self.out, self.folder / "tmp", folder_times=False)

    def is_landed(self) -> bool:
        """Whether the folder holds the whole new build, and nothing else that is new."""
        if (self.out / "sha256sums").read_text() == "an older sha256sums":
            return False
        run(["sha256sum", "--check", "--quiet", "sha256sums"], cwd=self.out)
        return {path.name for path in self.out.iterdir()} == {*OUTPUTS, "small.iso", "small.manifest"}

    def assert_clean(self) -> None:
        assert self.look() == self.before
        assert not [path for path in self.folder.rglob(".new-*") if "pieces" in path.parts], "drafts in the cache"


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def cold_build(scene: Scene, small_system: SmallSystem) -> subprocess.Popen[str]:
    """A build that has everything to compress: a second or two of work."""
    return start(
        "build", "--offline", small_system.profile, "--set", "output.compression=xz", "-o", scene.out, env=scene.env
    )


def wait_for_main(child: subprocess.Popen[str]) -> None:
    """Until our first line ran: it takes SIGTERM over. Before that it is Python itself that is interrupted."""
    while child.poll() is None:
        caught = int(Path(f"/proc/{child.pid}/status").read_text().split("SigCgt:")[1].split()[0], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.005)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", STATUS)
def test_at_each_step(scene: Scene, small_system: SmallSystem, step: str, number: signal.Signals) -> None:
    with cold_build(scene, small_system) as child:
        assert child.stderr and child.stdout
        for line in child.stderr:
            if line.startswith(step):
                child.send_signal(number)
                break
        else:
            pytest.fail(f"the build never said {step!r}")
        stdout, rest = child.stdout.read(), child.stderr.read()
    assert (child.returncode, stdout) == (STATUS[number], "")
    assert "Traceback" not in rest
    assert rest.endswith("interrupted\n") == (number == signal.SIGINT)
    scene.assert_clean()


@pytest.mark.parametrize("seed", SEEDS)
def test_at_any_moment(small_system: SmallSystem, scene: Scene, seed: int) -> None:
    rng = random.Random(seed)
    number = rng.choice(list(STATUS))
    with cold_build(scene, small_system) as child:
        wait_for_main(child)
        time.sleep(rng.uniform(0, 2.5))
        child.send_signal(number)
        impatient = seed % 3 == 0
        if impatient:
            time.sleep(0.02)
            child.send_signal(number)
        stdout, stderr = child.communicate(timeout=60)
    if child.returncode == 0:
        assert "built: " in stdout, "it was done before the signal came"
        return
    assert child.returncode == STATUS[number], stderr
    assert "Traceback" not in stderr
    if scene.is_landed():
        return  # the signal came while the files were put in their places, which is not left half done
    scene.assert_clean()


def test_ctrl_c_does_not_wait_for_pieces_that_nobody_began(
    scene: Scene, small_system: SmallSystem, tmp_path: Path
) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/noise").write_bytes(os.urandom(24 * 2**20))  # a dozen pieces, each of them slow
    words: list[str | Path] = ["build", "--offline", small_system.profile, "--set", "output.compression=xz"]
    words += ["-o", scene.out, "--set", f"root.files={tmp_path / 'files'}"]
    pieces = scene.folder / "cache/livebuilder/pieces"
    pieces.mkdir()
    with start(*words, env=scene.env) as child:
        while not list(pieces.iterdir()) and child.poll() is None:
            time.sleep(0.01)
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
    assert child.returncode == 130
    interrupted = len(list(pieces.iterdir()))
    whole = run_command(*words, env=scene.env)
    assert whole.status == 0
    assert 1 <= interrupted < len(list(pieces.iterdir()))


def test_the_next_build_is_whole(scene: Scene, small_system: SmallSystem) -> None:
    with cold_build(scene, small_system) as child:
        time.sleep(1)
        child.terminate()
        child.communicate(timeout=60)
    outcome = run_command(
        "build", "--offline", small_system.profile, "-o", scene.out, "--set", "output.compression=gzip", env=scene.env
    )
    assert outcome.status == 0, outcome.stderr
    assert (scene.out / "router.iso").read_text() == "an older router.iso"
    assert run(["sha256sum", "--check", "--quiet", "sha256sums"], cwd=scene.out).stdout == ""


def test_files_that_may_not_grow(scene: Scene, small_system: SmallSystem) -> None:
    """ulimit -f: the kernel refuses the bytes behind a limit, as a file system does that is full."""
    limit = 6 * 1024 * 1024

    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    outcome = run_command("build", "--offline", small_system.profile, "-o", scene.out, env=scene.env, prepare=prepare)
    assert_refused(outcome, f"writing to {scene.out} failed: File too large")
    scene.assert_clean()


def test_a_full_disk(scene: Scene, small_system: SmallSystem) -> None:
    """A disk of 6 MB where we may mount one; else a file that may not grow stands in for it."""
    script = (
        'mount -t tmpfs -o size=6m none "$1" 2>/dev/null || { ulimit -f 12000; mkdir -p "$1"; }\n'
        'shift; "$@"; status=$?; shift $(($# - 1)); ls -A "$1" >&2; exit $status'
    )
    full = scene.folder / "full"
    full.mkdir()
    words: list[str | Path] = [COMMAND, "build", "--offline", small_system.profile, "-o", full / "out"]
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    namespaces = subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode == 0
    outcome = run_command(
        *(unshare if namespaces else ["env"])[1:], "sh", "-c", script, "sh", full, *words,
        command=Path("/usr/bin") / (unshare if namespaces else ["env"])[0], env=scene.env,
    )  # fmt: skip
    *said, listing = outcome.stderr.rpartition("  try: ")
    assert outcome.status == 1
    assert "the disk is full" in outcome.stderr or "File too large" in outcome.stderr
    assert listing.splitlines()[1:] in ([], [f"ls: cannot access '{full}/out': No such file or directory"])
    assert said
    scene.assert_clean()


def test_a_cache_that_may_not_grow(scene: Scene, small_system: SmallSystem) -> None:
    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    outcome = run_command(
        "build", "--offline", small_system.profile, "--set", "output.compression=gzip", "-o", scene.out, env=scene.env,
        prepare=prepare,
    )  # fmt: skip
    assert_refused(outcome, str(scene.folder / "cache"), "File too large", "XDG_CACHE_HOME")
    scene.assert_clean()


@pytest.mark.parametrize("output", ["/proc/out", "/sys/kernel/out", "/dev/null/out", "taken", "taken/below"])
def test_an_output_that_cannot_be(small_system: SmallSystem, tmp_path: Path, output: str) -> None:
    (tmp_path / "taken").write_text("a file")
    before = snapshot(tmp_path)
    outcome = run_main("build", "--offline", small_system.profile, "-o", tmp_path / output)
    assert_refused(outcome, output, "-o")
    assert snapshot(tmp_path) == before


def test_a_reader_that_goes_away(small_system: SmallSystem, tmp_path: Path) -> None:
    """`livebuilder inspect … | head`: no traceback when the pipe is closed early."""
    image = tmp_path / "out"
    assert run_main("build", "--offline", small_system.profile, "-o", image).status == 0
    with start("inspect", image / "initramfs", "--json") as child:
        assert child.stdout and child.stderr
        child.stdout.close()
        stderr = child.stderr.read()
    assert "Traceback" not in stderr
    assert child.returncode == 1


def test_two_builds_into_one_folder(small_system: SmallSystem, tmp_path: Path) -> None:
    """Whoever lands last, the folder holds one whole build."""
    words = ("build", "--offline", small_system.profile, "-o", tmp_path / "out")
    outcomes = []

    def build(epoch: str) -> None:
        outcomes.append(run_command(*words, env={"SOURCE_DATE_EPOCH": epoch}))

    threads = [threading.Thread(target=build, args=[epoch]) for epoch in ("1000000000", "1100000000")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [outcome.status for outcome in outcomes] == [0, 0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name.startswith(".")) == []
    assert run(["sha256sum", "--check", "--quiet", "sha256sums"], cwd=tmp_path / "out").stdout == ""
