"""`plugvault ecosystem vehicles`: what PCP has."""

import time
from typing import Annotated, Any

import typer

from evcc.errors import EvccError
from plugvault.cli.ecosystem.common import (
    local_user,
    moment,
    new_group,
    print_done,
    print_members,
    print_rows,
    reading,
    writing,
)
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import path
from plugvault.pki.names import distinguished_name
from plugvault.pools import pcp, registry
from plugvault.pools.caller import read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning
from plugvault.pools.repositories import Records

app = new_group("Vehicles in PCP, and in the registry of VINs and number plates.")
Vehicle = Annotated[str, typer.Argument(help="PCID, VIN or number plate")]


@app.command("list")
def listed(
    context: typer.Context,
    after: Annotated[str, typer.Option(help="Go on from this PCID.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
) -> None:
    """In the order of their PCIDs."""
    with reading(context) as records:
        found = [
            _show(records, vehicle) for vehicle in records.vehicles.after(after.upper(), limit)
        ]
    print_rows(
        context, found, "pcid", "valid_until", "plate", "contracts", "from", none="no vehicles"
    )


@app.command()
def show(context: typer.Context, vehicle: Vehicle) -> None:
    """One vehicle, with whether its certificate is still good."""
    with reading(context) as records:
        stored = _find(records, vehicle)
        usable = pcp.find(records, stored.pcid, time.time()) is not None
        print_members(context, {**_show(records, stored), "good": usable, **_certificate(stored)})


@app.command()
def reset(context: typer.Context, vehicle: Vehicle) -> None:
    """The vehicle was wiped or sold: delete its contracts, keep its certificate."""
    with writing(context) as records:
        gone = pcp.reset(records, local_user(), _find(records, vehicle).pcid, time.time())
    print_done(context, f"{gone} contracts deleted", contracts=gone)


@app.command()
def remove(context: typer.Context, vehicle: Vehicle) -> None:
    """Delete a vehicle and its contracts; revoke those that this ecosystem issued."""
    with writing(context) as records:
        pcid = _find(records, vehicle).pcid
        pcp.delete(records, local_user(), pcid, time.time())
    print_done(context, f"{pcid} deleted", pcid=pcid)


def _find(records: Records, text: str) -> Provisioning:
    """By PCID, or by what the registry knows it by."""
    pcid = text
    for read, find in (
        (registry.read_vin, records.registry.by_vin),
        (registry.read_plate, records.registry.by_plate),
    ):
        try:
            registered = find(read(text))
        except PoolError:
            continue
        if registered:
            pcid = registered.pcid
    try:
        stored = records.vehicles.get(read_pcid(pcid).upper(), ISO2)
    except PoolError:
        stored = None
    if stored is None:
        raise PoolError("not-found", f"No vehicle is known as {text}.")
    return stored


def _show(records: Records, stored: Provisioning) -> dict[str, Any]:
    known = records.registry.by_pcid(stored.vehicle)
    return {
        "pcid": stored.pcid,
        "vin": known.vin if known else None,
        "plate": known.plate if known else None,
        "valid_until": moment(stored.not_after),
        "contracts": [one.emaid for one in records.contracts.of_vehicle(stored.vehicle, ISO2)],
        "from": stored.origin or None,
    }


def _certificate(stored: Provisioning) -> dict[str, Any]:
    try:
        root = distinguished_name(path.read(stored.root).names)
    except EvccError:
        root = ""
    return {
        "root": root,
        "v2g_roots": stored.v2g_roots.split(",") if stored.v2g_roots else [],
        "fingerprint": path.fingerprint(stored.certificate),
    }
