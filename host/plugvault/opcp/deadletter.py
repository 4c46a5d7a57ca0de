"""What became of deliveries, and sending them again: an addition of this ecosystem's, for the
owner of a webhook. A delivery that is given up stays listed, with the reason, until it is sent.
"""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from fastapi.responses import JSONResponse

from plugvault.opcp.fields import AppServices
from plugvault.opcp.webhooks import EndpointId, Owner
from plugvault.pki.names import timestamp
from plugvault.pools import webhooks
from plugvault.pools.events import envelope
from plugvault.pools.records import Delivery, Event

router = APIRouter(
    prefix="/v1/webhook/endpoints/{id}/deliveries", tags=["Events: webhooks and stream"]
)

State = Literal["pending", "sent", "rejected", "dead"]


@router.get("", summary="What went to an endpoint, the latest first")
def deliveries(
    caller: Owner,
    services: AppServices,
    endpoint_id: EndpointId,
    state: Annotated[State | None, Query()] = None,
) -> JSONResponse:
    """`state`: "pending" is on its way, "sent" arrived, "rejected" was answered with 400 or 409,
    "dead" was given up; `outcome` says what the last attempt came to."""
    with services.store.read() as records:
        listed = webhooks.deliveries(records, caller, endpoint_id, state)
    return JSONResponse({"deliveries": [_show(one, event) for one, event in listed]})


@router.post("/replay", summary="Send everything again that was given up")
def replay_all(caller: Owner, services: AppServices, endpoint_id: EndpointId) -> JSONResponse:
    return _replay(caller, services, endpoint_id, None)


@router.post("/{eventId}/replay", summary="Send one event again, whatever came of it")
def replay(
    caller: Owner,
    services: AppServices,
    endpoint_id: EndpointId,
    event_id: Annotated[str, Path(alias="eventId", max_length=64)],
) -> JSONResponse:
    return _replay(caller, services, endpoint_id, event_id)


def _replay(
    caller: Owner, services: AppServices, endpoint_id: str, event_id: str | None
) -> JSONResponse:
    with services.store.write() as records:
        count = webhooks.replay(records, caller, endpoint_id, services.clock(), event_id)
    return JSONResponse({"replayed": count})


def _show(delivery: Delivery, event: Event) -> dict[str, Any]:
    return {
        "state": delivery.state,
        "attempts": delivery.attempts,
        "outcome": delivery.outcome,
        "nextAttempt": timestamp(delivery.due) if delivery.state == "pending" else None,
        "event": envelope(event),
    }
