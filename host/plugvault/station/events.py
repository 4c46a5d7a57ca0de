"""The events of a station's session, of any edition: what `server` carries out or passes on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Message:
    """A message was received or sent. direction: "in" or "out"; size: bytes on the wire, header
    included."""

    direction: str
    name: str
    size: int


@dataclass(frozen=True)
class Fetch:
    """The vehicle requests a contract. request: its message, EXI as received, for the operator;
    the operator's answer goes to `Secc.fetched`."""

    request: bytes


@dataclass(frozen=True)
class Authorized:
    """The session is authorized: the record that is billed."""

    emaid: str
    session_id: bytes
    evseid: str
    time: int
    contract_serial: int


@dataclass(frozen=True)
class Closed:
    """The session is over; the connection is to be closed. reason: "" after a regular end."""

    reason: str = ""


Event = Message | Fetch | Authorized | Closed
Step = tuple[list[bytes], list[Event]]  # frames to send, events
