"""The result as one HTML file: offline, printable, for the person who signs it.

Everything that a module or a manifest has written is escaped; the page has no script.
"""

import statistics
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from itertools import zip_longest

from plugvault.campaign.result import CaseResult, Result, milliseconds_by_stage
from plugvault.campaign.verdicts import FAIL, INCONCLUSIVE, NOT_APPLICABLE, VERDICTS, WEAK
from plugvault.campaign.vocabulary import STATION

_MOST_BYTES = 96  # of a value that is shown


def to_html(result: Result) -> str:
    """The page."""
    title = f"Installation of contracts: {result.module} {result.version}".strip()
    body = [
        f"<h1>{escape(title)}</h1>",
        _sentence(result),
        _section("What was tested", _facts(result)),
        _section("Requirements", _matrix(result.cases)),
        *_cases("Deviations", [case for case in result.cases if case.deviation]),
        *_cases("Known failures", [c for c in result.cases if c.known and not c.deviation]),
        *_cases("Weak passes", _with(result, WEAK)),
        _section("All cases", _table(_HEAD, map(_row, result.cases))),
        _section("Time of a refusal", _times(result.cases)),
        _section("Not tried", _not_tried(result)),
        _section("Again", f"<pre>{escape(result.command)}</pre>"),
    ]
    style = files("plugvault.campaign").joinpath("style.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _with(result: Result, *verdicts: str) -> list[CaseResult]:
    return [case for case in result.cases if case.verdict in verdicts and not case.deviation]


def _sentence(result: Result) -> str:
    kind = "sentence bad" if result.deviations else "sentence"
    return f'<p class="{kind}">{escape(result.sentence)}</p>'


def _section(title: str, content: str) -> str:
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>"


def _facts(result: Result) -> str:
    at = datetime.fromtimestamp(result.at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return _list(
        [
            ("module", f"{result.module} {result.version}".strip()),
            ("it can", ", ".join(result.can) or "install, and no more"),
            ("vehicle", result.vehicle),
            ("clock of the cases", f"{at} ({result.at})"),
            ("seed", str(result.seed)),
            ("cases, SHA-256", result.cases_sha256),
            ("tested", f"{result.begun}, {result.seconds:.1f} s"),
        ]
    )


def _list(rows: Iterable[tuple[str, str]]) -> str:
    items = "\n".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows if text
    )
    return f"<dl>\n{items}\n</dl>"


def _table(head: Iterable[str], rows: Iterable[str]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f'<div class="wide"><table>\n<tr>{titles}</tr>\n{chr(10).join(rows)}\n</table></div>'


def _matrix(cases: list[CaseResult]) -> str:
    """Requirement × verdict."""
    counts = Counter((case.facts["requirement"], case.verdict) for case in cases)
    rows = []
    for requirement in sorted({case.facts["requirement"] for case in cases}):
        cells = "".join(
            f'<td class="number {_class(verdict)}">{counts[requirement, verdict] or ""}</td>'
            for verdict in VERDICTS
        )
        rows.append(f"<tr><td>{escape(requirement)}</td>{cells}</tr>")
    return _table(("requirement", *VERDICTS), rows)


_HEAD = ("case", "verdict", "must", "message", "the module", "ms")


def _row(case: CaseResult) -> str:
    message = case.message
    said = "" if message is None else " ".join(w for w in (message.stage, message.reason) if w)
    time = "" if message is None else f"{message.milliseconds:.1f}"
    cells = (case.id, "", case.facts["must"], case.facts["title"], said, time)
    texts = [f"<td>{escape(cell)}</td>" for cell in cells]
    texts[1] = f'<td class="{_class(case.verdict)}">{escape(case.verdict)}</td>'
    return f"<tr>{''.join(texts)}</tr>"


def _class(verdict: str) -> str:
    return verdict.split(maxsplit=1)[0]


def _cases(title: str, cases: list[CaseResult]) -> list[str]:
    """A section with a box for each case, failures first; none without cases."""
    order = {FAIL: 0, INCONCLUSIVE: 1}
    boxes = "\n".join(map(_box, sorted(cases, key=lambda case: order.get(case.verdict, 2))))
    return [_section(f"{title} ({len(cases)})", boxes)] if cases else []


def _box(case: CaseResult) -> str:
    facts, message, known = case.facts, case.message, case.known
    rows = [
        ("must", facts["must"]),
        ("verdict", f"{case.verdict}: {case.why}" if case.why else case.verdict),
        ("deviation", case.deviation if case.deviation != case.why else ""),
        ("requirement", facts["requirement"]),
        ("because", facts["because"]),
        ("an attacker gains", facts["gain"]),
        ("the module says", "" if message is None else message.reason),
        ("known", "" if known is None else f"{known.reason} {known.ticket} until {known.until}"),
    ]
    head = f"<h3>{escape(case.id)} {escape(facts['title'])}</h3>"
    return f'<div class="case">\n{head}\n{_list(rows)}\n{_changes(facts["changed"])}</div>'


def _changes(changes: list[dict[str, str]]) -> str:
    """Each changed value beside the good one, the differing bytes marked."""
    if not changes:
        return ""
    rows = []
    for change in changes:
        good, changed = _marked(change["good"], change["changed"])
        rows.append(f"<dt>{escape(change['element'])}</dt><dd>good <code>{good}</code></dd>")
        rows.append(f"<dt></dt><dd>sent <code>{changed}</code></dd>")
    return f"<dl>\n{chr(10).join(rows)}\n</dl>\n"


def _marked(good: str, changed: str) -> tuple[str, str]:
    """Two values as HTML, the different parts marked; a long one begins shortly before these."""
    one, other = (_parts(text) for text in (good, changed))
    differs = [a != b for a, b in zip_longest(one, other)]
    first = max(differs.index(True) - 8, 0) if True in differs else 0
    first = first if max(len(one), len(other)) > _MOST_BYTES else 0
    return _span(one, differs, first), _span(other, differs, first)


def _parts(text: str) -> list[str]:
    """The bytes of a hexadecimal value, or the characters of a text."""
    if len(text) % 2 == 0 and text and set(text) <= set("0123456789abcdef"):
        return [text[at : at + 2] for at in range(0, len(text), 2)]
    return list(text)


def _span(parts: list[str], differs: list[bool], first: int) -> str:
    shown = parts[first : first + _MOST_BYTES]
    text = "".join(
        f"<mark>{escape(part)}</mark>" if differ else escape(part)
        for part, differ in zip(shown, differs[first:], strict=False)
    )
    before = f"({first} before) …" if first else ""
    rest = len(parts) - first - len(shown)
    return f"{before}{text}{f'… ({rest} more)' if rest > 0 else ''}" or "(nothing)"


def _times(cases: list[CaseResult]) -> str:
    rows = [
        f'<tr><td>{escape(stage)}</td><td class="number">{len(times)}</td>'
        f'<td class="number">{statistics.median(times):.1f}</td>'
        f'<td class="number">{max(times):.1f}</td></tr>'
        for stage, times in milliseconds_by_stage(cases).items()
    ]
    note = (
        "<p>A refusal after the key is used takes longer than one before. A sender that can "
        "measure it learns which of the two happened; the answer on the wire must not tell "
        "more.</p>"
    )
    return note + _table(("stage that should refuse", "refusals", "median ms", "longest ms"), rows)


def _not_tried(result: Result) -> str:
    rows = [(case.id, case.why) for case in result.cases if case.verdict == NOT_APPLICABLE]
    at_station = {"sign": _EARLIER} if STATION in result.can else {}
    for ability, text in {**_UNPROVED, **at_station}.items():
        if ability not in result.can:
            rows.append((f"without {ability}", text))
    return _list(rows) if rows else "<p>Nothing: every case was tried, with every proof.</p>"


_EARLIER = "that an earlier contract goes on signing, where a refusal ends the session"
_UNPROVED = {
    "sign": "the key of an accepted contract, and that earlier contracts go on signing",
    "state": "that nothing in the module changes with a refusal",
    "reset": "each case from an empty store: contracts of earlier cases were in the module",
    "clock": "the module's own clock was taken as that of the cases",
    "trust": "the module's own roots were taken as those of the cases",
}
