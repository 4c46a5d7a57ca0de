"""The oracle: how much a refusal tells its sender about the opened key.

A sender that can distinguish a refusal after the opening of the key from one before it can find a
recorded contract key with many messages, because AES-CBC has no integrity [padding oracle]. The
comparison is a remark beside the verdicts, and changes none of them.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plugvault.campaign.verdicts import Outcome
from plugvault.campaign.vocabulary import REFUSED

AFTER = "key"  # the stage of `plugvault.cases.case.STAGES` that has used the provisioning key
_CLEAR = 0.9  # of all pairs: a few messages show such a difference
_ENDS = (REFUSED, "crash", "timeout", "answer")  # that a message has caused
_FEWEST = 3  # refusals on each side, for a comparison of times


@dataclass(frozen=True)
class Refusals:
    """The refusals on one side of the key's opening. ends: the distinct kinds of `Outcome`. words:
    the distinct texts of the module. milliseconds: of each refusal."""

    cases: tuple[str, ...]
    ends: tuple[str, ...]
    words: tuple[str, ...]
    milliseconds: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """The refusals as JSON, their times as median and maximum."""
        times = self.milliseconds
        return {
            "cases": list(self.cases),
            "ends": list(self.ends),
            "words": list(self.words),
            "median_ms": round(statistics.median(times), 3) if times else None,
            "longest_ms": max(times, default=None),
        }


@dataclass(frozen=True)
class Oracle:
    """The comparison of both sides.

    by_answer: whether the end itself differs, such as a crash instead of a refusal. by_words:
    whether the module's texts differ. later: the part of all pairs in which the refusal after the
    opening takes longer, from 0 to 1, 0.5 for no difference. Each is None where a side has too few
    refusals.
    """

    before: Refusals
    after: Refusals
    by_answer: bool | None
    by_words: bool | None
    later: float | None

    @property
    def by_time(self) -> bool | None:
        """Whether a sender can tell the sides apart by a few measurements of time."""
        return None if self.later is None else max(self.later, 1 - self.later) >= _CLEAR

    @property
    def sentence(self) -> str:
        """The comparison in words."""
        if self.by_answer is None:
            return "Not compared: no refusal before the key was opened, or none after it."
        differences = {
            "answer": self.by_answer,
            "time": self.by_time,
            "own words": self.by_words,
        }
        names = [name for name, differs in differences.items() if differs]
        if not names:
            return "A refusal after the key was opened looks like one before it."
        return (
            "A refusal after the key was opened differs from one before it in its "
            f"{' and its '.join(names)}. A sender must see no difference."
        )

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON."""
        return {
            "sentence": self.sentence,
            "by_answer": self.by_answer,
            "by_time": self.by_time,
            "by_words": self.by_words,
            "later": self.later,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def compare(outcomes: Sequence[tuple[str, str, Outcome]]) -> Oracle:
    """The comparison of all that was refused, and of the faults in its place.

    outcomes: [(case, the stage that should refuse, outcome)]. The stage that a module names counts
    in place of the case's. Without any stage ("") an outcome is on no side.
    """
    sides: dict[bool, list[tuple[str, Outcome]]] = {False: [], True: []}
    for case, stage, outcome in outcomes:
        if outcome.kind in _ENDS and stage:
            sides[(outcome.stage or stage) == AFTER].append((case, outcome))
    before, after = _refusals(sides[False]), _refusals(sides[True])
    if not before.cases or not after.cases:
        return Oracle(before, after, None, None, None)
    return Oracle(
        before,
        after,
        by_answer=set(before.ends) != set(after.ends),
        by_words=not set(before.words) & set(after.words),
        later=_later(before.milliseconds, after.milliseconds),
    )


def _refusals(outcomes: Sequence[tuple[str, Outcome]]) -> Refusals:
    return Refusals(
        cases=tuple(case for case, _ in outcomes),
        ends=tuple(sorted({outcome.kind for _, outcome in outcomes})),
        words=tuple(sorted({f"{outcome.stage} {outcome.reason}" for _, outcome in outcomes})),
        milliseconds=tuple(outcome.milliseconds for _, outcome in outcomes),
    )


def _later(before: Sequence[float], after: Sequence[float]) -> float | None:
    """The statistic of Mann and Whitney, as a part of all pairs; equal times count half."""
    if min(len(before), len(after)) < _FEWEST:
        return None
    pairs = [(earlier, other) for earlier in before for other in after]
    later = sum(1.0 if other > earlier else 0.5 * (other == earlier) for earlier, other in pairs)
    return round(later / len(pairs), 3)
