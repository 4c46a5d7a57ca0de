"""A test case: one message, what a module must do with it, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from plugvault.cases.scene import Scene

ACCEPT, REFUSE, EITHER = "accept", "refuse", "either"

# The steps of a module between the message and the stored contract, in their usual order. A
# refusal names the step that should refuse.
STAGES = {
    "time": "the response is there in time, and whole",
    "decode": "the message is read: V2GTP, EXI, its schema",
    "response-code": "the ResponseCode is OK",
    "session": "the message answers the request that is open",
    "cps-path": "the path of the CPS certificate, to a V2G root",
    "signature": "the four references and the signature of the CPS",
    "contract-path": "the path of the contract certificate",
    "emaid": "the EMAID",
    "admitted": "there is room, and the contract is new",
    "key-transport": "DH point, ciphertext, key agreement",
    "key": "the opened key is that of the certificate",
}

SILENCE, CLOSE, RESET = "silence", "close", "reset"


@dataclass(frozen=True)
class Timing:
    """The times of a message's bytes, at a station of this project.

    delay: seconds before the first byte. seconds: from the first byte to the last one. part: the
    sent part of the bytes, from 0 to 1; end: what follows them, SILENCE, CLOSE or RESET.
    """

    delay: float = 0.0
    seconds: float = 0.0
    part: float = 1.0
    end: str = SILENCE


Change = Callable[[Scene], dict[str, Any]]
"""A scene -> the arguments of `Scene.response` that make this case."""


def _no_messages(scene: Scene) -> list[bytes]:
    return []


@dataclass(frozen=True)
class Case:
    """One case. Its texts are sentences for an engineer who has to check a verdict.

    id: group and number, which never change. must: ACCEPT, REFUSE or EITHER. requirement: of the
    standard ("V2G2-823"), of another document, or "house" for a rule of this project alone.
    because: the reason of the rule. gain: what an attacker gains where a module breaks it. stage:
    a key of STAGES, the step that should refuse. change: makes the message; or `message`, for a
    message that is more than a change. before: messages that the module gets first; before_must:
    ACCEPT, or EITHER where its store may be full. asked: whether a request of the module is open.
    announced: whether the request names the EMAID. timing: for a message that only a station can
    send so. editions: of ISO 15118.
    """

    id: str
    title: str
    must: str
    requirement: str
    because: str
    gain: str = ""
    stage: str = ""
    change: Change | None = None
    message: Callable[[Scene], bytes] | None = None
    before: Callable[[Scene], list[bytes]] = _no_messages
    before_must: str = ACCEPT
    asked: bool = True
    announced: bool = False
    timing: Timing | None = None
    editions: tuple[str, ...] = ("2",)
    tags: tuple[str, ...] = field(default=())

    @property
    def group(self) -> str:
        """The key of the case's group, as in "KT"."""
        return self.id.split("-")[0]

    def build(self, scene: Scene) -> Built:
        """The messages of this case. The same scene gives the same bytes."""
        before = self.before(scene)
        if self.message is not None:
            return Built(before, self.message(scene), scene.unchanged)
        changes = self.change(scene) if self.change else {}
        return Built(before, scene.response(**changes), scene.unchanged)


@dataclass(frozen=True)
class Built:
    """The messages of a case, EXI. before: messages that must be accepted first, in this order.
    unchanged: the case's message without its change; None where the message is no change of a good
    one."""

    before: list[bytes]
    message: bytes
    unchanged: bytes | None
