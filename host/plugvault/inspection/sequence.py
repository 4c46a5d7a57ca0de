"""The sessions of a capture as a sequence diagram: one SVG file without external parts.

It uses the reader's light or dark setting. All texts of the capture are escaped.
"""

from typing import Any
from xml.sax.saxutils import escape

from plugvault.inspection.session_rules import is_refusal
from plugvault.inspection.story import folded, search_line, session_line, tls_lines
from plugvault.printable import printable

Json = dict[str, Any]

_WIDTH, _MARGIN = 900, 24
_CAR, _STATION = 230, 670  # the lifelines
_STEP, _HEAD = 44, 96
_LONG = 118  # characters of a line
ROWS = 400  # of one session; a longer one is cut, and says so

_STYLE = """
svg { background: #ffffff; font: 13px system-ui, sans-serif; }
text { fill: #1b1f24; }
.title { font-size: 16px; font-weight: 600; }
.dim { fill: #59636e; font-size: 11px; }
.line { stroke: #8b949e; stroke-width: 1; }
.arrow { stroke: #0969da; stroke-width: 1.5; marker-end: url(#head); }
.answer { stroke-dasharray: 5 3; }
.bad { stroke: #cf222e; } text.bad { fill: #cf222e; stroke: none; }
.box { fill: #f6f8fa; stroke: #8b949e; }
#head path { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  svg { background: #0d1117; }
  text { fill: #e6edf3; }
  .dim { fill: #9198a1; }
  .arrow { stroke: #58a6ff; } #head path { fill: #58a6ff; }
  .bad { stroke: #ff7b72; } text.bad { fill: #ff7b72; }
  .box { fill: #161b22; stroke: #6e7681; }
}
"""


def draw(name: str, content: Json) -> str:
    """The SVG of a capture's content, as `inspect --json` has it. name: of the file."""
    parts: list[str] = []
    y = _MARGIN + 16
    parts.append(_text(_MARGIN, y, name, "title"))
    y += 16
    for number, session in enumerate(content["sessions"], 1):
        y = _session(parts, y + 28, number, session)
    height = y + _MARGIN
    title = escape(printable(f"Sequence of messages in {name}"))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" height="{height}" role="img">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n"
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8"'
        ' markerHeight="8" orient="auto"><path d="M0 0 L8 4 L0 8 z"/></marker></defs>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _session(parts: list[str], y: int, number: int, session: Json) -> int:
    """Add one session from `y` on; returns where it ends."""
    parts.append(_text(_MARGIN, y, f"{number}. {session_line(session)}"))
    top = y + 20
    for x, words in ((_CAR, "car (EVCC)"), (_STATION, "station (SECC)")):
        parts.append(f'<rect class="box" x="{x - 80}" y="{top}" width="160" height="28" rx="4"/>')
        parts.append(_text(x, top + 19, words, middle=True))
    lifelines = len(parts)  # drawn behind everything else
    y = top + 28
    rows = _rows(session)
    for row in rows[:ROWS]:
        y += _STEP
        _row(parts, y, row)
    if len(rows) > ROWS or "furtherMessages" in session:
        further = max(len(rows) - ROWS, 0) + session.get("furtherMessages", 0)
        y += _STEP
        parts.append(_text(_WIDTH // 2, y, f"… {further} further messages", "dim", middle=True))
    y += 24
    for x in (_CAR, _STATION):
        line = f'<line class="line" x1="{x}" y1="{top + 28}" x2="{x}" y2="{y}"/>'
        parts.insert(lifelines, line)
    return y


def _row(parts: list[str], y: int, row: Json) -> None:
    """One row at `y`: an arrow with its texts, or a box over both lifelines."""
    time = row["at"]
    if isinstance(time, float):
        parts.append(_text(_MARGIN, y + 4, f"{time:.3f} s", "dim"))
    if "folded" in row:
        words = f"… {row['folded']} further {row['name']} …"
        parts.append(_text(_WIDTH // 2, y, words, "dim", middle=True))
        return
    if row["from"] == "both":
        x, width = _CAR - 60, _STATION - _CAR + 120
        parts.append(
            f'<rect class="box" x="{x}" y="{y - 18}" width="{width}" height="34" rx="4"/>'
        )
        parts.append(_text(_WIDTH // 2, y - 3, row["name"], middle=True))
        parts.append(_text(_WIDTH // 2, y + 11, row["words"], "dim", middle=True))
        return
    by_car = row["from"] == "car"
    start, stop = (_CAR, _STATION) if by_car else (_STATION, _CAR)
    kind = "" if by_car else " answer"
    bad = " bad" if row["bad"] else ""
    parts.append(f'<line class="arrow{kind}{bad}" x1="{start}" y1="{y}" x2="{stop}" y2="{y}"/>')
    parts.append(_text(_WIDTH // 2, y - 6, row["name"], bad.strip(), middle=True))
    parts.append(_text(_WIDTH // 2, y + 14, row["words"], "dim", middle=True))


def _rows(session: Json) -> list[Json]:
    rows = [
        {
            "at": search["at"],
            "from": "station" if "station" in search else "car",
            "name": search["name"],
            "words": search_line(search),
            "bad": False,
        }
        for search in session.get("sdp", [])
    ]
    if "tls" in session:
        first, *others = tls_lines(session["tls"])
        time = session["tls"].get("completed")
        details = "; ".join(others)
        rows.append({"at": time, "from": "both", "name": first, "words": details, "bad": False})
    for message in folded(session["messages"]):
        if "folded" in message:
            rows.append({"at": None, "from": "", "name": "", "words": "", **message})
            continue
        code = message.get("responseCode", "")
        words = [code, message.get("note", ""), f"{message['bytes']} bytes"]
        if "afterMs" in message:
            words.append(f"after {message['afterMs']:.1f} ms")
        rows.append(
            {
                "at": message["at"],
                "from": message["from"],
                "name": message["name"],
                "words": ", ".join(word for word in words if word),
                "bad": is_refusal(code),
            }
        )
    return rows


def _text(x: int, y: int, text: str, kind: str = "", *, middle: bool = False) -> str:
    text = printable(text)
    text = text if len(text) <= _LONG else text[: _LONG - 1] + "…"
    anchor = ' text-anchor="middle"' if middle else ""
    label = f' class="{kind}"' if kind else ""
    return f'<text x="{x}" y="{y}"{label}{anchor}>{escape(text)}</text>'
