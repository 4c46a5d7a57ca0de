"""Revocation on request, which OPCP has none of: the call of its successor [OPNC 1.0, pki]."""

from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import Field

from plugvault.opcp.fields import AppServices, Base64, Wire, decode
from plugvault.opcp.rights import may
from plugvault.pools import revocation
from plugvault.pools.caller import Caller

router = APIRouter(tags=["Revocation"])

# Those of RFC 5280 that OPNC has: a CA's own compromise is not for this call.
REASONS = (
    "privilegeWithdrawn",
    "affiliationChanged",
    "superseded",
    "unspecified",
    "keyCompromise",
    "aACompromise",
    "cessationOfOperation",
)


class Revocation(Wire):
    certificate: Base64
    revocation_reason: Annotated[str, Field(pattern=f"^({'|'.join(REASONS)})$")]


@router.post(
    "/opnc/v1/pki/pki/revokeCertificate", summary="Revoke a certificate", response_model=None
)
def revoke(
    caller: Annotated[Caller, Depends(may("revoke"))], services: AppServices, wanted: Revocation
) -> None:
    """A certificate issued here, by the owner of its subject or an administrator. What was
    revoked before stays as it was."""
    certificate = decode(wanted.certificate)
    with services.store.write() as records:
        revocation.revoke(
            records,
            caller,
            services.authorities,
            certificate,
            wanted.revocation_reason,
            services.clock(),
        )
