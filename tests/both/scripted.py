"""A charging station that follows a script: one answer per request, as plain data.

    station = Station(OFFERED)                # or {**OFFERED, "SessionSetup": {...}}, see `but`
    requests, events = station.serve(session)

`station.edit(pair, envelope) -> envelope` may change a whole message before it is encoded.
"""

from evcc import exi
from evcc.exi import grammar
from evcc.iso15118_2.messages import envelope, opened
from evcc.link import v2gtp
from evcc.session_engine import CLOSED

SESSION_ID = bytes(range(0xA0, 0xA8))
CHALLENGE = bytes(range(16))

_CHARGE = {
    "ServiceID": 1,
    "ServiceCategory": "EVCharging",
    "FreeService": False,
    "SupportedEnergyTransferMode": {"EnergyTransferMode": ["DC_extended"]},
}
_CERTIFICATE = {
    "ServiceID": 2,
    "ServiceName": "Certificate",
    "ServiceCategory": "ContractCertificate",
    "FreeService": True,
}
_INSTALLATION = {
    "ParameterSetID": 1,
    "Parameter": [{"Name": "Service", "stringValue": "Installation"}],
}
_ELEMENT = {"Id": "id2", "value": b"\1"}

OFFERED = {
    "supportedAppProtocol": {"ResponseCode": "OK_SuccessfulNegotiation", "SchemaID": 1},
    "SessionSetup": {"ResponseCode": "OK_NewSessionEstablished", "EVSEID": "DE*PVT*E1"},
    "ServiceDiscovery": {
        "ResponseCode": "OK",
        "PaymentOptionList": {"PaymentOption": ["Contract", "ExternalPayment"]},
        "ChargeService": _CHARGE,
        "ServiceList": {"Service": [_CERTIFICATE]},
    },
    "ServiceDetail": {
        "ResponseCode": "OK",
        "ServiceID": 2,
        "ServiceParameterList": {"ParameterSet": [_INSTALLATION]},
    },
    "PaymentServiceSelection": {"ResponseCode": "OK"},
    "CertificateInstallation": {
        "ResponseCode": "OK",
        "SAProvisioningCertificateChain": {"Certificate": b"\1"},
        "ContractSignatureCertChain": {"Id": "id1", "Certificate": b"\1"},
        "ContractSignatureEncryptedPrivateKey": _ELEMENT,
        "DHpublickey": _ELEMENT,
        "eMAID": {"Id": "id4", "value": "DEPVT0000000012"},
    },
    "PaymentDetails": {"ResponseCode": "OK", "GenChallenge": CHALLENGE, "EVSETimeStamp": 0},
    "Authorization": {"ResponseCode": "OK", "EVSEProcessing": "Finished"},
    "SessionStop": {"ResponseCode": "OK"},
}


def value(unit, number, multiplier=0):
    return {"Multiplier": multiplier, "Unit": unit, "Value": number}


AC_STATUS = {"NotificationMaxDelay": 0, "EVSENotification": "None", "RCD": False}
DC_STATUS = {
    "NotificationMaxDelay": 0,
    "EVSENotification": "None",
    "EVSEIsolationStatus": "Valid",
    "EVSEStatusCode": "EVSE_Ready",
}
_ENTRY = {"RelativeTimeInterval": {"start": 0}, "PMax": value("W", 1100, 1)}
_SCHEDULE = {"SAScheduleTupleID": 7, "PMaxSchedule": {"PMaxScheduleEntry": [_ENTRY]}}
_PARAMETERS = {
    "ResponseCode": "OK",
    "EVSEProcessing": "Finished",
    "SAScheduleList": {"SAScheduleTuple": [_SCHEDULE]},
}
METER = {"MeterID": "M1", "MeterReading": 42}
_AC_PARAMETERS = {
    "AC_EVSEStatus": AC_STATUS,
    "EVSENominalVoltage": value("V", 230),
    "EVSEMaxCurrent": value("A", 10),
}
_DC_PARAMETERS = {
    "DC_EVSEStatus": DC_STATUS,
    "EVSEMaximumCurrentLimit": value("A", 100),
    "EVSEMaximumPowerLimit": value("W", 5000, 1),
    "EVSEMaximumVoltageLimit": value("V", 500),
    "EVSEMinimumCurrentLimit": value("A", 0),
    "EVSEMinimumVoltageLimit": value("V", 0),
    "EVSEPeakCurrentRipple": value("A", 1),
}
AC_CHARGE = dict(OFFERED)
AC_CHARGE["ServiceDiscovery"] = dict(OFFERED["ServiceDiscovery"])
AC_CHARGE["ServiceDiscovery"]["ChargeService"] = dict(_CHARGE)
AC_CHARGE["ServiceDiscovery"]["ChargeService"]["SupportedEnergyTransferMode"] = {
    "EnergyTransferMode": ["AC_three_phase_core"]
}
AC_CHARGE["ChargeParameterDiscovery"] = dict(_PARAMETERS)
AC_CHARGE["ChargeParameterDiscovery"]["AC_EVSEChargeParameter"] = _AC_PARAMETERS
for _pair in ("PowerDelivery", "MeteringReceipt"):
    AC_CHARGE[_pair] = {"ResponseCode": "OK", "AC_EVSEStatus": AC_STATUS}
AC_CHARGE["ChargingStatus"] = {
    "ResponseCode": "OK",
    "EVSEID": "DE*PVT*E1",
    "SAScheduleTupleID": 7,
    "AC_EVSEStatus": AC_STATUS,
}
DC_CHARGE = dict(OFFERED)
DC_CHARGE["ChargeParameterDiscovery"] = dict(_PARAMETERS)
DC_CHARGE["ChargeParameterDiscovery"]["DC_EVSEChargeParameter"] = _DC_PARAMETERS
for _pair in ("PowerDelivery", "MeteringReceipt", "CableCheck", "PreCharge", "WeldingDetection"):
    DC_CHARGE[_pair] = {"ResponseCode": "OK", "DC_EVSEStatus": DC_STATUS}
DC_CHARGE["CableCheck"]["EVSEProcessing"] = "Finished"
DC_CHARGE["PreCharge"]["EVSEPresentVoltage"] = value("V", 390)
DC_CHARGE["WeldingDetection"]["EVSEPresentVoltage"] = value("V", 0)
DC_CHARGE["CurrentDemand"] = {
    "ResponseCode": "OK",
    "DC_EVSEStatus": DC_STATUS,
    "EVSEPresentVoltage": value("V", 400),
    "EVSEPresentCurrent": value("A", 16),
    "EVSECurrentLimitAchieved": False,
    "EVSEVoltageLimitAchieved": False,
    "EVSEPowerLimitAchieved": False,
    "EVSEID": "DE*PVT*E1",
    "SAScheduleTupleID": 7,
}


def but(pair, of=OFFERED, **changes):
    """A script with some members of one answer changed; None removes one."""
    body = dict(of[pair])
    for name, value in changes.items():
        body[name] = value
        if value is None:
            del body[name]
    script = dict(of)
    script[pair] = body
    return script


def answer(pair, body, session_id=SESSION_ID):
    """The frame of one response."""
    if pair == "supportedAppProtocol":
        return v2gtp.encode(exi.encode({pair + "Res": body}, "sap"))
    return v2gtp.encode(exi.encode(envelope(session_id, pair + "Res", body)))


def read(frame, pair):
    """(session id, name, body, signature) of a request; pair: the one expected."""
    (payload,) = v2gtp.PayloadReader().feed(frame)
    if pair == "supportedAppProtocol":
        ((name, body),) = exi.decode(payload, "sap").items()
        return b"", name, body, None
    return opened(exi.decode(payload))


class Station:
    def __init__(self, script, session_id=SESSION_ID):
        self.script = script
        self.session_id = session_id
        self.requests = []  # [(name, session id, body, signature)]
        self.frames = []

    def serve(self, session, until=None):
        """Answer until the session closes, or has sent the request of pair `until`.

        Returns (names of the requests, events), with one millisecond between messages.
        """
        now, events = 0, []
        frames = session.start(now)
        while frames:
            (frame,) = frames
            pair = session.state
            session_id, name, body, signed = read(frame, pair)
            assert name == pair + "Req", name
            self.requests.append((name, session_id, body, signed))
            self.frames.append(frame)
            if pair == until:
                break
            now += 1
            reply = answer(pair, self.script[pair], self.session_id)
            frames, new_events = session.receive(reply, now)
            events += new_events
            if not frames and session.state != CLOSED:  # the car waits before it asks again
                now = session.deadline()
                frames, new_events = session.timeout(now)
                events += new_events
        return [request[0] for request in self.requests], events

    def request(self, name):
        """(session id, body, signature) of the first request of that name."""
        for request in self.requests:
            if request[0] == name:
                return request[1:]
        raise AssertionError(name + " was not sent")


def _response_codes():
    """All values of responseCodeType, from the tables of the schema."""
    tables = grammar.load("iso2")
    flags, place = tables.element(tables.only("ResponseCode"))
    _, (first, count, _) = tables.type(flags, place)
    return tuple([tables.name(first + number) for number in range(count)])


RESPONSE_CODES = _response_codes()
