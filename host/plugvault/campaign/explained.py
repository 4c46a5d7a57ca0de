"""The explanation of a case's message, for a report: with the key of a test vehicle."""

from dataclasses import replace
from typing import Any

from evcc import x509
from evcc.errors import EvccError
from plugvault.campaign.cases import Campaign, CampaignCase
from plugvault.campaign.result import CaseResult, Result
from plugvault.campaign.verdicts import Outcome
from plugvault.explanation import Circumstances, KeyAgreement, Step, message_of
from plugvault.explanation import explain as steps_of
from plugvault.explanation.deviation import NAMES, first_deviation


def with_explanations(result: Result, campaign: Campaign, key: KeyAgreement) -> Result:
    """The result with an explanation of each deviation. key: the vehicle's provisioning key."""
    cases = {case.id: case for case in campaign.cases}

    def explained(entry: CaseResult) -> CaseResult:
        if not entry.deviation:
            return entry
        steps = explanation(campaign, cases[entry.id], entry.message, key)
        return replace(entry, explanation=[document_of(step) for step in steps])

    return replace(result, cases=[explained(entry) for entry in result.cases])


def explanation(
    campaign: Campaign, case: CampaignCase, outcome: Outcome | None, key: KeyAgreement
) -> list[Step]:
    """The steps of the case's message, and the first wrong value of the module's trace."""
    order = [case.twin, *case.before, case.message]
    try:
        steps = steps_of(case.message.exi, circumstances_of(campaign, case, len(order) - 1), key)
    except EvccError as error:
        return [Step("message", "", False, error.detail or str(error))]
    if outcome is not None and outcome.trace:
        steps += _of_trace(case.message.exi, outcome.trace, key)
    return steps


def circumstances_of(campaign: Campaign, case: CampaignCase, number: int) -> Circumstances:
    """The vehicle's state when it gets a message of the case: the twin is number 0, then come the
    messages before, and the case's own."""
    order = [case.twin, *case.before, case.message]
    session = order[number].session
    return Circumstances(
        anchors=tuple((kind, x509.parse(der)) for kind, der in campaign.trust),
        at=campaign.at,
        is_asked=session is not None,
        session=session,
        emaid=case.emaid,
        earlier=tuple((entry.name, message_of(entry.exi)) for entry in order[:number]),
    )


def document_of(step: Step, secrets: bool = False) -> dict[str, Any]:
    """A step as JSON. secrets: with the values that give the contract key away."""
    value = step.value.hex() if isinstance(step.value, bytes) else step.value
    return {
        "name": step.name,
        "value": None if step.secret and not secrets else value,
        "bytes": len(step.value) if isinstance(step.value, bytes) else None,
        "good": step.good,
        "note": step.note,
    }


def _of_trace(exi: bytes, trace: dict[str, str], key: KeyAgreement) -> list[Step]:
    """The first wrong value of the module's trace; no step for a message or a trace that cannot be
    compared."""
    try:
        values = {name: bytes.fromhex(trace[name]) for name in NAMES if trace.get(name)}
        return [first_deviation(message_of(exi), key, values)] if values else []
    except (EvccError, ValueError):
        return []
