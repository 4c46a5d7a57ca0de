"""The events of the pools, written in the transaction of the change [OPCP 1.0.0].

An event and its deliveries exist exactly when the change exists [webhook.payload.v1].
`plugvault.delivery` delivers them and never delays a pool.
"""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

import pybase64
from pydantic_core import to_json

from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import path
from plugvault.pki.names import distinguished_name, serial_hex, timestamp
from plugvault.pools.caller import ADMIN, ANY, Caller
from plugvault.pools.records import Contract, Delivery, Event, Root
from plugvault.pools.repositories import Records

EVERYONE = "*"
ADMINISTRATORS = "@admin"  # neither a WMI nor a provider identifier
CURVE = "secp256r1"  # of contracts, which are of ISO 15118-2; OPCP calls it their algorithm

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
KINDS = (*ROOT_EVENTS, *MO_EVENTS, *OEM_EVENTS)  # a webhook can subscribe to these
# For administrators, in the stream and in `plugvault ecosystem events`. OPCP has none of them.
REFUSED = "ccp.installation.refused"
TOLERATED = "ccp.installation.tolerated"
ADMIN_EVENTS = (REFUSED, TOLERATED)


def publish(
    records: Records,
    kind: str,
    audience: str,
    payload: Mapping[str, Any],
    now: float,
    vehicle: str = "",
    namespace: str = ISO2,
) -> Event:
    """Write an event and its deliveries; they are sent after the transaction of `records`.

    `kind`: of KINDS or ADMIN_EVENTS, ValueError for another one; `audience`: a WMI, a provider,
    EVERYONE or ADMINISTRATORS; `vehicle`: PCID in upper case, for events that must arrive in
    order.
    """
    if kind not in KINDS + ADMIN_EVENTS:
        raise ValueError(kind)
    written = to_json(payload).decode()
    event = Event(_new_id(), kind, int(now), audience, written, vehicle, namespace)
    records.events.add(event)
    for endpoint in records.endpoints.listening(audience):
        if kind in endpoint.events.split(","):
            records.deliveries.put(
                Delivery(event.event_id, endpoint.endpoint_id, vehicle, due=float(now))
            )
    return event


def _new_id() -> str:
    """A UUID that begins with the time [RFC 9562, version 7], so that new index entries are
    together on one page."""
    random = os.urandom(10)
    bits = time.time_ns() // 1_000_000 << 80 | int.from_bytes(random, "big")
    text = f"{bits & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def envelope(event: Event) -> dict[str, Any]:
    """The JSON of an event for its receivers [OPCP 1.0.0, webhook.payload.v1]."""
    return {
        "timestamp": timestamp(event.at),
        "eventId": event.event_id,
        "eventType": event.kind,
        "xsdMsgDefNamespace": event.namespace or ISO2,
        "payload": json.loads(event.payload),
    }


def audiences(caller: Caller) -> frozenset[str] | None:
    """The audiences whose events a caller gets; None for a caller that gets all events."""
    scopes = caller.wmis | caller.providers
    if ANY in scopes:
        return None
    return scopes | {EVERYONE} | ({ADMINISTRATORS} if ADMIN in caller.roles else set())


def contract_payload(records: Records, contract: Contract) -> dict[str, Any]:
    """The payload of events about a contract. `contractCert`: DER in base64."""
    root = records.roots.by_fingerprint(contract.root_fingerprint)
    name = path.read(root.certificate).names.get("CN", "") if root else ""
    return {
        "emaid": contract.emaid,
        "pcid": contract.pcid,
        "contractCert": pybase64.b64encode_as_string(contract.certificate),
        "cpsSignerRootFingerprint": contract.root_fingerprint,
        "cpsSignerRootCommonName": name,
        "signatureAlgorithm": CURVE,
    }


def provisioning_payload(pcid: str, emaid: str) -> dict[str, Any]:
    """The payload of events about a provisioning certificate. OPCP wants one event for each
    affected contract, without the operator's other contracts."""
    return {"emaid": emaid, "pcid": pcid}


def root_payload(root: Root) -> dict[str, Any]:
    """The payload of events about a root certificate."""
    certificate = path.read_any(root.certificate)
    return {
        "rootCertificateId": root.root_id,
        "distinguishedName": distinguished_name(certificate.names),
        "commonName": certificate.names.get("CN", ""),
        "rootType": root.kind,
        "rootSerialNumber": serial_hex(certificate.serial),
        "signatureAlgorithm": path.curve(certificate),
        "fingerprintSHA256": root.fingerprint,
    }
