"""Partners: other ecosystems, and the states of a partnership.

A partner applies, is audited, becomes active and may be suspended. Only active partners get
questions, and only their access tokens are valid. A partner's roots enter RCP with its name. They
stay when it is suspended: one administrator alone does not decide about the records below them.
"""

from dataclasses import replace

from plugvault import net
from plugvault.pki import path
from plugvault.pools import audit, changes, rcp
from plugvault.pools.caller import PEER, Caller, check_name
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Peer
from plugvault.pools.repositories import Records

MOST = 100  # roots of one partner: each path is validated against all roots
APPLIED, AUDITED, ACTIVE, SUSPENDED = "applied", "audited", "active", "suspended"
NEXT = {
    APPLIED: (AUDITED, SUSPENDED),
    AUDITED: (ACTIVE, SUSPENDED),
    ACTIVE: (SUSPENDED,),
    SUSPENDED: (AUDITED,),  # only a new audit ends a suspension
}


def apply(records: Records, name: str, url: str, client_id: str, who: str, now: float) -> Peer:
    """Enter a partner that applies. `client_id`: of the partner's calls to this ecosystem, which
    stays locked until the partner is active. `who`: the actor for the audit trail.

    Raises PoolError("invalid") for a used or wrong name, or a malformed `url`.
    """
    check_name(name)
    records.lock(f"peer {name}")
    if records.peers.get(name):
        raise PoolError("invalid", f"There is a partner named {name} already.")
    try:
        at = net.parts_of(url)
    except net.NetError as error:
        raise PoolError("invalid", f"url : {error.detail}") from error
    if at.query or at.fragment:
        raise PoolError("invalid", "url : must end before its query, which begins with ? or #")
    peer = Peer(name, url.rstrip("/"), APPLIED, int(now), client_id)
    records.peers.put(peer)
    _lock(records, peer)
    audit.note(records, who, "partner applied", name, url, now)
    return peer


def move(records: Records, name: str, state: str, who: str, now: float) -> Peer:
    """Change a partner's state. Raises PoolError: "not-found" for an unknown partner, "invalid"
    for a state that cannot follow (`NEXT`)."""
    records.lock(f"peer {name}")
    peer = get(records, name)
    if state not in NEXT[peer.state]:
        allowed = " or ".join(NEXT[peer.state])
        raise PoolError("invalid", f"{name} is {peer.state}: it can become {allowed}, not {state}")
    moved = replace(peer, state=state, since=int(now))
    records.peers.put(moved)
    _lock(records, moved)
    audit.note(records, who, f"partner {state}", name, f"was {peer.state}", now)
    return moved


def get(records: Records, name: str) -> Peer:
    """A partner by its name. Raises PoolError("not-found")."""
    peer = records.peers.get(name)
    if peer is None:
        raise PoolError("not-found", f"There is no partner named {name}.")
    return peer


def active(records: Records) -> list[str]:
    """The names of the active partners."""
    return [peer.name for peer in records.peers.all() if peer.state == ACTIVE]


def adopt_root(
    records: Records, peer: str, certificate: bytes, kind: str, now: float, ask: bool = False
) -> bool:
    """Add a partner's root to RCP. False when it is in RCP already. Raises PoolError as `rcp.put`,
    and "invalid" above `MOST` roots of one partner.

    `ask`: with dual control the partner requests the root, and an administrator approves it. The
    root is requested once; the result is False.
    """
    records.lock(f"peer {peer}")
    if records.roots.by_fingerprint(path.fingerprint(certificate)):
        return False
    partner = Caller(peer, frozenset({PEER}), client_id=get(records, peer).client_id or peer)
    requested = records.changes.all()
    own_requests = [change for change in requested if change.asked_by == partner.client_id]
    own_roots = [root for root in records.roots.all() if root.origin == peer]
    if len(own_roots) + len(own_requests) >= MOST:
        raise PoolError("invalid", f"{peer} has {MOST} roots here already.")
    if ask:
        if not any(change.certificate == certificate for change in requested):
            changes.ask_add(records, partner, certificate, kind, now)
        return False
    rcp.put(records, certificate, kind, now, who=peer, origin=peer)
    return True


def _lock(records: Records, peer: Peer) -> None:
    client = records.clients.get(peer.client_id)
    if client:
        records.clients.put(replace(client, active=peer.state == ACTIVE))
