"""The result of a campaign as values, and as JSON."""

import datetime as dt
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from plugvault.campaign import oracle
from plugvault.campaign.known import Known
from plugvault.campaign.verdicts import (
    FAIL,
    INCONCLUSIVE,
    NOT_APPLICABLE,
    PASSED,
    VERDICTS,
    WEAK,
    Outcome,
)

FORMAT, VERSION = "plugvault-campaign", 1
_PUBLIC = {"iv"}  # the value of a trace that is in the message itself


@dataclass(frozen=True)
class CaseResult:
    """One case's verdict. facts: the case's row of the manifest. deviation: in words; "" when the
    verdict is as expected. explanation: of a deviation, with a test key; steps as JSON."""

    id: str
    verdict: str
    why: str
    deviation: str
    known: Known | None
    facts: dict[str, Any]
    message: Outcome | None
    explanation: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """A whole campaign.

    at: Unix seconds, the time of the cases. seconds: the duration. command: the line that
    reproduces the campaign. again: the line that carries out one case again, followed by `--only
    ID`. left_out: {case that was not made: the reason}, for a PKI without some of its keys.
    not_tried: the cases that remained after a user's Ctrl-C.
    """

    module: str
    version: str
    can: tuple[str, ...]
    vehicle: str
    at: int
    seed: int
    cases_sha256: str
    command: str
    begun: str
    seconds: float
    cases: list[CaseResult] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    again: str = ""
    not_tried: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """{verdict: cases}, in the order of VERDICTS."""
        counted = Counter(case.verdict for case in self.cases)
        return {verdict: counted[verdict] for verdict in VERDICTS}

    @property
    def deviations(self) -> list[CaseResult]:
        """The cases whose verdict is not as expected."""
        return [case for case in self.cases if case.deviation]

    @property
    def oracle(self) -> oracle.Oracle:
        """The comparison of refusals after the opening of the key with those before it."""
        outcomes = ((case.id, case.facts["stage"], case.message) for case in self.cases)
        return oracle.compare([(ident, stage, one) for ident, stage, one in outcomes if one])

    @property
    def sentence(self) -> str:
        """The verdict of the whole campaign."""
        counts, number = self.counts, len(self.cases)
        name = f"{self.module} {self.version}".strip()
        good = counts[PASSED] + counts[WEAK]
        details = [
            f"{counts[verdict]} {verdict}"
            for verdict in (WEAK, FAIL, INCONCLUSIVE, NOT_APPLICABLE)
            if counts[verdict]
        ]
        text = f"{name} does as it must in {good} of {number} cases"
        if details:
            text += f" ({', '.join(details)})"
        if self.not_tried:
            text = f"Stopped by the user, not tried: {len(self.not_tried)}. {text}"
        elif counts[INCONCLUSIVE] == number:
            return f"{text}: it takes no good message. Look at its roots, its clock and its key."
        if not self.deviations:
            return text + ("." if self.not_tried else ": as expected.")
        many = len(self.deviations)
        return f"{text}: {many} deviation{'' if many == 1 else 's'}."


def deviation_of(verdict: str, why: str, known: Known | None, today: dt.date) -> str:
    """How a verdict differs from the expected one; "" when it does not. today: for the last day of
    `known`."""
    if known is None:
        return why or verdict if verdict in (FAIL, INCONCLUSIVE) else ""
    if known.is_over(today):
        return f"the known failure ended on {known.until}"
    if verdict in (PASSED, WEAK):
        return "an unexpected pass: the known failure is gone, take its entry out"
    return ""


def to_json(result: Result, secrets: bool = False) -> dict[str, Any]:
    """The whole result; dates as text. secrets: with all values of a module's trace, which reveal
    the contract key; otherwise each is None except the IV."""
    document = asdict(result)
    for case in document["cases"]:
        if case["known"] is not None:
            case["known"]["until"] = str(case["known"]["until"])
        if case["message"] is not None and not secrets:
            trace = case["message"]["trace"]
            trace.update(dict.fromkeys(trace.keys() - _PUBLIC))
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "sentence": result.sentence,
        "counts": result.counts,
        "oracle": result.oracle.to_json(),
        **document,
    }


def verdicts_of(document: dict[str, Any]) -> dict[str, str]:
    """{case: verdict} of a result as JSON. Raises KeyError, TypeError for another document."""
    return {str(case["id"]): str(case["verdict"]) for case in document["cases"]}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[tuple[str, str, str]]:
    """[(case, old verdict, new verdict)] of two results as JSON; "" where one lacks the case."""
    before, after = verdicts_of(old), verdicts_of(new)
    return [
        (ident, before.get(ident, ""), after.get(ident, ""))
        for ident in sorted({*before, *after})
        if before.get(ident) != after.get(ident)
    ]
