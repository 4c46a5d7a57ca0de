"""Fuzz target: the station's half of a session, in any state, on any bytes from the vehicle."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

sys.path.append(str(Path(__file__).parents[1]))

from evcc import exi
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from iso2_requests import REQUESTS
from plugvault.station import Authorized, Offer
from plugvault.station.engine import APP_PROTOCOL, CLOSED, FETCHING
from plugvault.station.events import Closed
from plugvault.station.iso15118_2.charging import Delivery
from plugvault.station.iso15118_2.secc import ALLOWED, EXTERNAL, Secc

SESSION_ID = bytes(range(8))
_STATES = [*sorted(ALLOWED), FETCHING]
_CONTRACT = SimpleNamespace(names={"CN": "DEPVT0000000012"}, point=b"\x04" + bytes(64), serial=1)


def reach(state: str) -> Secc:
    """A station in `state`, with the stored values of that state."""
    secc = Secc(Offer(), [], lambda: 0.0, 0, bytes, secure=True)
    secc.state = state
    secc.session_id = SESSION_ID
    secc.services = [1, 2]
    secc.contract = _CONTRACT
    secc.challenge = bytes(16)
    if state == FETCHING:
        secc.fetching = "CertificateInstallation"
    if "AC" in state or "DC" in state:
        secc.delivery = Delivery("DC_extended" if "DC" in state else "AC_three_phase_core")
    return secc


def seeds() -> Iterator[bytes]:
    """The state, whether a header comes first, and the vehicle's bytes."""
    offer = {"supportedAppProtocolReq": messages.supported_app_protocol_req()}
    yield bytes([_STATES.index(APP_PROTOCOL), 1]) + exi.encode(offer, "sap")
    for number, state in enumerate(_STATES):
        for name, body in REQUESTS.items():
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
