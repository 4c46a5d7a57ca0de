"""`plugvault customer`: the customer's view of a vehicle in the maker's app."""

import json
import os
from dataclasses import asdict
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from evcc.errors import EvccError
from plugvault.cli.table import literal
from plugvault.printable import printable_lines
from plugvault.roles.client import Credentials, OpcpClient
from plugvault.roles.customer import view
from plugvault.roles.oem import VehicleMaker

VARIABLE = "PLUGVAULT_CLIENT_SECRET"


def customer(
    pcid: Annotated[str, typer.Argument(help="The vehicle's PCID.")],
    url: Annotated[str, typer.Option(envvar="PLUGVAULT_URL", help="Address of the ecosystem.")],
    client_id: Annotated[
        str, typer.Option(envvar="PLUGVAULT_CLIENT_ID", help="Client id of the vehicle's maker.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Show a vehicle's contracts, and the one that stations install.

    The maker's client secret is read from PLUGVAULT_CLIENT_SECRET: other users of the machine
    cannot see it there. Exits 1 when the ecosystem refuses, 2 without the secret.
    """
    secret = os.environ.get(VARIABLE)
    if not secret:
        typer.echo(f"Set {VARIABLE} to the maker's client secret.", err=True)
        raise typer.Exit(2)
    try:
        with OpcpClient(url, Credentials(client_id, secret, url)) as client:
            vehicle = view(pcid, VehicleMaker(client).contracts(pcid), None)
    except EvccError as error:
        typer.echo(printable_lines(error), err=True)
        raise typer.Exit(1) from error
    if as_json:
        typer.echo(json.dumps(asdict(vehicle)))
        return
    table = Table("EMAID", "provider", "valid until", "at stations", box=box.SIMPLE_HEAD)
    for contract in vehicle.contracts:
        default = "● this one" if contract.default else ""
        texts = (contract.emaid, contract.provider, contract.valid_to)
        table.add_row(*map(literal, texts), default)
    console = Console(highlight=False)
    console.print(f"Vehicle {literal(vehicle.pcid)}")
    console.print(table if vehicle.contracts else "No contracts.")
