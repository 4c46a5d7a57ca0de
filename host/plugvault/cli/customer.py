"""`plugvault customer`: what a vehicle's customer sees in the maker's app."""

import json
import os
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from evcc.errors import EvccError
from plugvault.roles.client import Credentials, OpcpClient
from plugvault.roles.customer import view
from plugvault.roles.oem import VehicleMaker

VARIABLE = "PLUGVAULT_CLIENT_SECRET"


def customer(
    pcid: Annotated[str, typer.Argument(help="The vehicle's PCID.")],
    url: Annotated[str, typer.Option(envvar="PLUGVAULT_URL", help="Of the ecosystem.")],
    client_id: Annotated[
        str, typer.Option(envvar="PLUGVAULT_CLIENT_ID", help="Of the vehicle's maker.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON document.")] = False,
) -> None:
    """Show a vehicle's contracts, and which one stations install.

    The maker's client secret is read from PLUGVAULT_CLIENT_SECRET, where nobody else sees it.
    Exits 1 when the ecosystem refuses, 2 without the secret.
    """
    secret = os.environ.get(VARIABLE)
    if not secret:
        typer.echo(f"Set {VARIABLE} to the maker's client secret.", err=True)
        raise typer.Exit(2)
    try:
        with OpcpClient(url, Credentials(client_id, secret, url)) as client:
            found = view(pcid, VehicleMaker(client).contracts(pcid), None)
    except EvccError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(asdict(found)))
        return
    table = Table("EMAID", "provider", "valid until", "at stations", box=box.SIMPLE_HEAD)
    for one in found.contracts:
        table.add_row(one.emaid, one.provider, one.valid_to, "● this one" if one.default else "")
    console = Console(highlight=False)
    console.print(f"Vehicle {found.pcid}")
    console.print(table if found.contracts else "No contracts.")
