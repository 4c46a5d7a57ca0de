"""A change of RCP takes two administrators, and the second one gives the fingerprint."""

from __future__ import annotations

import pytest

from fixtures.pools import Pools
from plugvault.pki import path
from plugvault.pools import changes, peers, rcp
from plugvault.pools.caller import ADMIN, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import RootChange
from world import NOW, root

ADA = Caller("Ada", frozenset({ADMIN}), client_id="a1")
BEN = Caller("Ben", frozenset({ADMIN}), client_id="b2")
NEW = root("New Root", dc="MO")
FINGERPRINT = path.fingerprint(NEW.der)


@pytest.fixture
def requested(pools: Pools) -> RootChange:
    with pools.store.write() as records:
        return changes.ask_add(records, ADA, NEW.der, "MO", NOW)


def approve(
    pools: Pools, change: RootChange, caller: Caller = BEN, fingerprint: str = FINGERPRINT, now=NOW
) -> RootChange:
    with pools.store.write() as records:
        return changes.approve(records, caller, change.change_id, fingerprint, now)


def in_rcp(pools: Pools, der: bytes = NEW.der) -> bool:
    with pools.store.read() as records:
        return records.roots.by_fingerprint(path.fingerprint(der)) is not None


def actions(pools: Pools) -> list[tuple[str, str]]:
    with pools.store.read() as records:
        entries = records.audit.since(0, 100)
    return [(entry.who, entry.action) for entry in entries if entry.who != rcp.SETUP]


def test_a_requested_change_changes_nothing_yet(pools: Pools, requested: RootChange):
    assert requested.state == changes.PENDING
    assert not in_rcp(pools)


def test_a_second_administrator_with_the_fingerprint_makes_the_change(
    pools: Pools, requested: RootChange
):
    approved = approve(pools, requested)
    assert (approved.state, approved.asked_by, approved.decided_by) == (changes.DONE, "a1", "b2")
    assert in_rcp(pools)
    with pools.store.read() as records:
        assert rcp.get(records, approved.root_id).certificate == NEW.der
    assert actions(pools) == [
        ("Ada (a1)", "root add asked for"),
        ("Ben (b2), asked by a1", "root added"),
        ("Ben (b2)", "root add done"),
    ]


@pytest.mark.parametrize("caller", [ADA, Caller("Ben", frozenset({ADMIN}), client_id="a1")])
def test_the_requester_cannot_agree_under_another_name(
    pools: Pools, requested: RootChange, caller: Caller
):
    with pytest.raises(PoolError, match="Another administrator") as caught:
        approve(pools, requested, caller)
    assert caught.value.reason == "forbidden"
    assert not in_rcp(pools)


def test_a_caller_without_client_id_can_neither_ask_nor_agree(pools: Pools, requested: RootChange):
    caller = Caller("anyone", frozenset({ADMIN}))
    with pytest.raises(PoolError, match="Another administrator"):
        approve(pools, requested, caller)
    with pools.store.write() as records, pytest.raises(PoolError, match="client_id"):
        changes.ask_add(records, caller, root("Other").der, "V2G", NOW)


@pytest.mark.parametrize(
    "fingerprint",
    ["", "00", FINGERPRINT[:-1], FINGERPRINT[:-2] + "zz"],
    ids=["nothing", "another", "cut", "not hexadecimal"],
)
def test_another_fingerprint_is_refused(pools: Pools, requested: RootChange, fingerprint: str):
    with pytest.raises(PoolError, match="fingerprint : is not"):
        approve(pools, requested, fingerprint=fingerprint)
    assert not in_rcp(pools)


def test_a_fingerprint_is_taken_as_people_write_it(pools: Pools, requested: RootChange):
    pairs = [FINGERPRINT[at : at + 2].upper() for at in range(0, 64, 2)]
    approve(pools, requested, fingerprint=":".join(pairs[:16]) + " " + ":".join(pairs[16:]))
    assert in_rcp(pools)


def test_a_deletion_takes_two_as_well(pools: Pools):
    mo = pools.world.mo_root.der
    with pools.store.write() as records:
        (root_,) = records.roots.all("MO")
        change = changes.ask_delete(records, ADA, root_.root_id, NOW)
    assert in_rcp(pools, mo)
    with pytest.raises(PoolError, match="Another administrator"):
        approve(pools, change, ADA, root_.fingerprint)
    approve(pools, change, BEN, root_.fingerprint)
    assert not in_rcp(pools, mo)


def test_a_refused_change_is_over(pools: Pools, requested: RootChange):
    with pools.store.write() as records:
        assert changes.refuse(records, BEN, requested.change_id, NOW).state == changes.REFUSED
    with pytest.raises(PoolError, match="refused already"):
        approve(pools, requested)
    assert not in_rcp(pools)


def test_a_change_is_made_once(pools: Pools, requested: RootChange):
    approve(pools, requested)
    with pytest.raises(PoolError, match="done already"):
        approve(pools, requested)


def test_the_requester_may_withdraw_the_change(pools: Pools, requested: RootChange):
    with pools.store.write() as records:
        assert changes.refuse(records, ADA, requested.change_id, NOW).decided_by == "a1"


def test_asking_again_is_the_same_change(pools: Pools, requested: RootChange):
    with pools.store.write() as records:
        assert changes.ask_add(records, BEN, NEW.der, "MO", NOW) == requested
        assert len(records.changes.all()) == 1


def test_a_root_that_expired_while_it_waited_is_not_added(pools: Pools, requested: RootChange):
    with pytest.raises(PoolError, match="expired"):
        approve(pools, requested, now=NOW + 41 * 365 * 86_400)
    assert not in_rcp(pools)


def test_a_certificate_that_is_no_root_cannot_be_requested(pools: Pools):
    with pools.store.write() as records, pytest.raises(PoolError, match="not a root"):
        changes.ask_add(records, ADA, pools.world.mo_sub1.der, "MO", NOW)


def test_an_unknown_change_is_not_found(pools: Pools):
    with pools.store.write() as records, pytest.raises(PoolError) as caught:
        changes.approve(records, BEN, "b1b86334-7c74-4ccc-b78d-d4f773d3b559", "", NOW)
    assert caught.value.reason == "not-found"


def test_a_partners_root_waits_for_an_administrator_and_is_asked_for_once(pools: Pools):
    with pools.store.write() as records:
        peers.apply(records, "Other Pool", "https://other.example", "o1", "Ada", NOW)
        for _ in range(2):
            assert not peers.adopt_root(records, "Other Pool", NEW.der, "MO", NOW, ask=True)
        (change,) = records.changes.all()
    assert change.asked_by == "o1"
    assert not in_rcp(pools)
    approved = approve(pools, change, ADA)
    with pools.store.write() as records:
        assert rcp.get(records, approved.root_id).origin == "Other Pool"
        assert not peers.adopt_root(records, "Other Pool", NEW.der, "MO", NOW, ask=True)


def test_a_partners_root_that_was_refused_is_not_asked_for_again(pools: Pools):
    with pools.store.write() as records:
        peers.apply(records, "Other Pool", "https://other.example", "o1", "Ada", NOW)
        peers.adopt_root(records, "Other Pool", NEW.der, "MO", NOW, ask=True)
        changes.refuse(records, ADA, records.changes.all()[0].change_id, NOW)
        peers.adopt_root(records, "Other Pool", NEW.der, "MO", NOW, ask=True)
        assert [change.state for change in records.changes.all()] == [changes.REFUSED]
