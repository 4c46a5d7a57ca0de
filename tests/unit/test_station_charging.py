"""The refusals of the station in a charge, and their codes."""

from __future__ import annotations

from typing import Any

import pytest

from evcc import exi
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from iso2_requests import REQUESTS, value
from plugvault.station import Offer, Supply
from plugvault.station.engine import CLOSED
from plugvault.station.iso15118_2 import charging, secc
from plugvault.station.iso15118_2.charging import Delivery
from plugvault.station.iso15118_2.paused import Paused
from plugvault.station.iso15118_2.secc import Secc

SESSION = bytes(range(8))
AC, DC = "AC_three_phase_core", "DC_extended"
PARAMETERS = REQUESTS["ChargeParameterDiscoveryReq"]
POWER = REQUESTS["PowerDeliveryReq"]


def profile(watts: int) -> dict[str, Any]:
    entry = {"ChargingProfileEntryStart": 0, "ChargingProfileEntryMaxPower": value("W", watts)}
    return {"ProfileEntry": [entry]}


def station(state: str, mode: str | None, supply: Supply = Supply(power=3000)) -> Secc:  # noqa: B008 - it is frozen
    """A station in a state of a charge, after authorization."""
    reached = Secc(Offer(supply=supply), [], lambda: 0.0, 0, secure=True)
    reached.state, reached.session_id = state, SESSION
    if mode is not None:
        reached.delivery = Delivery(mode)
    return reached


def answer(reached: Secc, name: str, body: dict[str, Any]) -> dict[str, Any]:
    request = exi.encode(messages.envelope(SESSION, name, body))
    (frame,), _ = reached.receive(v2gtp.encode(request), 1)
    (payload,) = v2gtp.PayloadReader().feed(frame)
    decoded: dict[str, Any] = messages.opened(exi.decode(payload))[2]
    return decoded


REFUSED: list[tuple[str, str | None, str, dict[str, Any], str]] = [
    (
        secc.AUTHORIZED,
        None,
        "ChargeParameterDiscoveryReq",
        {**PARAMETERS, "RequestedEnergyTransferMode": "DC_unique"},
        "FAILED_WrongEnergyTransferMode",
    ),
    (
        secc.AUTHORIZED,  # a renegotiation
        AC,
        "ChargeParameterDiscoveryReq",
        PARAMETERS,
        "FAILED_WrongEnergyTransferMode",
    ),
    (
        secc.AUTHORIZED,
        None,
        "ChargeParameterDiscoveryReq",
        {**PARAMETERS, "RequestedEnergyTransferMode": AC},
        "FAILED_WrongChargeParameter",
    ),
    (
        secc.PRECHARGE,
        DC,
        "PreChargeReq",
        {**REQUESTS["PreChargeReq"], "EVTargetCurrent": value("A", 3)},
        "FAILED",
    ),
    (
        secc.READY,
        AC,
        "PowerDeliveryReq",
        {**POWER, "SAScheduleTupleID": 9},
        "FAILED_TariffSelectionInvalid",
    ),
    (
        secc.READY,
        AC,
        "PowerDeliveryReq",
        {**POWER, "ChargingProfile": profile(3001)},
        "FAILED_ChargingProfileInvalid",
    ),
    (
        secc.READY,
        AC,
        "PowerDeliveryReq",
        {**POWER, "ChargingProfile": profile(-1)},
        "FAILED_ChargingProfileInvalid",
    ),
    (
        secc.READY,
        AC,
        "PowerDeliveryReq",
        {**POWER, "ChargeProgress": "Renegotiate"},
        "FAILED_PowerDeliveryNotApplied",
    ),
    (secc.AC_CHARGE, AC, "PowerDeliveryReq", POWER, "FAILED_PowerDeliveryNotApplied"),
    (secc.AC_CHARGE, AC, "SessionStopReq", REQUESTS["SessionStopReq"], "FAILED_SequenceError"),
    (secc.PRECHARGE, DC, "PowerDeliveryReq", POWER, "FAILED_SequenceError"),
]


@pytest.mark.parametrize(("state", "mode", "name", "body", "code"), REFUSED)
def test_a_wrong_request_of_a_charge_gets_its_code(
    state: str, mode: str | None, name: str, body: dict[str, Any], code: str
) -> None:
    reached = station(state, mode)
    assert answer(reached, name, body)["ResponseCode"] == code
    assert reached.state == CLOSED


def test_a_joined_session_keeps_its_mode_and_its_payment() -> None:
    reached = station(secc.AUTHORIZED, None)
    reached.joined = Paused(bytes(6), "", AC, 1.0)
    body = answer(reached, "ChargeParameterDiscoveryReq", PARAMETERS)
    assert body["ResponseCode"] == "FAILED_WrongEnergyTransferMode"
    for option, emaid in (("Contract", ""), ("ExternalPayment", "DEPVT0000000012")):
        reached = station(secc.SELECTION, None)
        reached.joined = Paused(bytes(6), emaid, AC, 1.0)
        selection = messages.payment_service_selection_req(option, [(1, None)])
        body = answer(reached, "PaymentServiceSelectionReq", selection)
        assert body["ResponseCode"] == "FAILED_PaymentSelectionInvalid"


def test_a_charge_needs_no_contract_where_other_payment_is_taken() -> None:
    reached = station(secc.EXTERNAL, None, Supply(receipts=True))
    assert answer(reached, "AuthorizationReq", {})["ResponseCode"] == "OK"
    for name in ("ChargeParameterDiscovery", "CableCheck", "PreCharge", "PowerDelivery"):
        assert answer(reached, name + "Req", REQUESTS[name + "Req"])["ResponseCode"] == "OK"
    body = answer(reached, "CurrentDemandReq", REQUESTS["CurrentDemandReq"])
    assert body["ReceiptRequired"] is False  # there is no contract to sign it with


@pytest.mark.parametrize(("target", "current"), [(50, 5), (3, 3)])
def test_a_station_gives_at_most_its_limits(target: int, current: int) -> None:
    reached = station(secc.DC_CHARGE, DC, Supply(voltage=300, current=20, power=1500))
    body = {**REQUESTS["CurrentDemandReq"], "EVTargetCurrent": value("A", target)}
    body = answer(reached, "CurrentDemandReq", body)
    assert body["EVSEPresentVoltage"] == value("V", 300)
    assert body["EVSEPresentCurrent"] == value("A", current)
    assert body["EVSEVoltageLimitAchieved"] is True
    assert body["EVSECurrentLimitAchieved"] is body["EVSEPowerLimitAchieved"] is (target > 20)


def test_the_meter_counts_the_power_by_the_clock() -> None:
    reached = station(secc.DC_CHARGE, DC, Supply())
    now = [0.0]
    reached.clock = lambda: now[0]
    readings = []
    for _ in range(3):
        body = answer(reached, "CurrentDemandReq", REQUESTS["CurrentDemandReq"])
        readings.append(body["MeterInfo"]["MeterReading"])
        now[0] += 360  # a tenth of an hour at 400 V and 16 A
    assert readings == [0, 640, 1280]


@pytest.mark.parametrize(("volts", "amperes"), [(-500, 200), (400, -200), (-500, -200)])
def test_a_target_below_zero_is_zero_and_the_meter_stands(volts: int, amperes: int) -> None:
    reached = station(secc.DC_CHARGE, DC, Supply())
    now = [0.0]
    reached.clock = lambda: now[0]
    targets = {"EVTargetVoltage": value("V", volts), "EVTargetCurrent": value("A", amperes)}
    for _ in range(2):
        body = answer(reached, "CurrentDemandReq", {**REQUESTS["CurrentDemandReq"], **targets})
        now[0] += 3600
    assert body["EVSEPresentVoltage"] == value("V", max(volts, 0))
    assert body["EVSEPresentCurrent"] == value("A", max(amperes, 0))
    assert body["MeterInfo"]["MeterReading"] == 0


def test_a_precharge_below_zero_gives_no_voltage() -> None:
    reached = station(secc.PRECHARGE, DC)
    body = {**REQUESTS["PreChargeReq"], "EVTargetVoltage": value("V", -500)}
    assert answer(reached, "PreChargeReq", body)["EVSEPresentVoltage"] == value("V", 0)


def test_a_pause_before_the_charge_is_an_end() -> None:
    reached = station(secc.AUTHORIZED, None)
    answer(reached, "SessionStopReq", messages.session_stop_req(pause=True))
    assert len(reached.paused) == 0


@pytest.mark.parametrize("watts", [0, 32_767, 32_768, 350_000])
def test_a_power_of_any_size_has_sixteen_bits(watts: int) -> None:
    physical = charging.value("W", watts)
    assert physical["Value"] <= 32_767
    assert charging.number(physical) == pytest.approx(watts, rel=0.001)
