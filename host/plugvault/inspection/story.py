"""The sessions of a capture on a terminal: search, TLS, and a line for each message."""

from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from plugvault.inspection.session_rules import is_refusal
from plugvault.printable import printable

Json = dict[str, Any]

_REPEATED = 12  # messages of one pair after another that are all shown


def tell(console: Console, content: Json) -> None:
    """Print the story of a capture's content."""
    console.print(Text(_head(content)))
    for search in content["searches"]:
        console.print(Text(f"  {search['at']}  {search_line(search)}", style="dim"))
    for number, session in enumerate(content["sessions"], 1):
        console.print(Text(f"session {number}: {session_line(session)}", style="bold"))
        console.print(_table(session))


def session_line(session: Json) -> str:
    """The heading of a session."""
    return (
        f"car {session['car']} → station {session['station']}, {session['began']},"
        f" {session['seconds']:.3f} s, {session['end']}"
    )


def search_line(search: Json) -> str:
    """The line of a search by SDP."""
    if "station" in search:
        return f"SDP: station at {search['station']}, {search.get('security', 'broken')}"
    return f"SDP: car asks {search['to']} for {search.get('security', 'something broken')}"


def tls_lines(handshake: Json) -> list[str]:
    """The facts of a handshake for a reader: its suite, then the rest."""
    lines = [f"{handshake['version']}, {handshake['suite']}", f"OCSP: {handshake['ocsp']}"]
    chain = handshake.get("chain", [])
    if chain:
        names = (str(c.get("subject", c["type"])).partition(",")[0] for c in chain)
        lines.append("station's chain: " + " ← ".join(name.removeprefix("CN=") for name in names))
    alerts = [alert for alert in handshake.get("alerts", []) if "close_notify" not in alert]
    return lines + [f"alert of the {alert}" for alert in alerts]


def folded(messages: list[Json]) -> list[Json]:
    """The messages for the display. Of a pair that repeats often only the first and the last
    exchange are shown, and every refusal; between them {"folded": the number of the messages left
    out, "name": of the pair}."""
    rows: list[Json] = []
    for name, group in groupby(messages, key=lambda message: message["name"][:-3]):
        run = list(group)
        if len(run) <= _REPEATED:
            rows += run
            continue
        rows += run[:2]
        left_out = 0
        for message in run[2:-2]:
            if is_refusal(message.get("responseCode", "")):
                rows.append(message)
            else:
                left_out += 1
        rows += [{"folded": left_out, "name": name}, *run[-2:]]
    return rows


def _head(content: Json) -> str:
    counts = {
        "packets": "packets",
        "packetsOfUnreadLinks": "on an unread kind of link",
        "keys": "TLS keys",
        "otherConnections": "connections of other protocols",
        "furtherSessions": "further sessions",
    }
    parts = [f"sessions: {len(content['sessions'])}"]
    parts += [f"{words}: {content[name]}" for name, words in counts.items() if name in content]
    return ", ".join(parts)


def _table(session: Json) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for justify in (
        "right",
        "left",
        "left",
        "right",
        "right",
    ):  # time, sender, message, size, time
        table.add_column(justify=justify, no_wrap=True)
    table.add_column(overflow="fold")  # code and note
    for search in session.get("sdp", []):
        sender = "station" if "station" in search else "car"
        _row(table, search["at"], sender, search["name"], "", "", search.get("security", ""))
    handshake = session.get("tls")
    if handshake:
        suite, *others = tls_lines(handshake)
        details = "; ".join([suite.partition(", ")[2], *others])
        _row(table, handshake.get("completed", ""), "both", handshake["version"], "", "", details)
    for message in folded(session["messages"]):
        if "folded" in message:
            _row(table, "", "", f"{message['folded']} further {message['name']}", "", "", "")
            continue
        after = f"{message['afterMs']:.1f} ms" if "afterMs" in message else ""
        words = [message[name] for name in ("responseCode", "note") if name in message]
        size = f"{message['bytes']} B"
        _row(table, message["at"], message["from"], message["name"], size, after, "; ".join(words))
    if "furtherMessages" in session:
        _row(table, "", "", f"{session['furtherMessages']} further messages", "", "", "")
    return table


def _row(table: Table, time: float | str, *cells: str) -> None:
    when = f"{time:.3f}" if isinstance(time, float) else str(time)
    is_bad = is_refusal(cells[-1])
    style = "bold red" if is_bad else ""
    table.add_row(when, *(Text(printable(cell), style=style) for cell in cells))
