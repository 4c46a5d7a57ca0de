"""What becomes of a delivery after an attempt, and who is told [OPCP 1.0.0, webhooks].

| the receiver | the delivery | the operator of a contract whose maker was told |
|---|---|---|
| answers 2xx | is "sent" | mo.contract.{created,updated,deleted}.sent.to.oem |
| answers 400 or 409 | is "rejected" | mo.contract.rejected.by.oem |
| answers 410 | is "dead", its webhook disabled | |
| else, or not at all | is tried again later, at last "dead" | mo.contract.queued.to.oem, once |
"""

import json
from dataclasses import replace
from typing import Protocol

from plugvault.pools import events
from plugvault.pools.events import OEM_EVENTS
from plugvault.pools.records import Delivery, Event
from plugvault.pools.repositories import Records

REFUSED, GONE = (400, 409), 410


class Settings(Protocol):
    """`networks`: see `plugvault.net`; `retries`: attempts after the first; `retry_after`: seconds
    until the first of them, twice as long before each that follows."""

    @property
    def networks(self) -> tuple[str, ...]: ...
    @property
    def retries(self) -> int: ...
    @property
    def retry_after(self) -> float: ...


def settle(
    records: Records,
    taken: Delivery,
    event: Event,
    settings: Settings,
    now: float,
    status: int,
    words: str,
) -> None:
    """Write down what an attempt came to, and tell the operator. `status`: HTTP's, 0 without an
    answer; `words`: for the owner of the webhook.

    Nothing happens when the delivery is in another's hand by now: that one will settle it.
    """
    state, follow_up = _verdict(status, taken.attempts, settings.retries)
    after = replace(
        taken,
        state=state,
        attempts=taken.attempts + 1,
        due=now + settings.retry_after * 2**taken.attempts if state == "pending" else taken.due,
        lease=0.0,
        outcome=words,
    )
    if not records.deliveries.settle(taken, after):
        return
    if status == GONE:
        endpoint = records.endpoints.get(taken.endpoint_id)
        if endpoint:
            records.endpoints.put(replace(endpoint, enabled=False))
    if follow_up and event.kind in OEM_EVENTS:
        payload = json.loads(event.payload)
        kind = follow_up.format(event.kind.rpartition(".")[2])
        events.publish(
            records, kind, payload["emaid"][:5], payload, now, event.vehicle, event.namespace
        )


def _verdict(status: int, attempts: int, retries: int) -> tuple[str, str]:
    """The state, and the kind of event that follows, if any. `attempts`: before this one."""
    if 200 <= status < 300:
        return "sent", "mo.contract.{}.sent.to.oem"
    if status in REFUSED:
        return "rejected", "mo.contract.rejected.by.oem"
    if status == GONE or attempts >= retries:
        return "dead", ""
    return "pending", "" if attempts else "mo.contract.queued.to.oem"
