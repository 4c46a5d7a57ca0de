"""The maker's checks before a bundle goes over the air [V2G2-894]; each refusal has its reason."""

from __future__ import annotations

import pytest

from bundles import PROVISIONING, PUBLISHED_NEGATIVE, VEHICLE, WORLD, contract
from evcc import exi
from fixtures.pools import authority
from plugvault.contract.iso15118_2.bundle import bundle, to_exi
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.pki.keys import raw_signer
from plugvault.roles.oem import ForwardError, check
from world import EMAID, NOW, Issued, point, root

DAY = 86_400
V2G, MO = [WORLD.v2g_root.der], [WORLD.mo_root.der]


def signed(cps: Issued = WORLD.cps, mo: Issued = WORLD.mo_sub2, **options) -> bytes:
    data = issue_contract(EMAID, PROVISIONING.der, authority(mo), NOW, **options)
    assert cps.key is not None
    return to_exi(bundle(data, cps.der, cps.chain[1:], raw_signer(cps.key)))


def refused(reason: str, message: bytes, emaid: str = EMAID, now: float = NOW) -> None:
    with pytest.raises(ForwardError) as caught:
        check(message, emaid, V2G, MO, now)
    assert caught.value.reason == reason


def test_a_good_bundle_is_forwarded():
    check(signed(), EMAID, V2G, MO, NOW)


def test_an_expired_contract_is_not_forwarded():
    refused("expired", signed(), now=NOW + 400 * DAY)
    refused("expired", signed(ends=NOW + DAY), now=NOW + 2 * DAY)


def test_a_bundle_that_is_not_valid_yet_is_not_forwarded():
    refused("path", signed(begins=NOW + DAY))


def test_a_cps_under_an_unknown_root_is_not_trusted():
    foreign = root("Stranger").sub("P1", 1).sub("P2").issue("CPS", dc="CPS")
    refused("path", signed(foreign))


def test_a_station_is_no_cps():
    refused("path", signed(WORLD.cpo))


def test_malicious_cps_signing_foreign_mo_data_detected():
    foreign = root("MO Root", dc="MO").sub("S1", 1, dc="MO").sub("S2", dc="MO")
    refused("path", signed(mo=foreign))


def test_a_changed_bundle_is_not_forwarded():
    message = exi.decode(signed())
    body = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
    body["DHpublickey"]["value"] = point(VEHICLE)
    refused("signature", exi.encode(message))


def test_another_contract_than_the_one_asked_for_is_not_forwarded():
    refused("wrong-contract", signed(), emaid="DEPVTC00000002")


def test_an_emaid_that_is_not_the_certificates_is_not_forwarded():
    data = contract()
    assert WORLD.cps.key is not None
    lying = type(data)(**{**vars(data), "emaid": "DEPVTC00000002"})
    sign = raw_signer(WORLD.cps.key)
    message = to_exi(bundle(lying, WORLD.cps.der, WORLD.cps.chain[1:], sign))
    refused("wrong-contract", message)
    refused("wrong-contract", message, emaid="DEPVTC00000002")


@pytest.mark.parametrize("message", [b"", b"\x80\x98" + bytes(50), PUBLISHED_NEGATIVE])
def test_a_message_without_a_contract_is_not_forwarded(message: bytes):
    refused("format", message)
