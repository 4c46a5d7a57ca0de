"""Why a vehicle gets nothing: each cause has its name, and no caller learns it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from evcc import x509
from evcc.link import v2gtp
from fixtures.pools import MAKER, Pools
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pools import ccp, installation, pcp, vehicle_request
from plugvault.pools.errors import PoolError, WithheldError
from plugvault.pools.explanation import FAILED, NOT_CHECKED, OK, Explanation, explain
from plugvault.pools.records import Contract, Status
from plugvault.pools.refusals import CAUSES, REQUEST_CAUSES, Cause
from world import EMAID, NOW, PCID, root

SECOND = "DEPVTC00000002"


@pytest.fixture
def filled(pools: Pools) -> Pools:
    pools.register()
    pools.put()
    return pools


def changed(pools: Pools, **members: object) -> None:
    contract = pools.contract()
    assert contract
    with pools.store.write() as records:
        records.contracts.put(replace(contract, **members))


def deleted_vehicle(pools: Pools) -> None:
    with pools.store.write() as records:
        pcp.delete(records, MAKER, PCID, pools.now)


def newer_certificate(pools: Pools) -> None:
    pools.register(pools.provisioning(serial=77))


def expired_vehicle(pools: Pools) -> None:
    pools.now += 91 * 86_400


def no_contract(pools: Pools) -> None:
    with pools.store.write() as records:
        records.contracts.delete(EMAID, ISO2)


def no_default(pools: Pools) -> None:
    changed(pools, default=False)


def future_contract(pools: Pools) -> None:
    changed(pools, not_before=NOW + 1)


def past_contract(pools: Pools) -> None:
    changed(pools, not_after=NOW - 1)


def revoked_contract(pools: Pools) -> None:
    contract = pools.contract()
    assert contract
    with pools.store.write() as records:
        records.statuses.put(Status(contract.issuer, contract.serial, "", NOW * 2, NOW, "x"))


def unknown_root(pools: Pools) -> None:
    changed(pools, root_fingerprint="00" * 32)


# The change of the pools, the cause that is told, and words of its circumstances.
STATION: dict[str, tuple[Callable[[Pools], None], str]] = {
    "unknown-vehicle": (deleted_vehicle, PCID),
    "other-certificate": (newer_certificate, "in PCP: serial number 4d of 2026-"),
    "vehicle-not-valid": (expired_vehicle, pcp.PAST),
    "no-contract": (no_contract, ""),
    "no-default": (no_default, ""),
    "contract-not-yet-valid": (future_contract, f"{EMAID} from 2026-"),
    "contract-expired": (past_contract, f"{EMAID} until 2026-"),
    "contract-revoked": (revoked_contract, EMAID),
    "root-missing": (unknown_root, "00" * 32),
}


def withheld(pools: Pools, raw: bytes) -> WithheldError:
    with pytest.raises(WithheldError) as caught:
        pools.install(raw)
    error = caught.value
    assert (error.reason, error.detail) == ("not-found", installation.NOTHING)
    return error


@pytest.mark.parametrize("cause", STATION)
def test_a_vehicle_at_a_station_gets_nothing_for_a_cause(filled: Pools, cause: str):
    raw = filled.request(filled.provisioning_der())
    happens, words = STATION[cause]
    happens(filled)
    error = withheld(filled, raw)
    assert error.cause == cause
    assert words in error.circumstances
    assert str(error) == f"not-found: {installation.NOTHING}"


def explained(pools: Pools, raw: bytes) -> Explanation:
    with pools.store.read() as records:
        return explain(records, raw, pools.now)


def verdicts(explanation: Explanation) -> list[str]:
    return [check.verdict for check in explanation.checks]


ROWS = [name for name, _ in vehicle_request.REQUEST + installation.INSTALL]


def test_an_explanation_of_a_contract_has_every_check(filled: Pools):
    explanation = explained(
        filled, filled.request(filled.provisioning_der(), root_name="V2G Root")
    )
    assert [check.check for check in explanation.checks] == ROWS
    assert set(verdicts(explanation)) == {OK}
    assert (explanation.pcid, explanation.emaid, explanation.cause) == (PCID, EMAID, "")
    assert explanation.tolerances == ["no-type", "partial"]
    contract = filled.contract()
    assert contract
    assert contract.delivered is None  # an explanation delivers nothing


@pytest.mark.parametrize("cause", STATION)
def test_an_explanation_has_the_cause_of_the_refusal(filled: Pools, cause: str):
    raw = filled.request(filled.provisioning_der())
    happens, words = STATION[cause]
    happens(filled)
    explanation = explained(filled, raw)
    assert (explanation.cause, explanation.emaid) == (cause, None)
    assert (explanation.meaning, explanation.remedy) == vars_of(CAUSES[cause])
    failed = verdicts(explanation).index(FAILED)
    assert words in explanation.checks[failed].detail
    assert verdicts(explanation)[:failed] == [OK] * failed
    assert set(verdicts(explanation)[failed + 1 :]) <= {NOT_CHECKED}


def vars_of(cause: Cause) -> tuple[str, str]:
    return cause.meaning, cause.remedy


def other_key(pools: Pools) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return pools.request(pools.provisioning_der(), key=key)


REQUESTS: dict[str, tuple[Callable[[Pools], bytes], str]] = {
    "bad-message": (lambda _: b"\x80", vehicle_request.BAD_EXI),
    "bad-certificate": (lambda pools: pools.request(b"leaf"), "OEMProvisioningCert"),
    "bad-signature": (other_key, vehicle_request.BAD_SIGNATURE),
}


@pytest.mark.parametrize("cause", REQUEST_CAUSES)
def test_an_explanation_has_the_fault_of_the_request(filled: Pools, cause: str):
    make, words = REQUESTS[cause]
    explanation = explained(filled, make(filled))
    assert explanation.cause == cause
    assert (explanation.meaning, explanation.remedy) == vars_of(REQUEST_CAUSES[cause])
    failed = verdicts(explanation).index(FAILED)
    assert explanation.checks[failed].check == cause.removeprefix("bad-")
    assert words in explanation.checks[failed].detail


# The first bytes of the request in each edition; ISO 15118-20 also by its payload type.
PROTOCOLS = {
    "ISO 15118-20": b"\x80\x1c" + bytes(40),
    "ISO 15118-20 (common messages)": v2gtp.encode(b"\x80\x1c", 0x8002),
    "DIN 70121": b"\x80\x9a" + bytes(40),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_request_of_another_protocol_is_called_by_its_name(filled: Pools, protocol: str):
    with pytest.raises(PoolError) as caught:
        filled.install(PROTOCOLS[protocol])
    first, second = caught.value.detail.splitlines()
    assert first == vehicle_request.BAD_EXI
    assert second == f"It is a message of {protocol}: not supported (yet)."
    assert second in explained(filled, PROTOCOLS[protocol]).checks[0].detail


def test_a_request_in_a_frame_is_called_one(filled: Pools):
    frame = v2gtp.encode(filled.request(filled.provisioning_der()))
    with pytest.raises(PoolError, match="V2GTP frame"):
        filled.install(frame)


def test_a_vehicle_without_the_cps_root_gets_nothing_and_both_names_are_told(filled: Pools):
    other_root = x509.parse(root("Root of another pool").der)
    error = withheld(filled, filled.request(filled.provisioning_der(), roots=[other_root]))
    assert error.cause == "root-not-listed"
    assert "CN=V2G Root" in error.circumstances
    assert "Root of another pool" in error.circumstances


def provided(pools: Pools, emaid: str, pcid: str, fingerprint: str | None = None) -> Contract:
    with pools.store.read() as records:
        return ccp.provide(records, MAKER, emaid, pcid, pools.now, fingerprint)


@pytest.mark.parametrize(
    ("cause", "emaid", "pcid", "fingerprint"),
    [
        ("no-contract", SECOND, PCID, None),
        ("other-vehicle", EMAID, PCID[:-1] + "2", None),
        ("other-root", EMAID, PCID, "00" * 32),
    ],
)
def test_a_maker_gets_nothing_for_a_cause(
    filled: Pools, cause: str, emaid: str, pcid: str, fingerprint: str | None
):
    with pytest.raises(WithheldError) as caught:
        provided(filled, emaid, pcid, fingerprint)
    assert caught.value.cause == cause
    assert caught.value.detail == "The contract for the given EMAID not found."


def test_every_cause_has_a_meaning_a_remedy_and_a_test():
    tested = {*STATION, "root-not-listed", "root-ambiguous", "other-vehicle", "other-root"}
    assert set(CAUSES) == tested
    for cause in CAUSES.values():
        assert cause.meaning.endswith(".")
        assert cause.remedy.endswith(".")


def test_an_unknown_cause_cannot_be_told():
    with pytest.raises(ValueError, match="not a cause"):
        WithheldError("", "because")
