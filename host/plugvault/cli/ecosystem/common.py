"""The common parts of `plugvault ecosystem`: open the store, print rows and members."""

import getpass
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from evcc.errors import EvccError
from plugvault.cli import table, words
from plugvault.pools.caller import ADMIN, ANY, OEM, OPERATORS, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.repositories import Records
from plugvault.printable import printable, printable_lines
from plugvault.store import SqlStore

Row = Mapping[str, Any]
Limit = typer.Option(help="Number of rows, at most.", min=1, max=10_000)


@dataclass(frozen=True)
class EcosystemLocation:
    """The options of the group: --database, --data, --json."""

    database: str | None
    folder: Path | None
    as_json: bool

    @property
    def url(self) -> str:
        """The database's URL. Raises typer.BadParameter without a database."""
        if self.database is not None:
            name = self.database.removeprefix("sqlite:///")
            if name != self.database and not Path(name).is_file():
                text = f"{name} is not there; `plugvault sandbox --database` makes it"
                raise typer.BadParameter(text, param_hint="--database")
            return self.database
        if self.folder is None:
            raise typer.BadParameter("--data or --database is needed", param_hint="--data")
        file = self.folder / "ecosystem.sqlite"
        if not file.is_file():
            text = f"{self.folder} has no ecosystem.sqlite"
            raise typer.BadParameter(text, param_hint="--data")
        return f"sqlite:///{file}"


def new_group(text: str) -> typer.Typer:
    """A group of commands. text: its help."""
    return typer.Typer(
        help=text,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )


def local_user() -> Caller:
    """The user of this machine as a caller, with the roles of makers, operators and
    administrators, for every identifier."""
    everything = frozenset({ANY})
    user = f"command line: {getpass.getuser()}"
    return Caller(
        user, OPERATORS | {OEM, ADMIN}, everything, everything, everything, client_id=user
    )


@contextmanager
def reading(context: typer.Context) -> Iterator[Records]:
    """A transaction that reads, for one command. An error of the store ends the command with exit
    status 1."""
    with _opened(context) as store, store.read() as records:
        yield records


@contextmanager
def writing(context: typer.Context) -> Iterator[Records]:
    """A transaction that writes, for one command. A refusal or an error of the store ends the
    command with exit status 1."""
    with _opened(context) as store, store.write() as records:
        yield records


@contextmanager
def _opened(context: typer.Context) -> Iterator[SqlStore]:
    with refusing():
        store = SqlStore.open(context.obj.url)
        try:
            yield store
        finally:
            store.close()


@contextmanager
def refusing(about: str = "") -> Iterator[None]:
    """End the command with exit status 1, and one line, for an error of the ecosystem's own
    classes. about: what the line begins with."""
    try:
        yield
    except (EvccError, ValueError) as error:
        text = printable_lines(f"plugvault ecosystem: {about}{words.of(error)}")
        typer.secho(text, err=True, fg="red")
        raise typer.Exit(1) from error


@contextmanager
def listed_by(command: str) -> Iterator[None]:
    """Let the error about a missing record name the command of the group that lists them."""
    try:
        yield
    except PoolError as error:
        if error.reason != "not-found":
            raise
        text = f"{error.detail.rstrip('.')}; `plugvault ecosystem {command}` lists all"
        raise PoolError("not-found", text) from error


def print_rows(
    context: typer.Context, rows: Sequence[Row], *columns: str, none: str = "none"
) -> None:
    """Print a table, or with --json a list of objects. `columns`: of the table; `none`: the text
    for no rows."""
    if context.obj.as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    if not rows:
        typer.echo(none)
        return
    cells = ([_text(row.get(name)) for name in columns] for row in rows)
    table.show([_title(name) for name in columns], cells)


def print_members(context: typer.Context, row: Row) -> None:
    """Print the members of a row on a line each, or with --json an object."""
    if context.obj.as_json:
        typer.echo(json.dumps(row, indent=1))
        return
    width = max(map(len, row))
    for name, value in row.items():
        typer.echo(f"{_title(name):<{width}}  {_text(value)}")


def print_done(context: typer.Context, text: str, **members: Any) -> None:
    """Print the result of a change."""
    shown = printable_lines(text)
    typer.echo(json.dumps({"done": text, **members}) if context.obj.as_json else shown)


def moment(seconds: float | None) -> str | None:
    """A time in RFC 3339, UTC; None for no time. seconds: Unix seconds."""
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
    return printable(value)
