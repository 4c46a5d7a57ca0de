"""`plugvault vehicle`: the car's module, its keys in a token, at a real charging station.

options.py   the options of the command, and their checks
garage.py    the vehicle: its token, its maker, its contract
view.py      what is shown
"""

import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from evcc.errors import EvccError
from plugvault import runtimes
from plugvault.capture.trace import convert
from plugvault.car import Car
from plugvault.cli import words
from plugvault.cli.folders import stoppable
from plugvault.cli.options import options_from
from plugvault.cli.table import literal
from plugvault.cli.vehicle import garage
from plugvault.cli.vehicle.options import Options, RuntimeName
from plugvault.cli.vehicle.view import JsonView, TerminalView, View
from plugvault.demo.record import DemoError
from plugvault.demo.walkthrough import choose_runtime
from plugvault.interfaces import LinkLocal, wait
from plugvault.runtimes import Runtime
from plugvault.temporary import temporary_folder

__all__ = ["vehicle"]

_SHOWN = 5.0  # seconds
_LONGEST = 300.0  # seconds of a session


@options_from(Options)
def vehicle(options: Options) -> None:
    """Plug a vehicle (EVCC) into a charging station of ISO 15118-2, for one session or several.

    The module finds the station by SDP, checks its TLS certificate, and goes through the session:
    it installs a contract when it has none, and authorizes with it. Every key of the vehicle is in
    a token.

    The vehicle is made by the maker of an ecosystem: of a running sandbox (--sandbox), of the
    folder of one (--data), or of a new one. It gets a contract there; at a --sandbox with
    credentials only with those of an operator in PLUGVAULT_MO_CLIENT_ID and
    PLUGVAULT_MO_CLIENT_SECRET. --keep makes it the same vehicle in the next session.

    A station of a PKI that the ecosystem does not know needs --trust with its V2G root.

    With --json each event is a line: {"event": "ready", "pcid", "runtime", "address", "contract"},
    {"event": "station" | "secured" | "check" | "installed" | "rejected" | "authorized" | "charged"
    | "failed" | … | "log", "text"}, and {"event": "over", "ok", "authorized", "reason", "log"}.

    Exits 0 when every session was authorized and ended well, 1 when one was not, 2 for wrong
    options. --sessions goes on after a session that was not.
    """
    options.network(None)
    console = Console(stderr=options.as_json, highlight=False)
    view: View = JsonView(sys.stdout)
    if not options.as_json:
        view = TerminalView(console, options.verbose, options.warning)
    with ExitStack() as stack:
        stack.enter_context(stoppable())
        try:
            ok = _run(stack, options, view, console)
        except BrokenPipeError:
            raise  # stdout has no reader any more, and `app.main` ends silently
        except (EvccError, DemoError, OSError, ValueError) as error:
            text = f"The vehicle does not charge: {literal(words.of(error))}"
            console.print(text, style="red", soft_wrap=True)
            raise typer.Exit(1) from error
    raise typer.Exit(0 if ok else 1)


def _run(stack: ExitStack, options: Options, view: View, console: Console) -> bool:
    """Carry out the sessions. Returns whether each was authorized and ended without an error."""
    runtime = _runtime(options.runtime)
    local = wait(options.interface)
    trace = None
    if options.pcap is not None:
        folder = stack.enter_context(temporary_folder(large=True))
        trace = folder / "trace"
        stack.callback(_capture, trace, options.pcap, local, console)
    shown = _Shown(view)
    with console.status("Starting"):
        parked = garage.park(stack, options, runtime, trace, shown.observe)
    view.ready(
        {
            "pcid": parked.pcid,
            "runtime": f"{runtime.name} {runtime.version}",
            "address": local.scoped,
            "contract": parked.contract,
        }
    )
    sessions = [_session(options, parked.car, view, shown) for _ in range(options.sessions)]
    return all(sessions)


class _Shown:
    """The events of a session that is running, for the display; others are not shown. A display
    that fails lets the session end, and its error is raised then."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._error: OSError | None = None
        self._is_running, self._closed = False, threading.Event()

    def observe(self, channel: str, text: str) -> None:
        if not self._is_running:
            return
        name, _, rest = text.partition(" ") if channel == "event" else (channel, "", text)
        if self._error is None:
            try:
                self._view.observe(channel, name, rest)
            except OSError as error:  # not for this thread, which is the link's
                self._error = error
        if name == "closed":
            self._closed.set()

    def __enter__(self) -> None:
        self._closed.clear()
        self._is_running = True

    def __exit__(self, *_: object) -> None:
        self._closed.wait(_SHOWN)  # the last event is shown a little later than the end
        self._is_running = False
        if self._error is not None:
            raise self._error


def _session(options: Options, car: Car, view: View, shown: _Shown) -> bool:
    """Carry out one session. Returns whether it was authorized and ended without an error."""
    wishes: dict[str, Any] = {"time_factor": options.timeouts}
    if options.charge:
        wishes["charge"] = {"mode": options.charge.value}
    if options.update:
        wishes["update"] = True
    with shown:
        events = car.find_and_charge(
            options.install,
            options.emaid,
            _LONGEST * options.timeouts,
            options.insecure_contract,
            **wishes,
        )
    facts = _outcome(events)
    view.over({**facts, "log": car.bench.log[-10:]})
    return bool(facts["ok"])


def _runtime(name: RuntimeName | None) -> Runtime:
    """The interpreter of this name. Raises: DemoError for one that is not on this machine."""
    if name in (None, RuntimeName.micropython, RuntimeName.cpython):
        return choose_runtime(name.value if name else None)
    runtime = runtimes.get(name.value)
    if runtime is None:
        raise DemoError(f"no interpreter {name.value!r} here: `plugvault doctor` says why")
    return runtime


def _outcome(events: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The result of a session. authorized: the EMAID, or "". reason: of a failure, or ""."""
    texts = dict(events)
    reason = texts.get("failed", "")
    authorized = texts.get("authorized", "")
    return {"ok": bool(authorized) and not reason, "authorized": authorized, "reason": reason}


def _capture(trace: Path, path: Path, local: LinkLocal, console: Console) -> None:
    """Write the module's trace as a capture. A failure is shown, and does not change the
    outcome."""
    try:
        if trace.exists():
            ended = convert(trace, path, local.scoped.partition("%")[0])
            text = f"captured in [cyan]{literal(path)}[/]; {ended or 'complete'}"
            console.print(text, soft_wrap=True)
    except OSError as error:
        console.print(f"no capture: {literal(words.of(error))}", style="red")
