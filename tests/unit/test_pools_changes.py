"""Two people for a change of RCP: who may agree to what, with which proof."""

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
def asked(pools: Pools) -> RootChange:
    with pools.store.write() as records:
        return changes.ask_add(records, ADA, NEW.der, "MO", NOW)


def approve(
    pools: Pools, change: RootChange, caller: Caller = BEN, said: str = FINGERPRINT, now=NOW
) -> RootChange:
    with pools.store.write() as records:
        return changes.approve(records, caller, change.change_id, said, now)


def in_rcp(pools: Pools, der: bytes = NEW.der) -> bool:
    with pools.store.read() as records:
        return records.roots.by_fingerprint(path.fingerprint(der)) is not None


def actions(pools: Pools) -> list[tuple[str, str]]:
    with pools.store.read() as records:
        found = records.audit.since(0, 100)
    return [(entry.who, entry.action) for entry in found if entry.who != rcp.SETUP]


def test_a_change_that_was_asked_for_changes_nothing_yet(pools: Pools, asked: RootChange):
    assert asked.state == changes.PENDING
    assert not in_rcp(pools)


def test_a_second_person_with_the_fingerprint_makes_it(pools: Pools, asked: RootChange):
    done = approve(pools, asked)
    assert (done.state, done.asked_by, done.decided_by) == (changes.DONE, "a1", "b2")
    assert in_rcp(pools)
    with pools.store.read() as records:
        assert rcp.get(records, done.root_id).certificate == NEW.der
    assert actions(pools) == [
        ("Ada (a1)", "root add asked for"),
        ("Ben (b2), asked by a1", "root added"),
        ("Ben (b2)", "root add done"),
    ]


@pytest.mark.parametrize("who", [ADA, Caller("Ben", frozenset({ADMIN}), client_id="a1")])
def test_who_asked_cannot_agree_under_whatever_name(pools: Pools, asked: RootChange, who: Caller):
    with pytest.raises(PoolError, match="Another administrator") as caught:
        approve(pools, asked, who)
    assert caught.value.reason == "forbidden"
    assert not in_rcp(pools)


def test_who_is_nobody_can_neither_ask_nor_agree(pools: Pools, asked: RootChange):
    nobody = Caller("anyone", frozenset({ADMIN}))
    with pytest.raises(PoolError, match="Another administrator"):
        approve(pools, asked, nobody)
    with pools.store.write() as records, pytest.raises(PoolError, match="client_id"):
        changes.ask_add(records, nobody, root("Other").der, "V2G", NOW)


@pytest.mark.parametrize(
    "said",
    ["", "00", FINGERPRINT[:-1], FINGERPRINT[:-2] + "zz"],
    ids=["nothing", "another", "cut", "not hexadecimal"],
)
def test_another_fingerprint_is_refused(pools: Pools, asked: RootChange, said: str):
    with pytest.raises(PoolError, match="fingerprint : is not"):
        approve(pools, asked, said=said)
    assert not in_rcp(pools)


def test_a_fingerprint_is_taken_as_people_write_it(pools: Pools, asked: RootChange):
    pairs = [FINGERPRINT[at : at + 2].upper() for at in range(0, 64, 2)]
    approve(pools, asked, said=":".join(pairs[:16]) + " " + ":".join(pairs[16:]))
    assert in_rcp(pools)


def test_a_deletion_takes_two_as_well(pools: Pools):
    mo = pools.world.mo_root.der
    with pools.store.write() as records:
        (kept,) = records.roots.all("MO")
        change = changes.ask_delete(records, ADA, kept.root_id, NOW)
    assert in_rcp(pools, mo)
    with pytest.raises(PoolError, match="Another administrator"):
        approve(pools, change, ADA, kept.fingerprint)
    approve(pools, change, BEN, kept.fingerprint)
    assert not in_rcp(pools, mo)


def test_a_refused_change_is_over(pools: Pools, asked: RootChange):
    with pools.store.write() as records:
        assert changes.refuse(records, BEN, asked.change_id, NOW).state == changes.REFUSED
    with pytest.raises(PoolError, match="refused already"):
        approve(pools, asked)
    assert not in_rcp(pools)


def test_a_change_is_made_once(pools: Pools, asked: RootChange):
    approve(pools, asked)
    with pytest.raises(PoolError, match="done already"):
        approve(pools, asked)


def test_who_asked_may_take_it_back(pools: Pools, asked: RootChange):
    with pools.store.write() as records:
        assert changes.refuse(records, ADA, asked.change_id, NOW).decided_by == "a1"


def test_asking_again_is_the_same_change(pools: Pools, asked: RootChange):
    with pools.store.write() as records:
        assert changes.ask_add(records, BEN, NEW.der, "MO", NOW) == asked
        assert len(records.changes.all()) == 1


def test_a_root_that_expired_while_it_waited_is_not_added(pools: Pools, asked: RootChange):
    with pytest.raises(PoolError, match="expired"):
        approve(pools, asked, now=NOW + 41 * 365 * 86_400)
    assert not in_rcp(pools)


def test_what_is_no_root_is_not_asked_for(pools: Pools):
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
    done = approve(pools, change, ADA)
    with pools.store.write() as records:
        assert rcp.get(records, done.root_id).origin == "Other Pool"
        assert not peers.adopt_root(records, "Other Pool", NEW.der, "MO", NOW, ask=True)


def test_a_partners_root_that_was_refused_is_not_asked_for_again(pools: Pools):
    with pools.store.write() as records:
        peers.apply(records, "Other Pool", "https://other.example", "o1", "Ada", NOW)
        peers.adopt_root(records, "Other Pool", NEW.der, "MO", NOW, ask=True)
        changes.refuse(records, ADA, records.changes.all()[0].change_id, NOW)
        peers.adopt_root(records, "Other Pool", NEW.der, "MO", NOW, ask=True)
        assert [one.state for one in records.changes.all()] == [changes.REFUSED]
