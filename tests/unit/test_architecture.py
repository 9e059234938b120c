"""Who may import whom: imports point down, rooms beside one another do not know each other."""

import ast
from pathlib import Path

import pytest

import livebuilder

PACKAGE = Path(livebuilder.__file__).parent
# From the top down; a module may import from its own floor only within its own room.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("cli",),
    ("build", "inspection", "usb", "vm", "doctor"),
    ("sources", "profile"),
    ("image", "openwrt"),
    ("kernel", "iso"),
    ("cpio",),
    ("tree", "compression", "unpacking"),
    ("cache", "staging", "process", "assets", "console"),
    ("sizes",),
    ("errors",),
)
# Libraries that exactly one module may know.
SOLE_IMPORTERS = {
    "subprocess": {"process"},
    "pycdlib": {"iso.writer"},
    "ctypes": {"usb.fdisk", "doctor"},
    "typer": {"cli", "cli.common", "cli.consent", "cli.openwrt", "cli.usb", "cli.vm"},
    "pydantic": {"profile"},
    "qemu": {"vm.session"},
    "pyudev": {"usb.devices"},
    "httpx": {"openwrt.transfer"},
    "cryptography": {"openwrt.signature"},
}


def modules() -> dict[str, ast.Module]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text())
    return found


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports name the whole path"
            names.add(node.module or "")
            if node.module == "livebuilder":
                names |= {f"livebuilder.{alias.name}" for alias in node.names if not alias.name.startswith("__")}
    return names


MODULES = modules()


def room(module: str) -> str:
    return module.partition(".")[0]


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def edges() -> set[tuple[str, str]]:
    return {
        (name, other.removeprefix("livebuilder."))
        for name, tree in MODULES.items()
        for other in imported(tree)
        if other.startswith("livebuilder.") and name
    }


def test_every_module_has_a_floor() -> None:
    homeless = {room(name) for name in MODULES if name} - {name for rooms in FLOORS for name in rooms}
    assert homeless == set()


def test_imports_point_down() -> None:
    wrong = {(name, other) for name, other in edges() if room(name) != room(other) and floor(name) >= floor(other)}
    assert wrong == set()


def test_the_graph_is_not_empty() -> None:
    assert ("build.run", "iso.writer") in edges(), "the parser sees imports at all"
    assert ("cli", "build.run") in edges(), "also those inside functions"


@pytest.mark.parametrize("library", SOLE_IMPORTERS)
def test_a_library_has_one_door(library: str) -> None:
    users = {name for name, tree in MODULES.items() if any(room(other) == library for other in imported(tree))}
    assert users <= SOLE_IMPORTERS[library]
