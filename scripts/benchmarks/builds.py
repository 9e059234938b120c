"""Builds that are timed: ours as a user runs it, and the shell pipeline, on the same files."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from livebuilder.build.inputs import BuildRequest
from livebuilder.build.plan import BuildPlan, plan_build
from livebuilder.cache import Cache
from livebuilder.image.initramfs import init_tree
from livebuilder.iso.loader import find_loader
from livebuilder.iso.menu import INITRAMFS_PATH, KERNEL_PATH
from livebuilder.iso.plan import ISOLINUX_BIN
from livebuilder.process import run
from livebuilder.profile import read_profile
from livebuilder.tree import Kind, RootTree

HERE = Path(__file__).parent
# What a build fetched and unpacked before; everything else in the cache it worked out, and has to again.
INPUT_KINDS = ("apt", "debian", "debs", "deb-data", "module-index")
# The pipeline at its best: with a dictionary as small as ours has to be, xz cuts its input into blocks that keep both
# processors busy; by default it would make but one of it.
SMALL_BLOCKS = "--lzma2=preset=6,dict=1MiB"
# The built-in profile, and a folder of the user's.
BUILT_IN = 'name = "bench"\n[root]\nfiles = "files"\n'
_CONFIG = "files/etc/config/bench"


@dataclass(frozen=True)
class Workshop:
    """A folder in which the same ISO is made in both ways: profile and files for ours, tree and disc for theirs."""

    folder: Path
    cache: Path
    boot_sector: Path | None = None
    changes: list[int] = field(default_factory=list)

    @property
    def profile(self) -> Path:
        """The profile of our build."""
        return self.folder / "bench.toml"

    @property
    def tree(self) -> Path:
        """What the pipeline puts into its initramfs."""
        return self.folder / "tree"

    @property
    def disc(self) -> Path:
        """What the pipeline puts onto its ISO."""
        return self.folder / "disc"

    def forget_pieces(self) -> None:
        """Empty our cache, except for links to the inputs in the user's own."""
        private = self.folder / "cache" / "livebuilder"
        shutil.rmtree(private, ignore_errors=True)
        private.mkdir(parents=True)
        for kind in INPUT_KINDS:
            if (self.cache / kind).is_dir():
                (private / kind).symlink_to(self.cache / kind, target_is_directory=True)

    def ours(self) -> float:
        """The seconds our build takes, from the start of the program to its end."""
        shutil.rmtree(self.folder / "ours", ignore_errors=True)
        program = Path(sys.executable).parent / "livebuilder"
        argv: list[str | Path] = [
            program,
            "--quiet",
            "build",
            self.profile,
            "--output",
            self.folder / "ours",
            "--offline",
        ]
        return _timed(argv, XDG_CACHE_HOME=str(self.folder / "cache"))

    def theirs(self, *, xz_options: str = "") -> float:
        """The seconds the pipeline takes."""
        sector = "" if self.boot_sector is None else str(self.boot_sector)
        argv: list[str | Path] = ["sh", HERE / "pipeline.sh", self.tree, self.disc, self.folder / "theirs.iso"]
        return _timed(argv, XZ_OPTIONS=xz_options, BOOT_SECTOR=sector)

    def change(self) -> None:
        """Change one line of a configuration file, for both."""
        self.changes.append(len(self.changes))
        text = f"option changed '{len(self.changes)}'\n"
        (self.folder / _CONFIG).write_text(text)
        (self.tree / _CONFIG.removeprefix("files/")).write_text(text)


def make_workshop(folder: Path, *, cache: Path, profile: str = BUILT_IN) -> Workshop:
    """A profile in TOML whose root.files are "files", ready to be built in both ways."""
    config = folder / _CONFIG
    config.parent.mkdir(parents=True)
    config.write_text("option changed '0'\n")
    (folder / "bench.toml").write_text(profile)
    workshop = Workshop(folder, cache, boot_sector=_boot_sector())
    plan = plan_build(BuildRequest(read_profile(workshop.profile), folder / "ours", Cache(cache)))
    lay_out(_initramfs_of(plan), workshop.tree)
    _lay_out_disc(plan, workshop.disc)
    workshop.forget_pieces()
    return workshop


def lay_out(tree: RootTree, folder: Path) -> None:
    """Write a tree as files; device nodes, which only root can make, are left out."""
    folder.mkdir()
    for entry in tree:
        path = folder / entry.path
        if entry.kind is Kind.DIRECTORY:
            path.mkdir(exist_ok=True)
        elif entry.kind is Kind.SYMLINK:
            path.symlink_to(entry.target)
        elif entry.kind in (Kind.FILE, Kind.HARDLINK):
            path.write_bytes(tree.content_of(entry).read())
            path.chmod(0o755 if entry.mode & 0o111 else 0o644)


def _initramfs_of(plan: BuildPlan) -> RootTree:
    """What a plain initramfs of the plan holds: the root, with /init and its library in it."""
    tree = RootTree(plan.root)
    tree.overlay(init_tree(image_conf=""))
    return tree


def _lay_out_disc(plan: BuildPlan, disc: Path) -> None:
    (disc / "isolinux").mkdir(parents=True)
    (disc / INITRAMFS_PATH).parent.mkdir()
    (disc / KERNEL_PATH).write_bytes(plan.kernel.image.read())
    (disc / ISOLINUX_BIN).write_bytes(plan.loader.isolinux_bin.read_bytes())
    for name, path in plan.loader.modules.items():
        shutil.copyfile(path, disc / "isolinux" / name)
    (disc / "isolinux" / "isolinux.cfg").write_text(
        f"default /{KERNEL_PATH} initrd=/{INITRAMFS_PATH} console=tty0 console=ttyS0,115200n8\n"
    )


def _boot_sector() -> Path | None:
    found = find_loader().isolinux_bin.with_name("isohdpfx.bin")
    return found if found.is_file() else None


def _timed(argv: Sequence[str | Path], **env: str) -> float:
    started = time.monotonic()
    run(argv, env=env)
    return time.monotonic() - started
