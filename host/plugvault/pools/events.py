"""Events: what happened to whom, written in the same transaction as what happened.

[OPCP 1.0.0, webhook.payload.v1]. An event and its deliveries exist exactly when the change they
tell of does. Delivering them is `plugvault.delivery`'s work, and never delays a pool.
"""

import json
import uuid
from collections.abc import Mapping
from typing import Any

from plugvault.contract.bundle import ISO2
from plugvault.pools.records import Delivery, Event, Records

EVERYONE = "*"

ROOT_EVENTS = ("root.cert.added", "root.cert.expired", "root.cert.revoked")
MO_EVENTS = (
    "mo.prov.cert.deleted",
    "mo.prov.cert.factory.reset",
    "mo.prov.cert.updated",
    "mo.prov.cert.updated.factory.reset",
    "mo.contract.created.sent.to.oem",
    "mo.contract.updated.sent.to.oem",
    "mo.contract.deleted.sent.to.oem",
    "mo.contract.delivered.to.oem",
    "mo.contract.rejected.by.oem",
    "mo.contract.queued.to.oem",
)
OEM_EVENTS = ("oem.contract.created", "oem.contract.updated", "oem.contract.deleted")
KINDS = (*ROOT_EVENTS, *MO_EVENTS, *OEM_EVENTS)


def publish(
    records: Records,
    kind: str,
    audience: str,
    payload: Mapping[str, Any],
    now: float,
    vehicle: str = "",
    namespace: str = ISO2,
) -> Event:
    """Tell everybody whom it concerns, once the transaction of `records` succeeds.

    `audience`: a WMI, a provider, or EVERYONE; `vehicle`: PCID in upper case, for events that
    must arrive in order.
    """
    if kind not in KINDS:
        raise ValueError(kind)
    event = Event(
        str(uuid.uuid4()), kind, int(now), audience, json.dumps(payload), vehicle, namespace
    )
    records.events.add(event)
    for endpoint in records.endpoints.listening(audience):
        if kind in endpoint.events.split(","):
            records.deliveries.put(
                Delivery(event.event_id, endpoint.endpoint_id, vehicle, due=float(now))
            )
    return event
