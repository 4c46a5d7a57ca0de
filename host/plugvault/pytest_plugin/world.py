"""An ecosystem with one car, as a test finds it: the car is born, and plugged in at a station."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from plugvault import runtimes
from plugvault.car import Car
from plugvault.contexts import Startable
from plugvault.ecosystem import EVSE, WMI, Ecosystem
from plugvault.station import Offer, Station
from plugvault.tokens.selection import TokenConfiguration

if TYPE_CHECKING:
    from plugvault.pytest_plugin.tokens import ThrowAway

_REGION, _COUNTRY, _MAKER = "EU", "DE", "Example Cars"


class PlugAndCharge(Startable):
    """While the context lasts:

    ecosystem: see `plugvault.ecosystem.Ecosystem`; its `url` and `credentials(role)` are what
    software of one's own is pointed at. car: see `plugvault.car.Car`. pcid: of its provisioning
    certificate, which is in the pool. maker: its maker's end of the channel to it, connected.
    station: where it is plugged in, `address` with host and port.
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
        self._give_birth()
        roots = self.ecosystem.cpo.roots()
        self.station = Station(Offer(evseid=EVSE), roots, self.ecosystem.cpo.fetch_contract)
        self.address = self._stack.enter_context(self.station.in_thread())

    def contract(self) -> str:
        """A contract for the car, sealed to it and in the contract pool; its EMAID."""
        return self.ecosystem.mo.contract(self.pcid)

    def charge(self, want_contract: bool = True) -> str:
        """One session at the station; the EMAID it bills, "" where it authorizes nobody.
        want_contract: the car asks for its contract first, as one does that has none."""
        billed = len(self.station.records)
        self.car.charge(*self.address, want_contract=want_contract)
        return "".join(record.emaid for record in self.station.records[billed:])

    def _give_birth(self) -> None:
        """The factory: key, certificate, trust anchors; then the pool of vehicles."""
        maker, oem = self.maker, self.ecosystem.oem
        maker.connect()
        leaf, subs = oem.enrol(maker.csr(self.pcid, _MAKER, _COUNTRY))
        maker.install_trust(_REGION, oem.anchors(_REGION, leaf, subs))
        maker.install_certificate([leaf, *subs])
        oem.register(leaf, subs, [self.ecosystem.v2g_root])
