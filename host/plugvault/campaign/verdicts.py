"""The verdict of a case, from the observation of it.

A refusal proves something only where a good message in its place is accepted: each case has a good
twin. An acceptance proves something only where the contract's key then signs.
"""

from dataclasses import dataclass, field

from plugvault.campaign.cases import CampaignCase, Message
from plugvault.campaign.vocabulary import ACCEPTED, REFUSED, STATION, Hello

PASSED = "pass"  # as the case wants it
WEAK = "weak pass"  # as the case wants it, without the proof, or at another stage
FAIL = "fail"
INCONCLUSIVE = "inconclusive"  # the good twin was not accepted
NOT_APPLICABLE = "not applicable"  # the module cannot be tried with it
VERDICTS = (PASSED, WEAK, FAIL, INCONCLUSIVE, NOT_APPLICABLE)


@dataclass(frozen=True)
class Outcome:
    """The end of one message. kind: ACCEPTED, REFUSED, or a reason of `ModuleError`; stage: as the
    module names it."""

    kind: str
    stage: str = ""
    reason: str = ""
    milliseconds: float = 0.0
    emaid: str = ""  # of the installed contract, as the module names it
    trace: dict[str, str] = field(default_factory=dict)
    signs: bool | None = None  # as `vocabulary.Answer`


@dataclass
class Observation:
    """All observations of one case. None: not tried, or not possible with this module.

    signs: the contract of an accepted message signs. earlier_signs: after a refusal, the contract
    of the twin signs. earlier_are_whole: after an acceptance, each contract of another EMAID
    signs, or is gone. unchanged: the module's state is the same after a refusal. fault: the text
    of another request to which the module gave no answer; "" for none.
    """

    twin: Outcome
    before: list[Outcome] = field(default_factory=list)
    message: Outcome | None = None
    signs: bool | None = None
    earlier_signs: bool | None = None
    earlier_are_whole: bool | None = None
    unchanged: bool | None = None
    after: Outcome | None = None
    fault: str = ""


def inapplicable(case: CampaignCase, hello: Hello) -> str:
    """The reason why this case cannot be tried with this module; "" when it can."""
    if not set(case.facts["editions"]) & set(hello.editions):
        return "another edition of ISO 15118"
    if case.timing is not None and STATION not in hello.can:
        return "only a station decides when the bytes come: --module station:IF"
    if case.emaid is not None and STATION in hello.can:
        return "a request at a station names no contract"
    return ""


def judge(case: CampaignCase, seen: Observation) -> tuple[str, str]:
    """(verdict, the reason in words). The reason is "" for a plain pass."""
    if seen.twin.kind != ACCEPTED:
        return INCONCLUSIVE, f"the good twin was not accepted: {_said(seen.twin)}"
    for before, outcome in zip(case.before, seen.before, strict=False):
        if not is_as_wanted(before, outcome):
            return INCONCLUSIVE, f"the message before was not accepted: {_said(outcome)}"
    message = seen.message
    if message is None:
        return INCONCLUSIVE, "the message was not tried"
    if message.kind == "not-given":
        broken = _broken(seen)
        return (FAIL, broken) if broken else (NOT_APPLICABLE, _NOT_GIVEN)
    if message.kind == "no-request":
        return INCONCLUSIVE, message.reason
    if message.kind not in (ACCEPTED, REFUSED):
        return FAIL, f"{message.kind}: {message.reason}"
    if case.must not in ("either", _MUST[message.kind]):
        return FAIL, f"{message.kind}: {_said(message)}" if message.reason else message.kind
    broken = _broken(seen)
    if broken:
        return FAIL, f"{broken}: {message.reason}" if seen.signs is False else broken
    return _strength(case, message, seen)


def is_as_wanted(before: Message, outcome: Outcome) -> bool:
    """Whether a case continues after this end of a message before the case's own."""
    return outcome.kind == ACCEPTED or (before.may_be_refused and outcome.kind == REFUSED)


_NOT_GIVEN = "the adapter cannot give the module this message: it cannot be decoded"
_MUST = {ACCEPTED: "accept", REFUSED: "refuse"}


def _broken(seen: Observation) -> str:
    """A fault beyond the module's answer; "" for none."""
    if seen.fault:
        return seen.fault
    if seen.signs is False:
        return "accepted, but the contract's key does not sign"
    if seen.earlier_signs is False:
        return "refused, and the earlier contract does not sign any more"
    if seen.earlier_are_whole is False:
        return "accepted, and a contract of another EMAID signs with a wrong key"
    if seen.unchanged is False:
        return "refused, and the module's state is another"
    if seen.after is not None and seen.after.kind != ACCEPTED:
        return f"afterwards a good message is not accepted: {_said(seen.after)}"
    return ""


def _strength(case: CampaignCase, message: Outcome, seen: Observation) -> tuple[str, str]:
    if message.kind == ACCEPTED and seen.signs is None:
        return WEAK, "accepted; no signature proves the key"
    if message.kind == REFUSED and case.stage and message.stage not in ("", case.stage):
        return WEAK, f"refused at {message.stage!r}, not at {case.stage!r}"
    return PASSED, ""


def _said(outcome: Outcome) -> str:
    words = [outcome.kind, outcome.stage, outcome.reason]
    return ", ".join(word for word in words if word)
