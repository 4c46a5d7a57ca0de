"""Other ecosystems as partners: the steps from an application to an answer."""

from __future__ import annotations

import pytest

from fixtures.pools import Pools
from plugvault.pools import clients, peers
from plugvault.pools.caller import PEER, Caller
from plugvault.pools.errors import PoolError
from world import NOW

PARTNER = Caller("irdeto", frozenset({PEER}))
ADMINISTRATOR = "Ada (a1)"


@pytest.fixture
def applied(pools: Pools) -> Pools:
    with pools.store.write() as records:
        clients.register(records, PARTNER, ("id", "secret"), ADMINISTRATOR, NOW)
        peers.apply(records, "irdeto", "https://irdeto.example", "id", ADMINISTRATOR, NOW)
    return pools


def state(pools: Pools) -> tuple[str, bool, bool]:
    """Return the state of the partner, whether it is asked, and whether it may ask."""
    with pools.store.read() as records:
        client = records.clients.get("id")
        assert client
        is_asked = "irdeto" in peers.active(records)
        return peers.get(records, "irdeto").state, is_asked, client.active


def move(pools: Pools, *steps: str) -> None:
    for step in steps:
        with pools.store.write() as records:
            peers.move(records, "irdeto", step, ADMINISTRATOR, NOW)


def test_a_partner_is_audited_before_it_is_active(applied: Pools):
    assert state(applied) == (peers.APPLIED, False, False)
    with pytest.raises(PoolError, match="it can become audited or suspended, not active"):
        move(applied, peers.ACTIVE)
    move(applied, peers.AUDITED)
    assert state(applied) == (peers.AUDITED, False, False)
    move(applied, peers.ACTIVE)
    assert state(applied) == (peers.ACTIVE, True, True)


def test_a_suspended_partner_comes_back_only_through_an_audit(applied: Pools):
    move(applied, peers.AUDITED, peers.ACTIVE, peers.SUSPENDED)
    assert state(applied) == (peers.SUSPENDED, False, False)
    with pytest.raises(PoolError, match="it can become audited, not active"):
        move(applied, peers.ACTIVE)
    move(applied, peers.AUDITED, peers.ACTIVE)
    assert state(applied) == (peers.ACTIVE, True, True)


def test_a_name_belongs_to_one_partner(applied: Pools):
    with applied.store.write() as records:
        with pytest.raises(PoolError, match="named irdeto already"):
            peers.apply(records, "irdeto", "https://evil.example", "id", ADMINISTRATOR, NOW)
        with pytest.raises(PoolError, match="no partner named gireve"):
            peers.move(records, "gireve", peers.AUDITED, ADMINISTRATOR, NOW)


def test_every_step_is_in_the_trail(applied: Pools):
    move(applied, peers.AUDITED, peers.ACTIVE)
    with applied.store.read() as records:
        lines = [
            (entry.who, entry.action)
            for entry in records.audit.since(0, 100)
            if entry.action.startswith("partner")
        ]
    assert lines == [
        (ADMINISTRATOR, f"partner {step}") for step in ("applied", "audited", "active")
    ]
