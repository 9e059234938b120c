from livebuilder.sources.closure import Relations
from livebuilder.sources.package import DebianPackage, Resolution, package_of, relations_of

ENTRY = {
    "Package": "busybox-static",
    "Source": "busybox (1:1.35.0-4+deb12u1)",
    "Version": "1:1.35.0-4+deb12u1+b1",
    "Architecture": "i386",
    "Pre-Depends": "dpkg (>= 1.17) | dpkg-old",
    "Depends": "libc6:any (>= 2.34), libfoo1 [i386],\n libbar2 | libbar2-alt, ",
    "Provides": "busybox (= 1.35), rescue-shell",
    "Built-Using": "glibc (= 2.36-9), libxcrypt (= 1:4.4)",
    "Static-Built-Using": "glibc (= 2.36-9)",
    "Section": "contrib/shells",
    "Size": "958344",
    "SHA256": "ab" * 32,
}
PACKAGE = DebianPackage(
    "busybox-static", "1:1.35.0-4+deb12u1+b1", "i386", "ab" * 32, 958344, "busybox", "1:1.35.0-4+deb12u1",
    ("glibc (= 2.36-9)", "libxcrypt (= 1:4.4)"),
)  # fmt: skip


def test_where_the_sources_are() -> None:
    assert package_of(ENTRY) == PACKAGE
    assert str(PACKAGE) == "busybox-static 1:1.35.0-4+deb12u1+b1"


def test_a_package_is_its_own_source_unless_it_says_otherwise() -> None:
    plain = {key: value for key, value in ENTRY.items() if key not in ("Source", "Built-Using", "Static-Built-Using")}
    package = package_of(plain)
    assert (package.source, package.source_version, package.built_using) == (package.name, package.version, ())
    assert package_of({**plain, "Source": "busybox"}).source_version == package.version


def test_relations_without_versions_and_architectures() -> None:
    assert relations_of(ENTRY) == Relations(
        "busybox-static",
        (("dpkg", "dpkg-old"), ("libc6",), ("libfoo1",), ("libbar2", "libbar2-alt")),
        ("busybox", "rescue-shell"),
        "contrib/shells",
    )
    assert relations_of({"Package": "x"}) == Relations("x")


def test_a_resolution_survives_the_cache() -> None:
    resolution = Resolution((PACKAGE,), {"busybox-static": ["bin/busybox", "caf\udce9"]}, {"bin/sh": "busybox"}, ("w",))
    assert Resolution.from_json(resolution.to_json()) == resolution
