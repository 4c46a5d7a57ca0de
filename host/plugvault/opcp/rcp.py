"""RCP: root certificates [OPCP 1.0.0, rcp.v1]."""

import hashlib
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field

from plugvault.opcp.fields import Base64, Found, Wire, decode, encode
from plugvault.opcp.rights import may
from plugvault.pki import path
from plugvault.pki.names import distinguished_name, serial_hex, timestamp
from plugvault.pools import rcp
from plugvault.pools.caller import Caller
from plugvault.pools.records import Root

router = APIRouter(prefix="/v1/root", tags=["RCP: root certificates"])
Reader = Annotated[Caller, Depends(may("rcp.read"))]


class NewRoot(Wire):
    ca_certificate: Base64
    root_type: Annotated[str, Field(pattern="^(V2G|MO|OEM|PE)$")]


@router.get("/rootCerts", summary="All root certificates")
def roots(
    _: Reader,
    found: Found,
    root_type: Annotated[
        str | None, Query(alias="rootType", pattern="^(?i:v2g|mo|oem|pe)$")
    ] = None,
) -> dict[str, Any]:
    with found.store.read() as records:
        listed = records.roots.all(root_type.upper() if root_type else None)
    return {"RootCertificateCollection": {"rootCertificates": [show(root) for root in listed]}}


@router.get("/rootCerts/{rootCertificateId}", summary="One root certificate")
def one(
    _: Reader, found: Found, root_id: Annotated[str, Path(alias="rootCertificateId")]
) -> dict[str, Any]:
    with found.store.read() as records:
        return {"RootResponse": show(rcp.get(records, root_id.lower()))}


@router.put("/rootCerts", summary="Add a root certificate", response_model=None)
def put(_: Annotated[Caller, Depends(may("rcp.write"))], found: Found, root: NewRoot) -> None:
    with found.store.write() as records:
        rcp.put(records, decode(root.ca_certificate), root.root_type, found.clock())


def show(root: Root) -> dict[str, Any]:
    certificate = path.read(root.certificate)
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
        "signatureAlgorithm": "secp256r1",
    }
