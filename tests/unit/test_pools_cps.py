"""CPS: what it vouches for, and what it refuses to sign."""

from dataclasses import replace

import pytest

from evcc import signature
from fixtures.pools import OTHER_OPERATOR, Pools
from plugvault.contract import response
from plugvault.pki.verify import verify_p256
from plugvault.pools import rcp
from plugvault.pools.errors import PoolError
from world import NOW, PCID, root


def refused(pools: Pools, reason: str, message: str, **what):
    with pytest.raises(PoolError, match=message) as caught:
        pools.sign(**what)
    assert caught.value.reason == reason


def test_signs_what_an_operator_made(pools: Pools):
    pools.register()
    taken = response.read(pools.sign())
    assert taken.cps == pools.world.cps.der
    signature.verify(taken.signature, list(taken.signed), pools.world.cps.point, verify_p256)


def test_signs_without_a_vehicle_and_stores_nothing(pools: Pools):
    assert response.read(pools.sign(pcid=None)).contract.emaid
    assert pools.contract() is None


def test_mo_of_other_provider_cannot_have_an_emaid_signed(pools: Pools):
    pools.register()
    refused(pools, "forbidden", "provider", caller=OTHER_OPERATOR)


def test_an_emaid_that_is_not_the_cn_is_refused(pools: Pools):
    data = replace(pools.data(), emaid="DEPVTC99999999")
    refused(pools, "invalid", "must be the CN", data=data, pcid=None)


def test_a_contract_under_no_known_root_is_refused(pools: Pools):
    stranger = root("Stranger MO", dc="MO").sub("S1", 1, dc="MO").sub("S2", dc="MO")
    refused(pools, "invalid", "chain is not valid", data=pools.data(mo=stranger), pcid=None)


def test_a_contract_under_an_oem_root_is_refused(pools: Pools):
    data = pools.data(mo=pools.world.oem_sub2)
    refused(pools, "invalid", "chain is not valid", data=data, pcid=None)


def test_an_expired_contract_is_refused(pools: Pools):
    data = pools.data(begins=NOW - 20, ends=NOW - 10)
    refused(pools, "invalid", "expired", data=data, pcid=None)


@pytest.mark.parametrize("length", [0, 47, 49])
def test_a_wrapped_key_of_another_length_is_refused(pools: Pools, length: int):
    data = replace(pools.data(), wrapped=bytes(length))
    refused(pools, "invalid", "must have 48 bytes", data=data, pcid=None)


@pytest.mark.parametrize(
    "point",
    [b"", b"\x02" + bytes(32), b"\x02" + bytes(64), bytes(66), b"\x04" + bytes(64)],
)
def test_a_point_in_another_form_is_refused(pools: Pools, point: bytes):
    refused(pools, "invalid", "point", data=replace(pools.data(), dh_point=point), pcid=None)


def test_broken_der_is_refused(pools: Pools):
    data = pools.data()
    broken = replace(data, certificate=data.certificate[:-1])
    refused(pools, "invalid", "format on contractCertificate", data=broken, pcid=None)
    broken = replace(data, subs=(data.subs[0][1:], data.subs[1]))
    refused(pools, "invalid", "SubCertificates list", data=broken, pcid=None)


def test_an_unknown_vehicle_is_refused(pools: Pools):
    refused(pools, "invalid", "not available")


def test_a_vehicle_whose_certificate_has_expired_is_refused(pools: Pools):
    pools.register(pools.provisioning(not_after=NOW + 10))
    data = pools.data()
    pools.now += 20
    refused(pools, "invalid", "not available", data=data)


def test_an_emaid_of_another_vehicle_is_refused_in_the_published_words(pools: Pools):
    pools.register()
    pools.put()
    other = PCID[:-1] + "2"
    pools.register(pools.provisioning(other))
    words = r"^invalid: Invalid Tupple - EMAID is already used by other PCID\.$"
    refused(pools, "invalid", words, pcid=other)


def test_the_signer_stands_under_a_root_the_vehicle_has(pools: Pools):
    second = root("V2G Root 2")
    leaf = second.sub("P1", 1).sub("P2").issue("CPS 2", dc="CPS")
    with pools.store.write() as records:
        known = rcp.put(records, second.der, "V2G", NOW)
    signers = [pools.signer, pools.new_signer(leaf, second)]
    pools.register(v2g_roots=["40:00:00:00:00:00:00:01"])
    refused(pools, "invalid", "No CPS", signers=signers)
    with pools.store.read() as records:
        identifier = rcp.key_identifier(known)
    pools.register(v2g_roots=[identifier.upper()])
    assert response.read(pools.sign(signers=signers)).cps == leaf.der


def test_the_signer_can_be_asked_for_by_fingerprint(pools: Pools):
    pools.register()
    fingerprint = pools.signer.root_fingerprint
    assert pools.sign(fingerprint=fingerprint.upper())
    refused(pools, "invalid", "not available in RCP", fingerprint="0" * 64)


def test_of_two_signers_the_one_asked_for_signs(pools: Pools):
    second = root("V2G Root 2")
    leaf = second.sub("P1", 1).sub("P2").issue("CPS 2", dc="CPS")
    with pools.store.write() as records:
        rcp.put(records, second.der, "V2G", NOW)
    signers = [pools.signer, pools.new_signer(leaf, second)]
    asked = [signer.root_fingerprint for signer in signers]
    signed = [pools.sign(pcid=None, signers=signers, fingerprint=one) for one in asked]
    assert [response.read(one).cps for one in signed] == [pools.world.cps.der, leaf.der]


def test_the_vehicles_own_key_is_no_contract_key(pools: Pools):
    pools.register()
    leaf = pools.world.new_contract("DEPVT0000000012", key=pools.ecu)
    data = replace(pools.data(), certificate=leaf.der)
    refused(pools, "invalid", "key of its own", data=data)
