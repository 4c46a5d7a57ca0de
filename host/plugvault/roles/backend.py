"""The maker's backend that runs by itself: from an event of CCP to the contract in the vehicle.

    with Backend(maker, Path("backend.sqlite")) as backend:
        backend.follow()                # the stream of events; or `backend.take` for a `receiver`
        backend.arrives(pcid, lambda point: car.maker(key, point))

CCP tells the maker of each contract. The backend pulls it, performs the checks that CCP leaves to
the maker [V2G2-894], and keeps it until the vehicle is there; what fails a check never reaches a
vehicle. A contract that was deleted is taken out of the vehicle. What it has seen and what waits
is in a file: it can be stopped anywhere and goes on from there.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from evcc import ids
from plugvault.roles.client import OpcpError
from plugvault.roles.customer import CustomerView, view
from plugvault.roles.fleet import Connect, Fleet
from plugvault.roles.follower import Follower
from plugvault.roles.oem import ForwardError, VehicleMaker
from plugvault.roles.work_queue import CHOOSE, INSTALL, REMOVE, WorkQueue
from plugvault.telematics import Maker as Channel

log = logging.getLogger("plugvault.roles.backend")

_NEW = ("oem.contract.created", "oem.contract.updated")
_GONE = "oem.contract.deleted"

Event = Mapping[str, Any]


class Backend:
    """`maker`: its calls of the pools; `file`: what it remembers, made when missing; `clock()`:
    Unix seconds, the time that vehicles are told.

    `locked`: the vehicles, by PCID, that were locked when they came: see `unlock`.
    """

    def __init__(
        self, maker: VehicleMaker, file: Path, clock: Callable[[], float] = time.time
    ) -> None:
        self._maker = maker
        self._clock = clock
        self.queue = WorkQueue(file)
        self.locked: set[str] = set()
        self._fleet = Fleet(self.queue, maker.check, self._greet)
        self._follower: Follower | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop; what is under way in a vehicle comes to its end first."""
        if self._follower is not None:
            self._follower.close()
        self._fleet.close()
        self.queue.close()

    # -- events --

    def take(self, event: Event) -> str:
        """Deal with an event, as OPCP's webhooks have it: why its contract is rejected, or "".

        The same event again has the same answer and no other effect. Raises OpcpError when it
        cannot be dealt with now, ValueError when it is no event.
        """
        try:
            event_id, kind, payload = event["eventId"], event["eventType"], event["payload"]
            if kind not in (*_NEW, _GONE):
                return ""
            pcid, emaid = ids.parse_pcid(payload["pcid"]), ids.parse_emaid(payload["emaid"])
        except (KeyError, TypeError, ids.IdError) as error:
            raise ValueError(f"not an event: {error}") from error
        known = self.queue.state_file.outcome(event_id)
        if known is not None:
            return known
        reason = ""
        if kind == _GONE:
            self.queue.settle(event_id, "", (pcid.upper(), emaid, REMOVE, b""))
        else:
            reason = self._new(event_id, pcid, emaid)
        self._fleet.wake(pcid.upper())
        return reason

    def _new(self, event_id: str, pcid: str, emaid: str) -> str:
        try:
            pulled = self._maker.pull(emaid, pcid)
        except ForwardError as error:
            log.warning("%s is not forwarded: %s", emaid, error)
            self.queue.settle(event_id, str(error))
            return str(error)
        except OpcpError as error:
            if error.status != 404:
                raise
            self.queue.settle(event_id)  # deleted since: the event that says so is on its way
            return ""
        self.queue.settle(event_id, "", (pcid.upper(), emaid, INSTALL, pulled.message))
        return ""

    def follow(self) -> None:
        """Read the maker's events from the stream in a thread, from where it was left."""
        self._follower = Follower(self._maker.client, self.queue.state_file, self.take)

    # -- vehicles --

    def arrives(self, pcid: str, connect: Connect) -> None:
        """A vehicle can be reached now. `connect`: see `Fleet.arrives`.

        Whose key the vehicle must prove to have is what PCP says, or said last: a vehicle that is
        in PCP no more still has contracts taken out. Raises OpcpError for one never heard of.
        """
        try:
            point = self._maker.point(pcid)
            self.queue.know(pcid.upper(), point)
        except OpcpError:
            known = self.queue.point(pcid.upper())
            if known is None:
                raise
            point = known
        self._fleet.arrives(pcid, point, connect)

    def leaves(self, pcid: str) -> None:
        """A vehicle can no longer be reached, or its channel is needed for something else."""
        self._fleet.leaves(pcid)

    def _greet(self, vehicle: str, link: Channel) -> None:
        """The time, what is revoked, and whether somebody has tried keys on it."""
        link.set_time(int(self._clock()))
        if revoked := self.queue.revoked():
            link.install_revoked(revoked, int(self._clock()))
        if link.status().locked:
            log.warning("%s is locked: too many keys were not their certificates'", vehicle)
            self.locked.add(vehicle)

    def unlock(self, pcid: str) -> bool:
        """Let a vehicle install again, once it is clear who has sent it keys that were not their
        certificates'; whether it was there to hear it. Raises TelematicsError."""
        done = self._fleet.ask(pcid, lambda link: link.unlock())
        if done:
            self.locked.discard(pcid.upper())
            self._fleet.wake(pcid.upper())
        return done

    def revoke(self, certificate: bytes) -> None:
        """No vehicle trusts this certificate (DER) any more, from when it comes next."""
        self.queue.revoke(certificate)

    # -- its customers --

    def choose(self, pcid: str, emaid: str) -> None:
        """The customer pays with this contract from now on: it is what stations install, and what
        is active in the vehicle as soon as that is there. Raises OpcpError."""
        self._maker.choose(pcid, emaid)
        self.queue.add(pcid.upper(), ids.parse_emaid(emaid), CHOOSE)
        self._fleet.wake(pcid.upper())

    def customer_view(self, pcid: str) -> CustomerView:
        """What the vehicle's customer may see. Raises OpcpError."""
        waiting = self.queue.waiting(pcid.upper())
        return view(pcid, self._maker.contracts(pcid), self._fleet.held(pcid), waiting)
