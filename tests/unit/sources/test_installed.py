"""The packages of a root, by the databases of opkg, apk and dpkg."""

from __future__ import annotations

import pytest

from livebuilder.sources.installed import installed_packages, render_manifest
from livebuilder.tree import RootTree, file, symlink

OPKG = """Package: busybox
Version: 1.36.1-1
Depends: libc
Status: install user installed
Architecture: i386_pentium4
Conffiles:
 /etc/shells 0123456789abcdef
Installed-Time: 1727094886

Package: kmod-loop
Version: 5.15.167-1
Status: install hold unpacked

Package: gone
Version: 1-1
Status: deinstall ok not-installed

Package: half
Version: 1-1
Status: install user half-installed

Package: no-version
Status: install user installed
"""
APK = """C:Q1pbtZ8rBVp+7xGRrTpbFcPb1N8Es=
P:musl
V:1.2.4_git20230717-r4
A:x86
F:lib
R:ld-musl-i386.so.1
a:0:0:755

P:busybox
V:1.36.1-r15
"""
DPKG = """Package: libc6
Status: install ok installed
Version: 2.36-9
Description: a library
 It goes on.
 .
 And on.

Package: removed
Status: deinstall ok config-files
Version: 1

Package: unpacked
Status: install ok unpacked
Version: 2
"""


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("usr/lib/opkg/status", OPKG, {"busybox": "1.36.1-1", "kmod-loop": "5.15.167-1"}),
        ("lib/apk/db/installed", APK, {"musl": "1.2.4_git20230717-r4", "busybox": "1.36.1-r15"}),
        ("var/lib/dpkg/status", DPKG, {"libc6": "2.36-9"}),
        ("usr/lib/opkg/status", "", {}),
        ("usr/lib/opkg/info", OPKG, None),
    ],
)
def test_what_each_tool_would_list(path: str, text: str, expected: object) -> None:
    assert installed_packages(RootTree([file(path, text)])) == expected


def test_a_database_behind_a_link_is_found_and_bytes_of_any_kind_do_not_hurt() -> None:
    text = b"Package: x\nVersion: 1\nStatus: install user installed\nMaintainer: \xff\n"
    root = RootTree([symlink("usr/lib", "lib64"), file("usr/lib64/opkg/status", text)])
    assert installed_packages(root) == {"x": "1"}


def test_the_manifest_is_sorted_lines_of_name_and_version() -> None:
    assert render_manifest({"zlib": "1", "busybox": "1.36.1-1"}) == "busybox - 1.36.1-1\nzlib - 1\n"
    assert render_manifest({}) == ""
