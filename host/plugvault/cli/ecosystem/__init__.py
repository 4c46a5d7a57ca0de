"""`plugvault ecosystem`: look into an ecosystem, and change it, as the one who runs it.

It works on the database, with the pools' own rules, whether anything is being served or not; what
changes is in the audit trail under the name of the user of this machine. One file for each area.
"""

from pathlib import Path
from typing import Annotated

import typer

from plugvault.cli.ecosystem import contracts, events, partners, roots, trail, vehicles
from plugvault.cli.ecosystem.common import EcosystemLocation

app = typer.Typer(
    help="Look into an ecosystem, and change it, as the one who runs it.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for name, area in (
    ("vehicles", vehicles),
    ("contracts", contracts),
    ("roots", roots),
    ("events", events),
    ("partners", partners),
):
    app.add_typer(area.app, name=name)
app.command("audit")(trail.audit)
app.command("jobs")(trail.jobs)


@app.callback()
def where(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(help="The sandbox's --data folder.", envvar="PLUGVAULT_DATA"),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(help="Its --database, where it has one.", envvar="PLUGVAULT_DATABASE"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for scripts.")] = False,
) -> None:
    if database is None:
        file = data / "ecosystem.sqlite" if data else None
        if file is None or not file.is_file():
            said = f"{data} has no ecosystem.sqlite" if data else "say --data or --database"
            raise typer.BadParameter(f"{said}: where is the ecosystem?", param_hint="--data")
        database = f"sqlite:///{file}"
    context.obj = EcosystemLocation(database, data, as_json)
