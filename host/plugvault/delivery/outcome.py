"""The state of a delivery after an attempt, and the event that follows [OPCP 1.0.0, webhooks].

| the receiver | the delivery | event to the operator of a contract that the maker was told of |
|---|---|---|
| answers 2xx | is "sent" | mo.contract.{created,updated,deleted}.sent.to.oem |
| answers 400 or 409 | is "rejected" | mo.contract.rejected.by.oem |
| answers 410 | is "dead", its webhook disabled | |
| anything else, or not at all | is tried again, finally "dead" | mo.contract.queued.to.oem, once |
"""

import json
from dataclasses import replace
from typing import Protocol

from plugvault.pools import events, scopes, webhooks
from plugvault.pools.events import OEM_EVENTS
from plugvault.pools.records import Delivery, Event
from plugvault.pools.repositories import Records

REFUSED, GONE = (400, 409), 410
_DOUBLINGS = 30  # of the pause, at most: a float has an end


class DeliverySettings(Protocol):
    """The settings of deliveries. `networks`: see `plugvault.net`; `retries`: attempts after the
    first; `retry_after`: seconds until the first retry, doubled before each further one."""

    @property
    def networks(self) -> tuple[str, ...]: ...
    @property
    def retries(self) -> int: ...
    @property
    def retry_after(self) -> float: ...


def settle(
    records: Records,
    leased: Delivery,
    event: Event,
    url: str,
    settings: DeliverySettings,
    now: float,
    status: int,
    outcome: str,
) -> None:
    """Record the outcome of an attempt at `url`, and publish the event that follows.

    `status`: HTTP's, 0 without an answer; `outcome`: a text for the owner of the webhook. Does
    nothing when another worker has leased the delivery meanwhile and will settle it.
    """
    state, follow_up = _verdict(status, leased.attempts, settings.retries)
    retry_at = now + _pause(settings, leased.attempts)
    settled = replace(
        leased,
        state=state,
        attempts=leased.attempts + 1,
        due=retry_at if state == "pending" else leased.due,
        lease=0.0,
        outcome=outcome,
    )
    if status == GONE:  # before the delivery's row, in the order of `webhooks.delete`
        scopes.lock_endpoint(records, leased.endpoint_id)
    if not records.deliveries.settle(leased, settled):
        return
    if status == GONE:
        webhooks.disable(records, leased.endpoint_id, url)
    if follow_up and event.kind in OEM_EVENTS:
        payload = json.loads(event.payload)
        kind = follow_up.format(event.kind.rpartition(".")[2])
        events.publish(
            records, kind, payload["emaid"][:5], payload, now, event.vehicle, event.namespace
        )


def longest_wait(settings: DeliverySettings) -> float:
    """Seconds until the last retry of a delivery, from the attempt before it."""
    return _pause(settings, max(0, settings.retries - 1))


def _pause(settings: DeliverySettings, attempts: int) -> float:
    return settings.retry_after * 2.0 ** min(attempts, _DOUBLINGS)


def _verdict(status: int, attempts: int, retries: int) -> tuple[str, str]:
    """(state, kind of the event that follows or ""). `attempts`: before this one."""
    if 200 <= status < 300:
        return "sent", "mo.contract.{}.sent.to.oem"
    if status in REFUSED:
        return "rejected", "mo.contract.rejected.by.oem"
    if status == GONE or attempts >= retries:
        return "dead", ""
    return "pending", "" if attempts else "mo.contract.queued.to.oem"
