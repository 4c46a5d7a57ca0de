"""`plugvault ecosystem events`: the events, and their deliveries to webhooks."""

import json
import time
from dataclasses import replace
from typing import Annotated, Any

import typer

from plugvault.cli.ecosystem import common
from plugvault.pools import audit
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Delivery, Endpoint, Event
from plugvault.pools.repositories import Records

app = common.new_group("List events, webhooks and deliveries, and repeat deliveries.")
_MOST = 1000


@app.command("list")
def list_events(
    context: typer.Context,
    since: Annotated[int, typer.Option(help="List events after this sequence number.")] = 0,
    limit: Annotated[int, common.Limit] = 50,
) -> None:
    """List events, oldest first; `--since` continues after the last one."""
    with common.reading(context) as records:
        listed = records.events.since(since, None, limit)
    common.print_rows(
        context,
        [_show(event) for event in listed],
        *("sequence", "at", "kind", "audience", "vehicle"),
        none="no events",
    )


@app.command()
def webhooks(context: typer.Context) -> None:
    """List the webhooks with their owners and events."""
    with common.reading(context) as records:
        rows = [
            {
                "endpoint": endpoint.endpoint_id,
                "owner": endpoint.owner_name,
                "url": endpoint.url,
                "enabled": endpoint.enabled,
                "events": endpoint.events.split(","),
            }
            for endpoint in records.endpoints.all()
        ]
    common.print_rows(context, rows, "owner", "url", "enabled", "endpoint", none="no webhooks")


@app.command()
def deliveries(
    context: typer.Context,
    state: Annotated[
        str | None, typer.Option(help="State: pending, sent, rejected, or dead (given up).")
    ] = None,
) -> None:
    """List the deliveries of every webhook, newest first."""
    with common.reading(context) as records:
        rows = [
            _delivery(endpoint, delivery, event)
            for endpoint in records.endpoints.all()
            for delivery, event in records.deliveries.of_endpoint(
                endpoint.endpoint_id, state, _MOST
            )
        ]
    common.print_rows(
        context,
        rows,
        *("state", "kind", "owner", "attempts", "outcome", "event"),
        none="no deliveries",
    )


@app.command()
def replay(
    context: typer.Context,
    event: Annotated[
        str | None, typer.Argument(help="Event id. Default: all deliveries that were given up.")
    ] = None,
) -> None:
    """Repeat the deliveries of one event, or all that were given up."""
    now, count = time.time(), 0
    with common.writing(context) as records:
        for delivery in _finished(records, event):
            records.deliveries.put(
                replace(delivery, state="pending", attempts=0, due=now, lease=0.0)
            )
            count += 1
        if not count:
            raise PoolError("not-found", "There is nothing to send again.")
        audit.note(
            records,
            common.local_user().name,
            "deliveries replayed",
            event or "dead",
            str(count),
            now,
        )
    common.print_done(context, f"{count} deliveries will be sent again", deliveries=count)


def _finished(records: Records, event_id: str | None) -> list[Delivery]:
    endpoints = [endpoint.endpoint_id for endpoint in records.endpoints.all()]
    if event_id is None:
        return [
            delivery
            for endpoint in endpoints
            for delivery, _ in records.deliveries.of_endpoint(endpoint, "dead", _MOST)
        ]
    listed = [records.deliveries.get(event_id, endpoint) for endpoint in endpoints]
    return [delivery for delivery in listed if delivery and delivery.state != "pending"]


def _show(event: Event) -> dict[str, Any]:
    return {
        "sequence": event.sequence,
        "event": event.event_id,
        "at": common.moment(event.at),
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
        "next": common.moment(delivery.due) if delivery.state == "pending" else None,
        "outcome": delivery.outcome,
        "event": event.event_id,
        "endpoint": endpoint.endpoint_id,
    }
