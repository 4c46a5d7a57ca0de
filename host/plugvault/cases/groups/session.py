"""SE: the response answers the request that is open, once, and is newer than what is there."""

from plugvault.cases.case import ACCEPT, EITHER, REFUSE, Case
from plugvault.cases.scene import OTHER_EMAID, Scene

_HEADER = "ISO 15118-2, 8.3.3 (SessionID)"
_OTHER_SESSION = "A message of one session is brought into another."
_HOUSE = "house"


def _first_contract(scene: Scene) -> list[bytes]:
    return [scene.response()]


def _renewed_twice(scene: Scene) -> list[bytes]:
    return [scene.response(), scene.response(ephemeral=scene.key("ephemeral 2"))]


def _first_again(scene: Scene) -> bytes:
    """The first of `_renewed_twice`, byte for byte."""
    again = Scene(scene.pki, scene.vehicle, scene.case, scene.slot)
    return again.response()


CASES = [
    Case(
        "SE-001",
        "another session's SessionID",
        REFUSE,
        _HEADER,
        "The response belongs to another session.",
        _OTHER_SESSION,
        "session",
        change=lambda scene: {"session": scene.octets("other session", 8)},
    ),
    Case(
        "SE-002",
        "a SessionID of one zero byte, as the pool makes it",
        REFUSE,
        _HEADER,
        "The station puts the session's ID in; the pool's own form reaches no vehicle.",
        _OTHER_SESSION,
        "session",
        change=lambda scene: {"session": b"\0"},
    ),
    Case(
        "SE-003",
        "the SessionID without its last byte",
        REFUSE,
        _HEADER,
        "It is another number.",
        _OTHER_SESSION,
        "session",
        change=lambda scene: {"session": scene.session[:-1]},
    ),
    Case(
        "SE-004",
        "a response without a request",
        REFUSE,
        "ISO 15118-2, 8.8.3",
        "A response follows a request of the vehicle.",
        "A station plants contracts in vehicles that only charge.",
        "session",
        asked=False,
    ),
    Case(
        "SE-005",
        "a second response after an installed one, without a second request",
        REFUSE,
        "ISO 15118-2, 8.8.3",
        "One request has one response.",
        "A station plants contracts beside the requested one.",
        "session",
        before=_first_contract,
        change=lambda scene: {"ephemeral": scene.key("ephemeral 2")},
        asked=False,
    ),
    Case(
        "SE-006",
        "the EMAID that the request announced",
        ACCEPT,
        _HOUSE,
        "A request over the air names the contract it is for.",
        announced=True,
    ),
    Case(
        "SE-007",
        "another EMAID than the request announced",
        REFUSE,
        _HOUSE,
        "A request over the air names the contract it is for.",
        "A good message for another contract takes its place.",
        "emaid",
        change=lambda scene: {"contract": scene.contract(OTHER_EMAID)},
        announced=True,
    ),
    Case(
        "SE-010",
        "a newer contract for the same EMAID",
        ACCEPT,
        _HOUSE,
        "Contracts are renewed; the old key is then of no use.",
        before=_first_contract,
        change=lambda scene: {"ephemeral": scene.key("ephemeral 2")},
    ),
    Case(
        "SE-011",
        "the installed message once more",
        EITHER,
        _HOUSE,
        "The same contract changes nothing; a refusal is right too.",
        before=_first_contract,
        message=_first_again,
    ),
    Case(
        "SE-012",
        "the first of two contracts, after the second",
        REFUSE,
        _HOUSE,
        "A message that was good once is not good for ever.",
        "A recorded message brings back a contract that was replaced, or ended.",
        "admitted",
        before=_renewed_twice,
        message=_first_again,
    ),
    Case(
        "SE-013",
        "a contract that is older than the installed one",
        REFUSE,
        _HOUSE,
        "A renewal is newer than what it replaces.",
        "Messages that were never delivered bring back contracts that ended.",
        "admitted",
        before=_first_contract,
        change=lambda scene: {
            "contract": scene.contract(not_before=scene.pki.now - 100 * 86_400),
            "ephemeral": scene.key("ephemeral 2"),
        },
    ),
]
