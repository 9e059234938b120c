import io
import sys
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from livebuilder.errors import LivebuilderError
from livebuilder.sources.elf import EM_386, EM_X86_64, ElfFacts, read_elf
from tests.support.elves import elf_of

PROGRAM = elf_of(
    needed=("libtomcrypt.so.1", "libc.so.6"), interpreter="/lib/ld-linux.so.2", run_path="$ORIGIN/../lib:/opt/lib",
    imports=("getpwnam", "dlopen"), defines=("main",), kind=2,
)  # fmt: skip


def facts_of_pyelftools(data: bytes) -> ElfFacts:
    elf: Any = ELFFile(io.BytesIO(data))  # its methods depend on the kind of section
    tags = list(elf.get_section_by_name(".dynamic").iter_tags())
    paths = [tag.runpath for tag in tags if tag.entry.d_tag == "DT_RUNPATH"]
    paths = paths or [tag.rpath for tag in tags if tag.entry.d_tag == "DT_RPATH"]
    symbols = elf.get_section_by_name(".dynsym").iter_symbols()
    interpreter = [one.get_interp_name() for one in elf.iter_segments() if one["p_type"] == "PT_INTERP"]
    return ElfFacts(
        {"EM_386": EM_386, "EM_X86_64": EM_X86_64}.get(elf["e_machine"], -1),
        interpreter[0] if interpreter else None,
        tuple(tag.needed for tag in tags if tag.entry.d_tag == "DT_NEEDED"),
        next((tag.soname for tag in tags if tag.entry.d_tag == "DT_SONAME"), None),
        tuple(path for text in paths for path in text.split(":") if path),
        frozenset(one.name for one in symbols if one.name and one["st_shndx"] == "SHN_UNDEF"),
    )


def test_a_program() -> None:
    assert read_elf(PROGRAM, source="dropbear") == ElfFacts(
        EM_386,
        interpreter="/lib/ld-linux.so.2",
        needed=("libtomcrypt.so.1", "libc.so.6"),
        run_paths=("$ORIGIN/../lib", "/opt/lib"),
        imports=frozenset({"getpwnam", "dlopen"}),
    )


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize(
    "says",
    [
        {"soname": "libz.so.1", "needed": ("libc.so.6",), "defines": ("inflate",)},
        {"soname": "libm.so.6"},
        {"interpreter": "/lib64/ld-linux-x86-64.so.2", "kind": 2, "imports": ("a", "b")},
        {"run_path": "/new", "old_run_path": "/old"},
        {"old_run_path": "/old:"},
    ],
)  # fmt: skip
def test_the_same_as_pyelftools(bits: int, says: dict[str, object]) -> None:
    data = elf_of(bits=bits, machine=EM_386 if bits == 32 else EM_X86_64, **says)  # type: ignore[arg-type]
    assert read_elf(data, source="made") == facts_of_pyelftools(data)


def test_this_host_s_programs_the_same_as_pyelftools() -> None:
    files = {Path(sys.executable).resolve(), *(Path(p).resolve() for p in ("/bin/sh", "/bin/ls", "/usr/bin/xz"))}
    compared = 0
    for file in files:
        data = file.read_bytes()
        facts = read_elf(data, source=str(file))
        if facts is not None and facts.machine in (EM_386, EM_X86_64):
            assert facts == facts_of_pyelftools(data), file
            compared += "libc.so.6" in facts.needed
    assert compared, "no program of this host was compared"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x7fEL", b"#!/bin/sh\n", b"\x7fELF\3\1", b"\x7fELF\1\2" + bytes(99),  # big-endian
        elf_of(kind=1), elf_of(kind=4),  # a kernel module, a core dump
    ],
)  # fmt: skip
def test_what_is_no_program(data: bytes) -> None:
    assert read_elf(data, source="x") is None


def test_a_program_without_dynamic_part() -> None:
    data = bytearray(elf_of(kind=2))
    data[44:46] = bytes(2)  # no segments
    assert read_elf(bytes(data), source="busybox") == ElfFacts(EM_386)


def test_every_truncation_is_seen() -> None:
    for size in range(6, len(PROGRAM) - 1):
        with pytest.raises(LivebuilderError, match="/usr/sbin/dropbear"):
            read_elf(PROGRAM[:size], source="/usr/sbin/dropbear")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(PROGRAM) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_mutations_never_give_a_traceback(changes: list[tuple[int, int]]) -> None:
    data = bytearray(PROGRAM)
    for at, value in changes:
        data[at] = value
    try:
        read_elf(bytes(data), source="/usr/sbin/dropbear")
    except LivebuilderError as error:
        assert "/usr/sbin/dropbear" in error.message
