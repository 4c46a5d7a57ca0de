"""The pieces of HTML that the report is made of. Each text is escaped here, and nowhere else.

Characters that are not printable are shown by their number: control characters are not valid in
HTML, and those of bidirectional writing change the order of the text around them.
"""

from collections.abc import Iterable
from html import escape

from plugvault.printable import printable

_KEPT = "\t\n\u00a0\u202f"  # spaces of all kinds and line ends


class Html(str):
    """Text that is HTML and needs no escaping."""

    __slots__ = ()


def of(content: str) -> Html:
    """A text as HTML: escaped, unless it is `Html`."""
    return content if isinstance(content, Html) else Html(escape(printable(content, _KEPT)))


def joined(contents: Iterable[str], separator: str = "\n") -> Html:
    """Several texts as HTML, escaped where necessary."""
    return Html(separator.join(map(of, contents)))


def tag(name: str, *contents: str, kind: str = "", **attributes: str) -> Html:
    """An element with contents and attributes. kind: its CSS class."""
    named = {"class": kind, **attributes}
    shown = {key: escape(printable(value, _KEPT)) for key, value in named.items() if value}
    text = "".join(f' {key}="{value}"' for key, value in shown.items())
    return Html(f"<{name}{text}>{joined(contents, '')}</{name}>")


def section(title: str, ident: str, *contents: str) -> Html:
    """A section with a title and an id."""
    return tag("section", tag("h2", title), *contents, id=ident)


def pairs(rows: Iterable[tuple[str, str]]) -> Html:
    """A list of names and texts; a pair without a text is left out."""
    items = [tag("dt", name) + tag("dd", text) for name, text in rows if text]
    return tag("dl", Html("\n".join(items)))


def table(head: Iterable[str], rows: Iterable[Iterable[str]], kind: str = "") -> Html:
    """A table. rows: of cells; a cell with a number alone is aligned to the right."""
    titles = tag("thead", tag("tr", *(tag("th", title) for title in head)))
    body = joined(tag("tr", *map(_cell, row)) for row in rows)
    return tag("div", tag("table", titles, tag("tbody", body), kind=kind), kind="wide")


def _cell(content: str) -> Html:
    number = content.replace(".", "", 1).isdigit()
    return tag("td", content, kind="number" if number else "")
