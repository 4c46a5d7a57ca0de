"""The display of `plugvault station`: a live table, or a line of JSON for each event."""

import json
import time
from collections import OrderedDict
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.live import Live
from rich.panel import Panel
from rich.table import Table

from plugvault.cli.table import literal
from plugvault.station.events import Authorized, Charged, Charging, Message, Paused
from plugvault.station.reports import Connected, Ended, Report, Secured, TurnedAway

_TLS = {"": "yes", "sent": "yes, OCSP", "none": "yes, no OCSP"}  # by `Handshake.ocsp`
SHOWN = 12  # sessions in the table
_SAME_SEARCH = 5.0  # seconds in which a vehicle's further searches are not shown again


class View(AbstractContextManager["View"]):
    """Counts the sessions; subclasses display them."""

    def __init__(self) -> None:
        self.sessions = self.authorized = 0
        self.is_ready = False

    @property
    def all_authorized(self) -> bool:
        """Whether every session was authorized and ended by a SessionStop."""
        return self.sessions == self.authorized

    def ready(self, facts: dict[str, Any]) -> None:
        """The station can be reached. facts: the fields of the event."""
        self.is_ready = True

    def searched(self, vehicle: str, asks_for_tls: bool, told_tls: bool) -> None:
        """A vehicle has searched by SDP. asks_for_tls, told_tls: the security in its request and
        in the answer."""
        raise NotImplementedError

    def report(self, number: int, report: Report) -> None:
        """See `station.reports.Listener`."""
        if isinstance(report, Ended):
            self.sessions += 1
            self.authorized += report.authorized and not report.reason

    def __exit__(self, *_: object) -> None:
        raise NotImplementedError


class JsonView(View):
    """A line of JSON for each event."""

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._out = out

    def ready(self, facts: dict[str, Any]) -> None:
        super().ready(facts)
        self._line(event="ready", **facts)

    def searched(self, vehicle: str, asks_for_tls: bool, told_tls: bool) -> None:
        self._line(event="search", vehicle=vehicle, asks_for_tls=asks_for_tls, told_tls=told_tls)

    def report(self, number: int, report: Report) -> None:
        super().report(number, report)
        self._line(**_event(number, report))

    def __exit__(self, *_: object) -> None:
        if self.is_ready:
            self._line(event="over", sessions=self.sessions, authorized=self.authorized)

    def _line(self, **fields: Any) -> None:
        print(json.dumps(fields), file=self._out, flush=True)


def _event(number: int, report: Report) -> dict[str, Any]:
    """The fields of a report's line."""
    match report:
        case Connected():
            return {"event": "connected", "session": number, "vehicle": report.peer}
        case TurnedAway():
            return {"event": "turned-away", "vehicle": report.peer, "limit": report.limit}
        case Secured():
            facts = report.handshake
            return {
                "event": "tls",
                "session": number,
                "cipher": facts.cipher,
                "trusted_ca_keys": facts.trusted_ca_keys,
                "ocsp": facts.ocsp,
            }
        case Message():
            return {
                "event": "message",
                "session": number,
                "direction": report.direction,
                "name": report.name,
                "bytes": report.size,
            }
        case Authorized():
            return {
                "event": "authorized",
                "session": number,
                "emaid": report.emaid,
                "evseid": report.evseid,
                "session_id": report.session_id.hex(),
                "time": report.time,
            }
        case Charging():
            return {"event": "charging", "session": number, "mode": report.mode}
        case Charged():
            return {"event": "charged", "session": number, "energy_wh": report.energy}
        case Paused():
            return {
                "event": "paused",
                "session": number,
                "session_id": report.session_id.hex(),
            }
        case Ended():
            return {
                "event": "ended",
                "session": number,
                "reason": report.reason,
                "authorized": report.authorized,
            }


@dataclass
class _Row:
    """A session in the table."""

    vehicle: str
    started: float
    tls: str = "-"
    message: str = ""
    contract: str = ""
    energy: str = ""
    end: str = ""


class LiveView(View):
    """The station's address, and a table that follows its sessions."""

    def __init__(self, console: Console, warning: str) -> None:
        super().__init__()
        self._console, self._warning = console, warning
        self._rows: OrderedDict[int, _Row] = OrderedDict()
        self._searches: OrderedDict[str, float] = OrderedDict()
        self._live = Live(console=console, refresh_per_second=8, get_renderable=self._table)

    def ready(self, facts: dict[str, Any]) -> None:
        super().ready(facts)
        console = self._console
        where = ", ".join(f"{kind.upper()} port {port}" for kind, port in facts["ports"].items())
        if self._warning:
            console.print(Panel(self._warning, style="bold white on red"))
        console.print(f"[bold]{facts['evseid']}[/] at [cyan]{facts['address']}[/], {where}")
        console.print(f"vehicles must trust [cyan]{facts['v2g_root']}[/]", soft_wrap=True)
        console.print("Ctrl-C ends the station")
        self._live.start()

    def searched(self, vehicle: str, asks_for_tls: bool, told_tls: bool) -> None:
        now = time.monotonic()
        if now - self._searches.get(vehicle, -_SAME_SEARCH) >= _SAME_SEARCH:
            words = ["TCP", "TLS"]
            text = f"{vehicle} asks for {words[asks_for_tls]}, is told {words[told_tls]}"
            self._console.print(f"search  {literal(text)}")
        self._searches[vehicle] = now
        while len(self._searches) > SHOWN:
            self._searches.popitem(last=False)

    def report(self, number: int, report: Report) -> None:
        super().report(number, report)
        if isinstance(report, TurnedAway):
            text = f"{report.peer}: there are {report.limit} vehicles already"
            self._console.print(f"[yellow]turned away[/]  {literal(text)}")
            return
        row = self._rows.setdefault(number, _Row("", time.monotonic()))
        match report:
            case Connected():
                row.vehicle = literal(report.peer)
            case Secured():
                row.tls = _TLS[report.handshake.ocsp]
                if report.handshake.trusted_ca_keys == "unmatched":
                    text = f"{row.vehicle} names V2G roots, and not the station's"
                    self._console.print(text)
            case Message():
                row.message = literal(report.name)
            case Authorized():
                row.contract = literal(report.emaid)
            case Charged():
                row.energy = f"{report.energy} Wh"
            case Ended():
                seconds = f"{time.monotonic() - row.started:.1f} s"
                good = report.authorized and not report.reason
                reason = literal(report.reason)
                end = "authorized" if good else reason or "stopped before authorization"
                row.end = f"[green]{end}[/], {seconds}" if good else f"[red]{end}[/], {seconds}"
        while len(self._rows) > SHOWN:
            self._rows.popitem(last=False)

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if not self.is_ready:
            return
        good, colour = self.all_authorized, "green" if self.all_authorized else "red"
        text = f"{self.authorized} of {self.sessions} sessions were authorized"
        self._console.print(f"[{colour}]{'✓' if good else '✗'} {text}[/]")

    def _table(self) -> Table:
        table = Table(
            "", "vehicle", "TLS", "message", "contract", "energy", "end", box=box.SIMPLE_HEAD
        )
        for number, row in list(self._rows.items()):
            cells = (row.vehicle, row.tls, row.message, row.contract, row.energy, row.end)
            table.add_row(str(number), *cells)
        return table
