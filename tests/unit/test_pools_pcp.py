"""PCP: whose vehicle, which checks in which order, and what a new key does."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fixtures.pools import MAKER, OPERATOR, OTHER_MAKER, STATION, Pools
from plugvault.pools import pcp
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from world import NOW, PCID, Issued, usage


def get(pools: Pools, caller: Caller, pcid: str = PCID):
    with pools.store.read() as records:
        return pcp.get(records, caller, pcid, pools.now)


def refused(pools: Pools, reason: str, message: str, leaf: Issued, caller: Caller = MAKER):
    with pytest.raises(PoolError, match=message) as caught:
        pools.register(leaf, caller)
    assert caught.value.reason == reason
    with pools.store.read() as records:
        assert records.vehicles.get(PCID, "urn:iso:15118:2:2013:MsgDef") is None


def test_a_registered_vehicle_is_read_by_maker_and_operator(pools: Pools):
    leaf = pools.provisioning()
    stored = pools.register(leaf)
    assert (stored.pcid, stored.certificate, stored.root) == (
        PCID,
        leaf.der,
        pools.world.oem_root.der,
    )
    assert get(pools, MAKER) == get(pools, OPERATOR) == stored


def test_a_pcid_is_one_vehicle_in_either_case_and_keeps_its_own(pools: Pools):
    pools.register(pools.provisioning(PCID.lower()))
    assert get(pools, OPERATOR, PCID).pcid == PCID.lower()


def test_oem_of_other_wmi_cannot_store(pools: Pools):
    refused(pools, "forbidden", "WMI", pools.provisioning(), OTHER_MAKER)


def test_oem_of_other_wmi_cannot_read(pools: Pools):
    pools.register()
    with pytest.raises(PoolError, match="WMI"):
        get(pools, OTHER_MAKER)


def test_a_caller_without_wmis_cannot_read_as_a_maker(pools: Pools):
    pools.register()
    with pytest.raises(PoolError, match="WMI"):
        get(pools, STATION)


def test_the_wmi_is_checked_before_the_dates(pools: Pools):
    refused(
        pools, "forbidden", "WMI", pools.provisioning(not_after=NOW - 1, not_before=1), OTHER_MAKER
    )


def test_an_expired_certificate_is_refused(pools: Pools):
    refused(pools, "invalid", "in the past", pools.provisioning(not_after=NOW - 1, not_before=1))


def test_a_chain_to_no_oem_or_v2g_root_is_refused(pools: Pools):
    both = usage("digital_signature", "key_agreement")
    leaf = pools.world.mo_sub2.issue(PCID, dc="OEM", key=pools.ecu, key_usage=both)
    refused(pools, "invalid", "leads to no root", leaf)


def test_a_cn_that_is_no_pcid_is_refused(pools: Pools):
    refused(pools, "invalid", r'pcid : must match "\^\[a-zA-Z0-9\]', pools.provisioning("PVT1"))


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (0, "Invalid certificate format on vehicleCertificate"),
        (1, "Invalid certificate format on subCa2Certificate"),
        (2, "Invalid certificate format on subCa1Certificate"),
    ],
)
def test_broken_der_is_named(pools: Pools, field: int, message: str):
    ders = list(pools.provisioning().chain)
    ders[field] = ders[field][:-1]
    with pools.store.write() as records, pytest.raises(PoolError, match=message):
        pcp.put(records, MAKER, *ders, pools.now)


def test_validity_is_checked_again_on_read(pools: Pools):
    pools.register()
    pools.now += 100 * 86_400
    with pytest.raises(PoolError) as caught:
        get(pools, OPERATOR)
    assert caught.value.reason == "not-found"
    assert caught.value.detail.splitlines() == [pcp.MISSING, pcp.PAST]


def test_an_unknown_vehicle_is_not_found(pools: Pools):
    with pytest.raises(PoolError, match="not found"):
        get(pools, OPERATOR)


def test_the_same_key_again_keeps_the_contracts(pools: Pools):
    pools.register()
    pools.put()
    pools.register(pools.provisioning())
    assert pools.contract()


def test_new_provisioning_key_purges_old_bundles(pools: Pools):
    pools.register()
    pools.put()
    pools.register(pools.provisioning(key=ec.generate_private_key(ec.SECP256R1())))
    assert pools.contract() is None
