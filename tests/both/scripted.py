"""A charging station that follows a script: one answer per request, as plain data.

    station = Station(OFFERED)                # or {**OFFERED, "SessionSetup": {...}}, see `but`
    requests, events = station.serve(session)

`station.edit(pair, envelope) -> envelope` may change a whole message before it is encoded.
"""

from evcc import exi
from evcc.exi import grammar
from evcc.iso15118_2.messages import envelope, opened
from evcc.link import v2gtp

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


def but(pair, **changes):
    """OFFERED with some members of one answer changed; None removes one."""
    body = dict(OFFERED[pair])
    for name, value in changes.items():
        body[name] = value
        if value is None:
            del body[name]
    script = dict(OFFERED)
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
