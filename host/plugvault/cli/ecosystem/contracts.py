"""`plugvault ecosystem contracts`: the contracts in CCP."""

import re
import time
from typing import Annotated, Any

import typer

from plugvault.cli.ecosystem import common
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pools import audit, checks, contracts, termination
from plugvault.pools.caller import read_emaid, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.providers import PROVIDER_PATTERN
from plugvault.pools.records import Contract
from plugvault.pools.repositories import Records

app = common.new_group("List, delete and end contracts in CCP.")
Emaid = Annotated[str, typer.Argument(metavar="EMAID", help="The contract's EMAID.")]


@app.command("list")
def list_contracts(
    context: typer.Context,
    provider: Annotated[
        str | None, typer.Option(help="Provider identifier, such as DEPVA.")
    ] = None,
    vehicle: Annotated[str | None, typer.Option(help="PCID of a vehicle.")] = None,
    limit: Annotated[int, common.Limit] = 50,
) -> None:
    """List the contracts of a provider or a vehicle."""
    if (provider is None) == (vehicle is None):
        raise typer.BadParameter("--provider or --vehicle is needed, not both")
    with common.reading(context) as records:
        if vehicle is not None:
            listed = records.contracts.of_vehicle(read_pcid(vehicle).upper(), ISO2)
        else:
            identifier = _identifier(str(provider))
            listed = records.contracts.of_provider(identifier, limit)
    common.print_rows(
        context,
        [_show(contract) for contract in listed],
        *("emaid", "pcid", "default", "valid_until", "delivered"),
        none="no contracts",
    )


@app.command()
def show(context: typer.Context, emaid: Emaid) -> None:
    """Show a contract, and whether CCP may provide it."""
    with common.reading(context) as records:
        contract = _find(records, emaid)
        good = checks.is_usable(records, contract, time.time())
        root = contract.root_fingerprint
        common.print_members(context, {**_show(contract), "good": good, "v2g_root": root})


@app.command()
def remove(
    context: typer.Context,
    emaid: Emaid,
    keep_valid: Annotated[
        bool, typer.Option("--keep-valid", help="Do not revoke its certificate.")
    ] = False,
) -> None:
    """Delete a contract, and revoke it if this ecosystem issued it."""
    now = time.time()
    with common.writing(context) as records:
        records.lock(_find(records, emaid).vehicle)
        contract = _find(records, emaid)
        contracts.remove(records, contract, now, revoke=not keep_valid)
        audit.note(records, common.local_user().name, "contract deleted", contract.emaid, "", now)
    common.print_done(context, f"{contract.emaid} deleted", emaid=contract.emaid)


@app.command()
def terminate(
    context: typer.Context,
    provider: Annotated[str, typer.Argument(help="Provider identifier, such as DEPVA.")],
) -> None:
    """Delete and revoke all contracts of an operator that leaves. The workers do it."""
    with common.writing(context) as records:
        job = termination.begin(records, common.local_user(), provider, time.time())
    common.print_done(context, f"job {job.job_id} is {job.state}", job=job.job_id)


def _identifier(provider: str) -> str:
    """A provider identifier without hyphens. Raises PoolError."""
    if not re.fullmatch(PROVIDER_PATTERN, provider):
        text = f"{provider} is no provider, such as DEPVA; `partners identifiers` lists those here"
        raise PoolError("invalid", text)
    return provider.replace("-", "").upper()


def _find(records: Records, emaid: str) -> Contract:
    try:
        contract = contracts.find(records, read_emaid(emaid))
    except PoolError:
        raise PoolError(
            "invalid", f"{emaid} is no EMAID, such as DEPVAC000000012; {_LIST}"
        ) from None
    if contract is None:
        raise PoolError("not-found", f"there is no contract {emaid}; {_LIST}")
    return contract


_LIST = "`contracts list --provider ID` shows those that are here"


def _show(contract: Contract) -> dict[str, Any]:
    return {
        "emaid": contract.emaid,
        "pcid": contract.pcid,
        "default": contract.default,
        "valid_until": common.moment(contract.not_after),
        "delivered": common.moment(contract.delivered),
    }
