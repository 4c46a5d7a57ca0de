"""The state of the vehicle when it got a message: its roots, its clock, its open request."""

from dataclasses import dataclass

from evcc.x509 import Certificate
from plugvault.explanation.steps import Message


@dataclass(frozen=True)
class Circumstances:
    """The known parts of that state. A step that needs an unknown part is not judged.

    anchors: (kind, root), kind "V2G", "MO" or "OEM". at: Unix seconds. is_asked: whether a request
    was open; session: its SessionID; emaid: the EMAID that it named. earlier: the messages that
    the vehicle had installed before, with their names.
    """

    anchors: tuple[tuple[str, Certificate], ...] = ()
    at: int | None = None
    is_asked: bool | None = None
    session: bytes | None = None
    emaid: str | None = None
    earlier: tuple[tuple[str, Message], ...] = ()


UNKNOWN = Circumstances()
