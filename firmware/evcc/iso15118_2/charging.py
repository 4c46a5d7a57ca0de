"""The charge in a session of ISO 15118-2: the pairs between Authorization and SessionStop.

ISO 15118-2:2014, 8.4.3.8 to 8.4.5: `PAIRS` and `NEXT` are further rows for `session`'s tables.
The charge is short and simulated: no contactor moves, and the battery's values are the owner's
wishes. Of the station's schedules the first is taken, with one power that all its entries allow.
A station that asks for renegotiation gets it: the parameters are discovered again.
"""

from evcc.session_engine import Pair, SessionError, UsageError

from .session import AUTHORIZATION, SESSION_STOP, SIGNED_ID, sign

_LEAST_A = 6  # IEC 61851: an AC charge has no smaller current
_PRECHARGE_A, _PRECHARGE_V = 1, 20  # at most 2 A and 20 V apart, IEC 61851-23
_MOST = 1000000
_FAULTS = (
    "EVSE_Shutdown",
    "EVSE_UtilityInterruptEvent",
    "EVSE_EmergencyShutdown",
    "EVSE_Malfunction",
)


class Charge:
    """The car's wishes for a charge, and the grants of the station.

    wishes: a part of `WISHES`. Raises UsageError("charge") for another key or value.
    """

    WISHES = {
        "mode": "",  # an EnergyTransferMode or its beginning, as "DC": the station's first such
        "loops": 3,  # exchanges of status before the car stops; 0: no limit
        "seconds": 0,  # before the car stops; 0: no limit
        "voltage": 400,  # V: of the battery (DC), the highest (AC)
        "current": 16,  # A, at most
        "energy": 10000,  # Wh
        "soc": 50,  # percent
        "pause": False,  # end with a pause, so that another session can go on
    }

    def __init__(self, wishes: dict) -> None:
        if type(wishes) is not dict:
            raise UsageError("charge", "not an object")
        self.wishes = dict(self.WISHES)
        for name, value in wishes.items():
            if type(value) is not type(self.WISHES.get(name)):
                raise UsageError("charge", name)
            self.wishes[name] = value
            most = 100 if name == "soc" else _MOST
            if type(value) is int and not 0 <= value <= most:
                raise UsageError("charge", name)
        if not (self.wishes["loops"] or self.wishes["seconds"]):
            raise UsageError("charge", "it has no end")
        self.mode = ""  # the agreed EnergyTransferMode
        self.schedule = 1  # SAScheduleTupleID
        self.power = self.current = 0  # granted, W and A
        self.progress = "Start"  # the ChargeProgress of the next PowerDeliveryReq
        self.loops = 0
        self.until = None  # the end by "seconds", in ms on the session's clock
        self.meter = None  # the MeterInfo to be signed

    def agree(self, modes: list) -> None:
        """Choose the first of the station's modes that begins with the wished one.

        modes: EnergyTransferMode values. Raises: SessionError("charge") where none does."""
        for mode in modes:
            if mode.startswith(self.wishes["mode"]):
                self.mode = mode
                return
        raise SessionError("charge", "the station has only " + ", ".join(modes))

    def kind(self) -> str:
        """ "ac" or "dc", by the agreed mode."""
        return self.mode[:2].lower()

    def status(self) -> dict:
        """The DC_EVStatus of the car's next request."""
        return {"EVReady": True, "EVErrorCode": "NO_ERROR", "EVRESSSOC": self.wishes["soc"]}


def _value(unit: str, number: int) -> dict:
    """A PhysicalValue, which has 16 bits and a power of ten."""
    multiplier = 0
    while number > 32767:
        number //= 10
        multiplier += 1
    return {"Multiplier": multiplier, "Unit": unit, "Value": number}


def _number(value: dict, unit: str) -> int:
    """The whole number of a PhysicalValue. Raises: SessionError("charge") for another unit."""
    if value["Unit"] != unit:
        raise SessionError("charge", "%s, not %s" % (value["Unit"], unit))
    return int(value["Value"] * 10 ** value["Multiplier"])


def _grant(value: dict, unit: str) -> int:
    """A limit of the station. Raises: SessionError("charge"), also below 0: such a limit would
    reverse the charge."""
    number = _number(value, unit)
    if number < 0:
        raise SessionError("charge", "the station grants %d %s" % (number, unit))
    return number


def _build_parameters(session) -> tuple:
    charge = session.charge
    wishes = charge.wishes
    body = {"RequestedEnergyTransferMode": charge.mode}
    current, voltage = _value("A", wishes["current"]), _value("V", wishes["voltage"])
    if charge.kind() == "dc":
        body["DC_EVChargeParameter"] = {
            "DC_EVStatus": charge.status(),
            "EVMaximumCurrentLimit": current,
            "EVMaximumVoltageLimit": voltage,
        }
    else:
        body["AC_EVChargeParameter"] = {
            "EAmount": _value("Wh", wishes["energy"]),
            "EVMaxVoltage": voltage,
            "EVMaxCurrent": current,
            "EVMinCurrent": _value("A", min(_LEAST_A, wishes["current"])),
        }
    return body, None


def _read_parameters(session, body: dict, message: dict) -> str:
    if body["EVSEProcessing"] != "Finished":
        return "ongoing"
    charge = session.charge
    kind, voltage = charge.kind(), charge.wishes["voltage"]
    try:
        schedule = body["SAScheduleList"]["SAScheduleTuple"][0]
        powers = [
            _grant(entry["PMax"], "W") for entry in schedule["PMaxSchedule"]["PMaxScheduleEntry"]
        ]
        if kind == "dc":
            limits = body["DC_EVSEChargeParameter"]
            current = _grant(limits["EVSEMaximumCurrentLimit"], "A")
            highest = _grant(limits["EVSEMaximumVoltageLimit"], "V")
        else:
            current = _grant(body["AC_EVSEChargeParameter"]["EVSEMaxCurrent"], "A")
            highest = voltage
    except LookupError:
        raise SessionError("charge", "no schedule, or no limits of " + charge.mode)
    if highest < voltage:
        raise SessionError("charge", "the station has at most %d V" % highest)
    charge.schedule = schedule["SAScheduleTupleID"]
    charge.current = min(current, charge.wishes["current"])
    charge.power = min(powers + [voltage * charge.current])
    charge.progress = "Start"
    return kind


def _build_power(session) -> tuple:
    charge = session.charge
    if session.error is not None:  # the car's own failure while the power is on
        charge.progress = "Stop"
    body = {"ChargeProgress": charge.progress, "SAScheduleTupleID": charge.schedule}
    if charge.progress == "Start":
        power = _value("W", charge.power)
        entry = {"ChargingProfileEntryStart": 0, "ChargingProfileEntryMaxPower": power}
        body["ChargingProfile"] = {"ProfileEntry": [entry]}
    if charge.kind() == "dc":
        complete = charge.progress == "Stop"
        parameter = {"DC_EVStatus": charge.status(), "ChargingComplete": complete}
        body["DC_EVPowerDeliveryParameter"] = parameter
    return body, None


def _read_power(session, body: dict, message: dict) -> str:
    charge = session.charge
    if charge.progress == "Renegotiate":
        return "renegotiate"
    if charge.progress == "Stop":
        session.emit("charged", "%d exchanges" % charge.loops)
        return "stop " + charge.kind()
    if charge.until is None:
        session.emit("charging", charge.mode)
        charge.until = session.now_ms + 1000 * charge.wishes["seconds"]
        # A renegotiation leaves the power on.
        session.add_rows({}, {(s, "unable"): POWER_DELIVERY for s in _BEFORE_POWER})
    return charge.kind()


def _build_nothing(session) -> tuple:
    return {}, None


def _build_status(session) -> tuple:
    return {"DC_EVStatus": session.charge.status()}, None


def _read_cable_check(session, body: dict, message: dict) -> str:
    if body["EVSEProcessing"] != "Finished":
        return "ongoing"
    isolation = body["DC_EVSEStatus"].get("EVSEIsolationStatus")
    if isolation not in (None, "Valid", "Warning"):
        raise SessionError("charge", "isolation: " + isolation)
    return "done"


def _build_precharge(session) -> tuple:
    return _targets(session.charge, _PRECHARGE_A), None


def _read_precharge(session, body: dict, message: dict) -> str:
    difference = _number(body["EVSEPresentVoltage"], "V") - session.charge.wishes["voltage"]
    return "done" if abs(difference) <= _PRECHARGE_V else "ongoing"


def _build_demand(session) -> tuple:
    body = _targets(session.charge, session.charge.current)
    body["ChargingComplete"] = False
    return body, None


def _targets(charge, current: int) -> dict:
    return {
        "DC_EVStatus": charge.status(),
        "EVTargetVoltage": _value("V", charge.wishes["voltage"]),
        "EVTargetCurrent": _value("A", current),
    }


def _read_loop(session, body: dict, message: dict) -> str:
    charge = session.charge
    charge.loops += 1
    charge.meter = body.get("MeterInfo")
    _obey(session, body)
    if body.get("ReceiptRequired") and charge.meter:
        return "receipt"
    return "again" if charge.progress == "Start" else "power"


def _obey(session, body: dict) -> None:
    """Set the next progress by the car's wishes and the station's status."""
    charge = session.charge
    wishes = charge.wishes
    status = body.get("AC_EVSEStatus") or body.get("DC_EVSEStatus") or {}
    notice = status.get("EVSENotification")
    if (
        0 < wishes["loops"] <= charge.loops
        or (wishes["seconds"] and session.now_ms >= charge.until)
        or notice == "StopCharging"
        or status.get("RCD")
        or status.get("EVSEStatusCode") in _FAULTS
    ):
        charge.progress = "Stop"
    elif notice == "ReNegotiation":
        charge.progress = "Renegotiate"


def _build_receipt(session) -> tuple:
    charge = session.charge
    body = {
        "Id": SIGNED_ID,
        "SessionID": session.session_id,
        "SAScheduleTupleID": charge.schedule,
        "MeterInfo": charge.meter,
    }
    return body, sign(session, METERING_RECEIPT + "Req", body, session.contract.key)


def _read_receipt(session, body: dict, message: dict) -> str:
    _obey(session, body)
    return session.charge.kind() if session.charge.progress == "Start" else "power"


CHARGE_PARAMETERS = "ChargeParameterDiscovery"
CABLE_CHECK = "CableCheck"
PRE_CHARGE = "PreCharge"
POWER_DELIVERY = "PowerDelivery"
CHARGING_STATUS = "ChargingStatus"
CURRENT_DEMAND = "CurrentDemand"
METERING_RECEIPT = "MeteringReceipt"
WELDING_DETECTION = "WeldingDetection"

# V2G_EVCC_Msg_Timeout, and the time for repetitions: ISO 15118-2:2014, 8.7.3 table 109
PAIRS = {
    CHARGE_PARAMETERS: Pair(2000, _build_parameters, _read_parameters),
    CABLE_CHECK: Pair(2000, _build_status, _read_cable_check, ongoing_ms=40000),
    PRE_CHARGE: Pair(2000, _build_precharge, _read_precharge, ongoing_ms=7000),
    POWER_DELIVERY: Pair(5000, _build_power, _read_power),
    CHARGING_STATUS: Pair(2000, _build_nothing, _read_loop),
    CURRENT_DEMAND: Pair(250, _build_demand, _read_loop),
    METERING_RECEIPT: Pair(2000, _build_receipt, _read_receipt),
    WELDING_DETECTION: Pair(2000, _build_status),
}

NEXT = {
    (AUTHORIZATION, "charge"): CHARGE_PARAMETERS,
    (CHARGE_PARAMETERS, "ac"): POWER_DELIVERY,
    (CHARGE_PARAMETERS, "dc"): CABLE_CHECK,
    (CABLE_CHECK, "done"): PRE_CHARGE,
    (PRE_CHARGE, "done"): POWER_DELIVERY,
    (POWER_DELIVERY, "ac"): CHARGING_STATUS,
    (POWER_DELIVERY, "dc"): CURRENT_DEMAND,
    (POWER_DELIVERY, "renegotiate"): CHARGE_PARAMETERS,
    (POWER_DELIVERY, "stop ac"): SESSION_STOP,
    (POWER_DELIVERY, "stop dc"): WELDING_DETECTION,
    (METERING_RECEIPT, "ac"): CHARGING_STATUS,
    (METERING_RECEIPT, "dc"): CURRENT_DEMAND,
    (METERING_RECEIPT, "power"): POWER_DELIVERY,
    (WELDING_DETECTION, "done"): SESSION_STOP,
}
_BEFORE_POWER = (CHARGE_PARAMETERS, CABLE_CHECK, PRE_CHARGE)
for _state in _BEFORE_POWER:
    NEXT[_state, "unable"] = SESSION_STOP
for _loop in (CHARGING_STATUS, CURRENT_DEMAND):
    NEXT[_loop, "receipt"] = METERING_RECEIPT
    NEXT[_loop, "power"] = NEXT[_loop, "unable"] = POWER_DELIVERY
