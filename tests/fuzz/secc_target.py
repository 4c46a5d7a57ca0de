"""Fuzz target: the station's half of a session, in any state, on any bytes from the vehicle."""

from collections.abc import Iterator
from types import SimpleNamespace

from evcc import exi
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from plugvault.station import Authorized, Offer
from plugvault.station.engine import APP_PROTOCOL, CLOSED, FETCHING
from plugvault.station.events import Closed
from plugvault.station.iso15118_2.secc import ALLOWED, EXTERNAL, Secc

SESSION_ID = bytes(range(8))
_STATES = [*sorted(ALLOWED), FETCHING]
_CONTRACT = SimpleNamespace(names={"CN": "DEPVT0000000012"}, point=b"\x04" + bytes(64), serial=1)
_ROOT = SimpleNamespace(names={"CN": "R"}, serial=1)
_REQUESTS = {
    "SessionSetupReq": messages.session_setup_req(bytes(6)),
    "ServiceDiscoveryReq": messages.service_discovery_req(),
    "ServiceDetailReq": messages.service_detail_req(2),
    "PaymentServiceSelectionReq": messages.payment_service_selection_req(
        "Contract", [(1, None), (2, 1)]
    ),
    "CertificateInstallationReq": messages.certificate_installation_req("i", b"leaf", [_ROOT]),
    "PaymentDetailsReq": messages.payment_details_req("DEPVT0000000012", [b"leaf", b"sub"]),
    "AuthorizationReq": messages.authorization_req("id1", bytes(16)),
    "SessionStopReq": messages.session_stop_req(),
}


def reach(state: str) -> Secc:
    """A station in `state`, as far as what it remembers goes."""
    secc = Secc(Offer(), [], lambda: 0.0, 0, bytes, secure=True)
    secc.state = state
    secc.session_id = SESSION_ID
    secc.services = [1, 2]
    secc.contract = _CONTRACT
    secc.challenge = bytes(16)
    return secc


def seeds() -> Iterator[bytes]:
    """Which state, whether to put a header before it, and what the vehicle says."""
    offer = {"supportedAppProtocolReq": messages.supported_app_protocol_req()}
    yield bytes([_STATES.index(APP_PROTOCOL), 1]) + exi.encode(offer, "sap")
    for number, state in enumerate(_STATES):
        for name, body in _REQUESTS.items():
            if name in ALLOWED.get(state, {}):
                payload = exi.encode(messages.envelope(SESSION_ID, name, body))
                yield bytes([number, 1]) + payload
                yield bytes([number, 0]) + v2gtp.encode(payload)


def target(data: bytes) -> None:
    """Any bytes give silence, one answer, or one end. Never an exception, never a bill without a
    signature."""
    state = _STATES[data[0] % len(_STATES)] if data else _STATES[0]
    framed = len(data) > 1 and data[1] & 1
    secc = reach(state)
    frames, events = secc.receive(v2gtp.encode(data[2:]) if framed else data[2:], 1)
    ends = [event for event in events if isinstance(event, Closed)]
    if len(frames) > 1 or len(ends) > 1 or (secc.state == CLOSED) != bool(ends):
        raise AssertionError(events)
    if state != EXTERNAL and any(isinstance(event, Authorized) for event in events):
        raise AssertionError("billed without a signature")
    for frame in frames:
        (payload,) = v2gtp.PayloadReader().feed(frame)
        exi.decode(payload, "sap" if state == APP_PROTOCOL else "iso2")
    if secc.state == CLOSED and secc.receive(data, 2) != ([], []):
        raise AssertionError("alive after its end")
