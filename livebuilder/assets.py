"""The programs and texts that travel with the package: `initramfs/`, `isolinux/` and a page of `docs/`."""

from __future__ import annotations

from pathlib import Path

from livebuilder.errors import LivebuilderError

_PACKAGE = Path(__file__).parent
# An installed package carries them as data (pyproject.toml); in a checkout they stand beside it.
_HOMES = (_PACKAGE / "data", _PACKAGE.parent)


def asset(relative: str) -> Path:
    """The path of `initramfs/…`, `isolinux/…` or `docs/profile.md`.

    Raises `LivebuilderError` when the installation is broken.
    """
    for home in _HOMES:
        path = home / relative
        if path.exists():
            return path
    raise LivebuilderError(
        f"{relative} is missing from this installation", hint="pip install --force-reinstall livebuilder"
    )
