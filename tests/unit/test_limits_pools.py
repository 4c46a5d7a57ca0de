"""The exact limit of each rule of the pools: what is within it passes, one more is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from evcc import exi
from evcc.errors import EvccError
from evcc.iso15118_2 import messages
from fixtures.pools import MAKER, OPERATOR, SIGNING, Pools, authority
from plugvault.contract.iso15118_2 import response, xml
from plugvault.contract.iso15118_2.bundle import ISO2, bundle
from plugvault.opcp import ccp as opcp_ccp
from plugvault.opcp import webhooks as opcp_webhooks
from plugvault.pki.schemes import EDITION20
from plugvault.pools import (
    ccp,
    checks,
    clients,
    cps,
    enrolment,
    envelopes,
    installation,
    pcp,
    providers,
    rcp,
    registry,
    termination,
    vehicle_request,
)
from plugvault.pools.caller import ADMIN, Caller, read_emaid, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.store import SqlStore
from world import CONTRACT_USAGE, DAY, EMAID, NOW, PCID, root

ANYBODY = Caller("anybody", frozenset({ADMIN}), client_id="anybody")
REFUSALS = (EvccError, ValidationError)
Reads = Callable[[Any], Any]


def vin(length: int) -> str:
    return "WPVZZZ8V1KA000001"[:length] + "1" * (length - 17)


def a_session(length: int) -> bytes:
    """A request with a SessionID of so many bytes."""
    body = messages.certificate_installation_req("id1", b"leaf", [])
    body["ListOfRootCertificateIDs"] = {
        "RootCertificateID": [{"X509IssuerName": "CN=Root", "X509SerialNumber": 1}]
    }
    header = messages.envelope(b"\1" * length, "CertificateInstallationReq", body)
    return exi.encode(header)


NEGATIVE = response.negative(b"\0")


def ends(text: str) -> None:
    termination._own(ANYBODY, text)


def noted(metadata: str) -> None:
    request = {"certificateInstallationReq": "", "xsdMsgDefNamespace": ISO2, "metaData": metadata}
    opcp_ccp.CertificateInstallationBody.model_validate(request)


def long_pcid(text: str) -> None:
    enrolment._vehicle(text, EDITION20)


def matches(pattern: str) -> Reads:
    return lambda text: clients._each("text", [text], pattern)


def in_utf8(document: int) -> None:
    """XML of so many bytes, a bundle in it or not."""
    try:
        xml.read(b"<a>" + b" " * (document - 7) + b"</a>")
    except xml.XmlError as error:
        if error.reason == "too-long":
            raise


# The reader, a value of the given size, the least (0: none is allowed) and the greatest size.
LENGTHS: dict[str, tuple[Reads, Callable[[int], Any], int, int]] = {
    "PCID": (read_pcid, lambda n: "PVTP" + "0" * (n - 4), 17, 18),
    "EMAID": (read_emaid, lambda n: "DEPVT" + "0" * (n - 5), 14, 15),
    "VIN": (registry.read_vin, vin, 17, 17),
    "plate": (registry.read_plate, lambda n: "B" * n, 2, 15),
    "registration document": (registry.read_document, lambda n: "7" * n, 6, 40),
    "WMI": (matches(clients.WMI_PATTERN), lambda n: "P" * n, 3, 3),
    "provider": (matches(providers.PROVIDER_PATTERN), lambda n: "DE" + "A" * (n - 2), 5, 5),
    "provider that ends": (ends, lambda n: "DE" + "A" * (n - 2), 5, 5),
    "operator": (matches(clients.OPERATOR_PATTERN), lambda n: "DE" + "A" * (n - 2), 5, 5),
    "EVSEID": (enrolment.station_operator, lambda n: "DE*PVC*E" + "1" * (n - 8), 9, 38),
    "SECCID": (enrolment.station_operator, lambda n: "DE-PVC-S-" + "1" * (n - 9), 10, 59),
    "PCID of ISO 15118-20": (long_pcid, lambda n: "PVTP" + "0" * (n - 4), 17, 64),
    "metadata of a contract": (noted, lambda n: "x" * n, 0, 4096),
    "metadata of a webhook": (
        lambda n: opcp_webhooks._check_metadata({"": "x" * n}),
        lambda n: max(0, n - len('{"": ""}')),
        0,
        4096,
    ),
    "XML": (in_utf8, lambda n: max(7, n), 0, xml.LIMIT),
    "SessionID of a request": (vehicle_request.read_request, a_session, 0, 8),
    "SessionID given to a bundle": (
        lambda session: response.with_session_id(NEGATIVE, session),
        bytes,
        1,
        8,
    ),
    "SessionID a maker asks for": (opcp_ccp._session_id, lambda n: "ab" * n, 0, 8),
}


@pytest.mark.parametrize("name", LENGTHS)
def test_each_limit_passes_and_one_more_or_less_is_refused(name: str) -> None:
    read, of, least, most = LENGTHS[name]
    for length in (least, most):
        read(of(length))
    for length in {least - 1, most + 1} - {-1}:
        with pytest.raises(REFUSALS):
            read(of(length))


# Contract data on its way in.


def with_subs(pools: Pools, count: int) -> None:
    """So many sub-CAs above the contract, that of the issuer first."""
    ca = root("Deep MO", dc="MO")
    with pools.store.write() as records:
        rcp.put(records, ca.der, "MO", pools.now)
    for number in range(count):
        ca = ca.sub(f"Sub{count - number}", count - number - 1, dc="MO")
    leaf = ca.issue(EMAID, dc="MO", country=None, key_usage=CONTRACT_USAGE)
    pools.sign(replace(pools.data(), certificate=leaf.der, subs=tuple(leaf.chain[1:])), None)


def with_wrapped(pools: Pools, count: int) -> None:
    pools.sign(replace(pools.data(), wrapped=bytes(count)), None)


PARTS: dict[str, tuple[Callable[[Pools, int], None], int, int]] = {
    "sub-CAs": (with_subs, 1, 2),
    "bytes of the sealed key": (with_wrapped, checks.WRAPPED, checks.WRAPPED),
}


@pytest.mark.parametrize("name", PARTS)
def test_each_limit_of_contract_data_is_signed_and_no_more(pools: Pools, name: str) -> None:
    sign, least, most = PARTS[name]
    for count in {least, most}:
        sign(pools, count)
    for count in {least - 1, most + 1} - {0}:
        with pytest.raises(PoolError) as caught:
            sign(pools, count)
        assert caught.value.reason == "invalid"


# The first and the last second. `at` is put into the scene's clock; what passes is not refused.

SOON = NOW + 100


def registers(pools: Pools, now: float) -> None:
    leaf, sub2, sub1 = pools.provisioning(not_before=NOW, not_after=SOON).chain
    with pools.store.write() as records:
        pcp.put(records, MAKER, leaf, sub2, sub1, now)


def signs(pools: Pools, now: float) -> None:
    leaf = pools.world.new_contract(EMAID, not_before=NOW, not_after=SOON)
    with pools.store.write() as records:
        data = replace(pools.data(), certificate=leaf.der)
        cps.sign(records, OPERATOR, [pools.signer], data, None, now)


def puts(pools: Pools, now: float) -> None:
    pools.register()
    leaf = pools.world.new_contract(EMAID, not_before=NOW, not_after=SOON)
    data = replace(pools.data(), certificate=leaf.der)
    message = bundle(data, pools.signer.certificate, pools.signer.subs, pools.signer.sign)
    with pools.store.write() as records:
        ccp.put(records, SIGNING, message, PCID, now)


def signed_by(pools: Pools, now: float) -> None:
    leaf = pools.world.cps_sub2.issue("CPS", dc="CPS", not_before=NOW, not_after=SOON)
    signer = pools.new_signer(leaf, pools.world.v2g_root)
    with pools.store.write() as records:
        cps.sign(records, OPERATOR, [signer], pools.data(), None, now)


def adds_root(pools: Pools, now: float) -> None:
    with pools.store.write() as records:
        rcp.put(records, root("New", not_before=NOW, not_after=SOON).der, "V2G", now)


def keeps_contract(pools: Pools) -> None:
    pools.register()
    leaf = pools.world.new_contract(EMAID, not_before=NOW, not_after=SOON)
    pools.put(pools.foreign(pools.signer, replace(pools.data(), certificate=leaf.der)))


def provides(pools: Pools, now: float) -> None:
    keeps_contract(pools)
    with pools.store.read() as records:
        ccp.provide(records, MAKER, EMAID, PCID, now)


def installs(pools: Pools, now: float) -> None:
    keeps_contract(pools)
    request = vehicle_request.read_request(pools.request(pools.provisioning_der()))
    with pools.store.write() as records:
        installation.install(records, request, PCID, now)


def finds_vehicle(pools: Pools, now: float) -> None:
    pools.register(pools.provisioning(not_before=NOW, not_after=SOON))
    with pools.store.read() as records:
        pcp.get(records, MAKER, PCID, now)


DATES: dict[str, Callable[[Pools, float], None]] = {
    "a vehicle is registered": registers,
    "a vehicle is found": finds_vehicle,
    "a contract is signed": signs,
    "a contract is put": puts,
    "a contract is provided": provides,
    "a contract is installed": installs,
    "a CPS signs": signed_by,
    "a root is added": adds_root,
}


@pytest.mark.parametrize("name", DATES)
def test_the_first_and_the_last_second_are_good_and_no_other(pools: Pools, name: str) -> None:
    for at in (NOW, SOON):
        DATES[name](pools, at)
    for at in (NOW - 1, SOON + 1):
        with pytest.raises(PoolError):
            DATES[name](pools, at)


def test_a_contract_may_be_asked_for_until_the_second_it_would_end(pools: Pools) -> None:
    pools.register()
    mo = authority(pools.world.mo_sub2)

    def generates(ends: float) -> None:
        times = {"begins": NOW - DAY, "ends": ends}
        with pools.store.write() as records:
            cps.generate(records, OPERATOR, [pools.signer], mo, EMAID, PCID, NOW, **times)

    generates(NOW)
    with pytest.raises(PoolError, match="contractEnds"):
        generates(NOW - 1)


def test_an_ended_record_is_found_one_second_after_its_last(pools: Pools) -> None:
    pools.register(pools.provisioning(not_before=NOW, not_after=SOON))
    keep = pools.world.new_contract(EMAID, not_before=NOW, not_after=SOON)
    pools.put(pools.foreign(pools.signer, replace(pools.data(), certificate=keep.der)))
    with pools.store.read() as records:
        for repository in (records.vehicles, records.contracts):
            assert repository.ended(SOON, 10) == []
            assert len(repository.ended(SOON + 1, 10)) == 1


def test_a_caller_is_locked_out_after_so_many_wrong_proofs_and_for_so_long(
    store: SqlStore,
) -> None:
    def guess(now: float) -> str:
        with store.write() as records:
            return str(registry._judge(records, ANYBODY, "plate", "XY1", b"", now))

    for _ in range(registry.TRIES):
        assert registry.REFUSED in guess(NOW)
    assert registry.TOO_MANY in guess(NOW)
    assert registry.TOO_MANY in guess(NOW + registry.LOCKED - 1)
    assert registry.REFUSED in guess(NOW + registry.LOCKED)


def test_seen_values_are_kept_to_the_last_second_of_their_time(pools: Pools) -> None:
    pools.sign(pools.data(), None)
    for now, gone in ((NOW + envelopes.LEAST, 0), (NOW + envelopes.LEAST + 1, 2)):
        with pools.store.write() as records:
            assert records.seen.forget(now, 10) == gone
