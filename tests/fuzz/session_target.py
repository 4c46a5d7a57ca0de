"""Fuzz target: the car's session, in any state, on any bytes from the station."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "both"))

from evcc.car import CarContext
from evcc.envelopes import Envelopes
from evcc.errors import EvccError
from evcc.iso15118_2 import charging
from evcc.iso15118_2.session import PAIRS, Session
from evcc.link import v2gtp
from evcc.session_engine import CLOSED
from scripted import AC_CHARGE, DC_CHARGE, METER, answer, but

EMAID = "DEPVT0000000012"
_STATES = sorted({**PAIRS, **charging.PAIRS})
_RECEIPTS = {"MeterInfo": METER, "ReceiptRequired": True}
_AC = but("ChargingStatus", AC_CHARGE, **_RECEIPTS)
_DC = but("CurrentDemand", DC_CHARGE, **_RECEIPTS)
_CONTRACT = SimpleNamespace(emaid=EMAID, key=bytes(16))
_ROOT = SimpleNamespace(names={"CN": "R"}, serial=1)
_VAULT = SimpleNamespace(sign=lambda key, digest: bytes(64), random=bytes)
_TRUST = SimpleNamespace(anchors=lambda *kinds: [_ROOT])
_CONTRACTS = SimpleNamespace(
    usable=lambda *_: _CONTRACT,
    hold=lambda _: _CONTRACT,
    chain=lambda _: [b"leaf"],
    envelopes=Envelopes(),
)
_IDENTITY = SimpleNamespace(certificate=b"provisioning certificate")
_CLOCK = SimpleNamespace(now=lambda: 0, source=lambda: "clock")
_CAR = CarContext(_VAULT, _IDENTITY, _TRUST, _CONTRACTS, _CLOCK)


class RefusedError(EvccError):
    REASONS = ("signature",)


def _refuse(response: bytes, session_id: bytes) -> None:
    raise RefusedError("signature")


def fresh() -> Session:
    """A session before its start."""
    return Session(_CAR, True, None, lambda *_: _CONTRACT, secure=True, charge={"loops": 1})


def reach(state: str) -> Session:
    """A session that waits for the response of `state`."""
    session = fresh()
    session.start(0)
    while session.state != state:
        session.receive(answer(session.state, _script(state)[session.state]), 0)
    session.installer = _refuse
    return session


def _script(state: str) -> dict[str, Any]:
    """The answers of a station on the way to this state and in it."""
    return _AC if state == "ChargingStatus" else _DC


def seeds() -> Iterator[bytes]:
    """The state, whether a header comes first, and the station's bytes."""
    for number, state in enumerate(_STATES):
        frame = answer(state, _script(state)[state])
        yield bytes([number, 0]) + frame
        yield bytes([number, 1]) + frame[v2gtp.HEADER_BYTES :]


def target(data: bytes) -> None:
    """Any bytes give silence, the next request, or one end with one reason. Never an exception,
    and never an authorization that no "Finished" gave."""
    state = _STATES[data[0] % len(_STATES)] if data else _STATES[0]
    framed = len(data) > 1 and data[1] & 1
    session = reach(state)
    frames, events = session.receive(v2gtp.encode(data[2:]) if framed else data[2:], 1)
    names = [name for name, _ in events]
    if len(frames) > 1:
        raise AssertionError("more than one request")
    if (session.state == CLOSED) != ("closed" in names) or names.count("closed") > 1:
        raise AssertionError(names)
    if session.state == CLOSED and state != "SessionStop" and "failed" not in names:
        raise AssertionError("closed without a reason")
    if "authorized" in names and state != "Authorization":
        raise AssertionError("authorized in " + state)
    if "installed" in names:
        raise AssertionError("installed what was refused")
    if session.state == CLOSED and session.receive(data, 2) != ([], []):
        raise AssertionError("alive after its end")
