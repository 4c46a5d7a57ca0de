"""RCP: the certificates that may be anchors, and the ways to look them up."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448

from fixtures.pools import OPERATOR, Pools
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import issue
from plugvault.pools import pcp, rcp
from plugvault.pools.cleansing import cleanse
from plugvault.pools.errors import PoolError
from plugvault.pools.records import AuditEntry, Event, Root
from world import NOW, PCID, root, usage


def put(pools: Pools, der: bytes, kind: str) -> Root:
    with pools.store.write() as records:
        return rcp.put(records, der, kind, NOW)


def roots(pools: Pools, kind: str) -> list[Root]:
    with pools.store.read() as records:
        return list(records.roots.all(kind))


def told_of(pools: Pools, kind: str) -> list[Event]:
    with pools.store.read() as records:
        return [event for event in records.events.since(0, None, 1000) if event.kind == kind]


def trail(pools: Pools) -> list[AuditEntry]:
    with pools.store.read() as records:
        return list(records.audit.since(0, 1000))


def test_roots_are_found_by_kind(pools: Pools):
    with pools.store.read() as records:
        assert rcp.anchors(records, "V2G") == [pools.world.v2g_root.der]
        assert set(rcp.anchors(records, "MO", "OEM")) == {
            pools.world.mo_root.der,
            pools.world.oem_root.der,
        }


def test_the_same_root_again_keeps_its_id(pools: Pools):
    first = put(pools, pools.world.v2g_root.der, "V2G")
    assert put(pools, pools.world.v2g_root.der, "V2G").root_id == first.root_id
    with pools.store.read() as records:
        assert len(records.roots.all()) == 3


@pytest.mark.parametrize("make", [lambda w: w.cps_sub1.der, lambda w: w.cps.der, lambda _: b"0"])
def test_a_certificate_that_is_no_root_is_refused(pools: Pools, make):
    with pytest.raises(PoolError, match="not a root certificate"):
        put(pools, make(pools.world), "V2G")


def test_an_expired_root_is_refused(pools: Pools):
    with pytest.raises(PoolError, match="expired"):
        put(pools, root("Old", not_after=NOW - 1).der, "V2G")


def test_an_unknown_kind_is_refused(pools: Pools):
    with pytest.raises(PoolError, match="rootType"):
        put(pools, pools.world.v2g_root.der, "CPO")


def test_a_root_is_named_by_fingerprint_in_any_case_or_by_id(pools: Pools):
    with pools.store.read() as records:
        (v2g,) = records.roots.all("V2G")
        assert rcp.by_fingerprint(records, v2g.fingerprint.upper()) == v2g
        assert rcp.by_fingerprint(records, v2g.root_id) == v2g


def test_an_mo_root_is_no_v2g_root(pools: Pools):
    with pools.store.read() as records:
        (mo,) = records.roots.all("MO")
        with pytest.raises(PoolError, match="not available in RCP"):
            rcp.by_fingerprint(records, mo.fingerprint)


def test_an_unknown_id_is_not_found(pools: Pools):
    with pools.store.read() as records, pytest.raises(PoolError) as caught:
        rcp.get(records, "b1b86334-7c74-4ccc-b78d-d4f773d3b559")
    assert caught.value.reason == "not-found"


def test_an_added_root_is_told_to_everyone_once_and_noted(pools: Pools):
    new = root("New Root", dc="MO")
    stored = put(pools, new.der, "MO")
    put(pools, new.der, "MO")
    (event,) = [e for e in told_of(pools, "root.cert.added") if stored.root_id in e.payload]
    assert event.audience == "*"
    assert json.loads(event.payload)["fingerprintSHA256"] == stored.fingerprint
    assert [entry.action for entry in trail(pools) if entry.subject == stored.root_id] == [
        "root added"
    ]


def test_a_root_does_not_change_its_kind(pools: Pools):
    with pytest.raises(PoolError, match="in RCP as V2G already"):
        put(pools, pools.world.v2g_root.der, "MO")


@pytest.mark.parametrize(
    ("days", "kind"), [(0, "root.cert.revoked"), (41 * 365, "root.cert.expired")]
)
def test_a_deleted_root_is_published_as_revoked_or_expired(pools: Pools, days: int, kind: str):
    (mo,) = roots(pools, "MO")
    with pools.store.write() as records:
        rcp.delete(records, mo.root_id, NOW + days * 86_400, who="Ada (a1)")
    assert roots(pools, "MO") == []
    (event,) = told_of(pools, kind)
    assert (event.audience, json.loads(event.payload)["rootCertificateId"]) == ("*", mo.root_id)
    assert trail(pools)[-1].who == "Ada (a1)"


def test_a_root_that_is_not_there_is_not_deleted(pools: Pools):
    with pools.store.write() as records, pytest.raises(PoolError, match="not found"):
        rcp.delete(records, "b1b86334-7c74-4ccc-b78d-d4f773d3b559", NOW, who="Ada")


def test_a_deleted_root_removes_no_record_but_its_vehicles_are_refused(pools: Pools):
    pools.register()
    pools.put()
    (oem,) = roots(pools, "OEM")
    with pools.store.write() as records:
        rcp.delete(records, oem.root_id, NOW, who="Ada")
    assert pools.contract()
    with pools.store.read() as records:
        assert records.vehicles.get(PCID, ISO2)
        with pytest.raises(PoolError) as caught:
            pcp.get(records, OPERATOR, PCID, NOW)
    assert caught.value.reason == "not-found"
    assert "leads to no root in RCP" in caught.value.detail
    put(pools, pools.world.oem_root.der, "OEM")
    assert pools.provisioning_der(), "and good again when people decide so"


# A private environment (PE) anchors the stations of one private place, for vehicles that were
# told of it: nothing that an ecosystem keeps or signs.


def test_no_path_of_a_pool_ends_in_a_private_environment(pools: Pools):
    private = root("Private", dc="V2G")
    put(pools, private.der, "PE")
    sub1 = private.sub("Private Sub1", path_length=1)
    sub2 = sub1.sub("Private Sub2")
    both = usage("digital_signature", "key_agreement")
    vehicle = sub2.issue(PCID, dc="OEM", key=pools.ecu, key_usage=both)
    with pytest.raises(PoolError, match="leads to no root in RCP"):
        pools.register(vehicle)
    pools.register()
    with pytest.raises(PoolError, match="not valid under RCP"):
        pools.sign(pools.data(mo=sub2))
    signer = pools.new_signer(sub2.issue("CPS Leaf", dc="CPS"), private)
    message = pools.sign(signers=[signer])
    with pytest.raises(PoolError, match="not valid"):
        pools.put(message)
    with pools.store.read() as records:
        assert [row.certificate for row in records.roots.all("PE")] == [private.der]
        with pytest.raises(PoolError, match="not available in RCP"):
            rcp.by_fingerprint(records, roots(pools, "PE")[0].fingerprint)


# ISO 15118-20's roots are kept and told of; nothing of ISO 15118-2 ends in one


@pytest.mark.parametrize(
    ("curve", "key"),
    [
        ("secp521r1", lambda: ec.generate_private_key(ec.SECP521R1())),
        ("ed448", ed448.Ed448PrivateKey.generate),
    ],
)
def test_a_root_of_iso_15118_20_keeps_its_edition(pools: Pools, curve: str, key):
    pools.register()
    new = issue.root("v2g", {"C": "DE", "O": "Pool", "CN": "V2G-20 Root"}, key(), NOW).root
    stored = put(pools, new, "V2G")
    assert stored.namespace == "urn:iso:15118:20:2022:MsgDef"
    (event,) = [e for e in told_of(pools, "root.cert.added") if stored.root_id in e.payload]
    assert json.loads(event.payload)["signatureAlgorithm"] == curve
    assert event.namespace == stored.namespace
    with pools.store.read() as records:
        assert new not in rcp.anchors(records, "V2G")
        assert pcp.get(records, OPERATOR, PCID, NOW), "the others read on beside it"
    pools.put()
    assert cleanse(pools.store, NOW + 41 * 365 * 86_400).roots == 4
    assert any(stored.root_id in e.payload for e in told_of(pools, "root.cert.expired"))
