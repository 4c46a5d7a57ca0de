"""PCP: provisioning certificates [OPCP 1.0.0, pcp.v1]."""

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from plugvault.contract.bundle import ISO2
from plugvault.opcp.fields import Found, Namespace, PcidPath, PcidText, Wire, encode
from plugvault.opcp.rights import may
from plugvault.pki import path
from plugvault.pki.names import colons, distinguished_name, serial_hex
from plugvault.pools import pcp
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Provisioning

router = APIRouter(prefix="/v1/oem/provCerts", tags=["PCP: provisioning certificates"])
Reader = Annotated[Caller, Depends(may("pcp.read"))]
KeyIdentifier = Annotated[str, Field(pattern="^[0-9a-fA-F]{2}(:?[0-9a-fA-F]{2})*$")]


class ProvisioningCertificate(Wire):
    """Base64 of DER each. The key identifiers are of the V2G roots in the vehicle."""

    sub1: Annotated[str, Field(alias="subCA1Certificate")]
    sub2: Annotated[str | None, Field(alias="subCA2Certificate")] = None
    vehicle_certificate: str
    xsd_msg_def_namespace: Namespace = ISO2
    v2g_roots: Annotated[
        list[KeyIdentifier],
        Field(alias="v2gRootAuthorityKeyIdentifiers", max_length=20, default_factory=list),
    ]
    previous_pcid: PcidText | None = None


@router.put("", summary="Store or replace a vehicle's certificate")
def put(
    caller: Annotated[Caller, Depends(may("pcp.write"))],
    found: Found,
    new: ProvisioningCertificate,
) -> dict[str, Any]:
    """The PCID is the CN of the certificate. The same PCID again overwrites; with a new key the
    vehicle's contracts are deleted."""
    leaf = _certificate(new.vehicle_certificate, "vehicleCertificate")
    sub2 = _certificate(new.sub2, "subCa2Certificate") if new.sub2 else None
    sub1 = _certificate(new.sub1, "subCa1Certificate")
    with found.store.write() as records:
        stored = pcp.put(
            records,
            caller,
            leaf,
            sub2,
            sub1,
            found.clock(),
            v2g_roots=new.v2g_roots,
            previous_pcid=new.previous_pcid,
        )
    return show(stored)


@router.get("/lookupVehicle/{pcid}", summary="Whether a vehicle is known")
def lookup(caller: Reader, found: Found, pcid: PcidPath) -> Response:
    with found.store.read() as records:
        pcp.get(records, caller, pcid, found.clock())
    return Response()


@router.head("/{pcid}", summary="Whether a vehicle is known")
def head(caller: Reader, found: Found, pcid: PcidPath) -> Response:
    return lookup(caller, found, pcid)


@router.get("/{pcid}", summary="A vehicle's certificate and its sub-CAs")
def get(caller: Reader, found: Found, pcid: PcidPath) -> dict[str, Any]:
    with found.store.read() as records:
        return {"OEMMessage": show(pcp.get(records, caller, pcid, found.clock()))}


def show(stored: Provisioning) -> dict[str, Any]:
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


def _certificate(text: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise PoolError("invalid", f"Invalid certificate format on {field}") from error
