"""The packages of a root, by its own word: the database of opkg, apk or dpkg.

usr/lib/opkg/status     openwrt.opkg reads it
lib/apk/db/installed    paragraphs of lines like P:name and V:version
var/lib/dpkg/status     paragraphs (deb822(5), dpkg-query(1)); `install ok installed` is what counts
"""

from __future__ import annotations

from collections.abc import Mapping

from livebuilder.deb822 import parse_paragraphs
from livebuilder.openwrt.opkg import installed_versions
from livebuilder.tree import Kind, RootTree

# The database, and its fields for name, version and state.
_DATABASES = (
    ("lib/apk/db/installed", "P", "V", ""),
    ("var/lib/dpkg/status", "Package", "Version", "Status"),
)


def installed_packages(root: RootTree) -> Mapping[str, str] | None:
    """The versions of the packages in `root`, by name; None when it has no database, or none of a tool we know."""
    by_opkg = installed_versions(root)
    if by_opkg is not None:
        return by_opkg
    for path, name, version, state in _DATABASES:
        entry = root.resolve(path)
        if entry is None or entry.kind not in (Kind.FILE, Kind.HARDLINK):
            continue
        text = root.content_of(entry).read().decode("utf-8", "replace")
        return {
            fields[name]: fields[version]
            for fields in parse_paragraphs(text)
            if fields.get(name) and fields.get(version) and (not state or fields.get(state, "").endswith(" installed"))
        }
    return None


def render_manifest(packages: Mapping[str, str]) -> str:
    """A `.manifest` as OpenWrt's image.mk writes it, with opkg and with apk alike: `name - version`, sorted by name."""
    return "".join(f"{name} - {version}\n" for name, version in sorted(packages.items()))
