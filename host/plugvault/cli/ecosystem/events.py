"""`plugvault ecosystem events`: what happened, and what became of its deliveries."""

import json
import time
from dataclasses import replace
from typing import Annotated, Any

import typer

from plugvault.cli.ecosystem.common import (
    local_user,
    moment,
    new_group,
    print_done,
    print_rows,
    reading,
    writing,
)
from plugvault.pools import audit
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Delivery, Endpoint, Event
from plugvault.pools.repositories import Records

app = new_group("Events, webhooks, deliveries, and sending again what was given up.")
_MOST = 1000


@app.command("list")
def listed(
    context: typer.Context,
    since: Annotated[int, typer.Option(help="Only after this sequence number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 50,
) -> None:
    """The earliest first; `--since` goes on from the last one seen."""
    with reading(context) as records:
        found = records.events.since(since, None, limit)
    print_rows(
        context,
        [_show(event) for event in found],
        *("sequence", "at", "kind", "audience", "vehicle"),
        none="no events",
    )


@app.command()
def webhooks(context: typer.Context) -> None:
    """Who wants what delivered where."""
    with reading(context) as records:
        found = [
            {
                "endpoint": endpoint.endpoint_id,
                "owner": endpoint.owner_name,
                "url": endpoint.url,
                "enabled": endpoint.enabled,
                "events": endpoint.events.split(","),
            }
            for endpoint in records.endpoints.all()
        ]
    print_rows(context, found, "owner", "url", "enabled", "endpoint", none="no webhooks")


@app.command()
def deliveries(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option(help="pending, sent, rejected or dead (given up).")
    ] = None,
) -> None:
    """Of every webhook, the latest first."""
    with reading(context) as records:
        found = [
            _delivery(endpoint, delivery, event)
            for endpoint in records.endpoints.all()
            for delivery, event in records.deliveries.of_endpoint(
                endpoint.endpoint_id, state, _MOST
            )
        ]
    print_rows(
        context,
        found,
        *("state", "kind", "owner", "attempts", "outcome", "event"),
        none="no deliveries",
    )


@app.command()
def replay(
    context: typer.Context,
    event: Annotated[str | None, typer.Argument(help="default: all that were given up")] = None,
) -> None:
    """Send again: one event to everybody it was for, or all that were given up."""
    now, again = time.time(), 0
    with writing(context) as records:
        for delivery in _finished(records, event):
            records.deliveries.put(
                replace(delivery, state="pending", attempts=0, due=now, lease=0.0)
            )
            again += 1
        if not again:
            raise PoolError("not-found", "There is nothing to send again.")
        audit.note(
            records, local_user().name, "deliveries replayed", event or "dead", str(again), now
        )
    print_done(context, f"{again} deliveries will be sent again", deliveries=again)


def _finished(records: Records, event_id: str | None) -> list[Delivery]:
    endpoints = [endpoint.endpoint_id for endpoint in records.endpoints.all()]
    if event_id is None:
        return [
            delivery
            for endpoint in endpoints
            for delivery, _ in records.deliveries.of_endpoint(endpoint, "dead", _MOST)
        ]
    found = [records.deliveries.get(event_id, endpoint) for endpoint in endpoints]
    return [delivery for delivery in found if delivery and delivery.state != "pending"]


def _show(event: Event) -> dict[str, Any]:
    return {
        "sequence": event.sequence,
        "event": event.event_id,
        "at": moment(event.at),
        "kind": event.kind,
        "audience": event.audience,
        "vehicle": event.vehicle or None,
        "payload": json.loads(event.payload),
    }


def _delivery(endpoint: Endpoint, delivery: Delivery, event: Event) -> dict[str, Any]:
    return {
        "state": delivery.state,
        "kind": event.kind,
        "owner": endpoint.owner_name,
        "url": endpoint.url,
        "attempts": delivery.attempts,
        "next": moment(delivery.due) if delivery.state == "pending" else None,
        "outcome": delivery.outcome,
        "event": event.event_id,
        "endpoint": endpoint.endpoint_id,
    }
