"""The charge in the car's session, against a scripted station: AC and DC, and every way out."""

from evcc import signature
from evcc.iso15118_2.charging import PAIRS, Charge
from evcc.session_engine import SessionError, UsageError
from evcc.vault import VaultError
from helpers import raises
from scripted import (
    AC_CHARGE,
    AC_STATUS,
    DC_CHARGE,
    DC_STATUS,
    METER,
    SESSION_ID,
    Station,
    answer,
    but,
    value,
)
from test_session import EMAID, PAYING, Car

BEFORE = len(PAYING) - 1
POWER = "PowerDeliveryReq"
CLOSED_EVENT = [("closed", "")]


def charge(script, wishes=None, car=None):
    """(the requests after authorization, the events after it, the station)."""
    station = Station(script)
    session = (car or Car(EMAID)).session(charge=wishes or {})
    requests, events = station.serve(session)
    assert events[0] == ("authorized", EMAID)
    return requests[BEFORE:], events[1:], station


def reach(pair, script):
    """A session that has just sent the request of `pair`, at time 100."""
    session = Car(EMAID).session(charge={})
    frames = session.start(100)
    while session.state != pair:
        frames, _ = session.receive(answer(session.state, script[session.state]), 100)
        assert frames
    return session


def test_an_ac_charge_goes_from_the_parameters_to_the_stop():
    requests, events, station = charge(AC_CHARGE)
    assert requests == (
        ["ChargeParameterDiscoveryReq", POWER]
        + ["ChargingStatusReq"] * 3
        + [POWER, "SessionStopReq"]
    )
    mode = "AC_three_phase_core"
    assert events == [("charging", mode), ("charged", "3 exchanges")] + CLOSED_EVENT
    _, body, _ = station.request("ChargeParameterDiscoveryReq")
    assert body["RequestedEnergyTransferMode"] == mode
    assert body["AC_EVChargeParameter"]["EVMaxCurrent"] == value("A", 16)
    _, body, _ = station.request(POWER)
    assert body["SAScheduleTupleID"] == 7
    entry = body["ChargingProfile"]["ProfileEntry"][0]
    assert entry["ChargingProfileEntryMaxPower"] == value("W", 4000)  # 400 V, and 10 A there


def test_a_dc_charge_goes_from_the_parameters_to_the_stop():
    requests, events, station = charge(DC_CHARGE, {"loops": 2, "soc": 80})
    assert requests == (
        ["ChargeParameterDiscoveryReq", "CableCheckReq", "PreChargeReq", POWER]
        + ["CurrentDemandReq"] * 2
        + [POWER, "WeldingDetectionReq", "SessionStopReq"]
    )
    assert events == [("charging", "DC_extended"), ("charged", "2 exchanges")] + CLOSED_EVENT
    _, body, _ = station.request("CurrentDemandReq")
    assert body["EVTargetVoltage"] == value("V", 400)
    assert body["EVTargetCurrent"] == value("A", 16)
    assert body["DC_EVStatus"]["EVRESSSOC"] == 80
    _, body, _ = station.request("PreChargeReq")
    assert body["EVTargetCurrent"]["Value"] <= 2


def test_a_receipt_is_signed_by_the_contract_over_the_stations_meter():
    car = Car(EMAID)
    script = but("ChargingStatus", AC_CHARGE, MeterInfo=METER, ReceiptRequired=True)
    requests, _, station = charge(script, {"loops": 1}, car)
    assert requests[2:] == ["ChargingStatusReq", "MeteringReceiptReq", POWER, "SessionStopReq"]
    _, body, signed = station.request("MeteringReceiptReq")
    assert (body["SessionID"], body["MeterInfo"]) == (SESSION_ID, METER)
    parts = [(body["Id"], "MeteringReceiptReq", body)]
    point = car.vault.public(car.contracts.active().key)
    signature.verify(signed, parts, point, car.vault.verify)


def test_a_vault_that_fails_during_the_charge_stops_the_power_first():
    car = Car(EMAID)
    signs = car.vault.sign
    done = []

    def sign(key, digest):
        if done:
            raise VaultError("unavailable")
        done.append(1)
        return signs(key, digest)

    car.vault.sign = sign
    script = but("CurrentDemand", DC_CHARGE, MeterInfo=METER, ReceiptRequired=True)
    requests, events, station = charge(script, {}, car)
    assert requests[-4:] == ["CurrentDemandReq", POWER, "WeldingDetectionReq", "SessionStopReq"]
    assert requests.count("CurrentDemandReq") == 1
    assert ("failed", "vault") in events and events[-1] == ("closed", "")
    body = [request[2] for request in station.requests if request[0] == POWER][-1]
    assert body["ChargeProgress"] == "Stop"


def test_a_station_in_trouble_or_with_a_notice_gets_the_power_stopped():
    for pair, of, status, changes in (
        ("ChargingStatus", AC_CHARGE, AC_STATUS, {"EVSENotification": "StopCharging"}),
        ("ChargingStatus", AC_CHARGE, AC_STATUS, {"RCD": True}),
        ("CurrentDemand", DC_CHARGE, DC_STATUS, {"EVSENotification": "StopCharging"}),
        ("CurrentDemand", DC_CHARGE, DC_STATUS, {"EVSEStatusCode": "EVSE_EmergencyShutdown"}),
    ):
        changed = dict(status)
        changed.update(changes)
        name = "AC_EVSEStatus" if of is AC_CHARGE else "DC_EVSEStatus"
        script = but(pair, of, **{name: changed})
        requests, events, _ = charge(script, {"loops": 50})
        assert requests.count(pair + "Req") == 1
        assert ("charged", "1 exchanges") in events


def test_a_notice_to_renegotiate_begins_at_the_parameters_again():
    changed = dict(AC_STATUS)
    changed["EVSENotification"] = "ReNegotiation"
    requests, _, _ = charge(but("ChargingStatus", AC_CHARGE, AC_EVSEStatus=changed))
    assert requests == ["ChargeParameterDiscoveryReq", POWER] + [
        "ChargingStatusReq",
        POWER,
        "ChargeParameterDiscoveryReq",
        POWER,
    ] * 2 + ["ChargingStatusReq", POWER, "SessionStopReq"]


class Turning:
    """A script with another answer to `pair` from the second time on."""

    def __init__(self, script, pair, **changes):
        self.answers = dict(script)
        self.pair = pair
        self.changed = but(pair, script, **changes)[pair]

    def __getitem__(self, pair):
        body = self.answers[pair]
        if pair == self.pair:
            self.answers[pair] = self.changed
        return body


def test_a_renegotiation_that_fails_stops_the_power_first():
    parameters = "ChargeParameterDiscovery"
    notice, fault = {"EVSENotification": "ReNegotiation"}, {"EVSEIsolationStatus": "Fault"}
    ac, dc, isolation = dict(AC_STATUS), dict(DC_STATUS), dict(DC_STATUS)
    ac.update(notice)
    dc.update(notice)
    isolation.update(fault)
    ac = but("ChargingStatus", AC_CHARGE, AC_EVSEStatus=ac)
    dc = but("CurrentDemand", DC_CHARGE, DC_EVSEStatus=dc)
    ac_limits = dict(ac[parameters]["AC_EVSEChargeParameter"])
    dc_limits = dict(dc[parameters]["DC_EVSEChargeParameter"])
    ac_limits["EVSEMaxCurrent"] = dc_limits["EVSEMaximumCurrentLimit"] = value("A", -1)
    for pair, script, changes in (
        (parameters, ac, {"AC_EVSEChargeParameter": ac_limits}),
        (parameters, dc, {"DC_EVSEChargeParameter": dc_limits}),
        ("CableCheck", dc, {"DC_EVSEStatus": isolation}),
        ("PreCharge", dc, {"EVSEPresentVoltage": value("A", 390)}),
    ):
        requests, events, station = charge(Turning(script, pair, **changes), {"loops": 5})
        after = requests[requests.index(pair + "Req", requests.index(POWER)) + 1 :]
        assert after[0] == POWER and after[-1] == "SessionStopReq", pair
        assert ("WeldingDetectionReq" in after) == (script is dc)
        body = [request[2] for request in station.requests if request[0] == POWER][-1]
        assert body["ChargeProgress"] == "Stop"
        assert events[1:] == [("failed", "charge"), ("charged", "1 exchanges")] + CLOSED_EVENT


def test_profile_has_the_stations_power_in_whatever_power_of_ten_it_came():
    for power in (value("W", 11, 2), value("W", 1100), value("W", 11000, -1)):
        entry = {"RelativeTimeInterval": {"start": 0}, "PMax": power}
        schedule = {"SAScheduleTupleID": 7, "PMaxSchedule": {"PMaxScheduleEntry": [entry]}}
        pair, tuples = "ChargeParameterDiscovery", {"SAScheduleTuple": [schedule]}
        _, _, station = charge(but(pair, AC_CHARGE, SAScheduleList=tuples))
        _, body, _ = station.request(POWER)
        (entry,) = body["ChargingProfile"]["ProfileEntry"]
        assert entry["ChargingProfileEntryMaxPower"] == value("W", 1100), power


def test_what_the_station_cannot_give_ends_before_the_power_is_on():
    fault, unmonitored, unmeasured = dict(DC_STATUS), dict(DC_STATUS), dict(DC_STATUS)
    fault["EVSEIsolationStatus"] = "Fault"
    unmonitored["EVSEIsolationStatus"] = "No_IMD"
    unmeasured["EVSEIsolationStatus"] = "Invalid"
    limits = dict(DC_CHARGE["ChargeParameterDiscovery"]["DC_EVSEChargeParameter"])
    limits["EVSEMaximumVoltageLimit"] = value("V", 200)
    pair = "ChargeParameterDiscovery"
    for script in (
        but(pair, DC_CHARGE, SAScheduleList=None),
        but(pair, DC_CHARGE, DC_EVSEChargeParameter=limits),
        but("CableCheck", DC_CHARGE, DC_EVSEStatus=fault),
        but("CableCheck", DC_CHARGE, DC_EVSEStatus=unmonitored),
        but("CableCheck", DC_CHARGE, DC_EVSEStatus=unmeasured),
    ):
        requests, events, _ = charge(script)
        assert requests[-1] == "SessionStopReq" and POWER not in requests
        assert events == [("failed", "charge")] + CLOSED_EVENT
    session = Car(EMAID).session(charge={"mode": "DC_core"})
    requests, events = Station(DC_CHARGE).serve(session)
    assert requests == PAYING[:3] + ["SessionStopReq"]
    assert events == [("failed", "charge")] + CLOSED_EVENT
    assert isinstance(session.error, SessionError)


def test_grants_below_zero_and_of_another_unit_end_before_the_power_is_on():
    pair = "ChargeParameterDiscovery"
    for number in (value("A", -1), value("A", -32768, 3), value("W", 16)):
        limits = dict(DC_CHARGE[pair]["DC_EVSEChargeParameter"])
        limits["EVSEMaximumCurrentLimit"] = number
        parameter = dict(AC_CHARGE[pair]["AC_EVSEChargeParameter"])
        parameter["EVSEMaxCurrent"] = number
        refused(but(pair, DC_CHARGE, DC_EVSEChargeParameter=limits))
        refused(but(pair, AC_CHARGE, AC_EVSEChargeParameter=parameter))
    for number in (value("W", -1), value("W", -32768, 3), value("A", 16)):
        entry = {"RelativeTimeInterval": {"start": 0}, "PMax": number}
        schedule = {"SAScheduleTupleID": 7, "PMaxSchedule": {"PMaxScheduleEntry": [entry]}}
        for of in (AC_CHARGE, DC_CHARGE):
            refused(but(pair, of, SAScheduleList={"SAScheduleTuple": [schedule]}))


def refused(script):
    requests, events, _ = charge(script)
    assert requests[-1] == "SessionStopReq" and POWER not in requests
    assert events == [("failed", "charge")] + CLOSED_EVENT


def test_a_voltage_of_another_unit_ends_a_precharge():
    present = {"EVSEPresentVoltage": value("A", 400)}
    requests, events, _ = charge(but("PreCharge", DC_CHARGE, **present))
    assert POWER not in requests and requests[-1] == "SessionStopReq"
    assert events == [("failed", "charge")] + CLOSED_EVENT


def test_a_precharge_has_seven_seconds_and_a_cable_check_forty():
    for pair, changes, seconds in (
        ("PreCharge", {"EVSEPresentVoltage": value("V", 100)}, 7),
        ("CableCheck", {"EVSEProcessing": "Ongoing"}, 40),
        ("ChargeParameterDiscovery", {"EVSEProcessing": "Ongoing"}, 60),
    ):
        session, now = reach(pair, DC_CHARGE), 100
        ongoing = answer(pair, but(pair, DC_CHARGE, **changes)[pair])
        events = []
        while not events:
            _, events = session.receive(ongoing, now)
            if not events:
                now = session.deadline()
                session.timeout(now)
        assert events == [("failed", "ongoing-timeout")] + CLOSED_EVENT
        assert 1000 * seconds <= now - 100 < 1000 * seconds + 500, (pair, now)


def test_each_message_may_be_ongoing_for_its_own_time():
    session, now = reach("Authorization", DC_CHARGE), 100
    for pair in ("Authorization", "ChargeParameterDiscovery"):
        started = now
        ongoing = answer(pair, but(pair, DC_CHARGE, EVSEProcessing="Ongoing")[pair])
        while now < started + 50000:
            assert session.receive(ongoing, now) == ([], [])
            now = session.deadline()
            session.timeout(now)
        frames, events = session.receive(answer(pair, DC_CHARGE[pair]), now)
        assert frames and ("failed", "ongoing-timeout") not in events
    assert session.state == "CableCheck"


def test_each_pair_of_the_charge_has_its_time():
    for pair, milliseconds in (
        ("ChargeParameterDiscovery", 2000),
        ("CableCheck", 2000),
        ("PreCharge", 2000),
        ("PowerDelivery", 5000),
        ("ChargingStatus", 2000),
        ("CurrentDemand", 250),
    ):
        session = reach(pair, AC_CHARGE if pair == "ChargingStatus" else DC_CHARGE)
        assert session.deadline() == 100 + milliseconds, pair
        events = session.timeout(session.deadline())[1]
        assert events == [("failed", "timeout")] + CLOSED_EVENT
    assert PAIRS["MeteringReceipt"].timeout_ms == PAIRS["WeldingDetection"].timeout_ms == 2000


def test_a_slow_peer_gets_as_many_times_the_standards_time():
    session = Car(EMAID).session()
    session.time_factor = 3
    session.start(100)
    assert session.deadline() == 100 + 3 * 2000


def test_a_pause_keeps_what_the_next_session_needs():
    car = Car(EMAID)
    session = car.session(charge={"pause": True})
    station = Station(DC_CHARGE)
    _, events = station.serve(session)
    assert events[-2:] == [("paused", "")] + CLOSED_EVENT
    assert station.request("SessionStopReq")[1] == {"ChargingSession": "Pause"}
    again = car.session(charge={})
    again.resume(session.paused)
    script = but("SessionSetup", DC_CHARGE, ResponseCode="OK_OldSessionJoined")
    station = Station(script)
    _, events = station.serve(again)
    assert events[0] == ("resumed", "") and events[1] == ("authorized", EMAID)
    assert station.requests[1][1] == SESSION_ID
    assert again.paused is None
    fresh = car.session(charge={})
    fresh.resume(session.paused)
    _, events = Station(DC_CHARGE, bytes([7] * 8)).serve(fresh)  # the station has forgotten it
    assert events[0] == ("authorized", EMAID)


def test_a_resumed_session_installs_no_contract():
    car = Car(EMAID)
    session = car.session(charge={"pause": True})
    Station(DC_CHARGE).serve(session)
    again = car.session(charge={}, want_contract=True)
    again.resume(session.paused)
    script = but("SessionSetup", DC_CHARGE, ResponseCode="OK_OldSessionJoined")
    requests, _ = Station(script).serve(again)
    assert "CertificateInstallationReq" not in requests


def test_a_session_is_resumed_by_the_same_contract_before_its_start():
    car = Car(EMAID)
    session = car.session(charge={"pause": True})
    Station(DC_CHARGE).serve(session)
    raises(UsageError, "resume", car.session().resume, session.paused)
    raises(UsageError, "resume", Car("DEPVT0000000028").session(charge={}).resume, session.paused)
    raises(UsageError, "resume", session.resume, session.paused)


def test_wishes_of_another_kind_are_refused():
    for wishes in (
        [],
        {"loops": "3"},
        {"loops": True},
        {"loops": -1},
        {"loops": 0},
        {"soc": 101},
        {"voltage": 10**7},
        {"fly": 1},
        {"pause": 1},
    ):
        raises(UsageError, "charge", Charge, wishes)
