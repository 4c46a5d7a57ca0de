"""The station's half of a charge: the handlers between authorization and the end of the session.

ISO 15118-2:2014, 8.4.3.8 to 8.4.5. The power is simulated: the contactors close at once, the
output has the voltage that the vehicle asks for, within `Supply`, and the meter counts the power
by the station's clock. One schedule is offered, with the station's whole power, for one day.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from plugvault.station.engine import Body, Refusal, Signature
from plugvault.station.events import Charged, Charging
from plugvault.station.iso15118_2 import payment

if TYPE_CHECKING:
    from plugvault.station.iso15118_2.secc import Secc

AC, DC = "ac", "dc"
SCHEDULE = 1  # SAScheduleTupleID
_DAY = 86_400
_METER = "PLUGVAULT-1"
_PRECHARGE_A = 2  # IEC 61851-23
_LARGEST = 32_767  # of a PhysicalValue


@dataclass(frozen=True)
class Supply:
    """The limits of a station, and its behaviour during a charge.

    voltage: V, the highest (DC); nominal: V (AC); current: A; power: W. ongoing: the number of
    answers "Ongoing" to ChargeParameterDiscovery and to CableCheck before "Finished". receipts:
    each status asks for a signed receipt, where the vehicle pays by contract. notices: {number of
    the status exchange, from 1: "StopCharging" | "ReNegotiation"}.
    """

    voltage: int = 500
    nominal: int = 230
    current: int = 200
    power: int = 50_000
    ongoing: int = 0
    receipts: bool = False
    notices: Mapping[int, str] = field(default_factory=dict)


@dataclass
class Delivery:
    """The state of one charge. mode: the EnergyTransferMode; voltage: V and current: A at the
    output; energy: Wh."""

    mode: str
    asked: int = 0  # answers "Ongoing" to the request that is repeated
    voltage: int = 0
    current: int = 0
    energy: float = 0.0
    measured: float = 0.0  # unix seconds of the last reading
    exchanges: int = 0
    meter: dict[str, Any] | None = None  # the MeterInfo that awaits its receipt

    @property
    def kind(self) -> str:
        """The kind of current: "ac" or "dc"."""
        return self.mode[:2].lower()


def value(unit: str, number: float) -> Body:
    """A number as PhysicalValue: an integer of 16 bits and a power of ten."""
    multiplier, rounded = 0, int(number)
    while rounded > _LARGEST:
        multiplier, rounded = multiplier + 1, rounded // 10
    return {"Multiplier": multiplier, "Unit": unit, "Value": rounded}


def number(physical: Body) -> float:
    """The number of a PhysicalValue, in its unit."""
    return float(physical["Value"] * 10 ** physical["Multiplier"])


def target(physical: Body, highest: float) -> int:
    """The target of a vehicle, between 0 and `highest`: a target below zero would turn the meter
    back."""
    return int(max(min(number(physical), highest), 0))


def status(kind: str, notice: str = "None") -> Body:
    """The element with the station's status. kind: "ac" or "dc"; notice: an EVSENotification."""
    common: Body = {"NotificationMaxDelay": 0, "EVSENotification": notice}
    if kind == DC:
        detail = {"EVSEIsolationStatus": "Valid", "EVSEStatusCode": "EVSE_Ready"}
        return {"DC_EVSEStatus": {**common, **detail}}
    return {"AC_EVSEStatus": {**common, "RCD": False}}


def limits(kind: str, supply: Supply) -> Body:
    """The element with the station's limits. kind: "ac" or "dc"."""
    if kind == DC:
        return {
            "DC_EVSEChargeParameter": {
                **status(DC),
                "EVSEMaximumCurrentLimit": value("A", supply.current),
                "EVSEMaximumPowerLimit": value("W", supply.power),
                "EVSEMaximumVoltageLimit": value("V", supply.voltage),
                "EVSEMinimumCurrentLimit": value("A", 0),
                "EVSEMinimumVoltageLimit": value("V", 0),
                "EVSEPeakCurrentRipple": value("A", 1),
            }
        }
    return {
        "AC_EVSEChargeParameter": {
            **status(AC),
            "EVSENominalVoltage": value("V", supply.nominal),
            "EVSEMaxCurrent": value("A", supply.current),
        }
    }


def schedules(supply: Supply) -> Body:
    """The element with one schedule over one day, with the station's whole power."""
    interval = {"start": 0, "duration": _DAY}
    entry = {"RelativeTimeInterval": interval, "PMax": value("W", supply.power)}
    schedule = {
        "SAScheduleTupleID": SCHEDULE,
        "PMaxSchedule": {"PMaxScheduleEntry": [entry]},
    }
    return {"SAScheduleTuple": [schedule]}


Answer = tuple[Body, str]


def discover_parameters(secc: "Secc", body: Body, _: Signature) -> Answer:
    """Answer ChargeParameterDiscoveryReq, with "Ongoing" as often as `Supply` says. Raises
    Refusal: "FAILED_WrongEnergyTransferMode", "FAILED_WrongChargeParameter"."""
    mode = body["RequestedEnergyTransferMode"]
    before = secc.resumed if secc.delivery is None else secc.delivery.mode
    if mode not in secc.offer.energy_transfer or before not in (None, mode):
        raise Refusal("FAILED_WrongEnergyTransferMode", mode)
    kind = mode[:2].lower()
    if f"{kind.upper()}_EVChargeParameter" not in body:
        raise Refusal("FAILED_WrongChargeParameter", f"{mode} without its parameters")
    if secc.delivery is None:
        secc.delivery = Delivery(mode)
    supply = secc.offer.supply
    response = {"ResponseCode": "OK", **limits(kind, supply)}
    if _is_ongoing(secc.delivery, supply):
        return {**response, "EVSEProcessing": "Ongoing"}, "ongoing"
    schedule = schedules(supply)
    return {**response, "EVSEProcessing": "Finished", "SAScheduleList": schedule}, kind


def _is_ongoing(delivery: Delivery, supply: Supply) -> bool:
    """Whether the station says "Ongoing" once more."""
    delivery.asked = delivery.asked + 1 if delivery.asked < supply.ongoing else 0
    return delivery.asked > 0


def check_cable(secc: "Secc", body: Body, _: Signature) -> Answer:
    """Answer CableCheckReq, with "Ongoing" as often as `Supply` says."""
    response = {"ResponseCode": "OK", **status(DC)}
    if _is_ongoing(_delivery(secc), secc.offer.supply):
        return {**response, "EVSEProcessing": "Ongoing"}, "ongoing"
    return {**response, "EVSEProcessing": "Finished"}, "checked"


def precharge(secc: "Secc", body: Body, _: Signature) -> Answer:
    """Answer PreChargeReq with the requested voltage. Raises Refusal("FAILED") for a current above
    2 A [IEC 61851-23]."""
    if number(body["EVTargetCurrent"]) > _PRECHARGE_A:
        raise Refusal("FAILED", f"more than {_PRECHARGE_A} A before the contactors close")
    delivery = _delivery(secc)
    delivery.voltage = target(body["EVTargetVoltage"], secc.offer.supply.voltage)
    present = value("V", delivery.voltage)
    return {"ResponseCode": "OK", **status(DC), "EVSEPresentVoltage": present}, "precharged"


def deliver(secc: "Secc", body: Body, _: Signature) -> Answer:
    """Answer PowerDeliveryReq before the energy flows. Raises Refusal:
    "FAILED_PowerDeliveryNotApplied", "FAILED_TariffSelectionInvalid",
    "FAILED_ChargingProfileInvalid"."""
    delivery, progress = _delivery(secc), body["ChargeProgress"]
    if progress == "Start":
        _check_profile(secc, body)
        if delivery.kind == AC:
            delivery.voltage = secc.offer.supply.nominal
            delivery.current = min(
                secc.offer.supply.current, secc.offer.supply.power // delivery.voltage
            )
        delivery.measured = secc.clock()
        secc.emit(Charging(secc.session_id, delivery.mode))
        return {"ResponseCode": "OK", **status(delivery.kind)}, "start " + delivery.kind
    if progress == "Renegotiate":
        raise Refusal("FAILED_PowerDeliveryNotApplied", "renegotiation before the charge")
    return _end(secc, delivery)


def change_delivery(secc: "Secc", body: Body, _: Signature) -> Answer:
    """Answer PowerDeliveryReq while the energy flows. Raises
    Refusal("FAILED_PowerDeliveryNotApplied")."""
    delivery, progress = _delivery(secc), body["ChargeProgress"]
    if progress == "Start":
        raise Refusal("FAILED_PowerDeliveryNotApplied", "the power is on")
    if progress == "Renegotiate":
        return {"ResponseCode": "OK", **status(delivery.kind)}, "renegotiate"
    _measure(secc, delivery)
    return _end(secc, delivery)


def stop_delivery(secc: "Secc", body: Body, signature: Signature) -> Answer:
    """Answer PowerDeliveryReq before the voltage is agreed: a renegotiation leaves the power on,
    and a vehicle may stop it. Raises Refusal("FAILED_SequenceError")."""
    if body["ChargeProgress"] != "Stop":
        raise Refusal("FAILED_SequenceError", "PowerDelivery before PreCharge")
    return change_delivery(secc, body, signature)


def _end(secc: "Secc", delivery: Delivery) -> Answer:
    delivery.voltage = delivery.current = 0
    energy = int(delivery.energy)
    secc.emit(Charged(secc.session_id, secc.emaid, energy, delivery.exchanges))
    return {"ResponseCode": "OK", **status(delivery.kind)}, "stop " + delivery.kind


def _check_profile(secc: "Secc", body: Body) -> None:
    if body["SAScheduleTupleID"] != SCHEDULE:
        raise Refusal("FAILED_TariffSelectionInvalid", f"schedule {body['SAScheduleTupleID']}")
    for entry in body.get("ChargingProfile", {}).get("ProfileEntry", ()):
        power = number(entry["ChargingProfileEntryMaxPower"])
        if not 0 <= power <= secc.offer.supply.power:
            raise Refusal("FAILED_ChargingProfileInvalid", f"{power:.0f} W")


def charging_status(secc: "Secc", body: Body, _: Signature) -> Answer:
    """Answer ChargingStatusReq (AC)."""
    return _status_of(secc, {"EVSEID": secc.offer.evseid, "SAScheduleTupleID": SCHEDULE})


def demand_current(secc: "Secc", body: Body, _: Signature) -> Answer:
    """Answer CurrentDemandReq (DC): the output gets the requested values within the limits."""
    delivery, supply = _delivery(secc), secc.offer.supply
    voltage, current = number(body["EVTargetVoltage"]), number(body["EVTargetCurrent"])
    _measure(secc, delivery)
    delivery.voltage = target(body["EVTargetVoltage"], supply.voltage)
    by_power = supply.power // max(delivery.voltage, 1)
    delivery.current = target(body["EVTargetCurrent"], min(supply.current, by_power))
    response = {
        "EVSEPresentVoltage": value("V", delivery.voltage),
        "EVSEPresentCurrent": value("A", delivery.current),
        "EVSECurrentLimitAchieved": current > supply.current,
        "EVSEVoltageLimitAchieved": voltage > supply.voltage,
        "EVSEPowerLimitAchieved": current > by_power,
        "EVSEID": secc.offer.evseid,
        "SAScheduleTupleID": SCHEDULE,
    }
    return _status_of(secc, response)


def _status_of(secc: "Secc", response: Body) -> Answer:
    """The common part of the two status responses: meter, notice, and whether a receipt is due."""
    delivery, supply = _delivery(secc), secc.offer.supply
    _measure(secc, delivery)
    delivery.exchanges += 1
    meter = {
        "MeterID": _METER,
        "MeterReading": int(delivery.energy),
        "TMeter": int(secc.clock()),
    }
    wants_receipt = supply.receipts and secc.emaid != ""
    delivery.meter = meter if wants_receipt else None
    response = {
        "ResponseCode": "OK",
        **response,
        "MeterInfo": meter,
        "ReceiptRequired": wants_receipt,
        **status(delivery.kind, supply.notices.get(delivery.exchanges, "None")),
    }
    return response, "receipt " + delivery.kind if wants_receipt else "status"


def take_receipt(secc: "Secc", body: Body, signature: Signature) -> Answer:
    """Answer MeteringReceiptReq, after a check of its content and its signature. Raises
    Refusal("FAILED_MeteringSignatureNotValid")."""
    delivery = _delivery(secc)
    expected = (secc.session_id, SCHEDULE, delivery.meter)
    schedule = body.get("SAScheduleTupleID", SCHEDULE)
    if (body["SessionID"], schedule, body["MeterInfo"]) != expected:
        raise Refusal("FAILED_MeteringSignatureNotValid", "not a receipt for the last reading")
    try:
        payment.check_signature("MeteringReceiptReq", body, signature, secc.contract.point)
    except Refusal as refusal:
        raise Refusal("FAILED_MeteringSignatureNotValid", str(refusal)) from refusal
    delivery.meter = None
    notice = secc.offer.supply.notices.get(delivery.exchanges, "None")
    return {"ResponseCode": "OK", **status(delivery.kind, notice)}, "start " + delivery.kind


def detect_welding(secc: "Secc", body: Body, _: Signature) -> Answer:
    """Answer WeldingDetectionReq."""
    return {"ResponseCode": "OK", **status(DC), "EVSEPresentVoltage": value("V", 0)}, "detected"


def _delivery(secc: "Secc") -> Delivery:
    """The charge of a state that comes after ChargeParameterDiscovery."""
    if secc.delivery is None:
        raise Refusal("FAILED_SequenceError", "no charge parameters yet")
    return secc.delivery


def _measure(secc: "Secc", delivery: Delivery) -> None:
    """Let the meter run up to now."""
    now = secc.clock()
    seconds = max(now - delivery.measured, 0.0)
    delivery.energy += delivery.voltage * delivery.current * seconds / 3600
    delivery.measured = now
