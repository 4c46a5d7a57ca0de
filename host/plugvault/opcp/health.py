"""GET /healthz: whether this server can answer requests, for containers and load balancers.

It asks the database once. It needs no access token and tells nothing but its state.
"""

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from plugvault.opcp import errors
from plugvault.opcp.fields import AppServices
from plugvault.pools.repositories import Store

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
@router.head("/healthz")
async def health(services: AppServices) -> JSONResponse:
    """200 {"status": "ok"}; 503 when the database does not answer."""
    try:
        await run_in_threadpool(_ask, services.store)
    except Exception as error:  # noqa: BLE001 - each database has errors of its own
        return errors.answer(503, ["The database does not answer."], cause=error)
    return JSONResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


def _ask(store: Store) -> None:
    with store.read() as records:
        records.roots.all("V2G")
