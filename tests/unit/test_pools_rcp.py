"""RCP: what may be an anchor, and who is found how."""

import pytest

from fixtures.pools import Pools
from plugvault.pools import rcp
from plugvault.pools.errors import PoolError
from world import NOW, root


def put(pools: Pools, der: bytes, kind: str) -> rcp.Root:
    with pools.store.write() as records:
        return rcp.put(records, der, kind, NOW)


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
def test_what_is_no_root_is_refused(pools: Pools, make):
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
