"""Changing RCP takes two people: one asks, a different one compares the fingerprint and agrees.

OPCP recommends it and leaves the how open. The second person must have got the fingerprint from
the root's owner by another way than the request: copying what this ecosystem shows proves nothing.
Nothing of RCP changes before the second person agrees, and then everything is checked again.
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
MISSING = "There is no change of RCP with the given ID."


def ask_add(
    records: Records, caller: Caller, certificate: bytes, kind: str, now: float
) -> RootChange:
    """Ask for a root to be added. Raises PoolError as `rcp.put`; asked again, it is the same."""
    rcp.check(records, certificate, kind, now)
    return _ask(records, caller, ADD, kind, certificate, "", now)


def ask_delete(records: Records, caller: Caller, root_id: str, now: float) -> RootChange:
    """Ask for a root to be deleted. Raises PoolError("not-found")."""
    root = rcp.get(records, root_id)
    return _ask(records, caller, DELETE, root.kind, root.certificate, root.root_id, now)


def approve(
    records: Records, caller: Caller, change_id: str, fingerprint: str, now: float
) -> RootChange:
    """Do what somebody else asked for. `fingerprint`: SHA-256 of the root in hexadecimal, upper
    or lower case, with or without colons or spaces."""
    change = _pending(records, change_id)
    if not caller.client_id or caller.client_id == change.asked_by:
        raise PoolError("forbidden", "Another administrator than the one who asked must agree.")
    said = fingerprint.replace(":", "").replace(" ", "").lower()
    if said != path.fingerprint(change.certificate):
        raise PoolError("invalid", "fingerprint : is not the SHA-256 of this root certificate")
    who = f"{caller.signature}, asked by {change.asked_by}"
    if change.action == ADD:
        partners = (one.name for one in records.peers.all() if one.client_id == change.asked_by)
        root = rcp.put(
            records, change.certificate, change.kind, now, who=who, origin=next(partners, "")
        )
        change = replace(change, root_id=root.root_id)
    else:
        rcp.delete(records, change.root_id, now, who=who)
    return _decide(records, change, caller, DONE, now)


def refuse(records: Records, caller: Caller, change_id: str, now: float) -> RootChange:
    """Leave RCP as it is. Who asked may refuse too: that takes the request back."""
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
        raise PoolError("forbidden", "Who changes RCP must be known by a client_id.")
    records.lock(path.fingerprint(certificate))
    for change in records.changes.all():
        wanted = (change.action, change.kind, change.certificate)
        if change.state == PENDING and wanted == (action, kind, certificate):
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
