"""CPS: the contract data it signs, and the data it refuses."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import signature
from evcc.vault import VaultError
from fixtures.pools import OPERATOR, OTHER_OPERATOR, Pools, authority
from plugvault.contract.iso15118_2 import response
from plugvault.pki import path
from plugvault.pki.keys import raw_signer
from plugvault.pki.verify import verify_p256
from plugvault.pools import ccp, cps, rcp
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Status
from world import EMAID, NOW, PCID, root


def refused(pools: Pools, reason: str, message: str, **arguments):
    with pytest.raises(PoolError, match=message) as caught:
        pools.sign(**arguments)
    assert caught.value.reason == reason


def test_signs_the_data_of_an_operator(pools: Pools):
    pools.register()
    bundle = response.read(pools.sign())
    assert bundle.cps == pools.world.cps.der
    signature.verify(bundle.signature, list(bundle.signed), pools.world.cps.point, verify_p256)


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
    foreign = root("Stranger MO", dc="MO").sub("S1", 1, dc="MO").sub("S2", dc="MO")
    refused(pools, "invalid", "chain is not valid", data=pools.data(mo=foreign), pcid=None)


def test_a_contract_under_an_oem_root_is_refused(pools: Pools):
    data = pools.data(mo=pools.world.oem_sub2)
    refused(pools, "invalid", "chain is not valid", data=data, pcid=None)


def test_sub_cas_in_another_order_are_refused(pools: Pools):
    data = pools.data()
    swapped = replace(data, subs=data.subs[::-1])
    refused(pools, "invalid", "the order is leaf, Sub2, Sub1", data=swapped, pcid=None)


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


def test_a_vehicle_with_an_expired_certificate_is_refused(pools: Pools):
    pools.register(pools.provisioning(not_after=NOW + 10))
    data = pools.data()
    pools.now += 20
    refused(pools, "invalid", "not available", data=data)


def test_an_emaid_of_another_vehicle_is_refused_in_the_published_words(pools: Pools):
    pools.register()
    pools.put()
    other_pcid = PCID[:-1] + "2"
    pools.register(pools.provisioning(other_pcid))
    words = r"^invalid: Invalid Tupple - EMAID is already used by other PCID\.$"
    refused(pools, "invalid", words, pcid=other_pcid)


def test_the_signer_stands_under_a_root_the_vehicle_has(pools: Pools):
    second = root("V2G Root 2")
    leaf = second.sub("P1", 1).sub("P2").issue("CPS 2", dc="CPS")
    with pools.store.write() as records:
        second_root = rcp.put(records, second.der, "V2G", NOW)
    signers = [pools.signer, pools.new_signer(leaf, second)]
    pools.register(v2g_roots=["40:00:00:00:00:00:00:01"])
    refused(pools, "invalid", "No CPS", signers=signers)
    with pools.store.read() as records:
        identifier = rcp.key_identifier(second_root)
    pools.register(v2g_roots=[identifier.upper()])
    assert response.read(pools.sign(signers=signers)).cps == leaf.der


def test_the_signer_can_be_asked_for_by_fingerprint(pools: Pools):
    pools.register()
    fingerprint = pools.signer.root_fingerprint
    assert pools.sign(fingerprint=fingerprint.upper())
    refused(pools, "invalid", "not available in RCP", fingerprint="0" * 64)


def test_of_two_signers_the_requested_one_signs(pools: Pools):
    second = root("V2G Root 2")
    leaf = second.sub("P1", 1).sub("P2").issue("CPS 2", dc="CPS")
    with pools.store.write() as records:
        rcp.put(records, second.der, "V2G", NOW)
    signers = [pools.signer, pools.new_signer(leaf, second)]
    fingerprints = [signer.root_fingerprint for signer in signers]
    signed = [
        pools.sign(pcid=None, signers=signers, fingerprint=fingerprint)
        for fingerprint in fingerprints
    ]
    assert [response.read(bundle).cps for bundle in signed] == [pools.world.cps.der, leaf.der]


def test_the_vehicles_own_key_is_no_contract_key(pools: Pools):
    pools.register()
    leaf = pools.world.new_contract("DEPVT0000000012", key=pools.ecu)
    data = replace(pools.data(), certificate=leaf.der)
    refused(pools, "invalid", "key of its own", data=data)


# Revoked certificates, and a CPS at fault


def revoke(pools: Pools, *ders: bytes) -> None:
    with pools.store.write() as records:
        for der in ders:
            records.statuses.put(Status(*path.identity(path.read(der)), "", NOW + 1, NOW, "x"))


@pytest.mark.parametrize("which", [0, 1, 2])
def test_no_link_of_the_operators_chain_may_be_revoked(pools: Pools, which: int):
    data = pools.data()
    revoke(pools, (data.certificate, *data.subs)[which])
    refused(pools, "invalid", "revoked", data=data, pcid=None)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_revoked_cps_signs_nothing(pools: Pools, which: int):
    revoke(pools, (pools.signer.certificate, *pools.signer.subs)[which])
    refused(pools, "unavailable", "The CPS's certificate is not valid", pcid=None)


def test_a_cps_that_has_ended_signs_nothing(pools: Pools):
    leaf = pools.world.cps_sub2.issue("CPS old", dc="CPS", not_after=NOW - 1)
    signer = pools.new_signer(leaf, pools.world.v2g_root)
    refused(pools, "unavailable", "not valid", signers=[signer], pcid=None)


def test_a_station_is_no_cps(pools: Pools):
    signer = pools.new_signer(pools.world.cpo, pools.world.v2g_root)
    refused(pools, "unavailable", "role", signers=[signer], pcid=None)


@pytest.mark.parametrize("value", [b"", bytes(64), b"\x01" * 64])
def test_a_token_that_signs_wrongly_gives_no_bundle(pools: Pools, value: bytes):
    signer = replace(pools.signer, sign=lambda _: value)
    refused(pools, "unavailable", "token signs wrongly", signers=[signer], pcid=None)


def test_a_token_with_another_key_gives_no_bundle(pools: Pools):
    wrong_signer = raw_signer(ec.generate_private_key(ec.SECP256R1()))
    refused(
        pools,
        "unavailable",
        "token signs wrongly",
        signers=[replace(pools.signer, sign=wrong_signer)],
        pcid=None,
    )


def test_a_token_that_fails_leaves_nothing_behind(pools: Pools):
    """Signing and storing are one transaction: neither happens."""

    def fail(_: bytes) -> bytes:
        raise VaultError("unavailable", "gone")

    pools.register()
    signers = [replace(pools.signer, sign=fail)]
    with pytest.raises(VaultError), pools.store.write() as records:
        generate(pools, records, signers)
    assert pools.contract() is None
    with pools.store.read() as records:
        assert records.statuses.all() == []
        assert not [
            event for event in records.events.since(0, None, 99) if "contract" in event.kind
        ]


def test_a_root_that_has_left_rcp_is_no_longer_signed_under(pools: Pools):
    with pools.store.write() as records:
        root_id = rcp.by_fingerprint(records, pools.signer.root_fingerprint).root_id
        records.roots.delete(root_id)
    refused(pools, "unavailable", "not in RCP", pcid=None)


# Made by the ecosystem


def generate(pools: Pools, records, signers=None, emaid: str = EMAID, **changes):
    options = {"begins": NOW, "ends": NOW + 1000, **changes}
    signed = cps.generate(
        records,
        options.pop("caller", OPERATOR),
        signers or [pools.signer],
        authority(pools.world.mo_sub2),
        emaid,
        options.pop("pcid", PCID),
        pools.now,
        **options,
    )
    return ccp.keep(records, signed, pools.now)


def test_an_issued_contract_is_in_our_register(pools: Pools):
    pools.register()
    with pools.store.write() as records:
        contract = generate(pools, records)
        status = records.statuses.get(contract.issuer, contract.serial)
    assert status
    assert (status.revoked, status.not_after) == (None, NOW + 1000)
    with pools.store.write() as records:
        ccp.delete(records, OPERATOR, EMAID, pools.now)
        assert records.statuses.get(contract.issuer, contract.serial).revoked == NOW


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        ({"caller": OTHER_OPERATOR}, "forbidden", "provider"),
        ({"ends": NOW - 1}, "invalid", r"^invalid: The given contractEnds date is in the past\.$"),
        ({"pcid": "PVTP9999999999999"}, "invalid", "not available"),
        ({"pcid": "1"}, "invalid", "pcid : must match"),
        ({"emaid": "1"}, "invalid", "emaid : must match"),
        ({"fingerprint": "0" * 64}, "invalid", "not available in RCP"),
    ],
)
def test_an_impossible_contract_is_refused_before_a_key_is_made(
    pools: Pools, monkeypatch: pytest.MonkeyPatch, changes, reason: str, words: str
):
    pools.register()
    if "fingerprint" not in changes:
        monkeypatch.setattr(cps, "issue_contract", None)
    with pytest.raises(PoolError, match=words) as caught, pools.store.write() as records:
        generate(pools, records, **changes)
    assert caught.value.reason == reason
    assert pools.contract() is None


def test_without_a_cps_of_ours_the_error_holds_the_data_to_sign(pools: Pools):
    """The federation asks the CPS of a partner for the same data."""
    vehicle = pools.register(v2g_roots=["40:00:00:00:00:00:00:01"])
    data = pools.data()
    with pytest.raises(cps.NoSignerError) as caught:
        pools.sign(data)
    assert (caught.value.data, caught.value.vehicle) == (data, vehicle)
