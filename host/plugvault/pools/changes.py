"""Dual control of RCP: one administrator requests a change, another one approves it.

OPCP recommends dual control and leaves the procedure open. The second administrator gives the
fingerprint, which must come from the root's owner and not from this ecosystem. RCP changes only
with the approval, and the root is checked again then.
"""

import uuid
from dataclasses import replace

from plugvault.pki import path
from plugvault.pools import audit, rcp
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import RootChange
from plugvault.pools.repositories import Records

ADD, DELETE = "add", "delete"
PENDING, DONE, REFUSED = "pending", "done", "refused"
SECOND_PERSON = "Another administrator than the requesting one must approve the change."
MISSING = "There is no change of RCP with the given ID."


def ask_add(
    records: Records, caller: Caller, certificate: bytes, kind: str, now: float
) -> RootChange:
    """Request the addition of a root. The same request returns the pending change.

    Raises PoolError as `rcp.put`, and "forbidden" for a caller without a client_id.
    """
    rcp.check(records, certificate, kind, now)
    return _ask(records, caller, ADD, kind, certificate, "", now)


def ask_delete(records: Records, caller: Caller, root_id: str, now: float) -> RootChange:
    """Request the deletion of a root, as `ask_add`. Raises PoolError("not-found")."""
    root = rcp.get(records, root_id)
    return _ask(records, caller, DELETE, root.kind, root.certificate, root.root_id, now)


def approve(
    records: Records, caller: Caller, change_id: str, fingerprint: str, now: float
) -> RootChange:
    """Approve another administrator's change and carry it out.

    `fingerprint`: SHA-256 of the root in hexadecimal, in either case, with or without colons or
    spaces. Raises PoolError: "not-found"; "forbidden" for the administrator that requested the
    change; "invalid" for another fingerprint or a decided change; and as `rcp.put` and
    `rcp.delete`.
    """
    change = _pending(records, change_id)
    if not caller.client_id or caller.client_id == change.asked_by:
        raise PoolError("forbidden", SECOND_PERSON)
    digits = fingerprint.replace(":", "").replace(" ", "").lower()
    if digits != path.fingerprint(change.certificate):
        raise PoolError("invalid", "fingerprint : is not the SHA-256 of this root certificate")
    who = f"{caller.signature}, asked by {change.asked_by}"
    if change.action == ADD:
        partners = (peer.name for peer in records.peers.all() if peer.client_id == change.asked_by)
        root = rcp.put(
            records, change.certificate, change.kind, now, who=who, origin=next(partners, "")
        )
        change = replace(change, root_id=root.root_id)
    else:
        rcp.delete(records, change.root_id, now, who=who)
    return _decide(records, change, caller, DONE, now)


def refuse(records: Records, caller: Caller, change_id: str, now: float) -> RootChange:
    """Refuse a change. The requesting administrator may withdraw it in the same way. Raises
    PoolError: "not-found"; "invalid" for a decided change."""
    return _decide(records, _pending(records, change_id), caller, REFUSED, now)


def _ask(
    records: Records,
    caller: Caller,
    action: str,
    kind: str,
    certificate: bytes,
    root_id: str,
    now: float,
) -> RootChange:
    if not caller.client_id:
        raise PoolError("forbidden", "A change of RCP needs a caller with a client_id.")
    records.lock(path.fingerprint(certificate))
    for change in records.changes.all():
        requested = (change.action, change.kind, change.certificate)
        if change.state == PENDING and requested == (action, kind, certificate):
            return change
    change = RootChange(
        str(uuid.uuid4()), action, kind, certificate, root_id, caller.client_id, int(now)
    )
    records.changes.put(change)
    _note(records, caller, f"root {action} asked for", change, now)
    return change


def _pending(records: Records, change_id: str) -> RootChange:
    records.lock(change_id)
    change = records.changes.get(change_id)
    if change is None:
        raise PoolError("not-found", MISSING)
    if change.state != PENDING:
        raise PoolError("invalid", f"This change of RCP is {change.state} already.")
    return change


def _decide(
    records: Records, change: RootChange, caller: Caller, state: str, now: float
) -> RootChange:
    change = replace(change, state=state, decided_by=caller.client_id, decided=int(now))
    records.changes.put(change)
    _note(records, caller, f"root {change.action} {state}", change, now)
    return change


def _note(records: Records, caller: Caller, action: str, change: RootChange, now: float) -> None:
    detail = f"{change.kind} {path.fingerprint(change.certificate)}"
    audit.note(records, caller.signature, action, change.change_id, detail, now)
