"""A kernel with modules linked in, as far as anybody can tell who is started by it.

Debian's kernel has them as files. Here they are listed in modules.builtin, their files are left out, and a program
that comes before /init loads them from an archive of its own, removes it and becomes /init.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from livebuilder.cache import Cache, cache_root
from livebuilder.cpio import archive
from livebuilder.kernel.modules import ModuleIndex
from livebuilder.sources.debian import DebianArchive
from livebuilder.tree import RootTree, file

_FOLDER = "linked-in"
_FIRST = f"""\
#!/bin/busybox sh
for module in /{_FOLDER}/*.ko; do
    /bin/busybox insmod "$module" || exec /bin/busybox poweroff -f
done
/bin/busybox rm -r /{_FOLDER}
exec /init
"""


@dataclass(frozen=True)
class LinkedIn:
    """What a profile names, and the archive that goes behind the initramfs; boot with `rdinit`."""

    image: Path
    modules: Path
    archive: bytes
    names: tuple[str, ...]

    rdinit = f"rdinit=/{_FOLDER}/init"


def kernel_with(linked: Sequence[str], *, features: Sequence[str], folder: Path) -> LinkedIn:
    """Debian's kernel with `linked` and all they need built in, and of modules only those of `features`."""
    kernel = DebianArchive(cache=Cache(cache_root())).kernel().kernel
    index = ModuleIndex.from_kernel(kernel)
    built_in = tuple(path for path in index.closure(linked) if index.names([path])[0] not in index.cpu_bound)
    modules = folder / "lib/modules" / kernel.release
    for path in index.closure(path for feature in features for path in index.expand(feature)):
        if path not in built_in:
            (modules / path).parent.mkdir(parents=True, exist_ok=True)
            (modules / path).write_bytes(kernel.modules[path].content.read())
    (modules / "modules.builtin").write_text("".join(f"{path}\n" for path in (*index.builtin_paths, *built_in)))
    (modules / "modules.builtin.modinfo").write_bytes(index.builtin_modinfo)
    image = folder / "vmlinuz"
    image.write_bytes(kernel.image.read())
    before = RootTree(
        [
            file(f"{_FOLDER}/init", _FIRST, mode=0o755),
            *(file(f"{_FOLDER}/{at:02}.ko", kernel.modules[path].content) for at, path in enumerate(built_in)),
        ]
    )
    return LinkedIn(image, modules, b"".join(archive(before)), index.names(built_in))
