"""Other ecosystems as partners: who they are, and how far they are trusted.

A partner applies, is audited, is active, may be suspended. Only an active one is asked, and only
an active one's access token is good. Its roots come into RCP with its name on them; when it is
suspended they stay, because what hangs under them is not decided by one administrator's click.
"""

from dataclasses import replace
from urllib.parse import urlsplit

from plugvault.pki import path
from plugvault.pools import audit, changes, rcp
from plugvault.pools.caller import PEER, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Peer
from plugvault.pools.repositories import Records

MOST = 100  # roots of one partner: every path that is checked is checked against all roots
APPLIED, AUDITED, ACTIVE, SUSPENDED = "applied", "audited", "active", "suspended"
NEXT = {
    APPLIED: (AUDITED, SUSPENDED),
    AUDITED: (ACTIVE, SUSPENDED),
    ACTIVE: (SUSPENDED,),
    SUSPENDED: (AUDITED,),  # back only through a new audit
}


def apply(records: Records, name: str, url: str, client_id: str, who: str, now: float) -> Peer:
    """A partner introduces itself. `client_id`: what it will call this ecosystem with; it is
    locked until the partner is active. Raises PoolError when the name is taken or `url` is none.
    """
    records.lock(f"peer {name}")
    if records.peers.get(name):
        raise PoolError("invalid", f"There is a partner named {name} already.")
    at = urlsplit(url)
    if at.scheme not in ("http", "https") or not at.hostname or at.query or at.fragment:
        raise PoolError("invalid", "url : must begin with https:// or http:// and name a host")
    peer = Peer(name, url.rstrip("/"), APPLIED, int(now), client_id)
    records.peers.put(peer)
    _lock(records, peer)
    audit.note(records, who, "partner applied", name, url, now)
    return peer


def move(records: Records, name: str, state: str, who: str, now: float) -> Peer:
    """The next step with a partner. Raises PoolError: unknown, or a step that is not next."""
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
    """Raises PoolError("not-found")."""
    peer = records.peers.get(name)
    if peer is None:
        raise PoolError("not-found", f"There is no partner named {name}.")
    return peer


def active(records: Records) -> list[str]:
    """The names of those who may be asked."""
    return [peer.name for peer in records.peers.all() if peer.state == ACTIVE]


def adopt_root(
    records: Records, peer: str, certificate: bytes, kind: str, now: float, ask: bool = False
) -> bool:
    """Take a partner's root into RCP; False when it is there. Raises PoolError as `rcp.put`.

    `ask`: where a root takes two, the partner is one, and an administrator the other: it is asked
    for, once, and False until then.
    """
    records.lock(f"peer {peer}")
    if records.roots.by_fingerprint(path.fingerprint(certificate)):
        return False
    partner = Caller(peer, frozenset({PEER}), client_id=get(records, peer).client_id or peer)
    asked = records.changes.all()
    theirs = [one for one in asked if one.asked_by == partner.client_id]
    if sum(one.origin == peer for one in records.roots.all()) + len(theirs) >= MOST:
        raise PoolError("invalid", f"{peer} has {MOST} roots here already.")
    if ask:
        if not any(one.certificate == certificate for one in asked):
            changes.ask_add(records, partner, certificate, kind, now)
        return False
    rcp.put(records, certificate, kind, now, who=peer, origin=peer)
    return True


def _lock(records: Records, peer: Peer) -> None:
    client = records.clients.get(peer.client_id)
    if client:
        records.clients.put(replace(client, active=peer.state == ACTIVE))
