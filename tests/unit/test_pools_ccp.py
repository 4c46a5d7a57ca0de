"""CCP: the bundles it accepts, and the callers that get a contract."""

import copy
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event

import pytest

from evcc import exi, x509
from fixtures.pools import (
    MAKER,
    OPERATOR,
    OTHER_MAKER,
    OTHER_OPERATOR,
    SIGNING,
    STATION,
    Pools,
)
from plugvault.contract.iso15118_2 import response
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import path
from plugvault.pools import ccp, contracts, rcp
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Contract, Status
from world import EMAID, NOW, PCID, root

SECOND = "DEPVTC00000002"


@pytest.fixture
def filled(pools: Pools) -> Pools:
    """A vehicle with two contracts, the first its default."""
    pools.register()
    pools.put()
    pools.put(pools.sign(pools.data(SECOND)))
    return pools


def refused(pools: Pools, reason: str, message: str, call, *args):
    with pytest.raises(PoolError, match=message) as caught:
        call(*args)
    assert caught.value.reason == reason


def defaults(pools: Pools) -> list[str]:
    with pools.store.read() as records:
        contracts = ccp.of_vehicle(records, MAKER, PCID)
        return [contract.emaid for contract in contracts if contract.default]


def test_the_first_contract_is_the_default(filled: Pools):
    assert defaults(filled) == [EMAID]


def test_the_same_emaid_on_the_same_vehicle_is_replaced(filled: Pools):
    before = filled.contract()
    filled.put(filled.sign())
    after = filled.contract()
    assert before
    assert after
    assert after.certificate != before.certificate
    assert after.default
    assert len(defaults(filled)) == 1


def test_an_emaid_of_another_vehicle_is_refused(filled: Pools):
    other_pcid = PCID[:-1] + "2"
    filled.register(filled.provisioning(other_pcid))
    refused(filled, "invalid", "Invalid Tupple", filled.put, filled.sign(pcid=None), other_pcid)


def test_an_unknown_vehicle_is_refused(pools: Pools):
    refused(pools, "invalid", "not available", pools.put, pools.sign(pcid=None))


def change(message, name):
    body = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
    value = bytearray(body[name]["value"])
    value[-1] ^= 1
    body[name]["value"] = bytes(value)


@pytest.mark.parametrize("name", ["ContractSignatureEncryptedPrivateKey", "DHpublickey"])
def test_a_bundle_changed_after_it_was_signed_is_refused(filled: Pools, name: str):
    message = copy.deepcopy(filled.sign())
    change(message, name)
    refused(filled, "invalid", "digest", filled.put, message)


def test_a_bundle_signed_under_no_v2g_root_is_refused(pools: Pools):
    pools.register()
    cps = root("Stranger").sub("P1", 1).sub("P2").issue("CPS", dc="CPS")
    signer = pools.new_signer(cps, pools.world.v2g_root)
    refused(pools, "invalid", "untrusted", pools.put, pools.foreign(signer))


def test_a_bundle_signed_by_a_station_is_refused(pools: Pools):
    pools.register()
    signer = pools.new_signer(pools.world.cpo, pools.world.v2g_root)
    refused(pools, "invalid", "role", pools.put, pools.foreign(signer))


def test_a_cps_under_an_mo_root_is_refused(pools: Pools):
    pools.register()
    leaf = pools.world.mo_sub2.issue("CPS", dc="CPS")
    signer = pools.new_signer(leaf, pools.world.v2g_root)
    refused(pools, "invalid", "untrusted", pools.put, pools.foreign(signer))


def test_an_expired_contract_is_refused_in_the_published_words(pools: Pools):
    pools.register()
    message = pools.sign(pools.data(ends=NOW + 10))
    pools.now += 20
    words = r"The validUntil date of contract certificate is in the past\."
    refused(pools, "invalid", words, pools.put, message)


# At the station


def test_a_vehicle_gets_its_default_contract(filled: Pools):
    assert filled.install(filled.request(filled.provisioning_der())).emaid == EMAID


def test_the_chosen_contract_is_the_one_installed(filled: Pools):
    with filled.store.write() as records:
        ccp.set_default(records, MAKER, PCID, SECOND)
    assert defaults(filled) == [SECOND]
    assert filled.install(filled.request(filled.provisioning_der())).emaid == SECOND


def test_an_unsigned_request_is_refused(filled: Pools):
    raw = filled.request(filled.provisioning_der(), unsigned=True)
    refused(filled, "invalid", "signature", filled.install, raw)


def test_req_for_a_replaced_provisioning_cert_rejected(filled: Pools):
    raw = filled.request(filled.provisioning_der())
    filled.register(filled.provisioning(serial=77))
    refused(filled, "not-found", "Vehicle not found", filled.install, raw)


def test_an_unknown_vehicle_gets_nothing(pools: Pools):
    raw = pools.request(pools.provisioning().der)
    refused(pools, "not-found", "Contract or Vehicle not found", pools.install, raw)


def test_a_vehicle_without_the_cps_root_gets_nothing(filled: Pools):
    other_root = x509.parse(root("V2G Root").der)  # the same name, another serial number
    raw = filled.request(filled.provisioning_der(), roots=[other_root])
    refused(filled, "not-found", "Contract", filled.install, raw)


def test_an_expired_contract_is_not_installed(pools: Pools):
    pools.register()
    pools.put(pools.sign(pools.data(ends=NOW + 10)))
    pools.now += 20
    raw = pools.request(pools.provisioning_der())
    refused(pools, "not-found", "Contract", pools.install, raw)


def test_a_vehicle_with_an_expired_certificate_gets_nothing(pools: Pools):
    pools.register(pools.provisioning(not_after=NOW + 10))
    pools.put()
    raw = pools.request(pools.provisioning_der())
    assert pools.install(raw)
    pools.now += 20
    refused(pools, "not-found", "Contract or Vehicle", pools.install, raw)


@pytest.mark.parametrize("raw", [b"", b"\x80", b"\x80\x98" + bytes(40), b"<V2G_Message/>"])
def test_garbage_is_no_exi(pools: Pools, raw: bytes):
    refused(pools, "invalid", "EXI format is invalid!", pools.install, raw)


def test_a_request_with_an_unusable_session_id_is_refused(filled: Pools):
    """The SessionID is outside the signature: any party on the way could have made it longer."""
    message = exi.decode(filled.request(filled.provisioning_der()))
    message["V2G_Message"]["Header"]["SessionID"] = bytes(9)
    refused(filled, "invalid", "EXI format is invalid!", filled.install, exi.encode(message))


def test_another_message_is_no_request(filled: Pools):
    message = exi.encode({"V2G_Message": {"Header": {"SessionID": b"1"}, "Body": {}}})
    refused(filled, "invalid", "EXI format is invalid!", filled.install, message)


# To the maker, and lookups


def provide(pools: Pools, caller: Caller, emaid: str = SECOND, pcid: str = PCID):
    with pools.store.read() as records:
        return ccp.provide(records, caller, emaid, pcid, pools.now)


def lookup(pools: Pools, caller: Caller, emaid: str = EMAID):
    with pools.store.read() as records:
        return ccp.lookup(records, caller, emaid, pools.now)


def test_the_maker_gets_any_contract_of_its_vehicle(filled: Pools):
    contract = provide(filled, MAKER)
    assert response.read(exi.decode(contract.message)).contract.emaid == SECOND


@pytest.mark.parametrize("years", [-50, 50])
def test_contract_outside_its_dates_is_not_provided_but_stays_listed(filled: Pools, years: int):
    """Also with a wrong clock: a maker takes what is not listed out of its vehicle."""
    filled.now += years * 365 * 86_400
    refused(filled, "not-found", "not found", provide, filled, MAKER)
    with filled.store.read() as records:
        listed = ccp.of_vehicle(records, MAKER, PCID)
    assert {contract.emaid for contract in listed} == {EMAID, SECOND}


def test_oem_of_other_wmi_cannot_pull(filled: Pools):
    refused(filled, "forbidden", "WMI", provide, filled, OTHER_MAKER)


def test_a_contract_of_another_vehicle_is_not_found(filled: Pools):
    other_pcid = PCID[:-1] + "2"
    refused(filled, "not-found", "not found", provide, filled, MAKER, EMAID, other_pcid)


def test_mo_of_other_provider_cannot_look_up(filled: Pools):
    assert lookup(filled, OPERATOR).emaid == EMAID
    refused(filled, "forbidden", "provider", lookup, filled, OTHER_OPERATOR)
    refused(filled, "forbidden", "provider", lookup, filled, OTHER_OPERATOR, "DEPVTC11111111")


def test_oem_of_other_wmi_cannot_look_up(filled: Pools):
    assert lookup(filled, MAKER).emaid == lookup(filled, STATION).emaid == EMAID
    refused(filled, "not-found", "not found", lookup, filled, OTHER_MAKER)


def test_oem_of_other_wmi_cannot_list(filled: Pools):
    with filled.store.read() as records:
        refused(
            filled,
            "forbidden",
            "WMI",
            ccp.of_vehicle,
            records,
            OTHER_MAKER,
            PCID,
        )


def test_a_contract_is_found_under_its_own_root_alone(filled: Pools):
    with filled.store.read() as records:
        fingerprint = ccp.lookup(records, STATION, EMAID, NOW).root_fingerprint
        assert ccp.lookup(records, STATION, EMAID, NOW, fingerprint.upper())
        refused(
            filled, "not-found", "not found", ccp.lookup, records, STATION, EMAID, NOW, "00" * 32
        )


def test_a_contract_from_before_its_time_is_not_handed_out(filled: Pools):
    raw = filled.request(filled.provisioning_der())
    contract = filled.contract()
    assert contract
    with filled.store.write() as records:
        later = int(filled.now) + 1
        records.contracts.put(replace(contract, not_before=later))
    refused(filled, "not-found", "not found", provide, filled, MAKER, EMAID)
    refused(filled, "not-found", "not found", filled.install, raw)


def test_a_default_must_be_the_vehicles_own(filled: Pools):
    def choose(caller, emaid):
        with filled.store.write() as records:
            ccp.set_default(records, caller, PCID, emaid)

    refused(filled, "forbidden", "WMI", choose, OTHER_MAKER, SECOND)
    refused(filled, "not-found", "not found", choose, MAKER, "DEPVTC11111111")
    assert defaults(filled) == [EMAID]


def test_delivery_is_noted_once_and_not_for_a_newer_bundle(filled: Pools):
    contract = provide(filled, MAKER, EMAID)
    with filled.store.write() as records:
        ccp.mark_delivered(records, contract, NOW)
        ccp.mark_delivered(records, contract, NOW + 5)
    stored = filled.contract()
    assert stored
    assert stored.delivered == NOW
    filled.put(filled.sign())
    with filled.store.write() as records:
        ccp.mark_delivered(records, contract, NOW + 9)
    stored = filled.contract()
    assert stored
    assert stored.delivered is None


# Removal


def remove(pools: Pools, emaid: str = EMAID, **options) -> None:
    with pools.store.write() as records:
        contract = records.contracts.get(emaid, ISO2)
        assert contract
        contracts.remove(records, contract, pools.now, **options)


def published(pools: Pools) -> list[tuple[str, str]]:
    with pools.store.read() as records:
        return [(event.kind, event.audience) for event in records.events.since(0, None, 100)]


def status(pools: Pools, contract: Contract) -> Status | None:
    with pools.store.read() as records:
        return records.statuses.get(contract.issuer, contract.serial)


def test_a_removed_contract_is_gone_and_its_maker_is_told(filled: Pools):
    remove(filled)
    assert filled.contract() is None
    assert published(filled)[-1] == ("oem.contract.deleted", "PVT")
    assert defaults(filled) == []


@pytest.mark.parametrize("revoke", [True, False])
def test_a_certificate_of_our_ca_is_revoked_with_its_contract_unless_that_is_skipped(
    filled: Pools, revoke: bool
):
    contract = filled.contract()
    assert contract
    mine = Status(contract.issuer, contract.serial, EMAID, contract.not_after)
    with filled.store.write() as records:
        records.statuses.put(mine)
    remove(filled, revoke=revoke)
    certificate_status = status(filled, contract)
    assert certificate_status
    assert certificate_status.revoked == (int(filled.now) if revoke else None)


def test_a_foreign_certificate_is_not_revoked_with_its_contract(filled: Pools):
    contract = filled.contract()
    assert contract
    remove(filled)
    assert status(filled, contract) is None


# Brought by others


def bring(pools: Pools, caller: Caller, message=None, **options) -> Contract:
    with pools.store.write() as records:
        message = message or pools.foreign(pools.signer)
        return ccp.put(records, caller, message, PCID, pools.now, **options)


def test_an_operator_brings_its_own_contracts_and_a_cps_anyones(pools: Pools):
    pools.register()
    assert bring(pools, OPERATOR).emaid == EMAID
    assert bring(pools, SIGNING, emaid=EMAID.lower()).emaid == EMAID
    refused(pools, "forbidden", "provider", bring, pools, OTHER_OPERATOR)


def test_a_bundle_must_match_its_stated_emaid_and_root(pools: Pools):
    pools.register()

    def call(**options):
        return lambda: bring(pools, SIGNING, **options)

    refused(pools, "invalid", "must be the one in", call(emaid=SECOND))
    refused(pools, "invalid", "not available in RCP", call(fingerprint="0" * 64))
    second = root("V2G Root 2")
    with pools.store.write() as records:
        second_fingerprint = rcp.put(records, second.der, "V2G", NOW).fingerprint
    refused(pools, "invalid", "must be of the root above", call(fingerprint=second_fingerprint))
    assert bring(pools, SIGNING, fingerprint=pools.signer.root_fingerprint)


def revoke(pools: Pools, der: bytes) -> None:
    with pools.store.write() as records:
        records.statuses.put(Status(*path.identity(path.read(der)), "", NOW + 1, NOW, "x"))


CHAIN = ("contract", "its Sub2", "its Sub1", "CPS", "its Sub2", "its Sub1")


def above(contract: Contract) -> list[bytes]:
    return [contract.certificate, *contract.subs]


@pytest.mark.parametrize("which", range(6), ids=CHAIN)
def test_a_brought_bundle_may_hold_no_revoked_certificate(pools: Pools, which: int):
    pools.register()
    message = pools.foreign(pools.signer)
    contract = bring(pools, SIGNING, message)
    revoke(pools, above(contract)[which])
    refused(pools, "invalid", "revoked", bring, pools, SIGNING, message)


@pytest.mark.parametrize("which", range(6), ids=CHAIN)
def test_no_contract_below_a_revoked_certificate_is_handed_out(filled: Pools, which: int):
    contract = filled.contract()
    assert contract
    raw = filled.request(filled.provisioning_der())
    assert filled.install(raw)
    revoke(filled, above(contract)[which])
    refused(filled, "not-found", "not found", filled.install, raw)
    refused(filled, "not-found", "not found", provide, filled, MAKER, EMAID)
    refused(filled, "not-found", "not found", lookup, filled, OPERATOR)
    with filled.store.read() as records:
        listed = ccp.of_vehicle(records, MAKER, PCID)
    assert [row.emaid for row in listed] == ([SECOND] if which == 0 else [])


def test_each_change_of_a_contract_is_told_to_its_maker_and_delivery_to_its_operator(
    pools: Pools,
):
    pools.register()
    before = len(published(pools))
    pools.put()
    contract = pools.put()
    with pools.store.write() as records:
        ccp.mark_delivered(records, contract, NOW)
        ccp.mark_delivered(records, contract, NOW)
    with pools.store.write() as records:
        ccp.delete(records, OPERATOR, EMAID, NOW)
    assert published(pools)[before:] == [
        ("oem.contract.created", "PVT"),
        ("oem.contract.updated", "PVT"),
        ("mo.contract.delivered.to.oem", "DEPVT"),
        ("oem.contract.deleted", "PVT"),
    ]


def test_a_bundle_is_delivered_once_to_two_concurrent_callers(filled: Pools):
    """The second caller reads before the transaction of the first has ended."""
    contract = filled.contract()
    assert contract
    begun, ended = Event(), Event()

    def first() -> None:
        with filled.store.write() as records:
            ccp.mark_delivered(records, contract, NOW)
            begun.set()
            ended.wait(0.3)  # the second one cannot set it earlier; this only gives it time

    def second() -> None:
        begun.wait()
        with filled.store.write() as records:
            ccp.mark_delivered(records, contract, NOW)
        ended.set()

    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(call) for call in (first, second)]:
            future.result()
    assert [kind for kind, _ in published(filled)].count("mo.contract.delivered.to.oem") == 1


def test_a_deletion_stands_in_the_trail(filled: Pools):
    with filled.store.write() as records:
        ccp.delete(records, OPERATOR, EMAID, NOW, revoke=False)
    with filled.store.read() as records:
        line = list(records.audit.since(0, 100))[-1]
    assert (line.action, line.subject, line.detail) == (
        "contract deleted",
        EMAID,
        "certificate not revoked",
    )
