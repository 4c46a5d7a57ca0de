"""Charging stations, announced before their certificates are requested.

OPCP does not document this; live registration authorities require it: an operator announces a
station before it requests the station's certificate. The announcement is stored as it was sent.
"""

import json
from collections.abc import Mapping
from typing import Any

from plugvault.pools import authorization
from plugvault.pools.caller import Caller
from plugvault.pools.enrolment import station_operator
from plugvault.pools.records import EndEntity
from plugvault.pools.repositories import Records


def announce(records: Records, caller: Caller, body: Mapping[str, Any], now: float) -> EndEntity:
    """Store an announcement, or replace the one of the same name.

    `body`: "commonName", the EVSEID or SECCID of the later certificate, and optionally "evseID",
    the identifiers of its charge points. Raises PoolError: "invalid" for a malformed identifier,
    "forbidden" for another operator's.
    """
    name = str(body["commonName"])
    for identifier in (name, *body.get("evseID", ())):
        authorization.check(caller, "vra.cpo", operator=station_operator(identifier))
    entity = EndEntity(name, caller.client_id, json.dumps(body), int(now))
    records.entities.put(entity)
    return entity


def announced(records: Records, caller: Caller) -> list[dict[str, Any]]:
    """The announcements of the caller, as they were sent."""
    return [json.loads(entity.body) for entity in records.entities.of_owner(caller.client_id)]
