"""The oracle: the comparison of refusals before and after the key was opened."""

from __future__ import annotations

import pytest

from plugvault.campaign import oracle
from plugvault.campaign.verdicts import Outcome

REFUSED = "refused"


def refusals(stage: str, *milliseconds: float, said: str = "", kind: str = REFUSED) -> list:
    return [
        (f"{stage}-{number}", stage, Outcome(kind, said, "no", time))
        for number, time in enumerate(milliseconds)
    ]


def test_equal_refusals_show_nothing() -> None:
    compared = oracle.compare([*refusals("signature", 1, 2, 3), *refusals("key", 1, 2, 3)])
    assert (compared.by_answer, compared.by_time, compared.by_words) == (False, False, False)
    assert compared.later == 0.5
    assert "looks like" in compared.sentence


@pytest.mark.parametrize("key", [(9, 8, 7), (0.1, 0.2, 0.3)])
def test_a_clear_difference_of_time_is_named_in_both_directions(key: tuple[float, ...]) -> None:
    compared = oracle.compare([*refusals("signature", 1, 2, 3), *refusals("key", *key)])
    assert compared.by_time
    assert not compared.by_answer
    assert "in its time." in compared.sentence


def test_a_crash_after_the_key_is_another_answer() -> None:
    compared = oracle.compare(
        [*refusals("signature", 1, 2, 3), *refusals("key", 1, 2, 3, kind="crash")]
    )
    assert compared.by_answer
    assert "in its answer." in compared.sentence


def test_the_stage_that_a_module_names_decides() -> None:
    said = [("KT-040", "key", Outcome(REFUSED, "signature", "early", 1.0))]
    compared = oracle.compare([*refusals("signature", 1), *said, *refusals("key", 1, said="key")])
    assert compared.before.cases == ("signature-0", "KT-040")
    assert compared.by_words
    assert "own words" in compared.sentence


def test_one_side_alone_is_not_compared() -> None:
    accepted = refusals("key", 1, 2, 3, kind="accepted")
    compared = oracle.compare([*refusals("signature", 1, 2, 3), *accepted])
    assert (compared.by_answer, compared.by_time, compared.by_words) == (None, None, None)
    assert "Not compared" in compared.sentence
    assert compared.to_json()["after"]["median_ms"] is None


def test_two_refusals_are_too_few_for_times() -> None:
    compared = oracle.compare([*refusals("signature", 1, 2), *refusals("key", 5, 6)])
    assert compared.by_time is None
    assert compared.by_answer is False


def test_one_crash_among_refusals_is_another_answer() -> None:
    crash = refusals("key", 1, kind="crash")
    compared = oracle.compare([*refusals("signature", 1, 2), *refusals("key", 1, 2), *crash])
    assert compared.by_answer


@pytest.mark.parametrize("kind", ["no-request", "not-given", "unable"])
def test_a_message_that_did_not_reach_the_module_is_no_refusal(kind: str) -> None:
    compared = oracle.compare([*refusals("signature", 1, kind=kind), *refusals("key", 1)])
    assert compared.before.cases == ()
    assert compared.by_answer is None
