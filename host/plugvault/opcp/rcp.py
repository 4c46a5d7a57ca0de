"""RCP: root certificates [OPCP 1.0.0, rcp.v1]."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from plugvault.opcp import changes as change_calls
from plugvault.opcp.fields import (
    UUID_PATTERN,
    AppServices,
    Base64,
    Broadcast,
    Wire,
    decode,
    encode,
)
from plugvault.opcp.rights import may
from plugvault.pki import path
from plugvault.pki.names import distinguished_name, serial_hex, timestamp
from plugvault.pools import changes, rcp
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Root

router = APIRouter(prefix="/v1/root", tags=["RCP: root certificates"])
router.include_router(change_calls.router)
Reader = Annotated[Caller, Depends(may("rcp.read"))]
Writer = Annotated[Caller, Depends(may("rcp.write"))]
RootId = Annotated[str, Path(alias="rootCertificateId", pattern=UUID_PATTERN)]

_WAITS: dict[int | str, dict[str, Any]] = {
    202: {"description": "Waits for the approval of a second administrator"}
}


class NewRoot(Wire):
    """A root certificate. `caCertificate`: DER in base64; `rootType`: "V2G", "MO", "OEM" or
    "PE"."""

    ca_certificate: Base64
    root_type: Annotated[str, Field(pattern="^(V2G|MO|OEM|PE)$")]


@router.get("/rootCerts", summary="List the root certificates")
def roots(
    _: Reader,
    services: AppServices,
    root_type: Annotated[
        str | None, Query(alias="rootType", pattern="^(?i:v2g|mo|oem|pe)$")
    ] = None,
    broadcast: Broadcast = False,
) -> dict[str, Any]:
    """All roots, or those of one `rootType`. With the header `broadcast: true` without the roots
    of partners."""
    with services.store.read() as records:
        listed = records.roots.all(root_type.upper() if root_type else None)
    if broadcast:
        listed = [root for root in listed if not root.origin]
    return {"RootCertificateCollection": {"rootCertificates": [show(root) for root in listed]}}


@router.get("/rootCerts/{rootCertificateId}", summary="Get a root certificate")
def one(_: Reader, services: AppServices, root_id: RootId) -> dict[str, Any]:
    """404 for an unknown identifier."""
    with services.store.read() as records:
        return {"RootResponse": show(rcp.get(records, root_id.lower()))}


@router.get("/ctl", summary="Get the certificate trust list: there is none")
def ctl(_: Reader) -> None:
    """Always 404: OPCP does not define the content of the list. The roots are at
    /v1/root/rootCerts."""
    raise PoolError("not-found", "There is no certificate trust list.")


@router.put("/rootCerts", summary="Add a root certificate", responses=_WAITS)
def put(caller: Writer, services: AppServices, root: NewRoot) -> Response:
    """A root that is in RCP already stays as it is. 400 for a certificate that is not self-signed,
    not a CA's, outside its dates or in RCP with another type."""
    der, now = decode(root.ca_certificate), services.clock()
    with services.store.write() as records:
        if services.settings.dual_control:
            change = changes.ask_add(records, caller, der, root.root_type, now)
            return JSONResponse(change_calls.show(change), 202)
        rcp.put(records, der, root.root_type, now, who=caller.signature)
    return Response()


@router.delete(
    "/rootCerts/{rootCertificateId}", summary="Delete a root certificate", responses=_WAITS
)
def delete(caller: Writer, services: AppServices, root_id: RootId) -> Response:
    """Every client gets an event. Certificates below the root stay, and reading them fails. 404
    for an unknown identifier."""
    with services.store.write() as records:
        if services.settings.dual_control:
            change = changes.ask_delete(records, caller, root_id.lower(), services.clock())
            return JSONResponse(change_calls.show(change), 202)
        rcp.delete(records, root_id.lower(), services.clock(), who=caller.signature)
    return Response()


def show(root: Root) -> dict[str, Any]:
    """The JSON of a root: the certificate and its key identifier in base64, fingerprints and
    serial number in hexadecimal, times in ISO 8601."""
    certificate = path.read_any(root.certificate)
    identifier = certificate.ski or b""
    return {
        "rootCertificateId": root.root_id,
        "distinguishedName": distinguished_name(certificate.names),
        "caCertificate": encode(root.certificate),
        "commonName": certificate.names.get("CN", ""),
        "rootAuthorityKeyIdentifier": encode(identifier),
        "rootAuthorityKeyIdentifierHex": identifier.hex(),
        "rootIssuerSerialNumber": serial_hex(certificate.serial),
        "validFrom": timestamp(certificate.not_before),
        "validTo": timestamp(certificate.not_after),
        "organizationName": certificate.names.get("O", ""),
        "rootType": root.kind,
        "fingerprint": root.fingerprint,
        "fingerprintSha1": hashlib.sha1(root.certificate, usedforsecurity=False).hexdigest(),
        "xsdMsgDefNamespace": root.namespace,
        "signatureAlgorithm": path.curve(certificate),
    }
