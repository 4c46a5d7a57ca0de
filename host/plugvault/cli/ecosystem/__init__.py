"""`plugvault ecosystem`: examine and change an ecosystem, as its operator.

It works on the database, with the pools' own rules, whether the ecosystem is running or not. A
change is in the audit trail under the name of this machine's user. One file for each area.
"""

from pathlib import Path
from typing import Annotated

import typer

from plugvault.cli.ecosystem import contracts, events, explain, partners, roots, trail, vehicles
from plugvault.cli.ecosystem.common import EcosystemLocation

app = typer.Typer(
    help="Examine and change an ecosystem, as its operator.",
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
app.command("explain-request")(explain.explain_request)


@app.callback()
def where(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(help="The --data folder of the sandbox.", envvar="PLUGVAULT_DATA"),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            help="The --database of the sandbox, if it has one.", envvar="PLUGVAULT_DATABASE"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    context.obj = EcosystemLocation(database, data, as_json)
