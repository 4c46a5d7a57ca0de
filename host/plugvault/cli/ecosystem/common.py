"""What every area of `plugvault ecosystem` does alike: open the store, say what was found."""

import getpass
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from plugvault.cli import table
from plugvault.pools.caller import ADMIN, ANY, OEM, OPERATORS, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.repositories import Records
from plugvault.store import SqlStore

Row = Mapping[str, Any]


@dataclass(frozen=True)
class EcosystemLocation:
    """Where the ecosystem is, and how to say things. `folder`: where --data was given."""

    database: str
    folder: Path | None
    as_json: bool


def new_group(words: str) -> typer.Typer:
    """An area's commands."""
    return typer.Typer(
        help=words,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )


def local_user() -> Caller:
    """The user of this machine, who may do what every role may."""
    everything = frozenset({ANY})
    user = f"command line: {getpass.getuser()}"
    return Caller(
        user, OPERATORS | {OEM, ADMIN}, everything, everything, everything, client_id=user
    )


@contextmanager
def reading(context: typer.Context) -> Iterator[Records]:
    with _opened(context) as store, store.read() as records:
        yield records


@contextmanager
def writing(context: typer.Context) -> Iterator[Records]:
    """One transaction: all of a command happens, or nothing."""
    with _opened(context) as store, store.write() as records:
        yield records


@contextmanager
def _opened(context: typer.Context) -> Iterator[SqlStore]:
    try:
        store = SqlStore.open(context.obj.database)
        try:
            yield store
        finally:
            store.close()
    except (PoolError, ValueError) as error:
        said = error.detail if isinstance(error, PoolError) else str(error)
        typer.secho(f"plugvault ecosystem: {said}", err=True, fg="red")
        raise typer.Exit(1) from error


def print_rows(
    context: typer.Context, found: Sequence[Row], *columns: str, none: str = "none"
) -> None:
    """A table, or a list of objects. `columns`: what people see of each."""
    if context.obj.as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    if not found:
        typer.echo(none)
        return
    shown = ([_text(row.get(name)) for name in columns] for row in found)
    table.show([_title(name) for name in columns], shown)


def print_members(context: typer.Context, found: Row) -> None:
    """Its members below each other, or an object."""
    if context.obj.as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    width = max(map(len, found))
    for name, value in found.items():
        typer.echo(f"{_title(name):<{width}}  {_text(value)}")


def print_done(context: typer.Context, words: str, **members: Any) -> None:
    """What a change came to."""
    typer.echo(json.dumps({"done": words, **members}) if context.obj.as_json else words)


def moment(seconds: float | None) -> str | None:
    """As OPCP writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%FT%TZ") if seconds else None


def _title(name: str) -> str:
    return name.replace("_", " ")


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return "\n".join(map(_text, value)) or "-"
    return table.printable(value)
