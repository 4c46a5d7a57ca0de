"""One case in the report: what happened, why it must be otherwise, and how to try it again."""

from typing import Any

from plugvault.campaign import html_changes
from plugvault.campaign.markup import Html, joined, pairs, tag
from plugvault.campaign.result import CaseResult

_SIGNS = {True: "✓", False: "✗", None: "·"}
_MOST = 96  # digits of an explained value


def kind_of(verdict: str) -> str:
    """The CSS class of a verdict."""
    return verdict.replace(" ", "-")


def badge(verdict: str) -> Html:
    return tag("span", verdict, kind=f"badge {kind_of(verdict)}")


def to_html(case: CaseResult, again: str) -> Html:
    """The box of one case. again: the command line that carries out this case again."""
    facts = case.facts
    title = tag("h3", badge(case.verdict), " ", tag("b", case.id), " ", facts["title"])
    parts = [title, pairs(_rows(case))]
    if facts["changed"]:
        parts.append(tag("h4", "The message beside its good form"))
        parts.append(html_changes.to_html(facts["changed"]))
    elif facts["must"] == "accept":
        parts.append(tag("p", "A good message: nothing in it is changed.", kind="quiet"))
    if case.explanation:
        parts += [tag("h4", "Explained with the test key"), _explanation(case.explanation)]
    parts += [tag("h4", "Try it again"), tag("pre", again)]
    return tag("article", joined(parts), kind=f"case {kind_of(case.verdict)}", id=case.id)


def _rows(case: CaseResult) -> list[tuple[str, str]]:
    facts, message, known = case.facts, case.message, case.known
    said = "" if message is None else " ".join(w for w in (message.stage, message.reason) if w)
    stage = f", at the step {facts['stage']}" if facts["stage"] else ""
    return [
        ("must be", {"accept": "accepted", "refuse": f"refused{stage}"}.get(facts["must"], "")),
        ("was", case.why or case.verdict),
        ("deviation", case.deviation if case.deviation != case.why else ""),
        ("because", f"{facts['because']} [{facts['requirement']}]"),
        ("an attacker gains", facts["gain"]),
        ("the module says", tag("q", said) if said else ""),
        ("time", "" if message is None else f"{message.milliseconds:.1f} ms"),
        ("known", "" if known is None else f"{known.reason} {known.ticket} until {known.until}"),
    ]


def _explanation(steps: list[dict[str, Any]]) -> Html:
    """All steps that are wrong; where none is, the sentence that says so."""
    wrong = [step for step in steps if step["good"] is False]
    if not wrong:
        return tag("p", f"All {len(steps)} steps of the message are right.")
    return tag("ul", *map(_step, wrong), kind="steps")


def _step(step: dict[str, Any]) -> Html:
    value = step["value"] or ""
    shown = value if len(value) <= _MOST else f"{value[:_MOST]}… ({len(value)} digits)"
    parts = [_SIGNS[step["good"]], " ", tag("b", step["name"])]
    parts += [": ", step["note"]] if step["note"] else []
    parts += [" ", tag("code", shown)] if shown else []
    return tag("li", *parts)
