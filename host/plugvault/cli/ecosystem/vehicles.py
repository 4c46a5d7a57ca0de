"""`plugvault ecosystem vehicles`: the vehicles in PCP."""

import time
from typing import Annotated, Any

import typer

from evcc.errors import EvccError
from plugvault.cli.ecosystem import common
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import path
from plugvault.pki.names import distinguished_name
from plugvault.pools import pcp, registry
from plugvault.pools.caller import read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning
from plugvault.pools.repositories import Records

app = common.new_group("List and delete vehicles, by PCID, VIN or number plate.")
Vehicle = Annotated[str, typer.Argument(help="PCID, VIN or number plate.")]


@app.command("list")
def list_vehicles(
    context: typer.Context,
    after: Annotated[str, typer.Option(help="List vehicles after this PCID.")] = "",
    limit: Annotated[int, common.Limit] = 50,
) -> None:
    """List vehicles, in the order of their PCIDs."""
    with common.reading(context) as records:
        rows = [
            _show(records, vehicle) for vehicle in records.vehicles.after(after.upper(), limit)
        ]
    common.print_rows(
        context, rows, "pcid", "valid_until", "plate", "contracts", "from", none="no vehicles"
    )


@app.command()
def show(context: typer.Context, vehicle: Vehicle) -> None:
    """Show a vehicle, and whether its certificate is valid."""
    with common.reading(context) as records:
        stored = _find(records, vehicle)
        usable = pcp.find(records, stored.pcid, time.time()) is not None
        common.print_members(
            context, {**_show(records, stored), "good": usable, **_certificate(stored)}
        )


@app.command()
def reset(context: typer.Context, vehicle: Vehicle) -> None:
    """Delete the contracts of a vehicle that was reset or sold, and keep its certificate."""
    with common.writing(context) as records:
        count = pcp.reset(records, common.local_user(), _find(records, vehicle).pcid, time.time())
    common.print_done(context, f"{count} contracts deleted", contracts=count)


@app.command()
def remove(context: typer.Context, vehicle: Vehicle) -> None:
    """Delete a vehicle and its contracts, and revoke those that this ecosystem issued."""
    with common.writing(context) as records:
        pcid = _find(records, vehicle).pcid
        pcp.delete(records, common.local_user(), pcid, time.time())
    common.print_done(context, f"{pcid} deleted", pcid=pcid)


def _find(records: Records, text: str) -> Provisioning:
    """The vehicle of a PCID, or of a VIN or plate in the registry."""
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
        raise PoolError(
            "not-found", f"no vehicle is known as {text}; `vehicles list` shows those here"
        )
    return stored


def _show(records: Records, stored: Provisioning) -> dict[str, Any]:
    entry = records.registry.by_pcid(stored.vehicle)
    return {
        "pcid": stored.pcid,
        "vin": entry.vin if entry else None,
        "plate": entry.plate if entry else None,
        "valid_until": common.moment(stored.not_after),
        "contracts": [
            contract.emaid for contract in records.contracts.of_vehicle(stored.vehicle, ISO2)
        ],
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
