"""The messages between a campaign and a module, version 1: one JSON object a line.

    → {"op": "hello", "v": 1}
    ← {"v": 1, "module": "ACME", "version": "4.2", "can": ["reset", "sign"], "editions": ["2"]}
    → {"op": "begin", "case": "KT-014", "reset": true, "at": 1790000000,
       "trust": [{"kind": "V2G", "der": "base64"}], "session": "0102030405060708", "emaid": null}
    ← {}
    → {"op": "install", "message": "base64"}
    ← {"verdict": "accepted", "emaid": "DEPVT0000000012"}
    ← {"verdict": "refused", "stage": "key", "reason": "d*G is not the certificate's key"}
    → {"op": "sign", "emaid": "DEPVT0000000012", "digest": "hex, 32 bytes"}
    ← {"signature": "hex, r | s"}
    → {"op": "state"}
    ← {"contracts": ["DEPVT0000000012"], "hash": "any text that differs when the state does"}

A module needs `install` alone; `can` names the rest: "reset" (begin with "reset": true forgets all
contracts), "clock" (it takes "at" as its time), "trust" (it takes "trust" as its roots), "sign",
"state", "trace". An answer {"error": "text"} says that the module cannot carry out the request; to
`install` it is no answer, and fails the case: a message is accepted or refused.
`schema.json` is the same as a JSON schema.
"""

import base64
import binascii
import json
from dataclasses import dataclass, field
from typing import Any

from evcc.errors import EvccError
from plugvault.cases.case import Timing

VERSION = 1
ABILITIES = ("reset", "clock", "trust", "sign", "state", "trace")
STATION = "station"  # the ability of `station:` alone: it decides when which byte is sent
ACCEPTED, REFUSED = "accepted", "refused"
MAX_LINE = 1 << 20  # bytes of an answer

Json = dict[str, Any]


class ModuleError(EvccError):
    """A module that gave no answer, or an answer that is not valid."""

    REASONS = (
        "crash",  # its process ended, or its connection did
        "timeout",
        "answer",  # not JSON, or not an answer to the request
        "unable",  # it says that it cannot
        "not-given",  # the adapter cannot give it the message
        "no-request",  # at a station: no vehicle came, or it asked for no contract
    )


@dataclass(frozen=True)
class Hello:
    """A module's description of itself. can: its abilities; editions: of ISO 15118, "2"."""

    module: str = "a module without a name"
    version: str = ""
    can: frozenset[str] = frozenset()
    editions: tuple[str, ...] = ("2",)


@dataclass(frozen=True)
class Begin:
    """The state that the next message meets. case: its id. reset: forget all contracts first. at:
    Unix seconds. trust: (kind, DER) of each root. session: of the open request, 8 bytes; None: no
    request is open. emaid: the one that this request names, or None."""

    case: str
    reset: bool
    at: int
    trust: tuple[tuple[str, bytes], ...]
    session: bytes | None
    emaid: str | None
    timing: Timing | None = None  # of the message's bytes, at a station


@dataclass(frozen=True)
class Answer:
    """A module's answer to a message.

    signs: at a station, whether the contract that the vehicle pays with has signed. milliseconds:
    measured by the adapter; None: by the campaign, around the call.
    """

    verdict: str
    stage: str = ""
    reason: str = ""
    emaid: str = ""
    trace: dict[str, str] = field(default_factory=dict)
    signs: bool | None = None
    milliseconds: float | None = None


def hello_request() -> Json:
    """The request for the module's description."""
    return {"op": "hello", "v": VERSION}


def begin_request(begin: Begin) -> Json:
    """The request that sets the state."""
    return {
        "op": "begin",
        "case": begin.case,
        "reset": begin.reset,
        "at": begin.at,
        "trust": [{"kind": kind, "der": _base64(der)} for kind, der in begin.trust],
        "session": None if begin.session is None else begin.session.hex(),
        "emaid": begin.emaid,
    }


def install_request(message: bytes) -> Json:
    """The request with a message, EXI."""
    return {"op": "install", "message": _base64(message)}


def sign_request(emaid: str, digest: bytes) -> Json:
    """The request for a signature. digest: 32 bytes."""
    return {"op": "sign", "emaid": emaid, "digest": digest.hex()}


def state_request() -> Json:
    """The request for the module's state."""
    return {"op": "state"}


def parse(line: bytes) -> Json:
    """The answer in a line. Raises ModuleError: "answer" for no JSON object, "unable" for an error
    of the module."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ModuleError("answer", f"not JSON: {line[:80]!r}") from error
    if not isinstance(answer, dict):
        raise ModuleError("answer", f"not an object: {line[:80]!r}")
    if "error" in answer:
        raise ModuleError("unable", clean(answer["error"])[:200])
    return answer


def hello_of(answer: Json) -> Hello:
    """The description in an answer. Raises ModuleError("answer")."""
    if answer.get("v") != VERSION:
        raise ModuleError(
            "answer", f"the module speaks version {answer.get('v')!r}, not {VERSION}"
        )
    abilities = answer.get("can", [])
    if not isinstance(abilities, list):
        raise ModuleError("answer", f"can is a list, not {abilities!r}")
    unknown = [ability for ability in abilities if ability not in ABILITIES]
    if unknown:
        raise ModuleError("answer", f"unknown abilities: {', '.join(sorted(map(clean, unknown)))}")
    editions = answer.get("editions", ["2"])
    if not isinstance(editions, list):
        raise ModuleError("answer", f"editions is a list, not {editions!r}")
    return Hello(
        _text(answer, "module") or Hello.module,
        _text(answer, "version"),
        frozenset(abilities),
        tuple(map(clean, editions)),
    )


def answer_of(answer: Json) -> Answer:
    """The verdict in an answer to `install`. Raises ModuleError("answer")."""
    verdict = answer.get("verdict")
    if verdict not in (ACCEPTED, REFUSED):
        raise ModuleError("answer", f"the verdict is {ACCEPTED} or {REFUSED}, not {verdict!r}")
    trace = answer.get("trace") or {}
    if not isinstance(trace, dict):
        raise ModuleError("answer", "the trace is not an object")
    return Answer(
        verdict,
        _text(answer, "stage"),
        _text(answer, "reason"),
        _text(answer, "emaid"),
        {clean(name): clean(value) for name, value in trace.items()},
    )


def signature_of(answer: Json) -> bytes:
    """The signature in an answer: r | s, 64 bytes. Raises ModuleError("answer")."""
    try:
        signature = bytes.fromhex(str(answer.get("signature", "")))
    except ValueError as error:
        raise ModuleError("answer", "the signature is not hexadecimal") from error
    if len(signature) != 64:
        raise ModuleError("answer", f"the signature has {len(signature)} bytes, not 64")
    return signature


def state_of(answer: Json) -> str:
    """The state in an answer, as a text that is the same for the same state. Raises
    ModuleError("answer")."""
    if "contracts" not in answer and "hash" not in answer:
        raise ModuleError("answer", "a state has contracts, or a hash")
    return json.dumps([answer.get("contracts"), answer.get("hash")], sort_keys=True)


def decoded(request: Json, name: str) -> bytes:
    """The bytes of a base64 member, for a module in Python. Raises ValueError."""
    try:
        return base64.b64decode(request[name], validate=True)
    except (KeyError, TypeError, binascii.Error) as error:
        raise ValueError(f"{name} is not base64") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _text(answer: Json, name: str) -> str:
    return clean(answer.get(name) or "")[:2000]


def clean(value: object) -> str:
    """The text of a module's value, without lone surrogates, which no report can contain."""
    return str(value).encode("utf-8", "backslashreplace").decode()
