"""What every command line has in common: how commands are made, what they print, what is a usage error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from livebuilder.errors import LivebuilderError, UsageError

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON, in a form that stays.")]


def group(summary: str, *, completion: bool = False) -> typer.Typer:
    """A command with commands below it."""
    return typer.Typer(
        help=summary,
        rich_markup_mode=None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=completion,
    )


@contextmanager
def as_usage() -> Iterator[None]:
    """What is wrong in here is wrong with the words of the command line alone."""
    try:
        yield
    except LivebuilderError as error:
        raise UsageError(error.message, hint=error.hint) from error


def show(data: dict[str, Any], text: str, *, as_json: bool) -> None:
    """The result, on stdout."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False) if as_json else text)
