"""The result as one HTML file: offline, printable, for the engineer who signs it.

The page has no script and requests nothing: its Content-Security-Policy forbids both, so a
module's texts cannot do harm. `markup.py` escapes every text.
"""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.resources import files

from plugvault.campaign import html_case
from plugvault.campaign.html_case import badge, kind_of
from plugvault.campaign.markup import Html, joined, pairs, section, table, tag
from plugvault.campaign.oracle import Refusals
from plugvault.campaign.result import CaseResult, Result
from plugvault.campaign.verdicts import FAIL, INCONCLUSIVE, NOT_APPLICABLE, VERDICTS, WEAK
from plugvault.campaign.vocabulary import STATION

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_EARLIER = "not proved: that an earlier contract goes on signing, where a refusal ends the session"
_UNPROVED = {
    "sign": "not proved: the key of an accepted contract; that earlier contracts go on signing",
    "state": "not proved: that nothing in the module changes with a refusal",
    "reset": "contracts of earlier cases were in the module, and not an empty store",
    "clock": "the module's own clock was taken as that of the cases",
    "trust": "the module's own roots were taken as those of the cases",
}


def to_html(result: Result) -> str:
    """The page, as an HTML document."""
    name = f"{result.module} {result.version}".strip()
    title = f"Installation of contracts: {name}"
    sections = [part for part in _sections(result) if part]
    style = files("plugvault.campaign").joinpath("style.css").read_text(encoding="utf-8")
    head = [
        '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        tag("title", title),
        f"<style>\n{style}</style>",
    ]
    body = [_head(result, name), tag("main", joined(sections))]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n'
        + "\n".join(head)
        + "\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _head(result: Result, name: str) -> Html:
    counts = [(verdict, count) for verdict, count in result.counts.items() if count]
    bar = [
        tag("span", kind=kind_of(verdict), style=f"flex: {count} 0 4px")
        for verdict, count in counts
    ]
    is_bad = result.deviations or result.not_tried
    legend = [tag("li", tag("b", str(count)), " ", badge(verdict)) for verdict, count in counts]
    return tag(
        "header",
        tag("p", "Campaign of test cases, ISO 15118-2: installation of contracts", kind="quiet"),
        tag("h1", name),
        tag("p", result.sentence, kind="sentence bad" if is_bad else "sentence"),
        tag("div", *bar, kind="bar"),
        tag("ul", *legend, kind="legend"),
    )


def _sections(result: Result) -> list[Html]:
    deviations = result.deviations
    known = [case for case in result.cases if case.known and not case.deviation]
    return [
        section("What was tested", "tested", _facts(result)),
        section("Requirements and verdicts", "requirements", _matrix(result.cases)),
        _cases(f"Deviations ({len(deviations)})", "deviations", deviations, result),
        _cases(f"Known failures ({len(known)})", "known", known, result),
        _weak(result),
        section("Refusals before and after the key", "oracle", _oracle(result)),
        section("Not tried, and not proved", "not-tried", _not_tried(result)),
        section("All cases", "cases", table(_HEAD, map(_row, result.cases), kind="all")),
        section("Signature", "signature", _signature()),
    ]


def _facts(result: Result) -> Html:
    at = datetime.fromtimestamp(result.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return pairs(
        [
            ("module", f"{result.module} {result.version}".strip()),
            ("it can", ", ".join(result.can) or "install, and no more"),
            ("vehicle", result.vehicle),
            ("clock of the cases", f"{at} ({result.at})"),
            ("seed", str(result.seed)),
            ("cases, SHA-256", result.cases_sha256),
            ("tested", f"{result.begun}, {result.seconds:.1f} s"),
            ("command", tag("code", result.command)),
        ]
    )


def _matrix(cases: list[CaseResult]) -> Html:
    """Requirement × verdict; a verdict that no case has is left out."""
    counts = Counter((case.facts["requirement"], case.verdict) for case in cases)
    verdicts = [verdict for verdict in VERDICTS if any(case.verdict == verdict for case in cases)]
    rows = [
        [requirement, *(_count(counts[requirement, verdict], verdict) for verdict in verdicts)]
        for requirement in sorted({case.facts["requirement"] for case in cases})
    ]
    return table(("requirement", *verdicts), rows, kind="matrix")


def _count(count: int, verdict: str) -> Html:
    return tag("span", str(count) if count else "", kind=f"count {kind_of(verdict)}")


def _cases(title: str, ident: str, cases: list[CaseResult], result: Result) -> Html:
    """A section with a box for each case, failures first; nothing without cases."""
    if not cases:
        return Html()
    order = {FAIL: 0, INCONCLUSIVE: 1}
    ordered = sorted(cases, key=lambda case: order.get(case.verdict, 2))
    boxes = [html_case.to_html(case, f"{result.again} --only {case.id}") for case in ordered]
    return section(title, ident, joined(boxes))


def _weak(result: Result) -> Html:
    """The weak passes, by their reason."""
    reasons: dict[str, list[str]] = {}
    for case in result.cases:
        if case.verdict == WEAK and not case.deviation:
            reasons.setdefault(case.why, []).append(case.id)
    if not reasons:
        return Html()
    rows = [(reason, ", ".join(idents)) for reason, idents in reasons.items()]
    number = sum(len(idents) for idents in reasons.values())
    return section(f"Weak passes ({number})", "weak", pairs(rows))


_HEAD = ("case", "verdict", "must", "message", "the module says", "ms")


def _row(case: CaseResult) -> list[str]:
    message = case.message
    said = "" if message is None else " ".join(w for w in (message.stage, message.reason) if w)
    time = "" if message is None else f"{message.milliseconds:.1f}"
    ident = tag("a", case.id, href=f"#{case.id}") if case.deviation or case.known else case.id
    return [ident, badge(case.verdict), case.facts["must"], case.facts["title"], said, time]


def _oracle(result: Result) -> Html:
    oracle = result.oracle
    note = (
        "A sender that can tell a refusal after the key was opened from one before it learns a "
        "recorded contract key, question by question."
    )
    rows = [_side("before", oracle.before), _side("after", oracle.after)]
    head = ("the key was opened", "refusals", "median ms", "longest ms", "they end with")
    later = oracle.later
    remark = "" if later is None else f"Of all pairs, {later:.0%} take longer after the key."
    kind = "warning" if oracle.by_answer or oracle.by_time else ""
    return joined(
        [
            tag("p", oracle.sentence, kind=kind),
            table(head, rows),
            tag("p", f"{remark} {note}".strip(), kind="quiet"),
        ]
    )


def _side(name: str, refusals: Refusals) -> list[str]:
    numbers = refusals.to_json()
    times = ("" if numbers[key] is None else f"{numbers[key]:.1f}" for key in _TIMES)
    return [name, str(len(refusals.cases)), *times, ", ".join(refusals.ends)]


_TIMES = ("median_ms", "longest_ms")


def _not_tried(result: Result) -> Html:
    reasons: dict[str, list[str]] = {}
    untried = [(case.id, case.why) for case in result.cases if case.verdict == NOT_APPLICABLE]
    for ident, why in [*untried, *result.left_out.items()]:
        reasons.setdefault(why, []).append(ident)
    rows = [(why, ", ".join(idents)) for why, idents in reasons.items()]
    if result.not_tried:
        why = f"not tried: {len(result.not_tried)}, the user stopped the campaign"
        rows.insert(0, (why, ", ".join(result.not_tried)))
    at_station = {"sign": _EARLIER} if STATION in result.can else {}
    rows += [
        (f"without {ability}", text)
        for ability, text in {**_UNPROVED, **at_station}.items()
        if ability not in result.can
    ]
    return pairs(rows) if rows else tag("p", "Nothing: every case was tried, with every proof.")


def _signature() -> Html:
    lines: Iterable[str] = ("Name", "Date", "Signature")
    return tag("div", *(tag("div", name) for name in lines), kind="signature")
