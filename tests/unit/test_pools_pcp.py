"""PCP: the owner of a vehicle, the order of the checks, and the effects of a new key."""

import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fixtures.pools import (
    MAKER,
    OPERATOR,
    OTHER_MAKER,
    OTHER_OPERATOR,
    STATION,
    Pools,
    authority,
)
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import path
from plugvault.pools import ccp, certificates, cps, pcp, rcp
from plugvault.pools.caller import PEER, Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Event, Status
from world import NOW, PCID, Issued, usage


def get(pools: Pools, caller: Caller, pcid: str = PCID):
    with pools.store.read() as records:
        return pcp.get(records, caller, pcid, pools.now)


def refused(pools: Pools, reason: str, message: str, leaf: Issued, caller: Caller = MAKER):
    with pytest.raises(PoolError, match=message) as caught:
        pools.register(leaf, caller)
    assert caught.value.reason == reason
    with pools.store.read() as records:
        assert records.vehicles.get(PCID, ISO2) is None


def everything(pools: Pools) -> list[Event]:
    with pools.store.read() as records:
        return list(records.events.since(0, None, 1000))


def told(pools: Pools, kind: str) -> list[Event]:
    return [event for event in everything(pools) if event.kind == kind]


def noted(pools: Pools) -> list[tuple[str, str, str]]:
    with pools.store.read() as records:
        entries = records.audit.since(0, 1000)
    return [
        (entry.who, entry.action, entry.subject) for entry in entries if entry.who != rcp.SETUP
    ]


def revoke(pools: Pools, der: bytes) -> None:
    certificate = path.read(der)
    with pools.store.write() as records:
        records.statuses.put(
            Status(
                *path.identity(certificate), "", certificate.not_after, pools.now, "keyCompromise"
            )
        )


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
        get(pools, replace(MAKER, wmis=frozenset()))
    with pytest.raises(PoolError, match="This call is for"):
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


def test_sub_cas_in_each_others_place_are_refused(pools: Pools):
    leaf, sub2, sub1 = pools.provisioning().chain
    with (
        pools.store.write() as records,
        pytest.raises(PoolError, match=r"subCa2Certificate : .* the order is leaf"),
    ):
        pcp.put(records, MAKER, leaf, sub1, sub2, pools.now)


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


def test_a_new_key_tells_the_operator_and_the_maker_once_for_each_contract(pools: Pools):
    pools.register()
    contract = pools.put()
    pools.register(pools.provisioning(key=ec.generate_private_key(ec.SECP256R1())))
    (mo,) = told(pools, "mo.prov.cert.updated")
    assert (mo.audience, mo.vehicle) == ("DEPVT", PCID)
    assert json.loads(mo.payload) == {"emaid": contract.emaid, "pcid": PCID}
    (oem,) = told(pools, "oem.contract.deleted")
    assert oem.audience == "PVT"
    assert told(pools, "mo.prov.cert.deleted") == []


def test_the_same_key_again_tells_nobody(pools: Pools):
    pools.register()
    pools.put()
    before = everything(pools)
    pools.register(pools.provisioning(not_after=NOW + 50 * 86_400))
    assert everything(pools) == before


def test_a_new_key_revokes_the_contract_certificates_of_our_own_ca(pools: Pools):
    pools.register()
    contract = pools.put()
    with pools.store.write() as records:
        certificates.record(records, contract.certificate)
    pools.register(pools.provisioning(key=ec.generate_private_key(ec.SECP256R1())))
    with pools.store.read() as records:
        assert records.statuses.revoked([(contract.issuer, contract.serial)])


def test_the_previous_pcid_must_be_the_callers_own_too(pools: Pools):
    with pytest.raises(PoolError, match="WMI"):
        pools.register(previous_pcid="XXXP0000000000001")
    assert pools.register(previous_pcid="PVTP0000000000009").previous_pcid == "PVTP0000000000009"


@pytest.mark.parametrize(
    ("level", "field"), [(0, "vehicleCertificate"), (1, "subCa2Certificate"), (2, "subCa1Cert")]
)
def test_a_revoked_path_is_refused_by_name_and_on_read(pools: Pools, level: int, field: str):
    leaf = pools.provisioning()
    pools.register(leaf)
    revoke(pools, leaf.chain[level])
    with pytest.raises(PoolError, match=f"OCSP status of the {field}"):
        pools.register(leaf)
    with pytest.raises(PoolError, match=f"OCSP status of the {field}") as caught:
        get(pools, OPERATOR)
    assert caught.value.reason == "not-found"
    with pools.store.read() as records:
        assert pcp.find(records, PCID, pools.now) is None


def test_a_path_to_a_revoked_root_is_refused(pools: Pools):
    revoke(pools, pools.world.oem_root.der)
    with pytest.raises(PoolError, match="OCSP status of the root"):
        pools.register()


def test_the_dates_are_checked_before_revocation_and_that_before_the_path(pools: Pools):
    both = usage("digital_signature", "key_agreement")
    foreign = pools.world.mo_sub2.issue(PCID, dc="OEM", key=pools.ecu, key_usage=both)
    revoke(pools, foreign.der)
    refused(pools, "invalid", "OCSP status", foreign)
    old = pools.provisioning(not_after=NOW - 1, not_before=1)
    revoke(pools, old.der)
    refused(pools, "invalid", "in the past", old)


def test_a_chain_with_one_sub_ca_is_enough(pools: Pools):
    sub = pools.world.oem_root.sub("Only Sub", dc="OEM")
    both = usage("digital_signature", "key_agreement")
    leaf = sub.issue(PCID, dc="OEM", key=pools.ecu, key_usage=both)
    with pools.store.write() as records:
        stored = pcp.put(records, MAKER, leaf.der, None, sub.der, NOW)
    assert (stored.sub2, stored.subs) == (None, [sub.der])
    assert get(pools, OPERATOR) == stored


def test_a_deleted_vehicle_is_gone_with_its_contracts(pools: Pools):
    pools.register()
    pools.put()
    with pools.store.write() as records:
        pcp.delete(records, MAKER, PCID.lower(), pools.now)
    assert pools.contract() is None
    assert len(told(pools, "mo.prov.cert.deleted")) == 1
    assert len(told(pools, "oem.contract.deleted")) == 1
    with pytest.raises(PoolError, match="not found"):
        get(pools, MAKER)
    with pools.store.write() as records, pytest.raises(PoolError, match="not found"):
        pcp.delete(records, MAKER, PCID, pools.now)
    assert noted(pools) == [(MAKER.signature, "vehicle deleted", PCID)]


def test_a_vehicle_that_is_not_good_any_more_can_be_deleted(pools: Pools):
    pools.register()
    with pools.store.write() as records:
        pcp.delete(records, MAKER, PCID, NOW + 1000 * 86_400)
        assert records.vehicles.get(PCID, ISO2) is None


def test_a_factory_reset_keeps_the_vehicle_and_is_noted(pools: Pools):
    stored = pools.register()
    pools.put()
    with pools.store.write() as records:
        assert pcp.reset(records, MAKER, PCID, pools.now) == 1
    assert pools.contract() is None
    assert get(pools, MAKER) == stored
    (mo,) = told(pools, "mo.prov.cert.factory.reset")
    assert mo.audience == "DEPVT"
    assert noted(pools) == [(MAKER.signature, "factory reset", PCID)]


def test_a_copy_of_a_partners_vehicle_is_checked_like_ours_and_names_its_origin(pools: Pools):
    leaf = pools.provisioning()
    with pools.store.write() as records:
        assert pcp.adopt(records, "Other Pool", *leaf.chain, NOW).origin == "Other Pool"
    revoke(pools, leaf.der)
    with pools.store.write() as records, pytest.raises(PoolError, match="OCSP status"):
        pcp.adopt(records, "Other Pool", *leaf.chain, NOW)


def test_a_partner_cannot_put_a_copy_over_our_own_vehicle(pools: Pools):
    ours = pools.register()
    pools.put()
    theirs = pools.provisioning(key=ec.generate_private_key(ec.SECP256R1()))
    with pools.store.write() as records:
        assert pcp.adopt(records, "Other Pool", *theirs.chain, NOW) == ours
    assert get(pools, MAKER) == ours
    assert pools.contract()


def test_a_partner_may_read_a_vehicle_by_its_pcid(pools: Pools):
    stored = pools.register()
    assert get(pools, Caller("Other Pool", frozenset({PEER}))) == stored


def test_no_call_lists_vehicles():
    """The store can, for administration on the machine; no request handler calls it."""
    home = Path(pcp.__file__).parents[1]
    areas = [home / area for area in ("pools", "opcp", "federation", "roles", "delivery")]
    sources = [file for area in areas for file in area.glob("*.py")]
    assert home / "pools" / "pcp.py" in sources
    assert [file.name for file in sources if "vehicles.after(" in file.read_text()] == []


def test_a_key_replaced_while_a_contract_is_made_leaves_no_bundle_for_the_old_one(
    pools: Pools, monkeypatch: pytest.MonkeyPatch
):
    pools.register()
    new = pools.provisioning(key=ec.generate_private_key(ec.SECP256R1()))
    replacing = threading.Thread(target=pools.register, args=(new,))
    real = cps.issue_contract

    def slow(*arguments: Any, **options: Any) -> ContractData:
        """The vehicle has been read; its maker comes while the contract is sealed to it."""
        replacing.start()
        replacing.join(0.5)  # it has to wait: nothing depends on for how long
        return real(*arguments, **options)

    monkeypatch.setattr(cps, "issue_contract", slow)
    with pools.store.write() as records:
        signed = cps.generate(
            records, OTHER_OPERATOR, [pools.signer], authority(pools.world.mo_sub2),
            "FRXYZ000000001", PCID, NOW, begins=NOW, ends=NOW + 86_400,
        )  # fmt: skip
        assert ccp.keep(records, signed, NOW)
    replacing.join()
    assert pools.provisioning_der() == new.der
    with pools.store.read() as records:
        assert records.contracts.of_vehicle(PCID, ISO2) == []
    assert len(told(pools, "mo.prov.cert.updated")) == 1
