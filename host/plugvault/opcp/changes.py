"""Dual control of RCP: the second administrator lists, approves and refuses changes.

An extension: OPCP recommends a second person and does not define the calls.
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
    """`fingerprint`: SHA-256 of the root certificate in hexadecimal, with or without colons, as
    the owner of the root published it. This server's own answers are no source for it."""

    fingerprint: str


@router.get("", summary="List the changes of RCP: pending, done and refused")
def listed(
    _: Administrator,
    services: AppServices,
    state: Annotated[str | None, Query(pattern="^(pending|done|refused)$")] = None,
) -> list[dict[str, Any]]:
    """All changes, or those of one `state`."""
    with services.store.read() as records:
        changes_of_rcp = records.changes.all()
    return [show(change) for change in changes_of_rcp if state in (None, change.state)]


@router.post("/{changeId}/approve", summary="Approve a change of another administrator")
def approve(
    caller: Administrator, services: AppServices, change_id: ChangeId, approval: Approval
) -> dict[str, Any]:
    """RCP changes with this call. 400 for a fingerprint that is not the root's, or for a change
    that is decided; 403 for the administrator that requested the change."""
    with services.store.write() as records:
        change = changes.approve(
            records, caller, change_id.lower(), approval.fingerprint, services.clock()
        )
    return show(change)


@router.post("/{changeId}/refuse", summary="Refuse a change, or withdraw it")
def refuse(caller: Administrator, services: AppServices, change_id: ChangeId) -> dict[str, Any]:
    """The administrator that requested a change may withdraw it with the same call. 400 for a
    change that is decided already."""
    with services.store.write() as records:
        return show(changes.refuse(records, caller, change_id.lower(), services.clock()))


def show(change: RootChange) -> dict[str, Any]:
    """The JSON of a change. `fingerprint`: SHA-256 in hexadecimal; `caCertificate`: DER in
    base64."""
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
