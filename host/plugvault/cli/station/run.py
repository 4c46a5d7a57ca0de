"""SDP and the servers of `plugvault station`, from the start to the end."""

import asyncio
import itertools
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from evcc.network import sdp
from plugvault.capture import Capture
from plugvault.cli.station.options import Options, Security
from plugvault.cli.station.supply import Supply
from plugvault.cli.station.view import View
from plugvault.interfaces import LinkLocal
from plugvault.station import Faults, Station, StationSettings
from plugvault.station.discovery import Discovery
from plugvault.station.limits import Limits
from plugvault.station.reports import Ended, Report, TurnedAway
from plugvault.tls import Renewal, StationTls

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Run:
    """One run of the command. The constructor raises TlsError."""

    def __init__(
        self,
        options: Options,
        faults: Faults,
        local: LinkLocal,
        supplied: Supply,
        view: View,
        capture: Capture | None,
    ) -> None:
        self._options, self._faults, self._local = options, faults, local
        self._supplied, self._view, self._capture = supplied, view, capture
        self._count = itertools.count(1)
        self._numbers: dict[tuple[int, int], int] = {}  # of the open connections
        self._renewal: AbstractContextManager[object] = nullcontext()
        self._over = asyncio.Event()
        self._error: OSError | None = None  # of the display
        kinds = {
            Security.ON: (sdp.TLS,),
            Security.OFF: (sdp.NO_TLS,),
            Security.BOTH: (sdp.TLS, sdp.NO_TLS),
        }
        self._stations = {kind: self._station(kind) for kind in kinds[options.tls]}

    def _station(self, kind: int) -> Station:
        options, supplied = self._options, self._supplied
        tls = None
        if kind == sdp.TLS:
            identities = [*supplied.own, supplied.identity]
            for identity in identities:
                identity.check(time.time())
            tls = StationTls(identities)
            self._renewal = Renewal(tls, supplied.identity.leaf, supplied.renew)
        return Station(
            options.offer,
            supplied.anchors,
            supplied.fetch,
            StationSettings(
                host=self._local.scoped,
                tls=tls,
                insecure_contract=options.insecure_contract,
                limits=Limits(options.clients).scaled(options.timeouts),
                faults=self._faults,
                capture=self._capture,
            ),
            report=lambda number, report: self._report(kind, number, report),
        )

    async def until_the_end(self) -> None:
        """Serve until a signal, or with --once until the first session has ended. Raises the
        error of a display that fails."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._over.set)
        discovery = None
        try:
            for station in self._stations.values():
                await station.start()
            ports = {kind: station.port for kind, station in self._stations.items()}
            discovery = Discovery(self._local, ports, self._searched, self._capture)
            await discovery.start()
            self._view.ready(
                {
                    "evseid": self._options.evse,
                    "interface": self._options.interface,
                    "address": self._local.scoped,
                    "ports": {"tls" if k == sdp.TLS else "tcp": ports[k] for k in ports},
                    "v2g_root": str(self._supplied.v2g_root),
                }
            )
            with self._renewal:
                await self._over.wait()
            if self._error is not None:
                raise self._error
        finally:
            if discovery is not None:
                discovery.close()
            for station in self._stations.values():
                await station.close()

    def _report(self, kind: int, number: int, report: Report) -> None:
        """The sessions of both servers are numbered together."""
        if (kind, number) not in self._numbers:
            self._numbers[kind, number] = next(self._count)
        self._show(self._view.report, self._numbers[kind, number], report)
        if isinstance(report, Ended | TurnedAway):
            del self._numbers[kind, number]
        if isinstance(report, Ended) and self._options.once:
            self._over.set()

    def _searched(self, vehicle: str, asks_for_tls: bool, told_tls: bool) -> None:
        self._show(self._view.searched, vehicle, asks_for_tls, told_tls)

    def _show(self, show: Callable[..., None], *facts: object) -> None:
        """A display that fails ends the station, and not the session of a vehicle."""
        try:
            show(*facts)
        except OSError as error:
            self._error = self._error or error
            self._over.set()
