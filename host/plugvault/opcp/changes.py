"""Two people for a change of RCP: where the second one looks, and agrees or does not.

An extension: OPCP recommends that a second person confirms, and says nothing of how.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from plugvault.opcp.fields import UUID_PATTERN, AppServices, Wire, encode
from plugvault.opcp.rights import may
from plugvault.pki import path
from plugvault.pki.names import distinguished_name, timestamp
from plugvault.pools import changes
from plugvault.pools.caller import Caller
from plugvault.pools.records import RootChange

router = APIRouter(prefix="/changes")  # below RCP's
Administrator = Annotated[Caller, Depends(may("rcp.write"))]
ChangeId = Annotated[str, Path(alias="changeId", pattern=UUID_PATTERN)]


class Approval(Wire):
    """`fingerprint`: SHA-256 of the root certificate, from its owner, not from this server."""

    fingerprint: str


@router.get("", summary="Changes of the roots: waiting, done and refused")
def listed(
    _: Administrator,
    services: AppServices,
    state: Annotated[str | None, Query(pattern="^(pending|done|refused)$")] = None,
) -> list[dict[str, Any]]:
    with services.store.read() as records:
        every = records.changes.all()
    return [show(change) for change in every if state in (None, change.state)]


@router.post("/{changeId}/approve", summary="Agree to a change that somebody else asked for")
def approve(
    caller: Administrator, services: AppServices, change_id: ChangeId, approval: Approval
) -> dict[str, Any]:
    with services.store.write() as records:
        done = changes.approve(
            records, caller, change_id.lower(), approval.fingerprint, services.clock()
        )
    return show(done)


@router.post("/{changeId}/refuse", summary="Do not agree, or take one's own request back")
def refuse(caller: Administrator, services: AppServices, change_id: ChangeId) -> dict[str, Any]:
    with services.store.write() as records:
        return show(changes.refuse(records, caller, change_id.lower(), services.clock()))


def show(change: RootChange) -> dict[str, Any]:
    """The fingerprint is what the second person compares."""
    decided = {
        "rootCertificateId": change.root_id,
        "decidedBy": change.decided_by,
        "decided": timestamp(change.decided) if change.decided else "",
    }
    return {
        "changeId": change.change_id,
        "action": change.action,
        "state": change.state,
        "rootType": change.kind,
        "distinguishedName": distinguished_name(path.read_any(change.certificate).names),
        "fingerprint": path.fingerprint(change.certificate),
        "caCertificate": encode(change.certificate),
        "askedBy": change.asked_by,
        "asked": timestamp(change.asked),
        **{name: value for name, value in decided.items() if value},
    }
