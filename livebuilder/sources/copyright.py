"""Who may do what with the disc: the packages behind the boot loader, and the copyright file of every package on it.

Debian keeps a package's licences in /usr/share/doc/PACKAGE/copyright (Debian policy 12.5). They do not go into the
root, where they would cost memory, but onto the disc: most licences want to travel with the binary.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from livebuilder.cache import Cache
from livebuilder.process import find_tool, run

_HOST_DOC = Path("/usr/share/doc")
_FIELDS = r"${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n"


@dataclass(frozen=True)
class HostPackage:
    """A package installed on this machine that a file on the disc comes from."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str


def host_packages(files: Sequence[Path], *, cache: Cache) -> tuple[HostPackage, ...]:
    """The Debian packages that own `files` of this machine; empty where there is no dpkg.

    dpkg reads every list it has to find an owner, so the answer is kept until a file changes.
    """
    if find_tool("dpkg-query") is None:
        return ()
    stats = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    key = hashlib.sha256(json.dumps(stats).encode()).hexdigest()
    known = cache.find("host-packages", key)
    if known is not None:
        return tuple(HostPackage(**one) for one in json.loads(known.read_bytes()))
    owners = run(["dpkg-query", "-S", *files], check=False).stdout
    names = sorted({line.partition(":")[0] for line in owners.splitlines() if ": /" in line})
    lines = run(["dpkg-query", "-W", "-f", _FIELDS, *names]).stdout.splitlines() if names else []
    found = tuple(HostPackage(*line.split("\t")) for line in lines)
    with cache.place("host-packages", key) as draft:
        draft.write_text(json.dumps([asdict(one) for one in found]))
    return found


def host_copyrights(packages: Sequence[HostPackage]) -> dict[str, bytes]:
    """The copyright files of packages of this machine, by package name."""
    files = {package.name: _HOST_DOC / package.name / "copyright" for package in packages}
    return {name: file.read_bytes() for name, file in files.items() if file.is_file()}


def pack_copyrights(texts: Mapping[str, bytes]) -> bytes:
    """All texts as one gzip file, the same text of several packages once under all their names."""
    names: dict[bytes, list[str]] = {}
    for name in sorted(texts):
        names.setdefault(texts[name], []).append(name)
    parts = [b"==== " + ", ".join(owners).encode() + b" ====\n\n" + text for text, owners in names.items()]
    return gzip.compress(b"\n\n".join(parts), 9, mtime=0)
