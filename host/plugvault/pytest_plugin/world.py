"""An ecosystem with one car for a test: the car is made, certified and plugged in at a station."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from plugvault import runtimes
from plugvault.car import Car
from plugvault.contexts import Startable
from plugvault.ecosystem import EVSE, WMI, Ecosystem
from plugvault.station import Offer, Station, StationSettings
from plugvault.tokens.selection import TokenConfiguration

if TYPE_CHECKING:
    from plugvault.pytest_plugin.tokens import ThrowAway

_REGION, _COUNTRY, _MAKER = "EU", "DE", "Example Cars"


class PlugAndCharge(Startable):
    """The world while the context lasts.

    ecosystem: see `plugvault.ecosystem.Ecosystem`; other software uses its `url` and
    `credentials(role)`. car: see `plugvault.car.Car`. pcid: of the car's provisioning certificate,
    which is in the pool. maker: the maker's end of the channel to the car, connected. station: the
    car is plugged in there, `address` with host and port.
    """

    def __init__(self, token: ThrowAway) -> None:
        self._token = token
        self.pcid = WMI + "P" + "".join(secrets.choice("0123456789") for _ in range(13))

    def _start(self) -> None:
        folder = self._token.folder
        self.ecosystem = self._stack.enter_context(Ecosystem(folder / "ecosystem"))
        key = self.ecosystem.telematics_key
        token = TokenConfiguration(self._token.location, self._token.pin)
        car = Car(runtimes.cpython(), "tcp", folder / "car", maker=key.point, token=token)
        self.car = self._stack.enter_context(car)
        self.maker = self.car.maker(key)
        self._make_car()
        roots = self.ecosystem.cpo.roots()
        fetch = self.ecosystem.cpo.fetch_contract
        tls = self.ecosystem.station_tls()
        self.station = Station(Offer(evseid=EVSE), roots, fetch, StationSettings(tls=tls))
        self.address = self._stack.enter_context(self.station.in_thread())

    def contract(self) -> str:
        """Put a contract for the car into the contract pool, sealed to the car. Returns its
        EMAID."""
        return self.ecosystem.mo.contract(self.pcid)

    def charge(self, want_contract: bool = True) -> str:
        """Carry out one session at the station. Returns the EMAID it bills, "" if it authorizes
        none.

        want_contract: the car asks for its contract first, as a car without one does.
        """
        billed = len(self.station.records)
        roots = [self.ecosystem.v2g_root]
        self.car.charge(*self.address, want_contract=want_contract, roots=roots)
        return "".join(record.emaid for record in self.station.records[billed:])

    def _make_car(self) -> None:
        """Make the car as its factory does: key, certificate, trust anchors; then its entry in the
        pool of vehicles."""
        maker, oem = self.maker, self.ecosystem.oem
        maker.connect()
        leaf, subs = oem.enrol(maker.csr(self.pcid, _MAKER, _COUNTRY))
        maker.install_trust(_REGION, oem.anchors(_REGION, leaf, subs))
        maker.install_certificate([leaf, *subs])
        oem.register(leaf, subs, [self.ecosystem.v2g_root])
