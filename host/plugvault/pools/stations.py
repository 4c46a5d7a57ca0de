"""Charging stations announced before their certificates are asked for.

As live registration authorities want it (undocumented by OPCP): whoever asks for a station's
certificate has said before which station that is. Kept as it was said, for its operator to read.
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
    """`body`: with "commonName", the EVSEID or SECCID of the certificate to come, and maybe
    "evseID", those of its charge points: all the caller's. The same again replaces.
    Raises PoolError."""
    name = str(body["commonName"])
    for identifier in (name, *body.get("evseID", ())):
        authorization.check(caller, "vra.cpo", operator=station_operator(identifier))
    entity = EndEntity(name, caller.client_id, json.dumps(body), int(now))
    records.entities.put(entity)
    return entity


def announced(records: Records, caller: Caller) -> list[dict[str, Any]]:
    """What the caller has announced, each as it was given."""
    return [json.loads(entity.body) for entity in records.entities.of_owner(caller.client_id)]
