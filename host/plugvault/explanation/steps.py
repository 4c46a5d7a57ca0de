"""A step of the explanation, and the message that is explained."""

from dataclasses import dataclass
from typing import Any

from evcc import exi
from evcc.errors import EvccError
from evcc.link import v2gtp

Message = dict[str, Any]


class ExplainError(EvccError):
    """An input that is no message that can be explained ("message"), no key ("key"), no root
    ("trust") or no value ("theirs")."""

    REASONS = ("message", "key", "theirs", "trust")


@dataclass(frozen=True)
class Step:
    """One value of the computation.

    value: bytes, or a text. good: whether it is correct; None: there is nothing to compare it
    with. note: in words. secret: True for a value that reveals the contract key.
    """

    name: str
    value: bytes | str
    good: bool | None = None
    note: str = ""
    secret: bool = False


def document_of(data: bytes) -> bytes:
    """The EXI document of some bytes: the bytes themselves, or the content of their one V2GTP
    frame.

    Raises ExplainError("message").
    """
    if not data.startswith(b"\x01\xfe"):
        return data
    try:
        documents = v2gtp.PayloadReader().feed(data)
    except (EvccError, ValueError) as error:
        raise ExplainError("message", f"it is no V2GTP frame: {error}") from error
    if len(documents) != 1:
        raise ExplainError(
            "message", f"{len(documents)} whole V2GTP frames; `plugvault inspect` reads them all"
        )
    return bytes(documents[0])


def message_of(data: bytes) -> Message:
    """A CertificateInstallationRes or CertificateUpdateRes: {"header": …, "body": …}.

    data: EXI, or V2GTP with EXI in it. Raises ExplainError("message").
    """
    try:
        message = exi.decode(document_of(data))["V2G_Message"]
        (name,) = message["Body"]
    except ExplainError:
        raise
    except (EvccError, ValueError, KeyError) as error:
        raise ExplainError("message", f"it is no message of ISO 15118-2: {error}") from error
    if name not in ("CertificateInstallationRes", "CertificateUpdateRes"):
        raise ExplainError(
            "message", f"a {name} carries no contract; `plugvault inspect` reads it"
        )
    return {"header": message["Header"], "body": message["Body"][name]}
