"""The rows of the table in docs/performance.md, each measured against what it names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from livebuilder.cache import Cache
from livebuilder.image.router import ROUTER_PACKAGES
from livebuilder.iso.report import read_iso
from scripts.benchmarks.boots import AMPLE_MIB, START, Boots
from scripts.benchmarks.builds import SMALL_BLOCKS, Workshop, make_workshop
from scripts.benchmarks.ratios import Row, in_turns, least
from scripts.benchmarks.roots import Subject, empty_init, make_subject
from scripts.benchmarks.sticks import LIVE_BYTES, make_sticks

# With usb-storage, of the router's programs only dropbear: 10.2 MB, a sixth of them kernel modules.
_FEW = [f"-{package}" for package in ROUTER_PACKAGES if package != "dropbear-bin"]
TEN_MEGABYTES: dict[str, object] = {
    "name": "bench",
    "root": {"packages": _FEW},
    "modules": {"features": ["usb-storage"]},
}
SQUASHFS: dict[str, object] = {**TEN_MEGABYTES, "root": {"packages": _FEW, "mode": "squashfs"}}
# The root file system that the kernel makes for an initramfs holds half of memory at most. The seed's kernels knew no
# such limit, and this word takes it away.
NO_LIMIT = "rootfstype=ramfs"
_SEED = "the seed's grow-and-copy"
_ONE_COPY = "the seed's copy, size known"
_PIPELINE = "find | cpio | xz -T2, xorriso"
_PIPELINE_BLOCKS = "the same with xz at its best for two processors"


@dataclass(frozen=True)
class Bench:
    """Where to measure, with whose cache, and how often."""

    folder: Path
    cache: Cache
    pairs: int


def measure_builds(bench: Bench) -> list[Row]:
    """The cold build, the rebuild, and the disc: the built-in profile and a folder of files of the user's."""
    shop = make_workshop(bench.folder / "workshop", cache=bench.cache.root)

    def cold() -> float:
        shop.forget_pieces()
        return shop.ours()

    def rebuild() -> float:
        shop.change()
        return shop.ours()

    def pipeline_in_blocks() -> float:
        return shop.theirs(xz_options=SMALL_BLOCKS)

    found: list[Row] = []
    for what, ours, reach in (("cold build", cold, 0.8), ("rebuild after one changed file", rebuild, 0.2)):
        for against, theirs in ((_PIPELINE, shop.theirs), (_PIPELINE_BLOCKS, pipeline_in_blocks)):
            measured = in_turns(ours, theirs, pairs=bench.pairs)
            found.append(Row(what, against, "s", reach, *measured, aside=theirs is pipeline_in_blocks))
    return [*found, _disc(shop)]


def _disc(shop: Workshop) -> Row:
    """An ISO ends at a whole cylinder, for BIOSes that boot it as a disk: that is the padding, and not counted."""
    made = shop.folder / "ours"
    report = read_iso(made / "bench.iso")
    loader = sum(
        file.size_bytes for file in report.files if file.path.startswith("isolinux/") and "cfg" not in file.path
    )
    parts = loader + sum((made / name).stat().st_size for name in ("vmlinuz", "initramfs"))
    padding = report.size_bytes - report.volume_size_bytes
    return Row(
        "ISO", "kernel + initramfs + loader", "bytes", 1.02, (report.volume_size_bytes,), (parts,),
        note=f"without {padding} bytes of padding to a whole cylinder",
    )  # fmt: skip


def measure_root(bench: Bench) -> list[Row]:
    """The time /init takes to make a root of 10 MB in memory, by the guest's clock."""
    subject, boots = _subject(bench)
    ours, seed = subject.ours(), subject.seed()
    measured = in_turns(lambda: boots.seconds_in_init(ours), lambda: boots.seconds_in_init(seed), pairs=bench.pairs)
    rows = [Row("root built inside init", _SEED, "s", 0.2, *measured, note=_described(subject))]
    squashfs = _squashfs(bench).ours()
    measured = in_turns(lambda: boots.seconds_in_init(squashfs), lambda: boots.seconds_in_init(ours), pairs=bench.pairs)
    rows.append(Row("root as squashfs", "our root on ext2", "s", 1.0, *measured, aside=True))
    return rows


def measure_memory(bench: Bench) -> list[Row]:
    """The least memory, in MiB above what the kernel itself needs, that gives a root with every byte right."""
    subject, boots = _subject(bench)
    nothing = empty_init()  # first, as nothing teaches patience like a slow boot
    floor = least(lambda mib: boots.has_floor(nothing, memory_mib=mib), low=8, high=AMPLE_MIB)
    ours, seed = subject.ours(), subject.seed(first_kib=_first_fitting(subject, boots), passes=1)

    def room(initramfs: bytes, words: str = "", *, kind: str = "") -> float:
        def works(mib: int) -> bool:
            kinds = (kind,) if kind else ("ext2", "tmpfs", "overlay")  # the last over a squashfs
            return boots.root_kind(initramfs, memory_mib=mib, words=words) in kinds

        return float(least(works, low=floor, high=AMPLE_MIB) - floor)

    note = f"above the {floor} MiB where an empty init starts; {_described(subject)}"
    smallest, theirs = room(ours), room(seed)
    rows = [Row("memory", _ONE_COPY, "MiB", 0.45, (smallest,), (theirs,), note=note)]
    unlimited = room(seed, NO_LIMIT)
    rows.append(Row(f"memory, {NO_LIMIT}", _ONE_COPY, "MiB", 0.45, (room(ours, NO_LIMIT),), (unlimited,), aside=True))
    on_ext2 = room(ours, kind="ext2")
    rows.append(Row("memory, with our root on ext2", _ONE_COPY, "MiB", 0.45, (on_ext2,), (theirs,), aside=True))
    squashfs = room(_squashfs(bench).ours())
    rows.append(Row("memory, with our root as squashfs", _ONE_COPY, "MiB", 0.45, (squashfs,), (theirs,), aside=True))
    return rows


def measure_sticks(bench: Bench) -> list[Row]:
    """Making the image of a stick, and writing a live image and comparing every byte; programs' starts included."""
    shop = make_workshop(bench.folder / "workshop", cache=bench.cache.root)
    shop.ours()
    sticks = make_sticks(bench.folder, shop.folder / "ours/bench.iso")
    prepared = in_turns(sticks.prepare, sticks.prepare_by_hand, pairs=bench.pairs)
    written = in_turns(sticks.write, sticks.write_by_hand, pairs=bench.pairs)
    return [
        Row("stick image of 64 MB", "sfdisk, mke2fs, e2fsck", "s", 1.0, *prepared, aside=True),
        Row("live image written and compared", "dd, cmp", "s", 1.15, *written, note=f"an ISO of {LIVE_BYTES} bytes"),
    ]


def _subject(bench: Bench) -> tuple[Subject, Boots]:
    subject = make_subject(TEN_MEGABYTES, folder=bench.folder / "files", cache=bench.cache)
    kernel = bench.folder / "vmlinuz"
    kernel.write_bytes(subject.plan.kernel.image.read())
    return subject, Boots(kernel, bench.folder)


def _squashfs(bench: Bench) -> Subject:
    return make_subject(SQUASHFS, folder=bench.folder / "squashfs-files", cache=bench.cache)


def _described(subject: Subject) -> str:
    return f"a root of {subject.size_bytes} bytes in {len(subject.plan.root)} entries"


def _first_fitting(subject: Subject, boots: Boots) -> int:
    """The first size in KiB, among those the seed tries, that a copy of the root fits into."""
    said = boots.boot(subject.seed(passes=1), until=r"bench: image of (\d+) KiB", words=START)
    return int(said[1])
