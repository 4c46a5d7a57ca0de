"""Revocation on request: the call of OPNC 1.0 (pki). OPCP has no such call."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from plugvault.opcp.fields import AppServices, Base64, Wire, decode
from plugvault.opcp.rights import may
from plugvault.pools import revocation
from plugvault.pools.caller import Caller

router = APIRouter(tags=["Revocation"])

# The reasons of RFC 5280 that OPNC allows; the compromise of a CA is not among them.
REASONS = (
    "privilegeWithdrawn",
    "affiliationChanged",
    "superseded",
    "unspecified",
    "keyCompromise",
    "aACompromise",
    "cessationOfOperation",
)


class RevocationRequest(Wire):
    """A certificate (DER in base64) and the reason of its revocation."""

    certificate: Base64
    revocation_reason: Annotated[str, Field(pattern=f"^({'|'.join(REASONS)})$")]


@router.post(
    "/opnc/v1/pki/pki/revokeCertificate", summary="Revoke a certificate", response_model=None
)
def revoke(
    caller: Annotated[Caller, Depends(may("revoke"))],
    services: AppServices,
    body: RevocationRequest,
) -> None:
    """For certificates that this ecosystem issued. The owner of the subject may revoke a leaf, an
    administrator also a CA with every certificate below it. A second revocation changes nothing.
    404 for a certificate of another issuer."""
    certificate = decode(body.certificate)
    with services.store.write() as records:
        revocation.revoke(
            records,
            caller,
            services.authorities,
            certificate,
            body.revocation_reason,
            services.clock(),
        )
