from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from livebuilder.sources.closure import (
    DLOPENED,
    Closure,
    Missing,
    PackageFiles,
    Relations,
    library_package_names,
    next_candidates,
    plan_closure,
    reachable,
)
from livebuilder.sources.elf import EM_386, EM_X86_64, ElfFacts

FOLDERS = ("lib/i386-linux-gnu", "usr/lib/i386-linux-gnu", "lib", "usr/lib")


def package(name: str, files: Mapping[str, ElfFacts | str | None]) -> PackageFiles:
    """Paths by what they are: a program or library, the target of a link, or None for any other file."""
    return PackageFiles(
        name,
        frozenset(files),
        links={path: what for path, what in files.items() if isinstance(what, str)},
        elf={path: what for path, what in files.items() if isinstance(what, ElfFacts)},
    )


def needs(
    *libraries: str, interpreter: str | None = None, imports: Sequence[str] = (), machine: int = EM_386
) -> ElfFacts:
    return ElfFacts(machine, interpreter, libraries, imports=frozenset(imports))


def relations(depends: Mapping[str, str], **provides: str) -> dict[str, Relations]:
    """A graph written as control files write it: "a, b | c"."""
    return {
        name: Relations(
            name,
            tuple(tuple(word.strip() for word in group.split("|")) for group in text.split(",") if group.strip()),
            tuple(provides.get(name, "").split()),
        )
        for name, text in depends.items()
    }


def run(
    asked: Sequence[str], index: Mapping[str, Relations], packages: Mapping[str, PackageFiles]
) -> tuple[Closure, list[tuple[str, ...]]]:
    """Call as the archive does: read what is wanted until nothing is; also what was read in each round."""
    read: dict[str, PackageFiles] = {}
    rounds: list[tuple[str, ...]] = []
    for _ in range(len(index) + 2):
        closure = plan_closure(
            asked, index=index, read=read, keep=lambda one: one.paths, library_folders=FOLDERS
        )  # fmt: skip
        if not closure.wanted:
            return closure, rounds
        assert not set(closure.wanted) & set(read), "asked for again"
        rounds.append(closure.wanted)
        read |= {name: packages[name] for name in closure.wanted}
    raise AssertionError("it does not end")


LIBC = package("libc6", {
    "lib/i386-linux-gnu/libc.so.6": needs("ld-linux.so.2"),
    "lib/i386-linux-gnu/ld-linux.so.2": needs(),
    "lib/ld-linux.so.2": "i386-linux-gnu/ld-linux.so.2",
    "lib/i386-linux-gnu/libnss_files.so.2": needs("libc.so.6", imports=("fopen",)),
    "lib/i386-linux-gnu/libnss_dns.so.2": needs("libc.so.6", imports=("__cxa_finalize",)),
    "usr/lib/i386-linux-gnu/gconv/UTF-16.so": needs("libc.so.6"),
    "usr/lib/i386-linux-gnu/gconv/gconv-modules": None,
})  # fmt: skip
ZLIB = package("zlib1g", {
    "lib/i386-linux-gnu/libz.so.1": "libz.so.1.2.13",
    "lib/i386-linux-gnu/libz.so.1.2.13": needs("libc.so.6"),
    "usr/share/doc/zlib1g/copyright": None,
})  # fmt: skip
LIBGCC = package("libgcc-s1", {"lib/i386-linux-gnu/libgcc_s.so.1": needs("libc.so.6")})
INDEX = relations(
    {
        "tool": "debconf, zlib1g, libc6", "debconf": "perl", "perl": "", "zlib1g": "libc6",
        "libc6": "libgcc-s1", "libgcc-s1": "libc6",
    }
)  # fmt: skip
INDEX["zlib1g"] = replace(INDEX["zlib1g"], section="libs")
BASE = {
    "libc6": LIBC,
    "zlib1g": ZLIB,
    "libgcc-s1": LIBGCC,
    "perl": package("perl", {}),
    "debconf": package("debconf", {}),
}


def closure_of(program: ElfFacts, **more: PackageFiles) -> Closure:
    tool = package("tool", {"usr/bin/tool": program, "etc/tool.conf": None})
    return run(["tool"], INDEX, {**BASE, "tool": tool, **more})[0]


def taken(closure: Closure) -> set[str]:
    return {path for paths in closure.files.values() for path in paths}


def test_libraries_links_and_loader_only() -> None:
    closure = closure_of(needs("libz.so.1", "libc.so.6", interpreter="/lib/ld-linux.so.2"))
    assert taken(closure) == {
        "usr/bin/tool", "etc/tool.conf", "lib/i386-linux-gnu/libz.so.1", "lib/i386-linux-gnu/libz.so.1.2.13",
        "lib/i386-linux-gnu/libc.so.6", "lib/i386-linux-gnu/ld-linux.so.2", "lib/ld-linux.so.2",
    }  # fmt: skip
    assert (closure.links, closure.missing) == ({}, ())


def test_what_only_maintainer_scripts_need_is_not_even_read() -> None:
    packages = {**BASE, "tool": package("tool", {"usr/bin/tool": needs("libz.so.1")})}
    _, rounds = run(["tool"], INDEX, packages)
    assert {"perl", "debconf"}.isdisjoint(name for names in rounds for name in names)


def test_a_static_program_needs_nothing() -> None:
    assert taken(closure_of(needs())) == {"usr/bin/tool", "etc/tool.conf"}


@pytest.mark.parametrize(
    ("imports", "expected"),
    [
        (("getpwnam",), {"lib/i386-linux-gnu/libnss_files.so.2"}),  # that for DNS is an empty one
        (("pthread_cancel",), {"lib/i386-linux-gnu/libgcc_s.so.1"}),
        (("iconv_open",), {"usr/lib/i386-linux-gnu/gconv/UTF-16.so", "usr/lib/i386-linux-gnu/gconv/gconv-modules"}),
        (("printf",), set()),
    ],
)
def test_what_is_loaded_by_name(imports: tuple[str, ...], expected: set[str]) -> None:
    plain = taken(closure_of(needs("libc.so.6")))
    assert taken(closure_of(needs("libc.so.6", imports=imports))) - plain == expected


def test_openssl_s_old_ciphers() -> None:
    crypto = package("libssl3", {
        "usr/lib/i386-linux-gnu/libcrypto.so.3": needs("libc.so.6"),
        "usr/lib/i386-linux-gnu/ossl-modules/legacy.so": needs("libcrypto.so.3"),
        "usr/lib/i386-linux-gnu/engines-3/afalg.so": needs("libcrypto.so.3"),
    })  # fmt: skip
    index = relations({"tool": "libssl3", "libssl3": "libc6", "libc6": ""})
    tool = package("tool", {"usr/bin/tool": needs("libcrypto.so.3")})
    closure, _ = run(["tool"], index, {"tool": tool, "libssl3": crypto, "libc6": LIBC})
    assert closure.files["libssl3"] == crypto.paths - {"usr/lib/i386-linux-gnu/engines-3/afalg.so"}


def test_the_table_has_a_condition_and_a_consequence_in_each_row() -> None:
    for row in DLOPENED:
        assert row.imports or row.needed
        assert row.required or row.optional or row.paths


def test_missing_names_program_and_library() -> None:
    closure = closure_of(needs("libnowhere.so.9", "libz.so.1"))
    assert closure.missing == (Missing("tool", "usr/bin/tool", "libnowhere.so.9"),)
    assert closure_of(needs(interpreter="/lib/ld-musl-i386.so.1")).missing[0].library == "/lib/ld-musl-i386.so.1"


def test_a_library_of_another_machine_does_not_count() -> None:
    other = package("zlib1g", {"usr/lib/libz.so.1": needs(machine=EM_X86_64)})
    assert closure_of(needs("libz.so.1"), zlib1g=other).missing == (Missing("tool", "usr/bin/tool", "libz.so.1"),)


def test_a_library_outside_of_the_loader_s_folders_does_not_count() -> None:
    hidden = {"usr/lib/i386-linux-gnu/private/libz.so.1": needs()}
    assert closure_of(needs("libz.so.1"), zlib1g=package("zlib1g", hidden)).missing
    for run_path in (
        "/usr/lib/i386-linux-gnu/private",
        "$ORIGIN/../lib/i386-linux-gnu/private",
        "${ORIGIN}/../lib//i386-linux-gnu/private/",
    ):
        program = ElfFacts(EM_386, needed=("libz.so.1",), run_paths=(run_path,))
        assert not closure_of(program, zlib1g=package("zlib1g", hidden)).missing


def test_a_loop_of_links_ends() -> None:
    loop = package("zlib1g", {"usr/lib/libz.so.1": "libz.so", "usr/lib/libz.so": "libz.so.1"})
    assert closure_of(needs("libz.so.1"), zlib1g=loop).missing


def test_a_link_into_another_package_is_followed() -> None:
    index = relations({"tool": "liba1", "liba1": "libb1", "libb1": ""})
    packages = {
        "tool": package("tool", {"bin/tool": needs("liba.so.1", "libb.so.1")}),
        "liba1": package("liba1", {"usr/lib/liba.so.1": "/usr/lib/libb.so.1.0"}),
        "libb1": package("libb1", {"usr/lib/libb.so.1.0": needs(), "usr/lib/libb.so.1": "libb.so.1.0"}),
    }
    closure, _ = run(["tool"], index, packages)
    assert taken(closure) == {path for one in packages.values() for path in one.paths}


def test_the_loader_is_linked_to_where_programs_look_when_a_suite_has_all_in_usr() -> None:
    merged = package("libc6", {
        "usr/lib/i386-linux-gnu/libc.so.6": needs("ld-linux.so.2"),
        "usr/lib/i386-linux-gnu/ld-linux.so.2": needs(),
        "usr/lib/ld-linux.so.2": "i386-linux-gnu/ld-linux.so.2",
    })  # fmt: skip
    closure = closure_of(needs("libc.so.6", interpreter="/lib/ld-linux.so.2"), libc6=merged)
    assert closure.files["libc6"] == merged.paths
    assert closure.links == {"lib/ld-linux.so.2": "../usr/lib/ld-linux.so.2"}


def test_a_hard_link_among_the_asked_is_taken_as_it_is() -> None:
    tool = package("tool", {"bin/tool": needs("libz.so.1"), "bin/other": "/bin/tool"})
    closure, _ = run(["tool"], INDEX, {**BASE, "tool": tool})
    assert closure.files["tool"] == {"bin/tool", "bin/other"}


def test_what_is_near_comes_first_and_stand_ins_last() -> None:
    index = relations(
        {"a": "b | b-other, virtual", "b": "c", "c": "", "b-other": "d", "d": "", "p1": "", "p2": "e", "e": ""},
        p1="virtual c", p2="virtual",
    )  # fmt: skip
    assert reachable("a", index) == ["a", "b", "p1", "c", "b-other", "d", "p2", "e"]
    assert reachable("nothing", index) == []


def test_which_to_read_next() -> None:
    index = relations(dict.fromkeys(["tool", "libext2fs2", "liba1", "libz", "libb1", "libc1", "libd1"], ""))
    unread = list(index)
    assert next_candidates("libext2fs.so.2", unread, index) == ["libext2fs2"]
    assert next_candidates("libq.so.2", unread, index) == ["libext2fs2", "liba1", "libz", "libb1"]
    assert next_candidates("libq.so.2", ["tool"], index) == ["tool"]
    assert next_candidates("libq.so.2", [], index) == []


@pytest.mark.parametrize(
    ("library", "name"),
    [
        ("libext2fs.so.2", "libext2fs2"), ("libcom_err.so.2", "libcom-err2"), ("libgcc_s.so.1", "libgcc-s1"),
        ("libnl-3.so.200", "libnl-3-200"), ("libtinfo.so.6", "libtinfo6"), ("libdb-5.3.so", "libdb5.3"),
        ("libidn2.so.0", "libidn2-0"), ("libssl.so.3", "libssl3t64"), ("libstdc++.so.6", "libstdc++6"),
    ],
)  # fmt: skip
def test_debian_names_packages_after_libraries(library: str, name: str) -> None:
    assert name in library_package_names(library)


def test_not_named_after_anything() -> None:
    assert library_package_names("/lib/ld-linux.so.2") == set()
    assert library_package_names("plugin") == set()


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], dict[str, Relations], dict[str, PackageFiles]]:
    """Packages with libraries that need libraries of packages near or far below them, and programs asked for."""
    count = draw(st.integers(1, 12))
    names = [f"libp{number}-{number}" if draw(st.booleans()) else f"p{number}" for number in range(count)]
    index, packages = {}, {}
    for name in names:
        depends = draw(st.lists(st.sampled_from(names), max_size=3, unique=True))
        index[name] = Relations(name, tuple((one,) for one in depends))
    for name in names:
        near = reachable(name, index)
        files: dict[str, ElfFacts | str | None] = {f"usr/share/{name}": None}
        for part in range(draw(st.integers(1, 3))):
            wanted = draw(st.lists(st.sampled_from(near), max_size=3, unique=True))
            facts = needs(*(f"lib{one}.so.0" for one in wanted))
            files[f"usr/lib/lib{name}.so.{part}.{part}"] = facts
            files[f"usr/lib/lib{name}.so.{part}"] = f"lib{name}.so.{part}.{part}"
        packages[name] = package(name, files)
    return draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True)), index, packages


def fixpoint(asked: Sequence[str], packages: Mapping[str, PackageFiles]) -> set[str]:
    """The same, told in another way: grow until nothing is added, knowing where everything is."""
    owner = {path: one for one in packages.values() for path in one.paths}
    result = {path for name in asked for path in packages[name].paths}
    while True:
        more = {f"usr/lib/{library}" for path in result for library in owner[path].elf.get(path, needs()).needed}
        more |= {f"usr/lib/{owner[path].links[path]}" for path in result if path in owner[path].links}
        if more <= result:
            return result
        result |= more


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_any_graph_gives_the_smallest_closed_set(
    graph: tuple[list[str], dict[str, Relations], dict[str, PackageFiles]],
) -> None:
    asked, index, packages = graph
    closure, rounds = run(asked, index, packages)
    assert closure.missing == ()
    assert taken(closure) == fixpoint(asked, packages)
    everything = plan_closure(asked, index=index, read=packages, keep=lambda one: one.paths, library_folders=FOLDERS)
    assert everything == closure, "what was read in which order makes no difference"
    far = {name for start in asked for name in reachable(start, index)}
    assert {name for names in rounds for name in names} <= far


@settings(max_examples=100, deadline=None)
@given(graphs(), st.data())
def test_any_graph_with_a_package_lost_names_what_is_missing(
    graph: tuple[list[str], dict[str, Relations], dict[str, PackageFiles]], data: st.DataObject
) -> None:
    asked, index, packages = graph
    lost = data.draw(st.sampled_from(sorted(packages)))
    packages = {**packages, lost: package(lost, {})}
    closure, _ = run(asked, index, packages)
    owner = {path: one for one in packages.values() for path in one.paths}
    expected = {
        Missing(owner[path].name, path, library)
        for path in taken(closure)
        for library in owner[path].elf.get(path, needs()).needed
        if library == f"lib{lost}.so.0"
    }
    assert set(closure.missing) == expected
