"""`plugvault ecosystem contracts`: what CCP has."""

import time
from typing import Annotated, Any

import typer

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
from plugvault.pools import audit, checks, contracts, termination
from plugvault.pools.caller import read_emaid, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract
from plugvault.pools.repositories import Records

app = new_group("Contracts in CCP.")
Emaid = Annotated[str, typer.Argument(metavar="EMAID")]


@app.command("list")
def listed(
    context: typer.Context,
    provider: Annotated[str | None, typer.Option(help="As in DEPVA.")] = None,
    vehicle: Annotated[str | None, typer.Option(help="PCID.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
) -> None:
    """Of a provider, or of a vehicle."""
    if (provider is None) == (vehicle is None):
        raise typer.BadParameter("say --provider or --vehicle")
    with reading(context) as records:
        if vehicle is not None:
            found = records.contracts.of_vehicle(read_pcid(vehicle).upper(), ISO2)
        else:
            wanted = str(provider).replace("-", "").upper()
            found = records.contracts.of_provider(wanted, limit)
    print_rows(
        context,
        [_show(contract) for contract in found],
        *("emaid", "pcid", "default", "valid_until", "delivered"),
        none="no contracts",
    )


@app.command()
def show(context: typer.Context, emaid: Emaid) -> None:
    """One contract, with whether it may be handed out."""
    with reading(context) as records:
        found = _find(records, emaid)
        good = checks.is_usable(records, found, time.time())
        print_members(context, {**_show(found), "good": good, "v2g_root": found.root_fingerprint})


@app.command()
def remove(
    context: typer.Context,
    emaid: Emaid,
    keep_valid: Annotated[
        bool, typer.Option("--keep-valid", help="Do not revoke its certificate.")
    ] = False,
) -> None:
    """Delete a contract, and revoke it when this ecosystem issued it."""
    now = time.time()
    with writing(context) as records:
        records.lock(_find(records, emaid).vehicle)
        found = _find(records, emaid)
        contracts.remove(records, found, now, revoke=not keep_valid)
        audit.note(records, local_user().name, "contract deleted", found.emaid, "", now)
    print_done(context, f"{found.emaid} deleted", emaid=found.emaid)


@app.command()
def terminate(
    context: typer.Context, provider: Annotated[str, typer.Argument(help="As in DEPVA.")]
) -> None:
    """An operator leaves: have the workers delete and revoke all its contracts."""
    with writing(context) as records:
        job = termination.begin(records, local_user(), provider, time.time())
    print_done(context, f"job {job.job_id} is {job.state}", job=job.job_id)


def _find(records: Records, emaid: str) -> Contract:
    found = contracts.find(records, read_emaid(emaid))
    if found is None:
        raise PoolError("not-found", contracts.MISSING)
    return found


def _show(contract: Contract) -> dict[str, Any]:
    return {
        "emaid": contract.emaid,
        "pcid": contract.pcid,
        "default": contract.default,
        "valid_until": moment(contract.not_after),
        "delivered": moment(contract.delivered),
    }
