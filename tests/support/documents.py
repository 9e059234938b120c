"""docs/json.md as data, to compare with what the commands print."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_PAGE = Path(__file__).parents[2] / "docs/json.md"
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def documented(chapter: str) -> dict[str, str]:
    """The keys of a chapter of docs/json.md, with their types as they stand there."""
    (text,) = re.findall(rf"^## {re.escape(chapter)}\n(.*?)(?=^## |\Z)", _PAGE.read_text(), re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", text, re.MULTILINE)
    assert rows and len(rows) == len(dict(rows)), chapter
    return {key: kind.strip() for key, kind in rows}


def chapters() -> set[str]:
    """The headings of docs/json.md."""
    return set(re.findall(r"^## (.+)$", _PAGE.read_text(), re.MULTILINE))


def keys_of(value: Any, *, opaque: set[str], path: str = "") -> Iterator[tuple[str, str]]:
    """Every key of a JSON value with the type of what is there; below the keys in `opaque` nothing is looked at."""
    if path in opaque and isinstance(value, dict):
        yield path, "object"
    elif isinstance(value, dict):
        for key, below in value.items():
            yield from keys_of(below, opaque=opaque, path=f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        if not value:
            yield f"{path}[]", "nothing"
        for below in value:
            yield from keys_of(below, opaque=opaque, path=f"{path}[]")
    else:
        yield path, _TYPES[type(value)]


def assert_documented(chapter: str, *outputs: Any, may_lack: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    """The outputs have all keys of the chapter, between them, and no other, and every value is of its type.

    `may_lack` are keys that these outputs need not have.
    """
    rows = documented(chapter)
    opaque = {key for key, kind in rows.items() if kind.startswith("object")}
    seen: dict[str, set[str]] = {}
    for output in outputs:
        for key, kind in keys_of(output, opaque=opaque):
            seen.setdefault(key, set()).add(kind)
    # An empty list or a null stands for all that might be in it.
    hollow = [key for key, kinds in seen.items() if key not in rows and kinds <= {"nothing", "null"}]
    for key in hollow:
        inner = key.removesuffix("[]")
        assert any(row.startswith((f"{inner}[]", f"{inner}.")) for row in rows), f"{key} is not in docs/json.md"
        del seen[key]
    assert seen.keys() - rows.keys() == set(), "not in docs/json.md"
    covered = {row for row in rows if any(row.startswith((f"{k.removesuffix('[]')}[]", f"{k}.")) for k in hollow)}
    assert rows.keys() - seen.keys() - covered <= may_lack, "in docs/json.md only"
    for key, kinds in seen.items():
        allowed = {word for kind in rows[key].split(" or ") for word in (kind, "nothing")}
        if "number" in allowed:
            allowed.add("integer")
        assert kinds <= allowed, f"{key} is {kinds}, and docs/json.md says {rows[key]}"
