"""PCP: provisioning certificates [OPCP 1.0.0, pcp.v1]."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, Field

from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.opcp.fields import (
    AppServices,
    Broadcast,
    Namespace,
    PcidPath,
    PcidText,
    Wire,
    checked,
    encode,
)
from plugvault.opcp.rights import may
from plugvault.opcp.services import Services
from plugvault.pki import path
from plugvault.pki.names import colons, distinguished_name, serial_hex
from plugvault.pools import pcp
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning

router = APIRouter(prefix="/v1/oem", tags=["PCP: provisioning certificates"])
Reader = Annotated[Caller, Depends(may("pcp.read"))]
Maker = Annotated[Caller, Depends(may("pcp.write"))]
KeyIdentifier = Annotated[str, Field(pattern="^[0-9a-fA-F]{2}(:?[0-9a-fA-F]{2})*$")]
# OPCP allows a certificate for each. Only ISO 15118-2, which is secp256r1, is served here.
Algorithm = Annotated[
    str | None, Query(alias="signatureAlgorithm", pattern="^(secp256r1|secp521r1|ed448)$")
]
ALGORITHM = "secp256r1"


def _once(identifiers: list[str]) -> list[str]:
    if len({text.replace(":", "").lower() for text in identifiers}) != len(identifiers):
        raise ValueError("must have each key identifier once")
    return identifiers


class ProvisioningCertificate(Wire):
    """A vehicle's certificates, DER in base64 each. `v2gRootAuthorityKeyIdentifiers`: hexadecimal,
    of the V2G roots in the vehicle. The members of older clients about the root of the path are
    ignored: the root comes from RCP."""

    sub1: Annotated[str, Field(alias="subCA1Certificate")]
    sub2: Annotated[str | None, Field(alias="subCA2Certificate")] = None
    vehicle_certificate: str
    xsd_msg_def_namespace: Namespace = ISO2
    v2g_roots: Annotated[
        list[KeyIdentifier] | None,
        Field(alias="v2gRootAuthorityKeyIdentifiers", min_length=1, max_length=20),
        AfterValidator(lambda identifiers: identifiers and _once(identifiers)),
    ] = None
    previous_pcid: PcidText | None = None


@router.put("/provCerts", summary="Store or replace a vehicle's certificate")
def put(caller: Maker, services: AppServices, new: ProvisioningCertificate) -> dict[str, Any]:
    """The PCID is the CN of the certificate. The same PCID replaces the certificate; a new key
    deletes the vehicle's contracts. 400 for a certificate that is not valid or whose path ends in
    no root of RCP; 403 for a PCID of another maker."""
    leaf = _certificate(new.vehicle_certificate, "vehicleCertificate")
    sub2 = _certificate(new.sub2, "subCa2Certificate") if new.sub2 else None
    sub1 = _certificate(new.sub1, "subCa1Certificate")
    arguments = caller, leaf, sub2, sub1
    # Foreign OCSP responders are asked between two transactions, never inside one, and only about
    # certificates that passed all other checks.
    with services.store.read() as records:
        pcp.check(records, *arguments, services.clock(), new.previous_pcid)
    services.update_revocations([der for der in (leaf, sub2, sub1) if der], caller.client_id)
    with services.store.write() as records:
        stored = pcp.put(
            records,
            *arguments,
            services.clock(),
            v2g_roots=new.v2g_roots or (),
            previous_pcid=new.previous_pcid,
        )
    return show(stored)


@router.get("/provCerts/lookupVehicle/{pcid}", summary="Check whether a vehicle is known")
def lookup(
    caller: Reader, services: AppServices, pcid: PcidPath, broadcast: Broadcast = False
) -> Response:
    """200 without a body for a vehicle with a valid certificate; 404 otherwise."""
    _read(caller, services, pcid, broadcast)
    return Response()


@router.head("/provCerts/{pcid}", summary="Check whether a vehicle is known")
def head(
    caller: Reader, services: AppServices, pcid: PcidPath, broadcast: Broadcast = False
) -> Response:
    """200 for a vehicle with a valid certificate; 404 otherwise."""
    return lookup(caller, services, pcid, broadcast)


@router.get("/provCerts/{pcid}", summary="Get a vehicle's certificate and its sub-CAs")
def get(
    caller: Reader,
    services: AppServices,
    pcid: PcidPath,
    broadcast: Broadcast = False,
    algorithm: Algorithm = None,
) -> dict[str, Any]:
    """Path, dates and revocation are checked again; 404 when one of them fails. Partners are asked
    for an unknown vehicle, unless the header `broadcast` is true."""
    _available(algorithm)
    return {"OEMMessage": show(_read(caller, services, pcid, broadcast))}


@router.get(
    "/provCertSigntureAlgorithms/{pcid}",  # spelled as published
    summary="List the algorithms of a vehicle's certificates",
)
def algorithms(caller: Reader, services: AppServices, pcid: PcidPath) -> list[str]:
    """Always ["secp256r1"] for a vehicle that is known, because only ISO 15118-2 is served."""
    _read(caller, services, pcid, broadcast=False)
    return [ALGORITHM]


@router.delete("/provCerts/{pcid}", summary="Delete a vehicle's certificate and its contracts")
def delete(
    caller: Maker,
    services: AppServices,
    pcid: PcidPath,
    algorithm: Algorithm = None,
    namespace: Annotated[Namespace | None, Query(alias="xsdMsgDefNamespace")] = None,
) -> Response:
    """Contract certificates that the ecosystem's own CAs issued are revoked. The operators of the
    contracts get an event."""
    if algorithm and namespace:
        raise PoolError("invalid", "Give signatureAlgorithm or xsdMsgDefNamespace, not both.")
    _available(algorithm)
    with services.store.write() as records:
        pcp.delete(records, caller, pcid, services.clock())
    return Response()


@router.post(
    "/provCerts/{pcid}/factoryReset", summary="Delete the contracts of a vehicle that was wiped"
)
def reset(caller: Maker, services: AppServices, pcid: PcidPath) -> Response:
    """An extension: OPCP has the event and no call. The provisioning certificate stays. The event
    tells the operators not to make the contracts again."""
    with services.store.write() as records:
        pcp.reset(records, caller, pcid, services.clock())
    return Response()


def show(stored: Provisioning) -> dict[str, Any]:
    """The JSON of a vehicle's certificate: DER in base64, key identifiers in hexadecimal with
    colons."""
    root = path.read(stored.root)
    optional = {
        "subCA2Certificate": encode(stored.sub2) if stored.sub2 else None,
        "previousPcid": stored.previous_pcid,
        "v2gRootAuthorityKeyIdentifiers": [
            colons(bytes.fromhex(identifier)) for identifier in stored.v2g_roots.split(",")
        ]
        if stored.v2g_roots
        else None,
    }
    return {
        "subCA1Certificate": encode(stored.sub1),
        "vehicleCertificate": encode(stored.certificate),
        "xsdMsgDefNamespace": stored.namespace,
        "rootIssuerDistinguishedName": distinguished_name(root.names),
        "rootIssuerSerialNumber": serial_hex(root.serial),
        "rootAuthorityKeyIdentifier": colons(root.ski),
        "fingerprint": path.fingerprint(stored.certificate),
        **{name: value for name, value in optional.items() if value},
    }


def _read(caller: Caller, services: Services, pcid: str, broadcast: bool) -> Provisioning:
    pcp.readable(caller, pcid)
    if services.peers and not broadcast:
        services.peers.refresh_vehicle(pcid)
    with services.store.read() as records:
        vehicle = pcp.get(records, caller, pcid, services.clock())
    if broadcast and vehicle.origin:
        raise PoolError("not-found", pcp.MISSING)  # a copy of a partner's vehicle
    return vehicle


def _available(algorithm: str | None) -> None:
    if algorithm not in (None, ALGORITHM):
        raise PoolError("not-found", pcp.MISSING)


def _certificate(text: str, field: str) -> bytes:
    return checked(text, f"Invalid certificate format on {field}")
