"""Termination of an operator: delete and revoke all its contracts. An extension of OPCP 1.0.0."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse

from plugvault.opcp.fields import UUID_PATTERN, AppServices
from plugvault.opcp.rights import may
from plugvault.pki.names import timestamp
from plugvault.pools import termination
from plugvault.pools.caller import Caller
from plugvault.pools.records import Job

router = APIRouter(prefix="/v1/ccp/terminate", tags=["CCP: signed contracts"])
Leaving = Annotated[Caller, Depends(may("ccp.terminate"))]
ProviderPath = Annotated[str, Path(pattern=termination.PROVIDER_PATTERN)]


@router.post(
    "/{provider}",
    status_code=202,
    summary="Extension: delete and revoke all contracts of an operator",
)
def begin(caller: Leaving, services: AppServices, provider: ProviderPath) -> JSONResponse:
    """For administrators and the operator itself. `provider`: as in "DEPVA". The job runs in the
    background; the header `Location` has the address of its progress. A second call returns the
    same job until it is done."""
    with services.store.write() as records:
        job = termination.begin(records, caller, provider, services.clock())
    where = f"{router.prefix}/{job.subject}/{job.job_id}"
    return JSONResponse(_show(job), 202, {"Location": where})


@router.get("/{provider}/{jobId}", summary="Extension: get the progress of a termination")
def progress(
    caller: Leaving,
    services: AppServices,
    provider: ProviderPath,
    job_id: Annotated[str, Path(alias="jobId", pattern=UUID_PATTERN)],
) -> dict[str, Any]:
    """`state`: "waiting" or "done". 404 for an unknown job."""
    with services.store.read() as records:
        return _show(termination.progress(records, caller, provider, job_id.lower()))


def _show(job: Job) -> dict[str, Any]:
    """`contractsEnded`: the number of deleted contracts until now."""
    return {
        "jobId": job.job_id,
        "provider": job.subject,
        "state": job.state,
        "contractsEnded": job.done,
        "asked": timestamp(job.asked),
    }
