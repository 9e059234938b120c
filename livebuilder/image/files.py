"""The files an image brings, with short hashes: what a stick remembers of the image it was used with.

One line for every regular file outside of /etc and the like, where people, not images, say what is in them:

    HASH PATH      eight hex digits of the content's SHA-256, a blank, the path
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from livebuilder.tree import Content, Kind, RootTree

FILES_PATH = "etc/livebuilder/files"
_DIGITS = 8
_BUILD_DIGITS = 16
# Changed by people and programs: no business of an image's.
_OTHERS = ("etc/", "root/", "home/", "srv/", "tmp/", "var/", "dev/", "proc/", "sys/", "mnt/", "rom/", "overlay/")
# The shell that reads the list takes a line for a name, and blanks at its ends away.
_PLAIN = re.compile(r"[!-~]([ -~]*[!-~])?")


def render_files(root: RootTree) -> str:
    """The list for a root, in archive order; a name that is not plain ASCII is left out."""
    listed = (
        entry
        for entry in root
        if entry.kind in (Kind.FILE, Kind.HARDLINK)
        and not entry.path.startswith(_OTHERS)
        and _PLAIN.fullmatch(entry.path)
    )
    return "".join(f"{short_hash(root.content_of(entry))} {entry.path}\n" for entry in listed)


def short_hash(content: Content) -> str:
    """The hash that stands in the list."""
    return content.sha256[:_DIGITS]


def parse_files(text: str) -> Mapping[str, str]:
    """The hashes by path."""
    return {path: digest for digest, _, path in (line.partition(" ") for line in text.splitlines())}


def build_id(files: str) -> str:
    """The name of the image with these files: two images with the same one have no file that differs."""
    return hashlib.sha256(files.encode()).hexdigest()[:_BUILD_DIGITS]
