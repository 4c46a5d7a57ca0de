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
class Charging:
    """The energy flows. mode: the EnergyTransferMode."""

    session_id: bytes
    mode: str


@dataclass(frozen=True)
class Charged:
    """The energy has stopped. emaid: "" where no contract pays; energy: Wh; exchanges: the number
    of status requests."""

    session_id: bytes
    emaid: str
    energy: int
    exchanges: int


@dataclass(frozen=True)
class Paused:
    """The vehicle has paused the session and may continue it later."""

    session_id: bytes


@dataclass(frozen=True)
class Closed:
    """The session has ended; its owner closes the connection. reason: "" after a regular end."""

    reason: str = ""


Event = Message | Fetch | Authorized | Charging | Charged | Paused | Closed
Step = tuple[list[bytes], list[Event]]  # frames to send, events
