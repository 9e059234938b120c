"""The root that both ways of making one in memory are given, and the initramfs each of them takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from livebuilder import cpio
from livebuilder.build.inputs import BuildRequest
from livebuilder.build.plan import BuildPlan, plan_build
from livebuilder.cache import Cache
from livebuilder.compression import XZ
from livebuilder.image.files import FILES_PATH
from livebuilder.image.initramfs import make_initramfs
from livebuilder.image.squashfs import SquashfsRoot
from livebuilder.profile import Profile
from livebuilder.sizes import KIB
from livebuilder.tree import Entry, Kind, RootTree, device, directory, file

HERE = Path(__file__).parent
SEED_FIRST_KIB = 4000
SEED_STEP_KIB = 500
_SUMS = "bench/sums"


@dataclass(frozen=True)
class Subject:
    """A root to be made in memory; in it are the script that ends a measurement and the checksums of every file."""

    plan: BuildPlan

    @property
    def size_bytes(self) -> int:
        """The bytes of the root's files."""
        return self.plan.root.size_bytes()

    def ours(self) -> bytes:
        """The initramfs that `livebuilder build` makes of it, and the script that takes the time."""
        plan = self.plan
        made = make_initramfs(
            plan.early, plan.layers, plan.root, compression=plan.compression, epoch=plan.epoch, cache=plan.cache,
            image=plan.image.content if isinstance(plan.image, SquashfsRoot) else None,
        )  # fmt: skip
        return made.data + _packed([directory("bench"), _script("bench/start", "start.sh")])

    def seed(self, *, first_kib: int = SEED_FIRST_KIB, passes: int = 2) -> bytes:
        """The root as an initramfs, with the seed's way in its /init."""
        limit_kib = 4 * self.size_bytes // KIB
        settings = f"FIRST={first_kib} STEP={SEED_STEP_KIB} LIMIT={limit_kib} PASSES={passes}\n"
        own = RootTree(
            [
                _script("init", "seed.sh"),
                _script("bench/start", "start.sh"),
                file("bench/seed.conf", settings),
                device("dev/null", char=(1, 3), mode=0o666),
                device("dev/zero", char=(1, 5), mode=0o666),
            ]
        )
        tree = RootTree(self.plan.root)
        tree.overlay(own)
        return _packed(tree)


def make_subject(values: dict[str, object], *, folder: Path, cache: Cache, epoch: int | None = None) -> Subject:
    """The root of a profile with these values. `folder` is filled with the files laid over it.

    Raises `LivebuilderError` as a build does.
    """
    bench = folder / "bench"
    bench.mkdir(parents=True)
    for name in ("init", "sums"):
        (bench / name).write_bytes((HERE / "done.sh").read_bytes() if name == "init" else b"")
        (bench / name).chmod(0o755)
    root = {**dict(values.get("root") or {}), "init": "/bench/init", "files": str(folder)}  # type: ignore[call-overload]
    request = BuildRequest(
        profile=Profile.model_validate({**values, "root": root}), output=folder, cache=cache, epoch=epoch
    )
    (bench / "sums").write_text(render_sums(plan_build(request).root))
    return Subject(plan_build(request))


def render_sums(root: RootTree) -> str:
    """A line for `sha256sum -c` for every file, apart from the list itself and the image's own, which names it."""
    listed = [entry for entry in root if entry.kind is Kind.FILE and entry.path not in (_SUMS, FILES_PATH)]
    return "".join(f"{entry.content.sha256}  ./{entry.path}\n" for entry in listed)


def _script(path: str, name: str) -> Entry:
    return file(path, (HERE / name).read_bytes(), mode=0o755)


def _packed(entries: Iterable[Entry]) -> bytes:
    return XZ.compress(b"".join(cpio.archive(entries)))


def empty_init() -> bytes:
    """An initramfs with a program of 200 bytes in it that says "bench: floor" and powers the PC off."""
    text = b"bench: floor\n"
    base, head_bytes = 0x08048000, 52 + 32
    code = (
        bytes.fromhex("b804000000 bb01000000 b9") + b"TEXT" + bytes.fromhex("ba") + len(text).to_bytes(4, "little")
        + bytes.fromhex("cd80")  # write(1, text, its length)
        + bytes.fromhex("b858000000 bbaddee1fe b969191228 badcfe2143 cd80")  # reboot(MAGIC1, MAGIC2, POWER_OFF)
        + bytes.fromhex("ebfe")
    )  # fmt: skip
    code = code.replace(b"TEXT", (base + head_bytes + len(code)).to_bytes(4, "little"))
    size = head_bytes + len(code) + len(text)
    words = (0x464C457F, 0x00010101, 0, 0, 0x00030002, 1, base + head_bytes, 52, 0, 0, 0x00200034, 1, 0)
    program = (1, 0, base, base, size, size, 5, 0x1000)
    head = b"".join(word.to_bytes(4, "little") for word in (*words, *program))
    tree = RootTree(
        [directory("dev"), device("dev/console", char=(5, 1)), file("init", head + code + text, mode=0o755)]
    )
    return b"".join(cpio.archive(tree))
