"""The maker's backend: it brings a contract into the vehicle after an event of CCP.

    with Backend(maker, Path("backend.sqlite")) as backend:
        backend.follow()                # the stream of events; or `backend.take` for a `receiver`
        backend.arrives(pcid, lambda point: car.maker(key, point))

CCP sends the maker an event for each contract. The backend pulls the contract, performs the checks
that CCP leaves to the maker [V2G2-894], and stores it until the vehicle is reachable. A contract
that fails a check never reaches a vehicle. A deleted contract is removed from the vehicle. The
processed events and the waiting work are in a file, so the backend continues after a stop. Pool
and vehicle are compared too, because an event may be lost [`comparison`].
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from evcc import envelopes, ids
from plugvault.contexts import Closeable
from plugvault.roles.client import OpcpError
from plugvault.roles.comparison import Comparison
from plugvault.roles.customer import CustomerView, view
from plugvault.roles.fleet import Connect, Fleet
from plugvault.roles.follower import Follower
from plugvault.roles.health import (
    FULL,
    LOCKED,
    OUTDATED,
    REFUSED,
    UNNAMED,
    UNPROVISIONED,
    Health,
    HealthEvent,
)
from plugvault.roles.oem import ForwardError, VehicleMaker
from plugvault.roles.state_file import EventError
from plugvault.roles.work_queue import CHOOSE, INSTALL, REMOVE, WAITING, Work, WorkQueue
from plugvault.telematics import Maker as Channel
from plugvault.telematics import TelematicsError, VehicleStatus

log = logging.getLogger("plugvault.roles.backend")

_NEW = ("oem.contract.created", "oem.contract.updated")
_GONE = "oem.contract.deleted"
# The statuses with which the pool refuses a choice itself; another one may pass.
_REFUSALS = (400, 404, 409, 410, 422)
_FORBIDDEN = 403  # about one vehicle; any other passing error is about the pool

Event = Mapping[str, Any]


class Backend(Closeable):
    """The backend of one maker. `close()` when done.

    `maker`: its calls of the pools; `file`: its state, made when missing; `clock()`: Unix seconds,
    the time that vehicles get; `observe(event)`: called for each event of `health`, in a thread of
    its own; it may call the backend.

    `health`: which vehicles do not answer, are locked or have lost keys, and which loops fail. A
    method raises StateError when it cannot read or store the state.
    """

    def __init__(
        self,
        maker: VehicleMaker,
        file: Path,
        clock: Callable[[], float] = time.time,
        observe: Callable[[HealthEvent], None] | None = None,
    ) -> None:
        self._maker = maker
        self._clock = clock
        self.queue = WorkQueue(file, clock)
        self.health = Health(observe)
        self._sending: dict[str, threading.Lock] = {}  # by vehicle: its choices keep their order
        self._comparison = Comparison(maker, self.queue, self.health)
        self._fleet = Fleet(self.queue, maker.check, self._greet, self._compare, self.health)
        self._follower: Follower | None = None

    def close(self) -> None:
        """Stop, after the current tasks of the vehicles."""
        if self._follower is not None:
            self._follower.close()
        self._fleet.close()
        self.health.close()
        self.queue.close()

    # -- events --

    def take(self, event: Event) -> str:
        """Process an event as OPCP's webhooks have it. Returns the reason why its contract is
        rejected, or "".

        The same event again has the same answer and no other effect. Raises OpcpError when the
        event cannot be processed now, EventError when it is no event.
        """
        try:
            event_id, kind, payload = event["eventId"], event["eventType"], event["payload"]
            if kind not in (*_NEW, _GONE):
                return ""
            pcid, emaid = ids.parse_pcid(payload["pcid"]), ids.parse_emaid(payload["emaid"])
        except (KeyError, TypeError, ids.IdError) as error:
            raise EventError(f"not an event: {error}") from error
        outcome = self.queue.state_file.outcome(event_id)
        if outcome is not None:
            return outcome
        reason = ""
        if kind == _GONE:
            self.queue.settle(event_id, "", (pcid.upper(), emaid, REMOVE, b""))
        elif emaid in self.queue.unwanted(pcid.upper()):
            self.queue.settle(event_id)
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
            self.queue.settle(event_id)  # deleted meanwhile: the event of that will follow
            return ""
        self.queue.settle(event_id, "", (pcid.upper(), emaid, INSTALL, pulled.message))
        return ""

    def follow(self) -> None:
        """Read the maker's events from the stream, in a thread, from the stored position on."""
        self._follower = Follower(
            self._maker.client,
            self.queue.state_file,
            self.take,
            self.health,
            self._send_choices,
        )

    # -- vehicles --

    def arrives(self, pcid: str, connect: Connect) -> None:
        """Begin to serve a vehicle that is reachable now. `connect`: see `Fleet.arrives`.

        The vehicle must prove to have the key that PCP has for it, or had last: contracts are
        still removed from a vehicle that PCP no longer has. Raises OpcpError for an unknown
        vehicle.
        """
        try:
            point = self._maker.point(pcid)
            self.queue.set_point(pcid.upper(), point)
        except OpcpError:
            last_point = self.queue.point(pcid.upper())
            if last_point is None:
                raise
            point = last_point
        self._fleet.arrives(pcid, point, connect)

    def leaves(self, pcid: str) -> None:
        """Stop serving a vehicle that is no longer reachable, or whose channel is needed for
        another purpose."""
        self._fleet.leaves(pcid)

    def is_there(self, pcid: str) -> bool:
        """Whether a vehicle is reachable and gave the last answer that was expected. `health` has
        an event when a vehicle stops answering, and when it answers again."""
        return self._fleet.is_there(pcid)

    def _greet(self, vehicle: str, link: Channel) -> tuple[HealthEvent, ...]:
        """Send the time and the revoked certificates. Returns the vehicle's lasting states, for
        `Health.tell_change`."""
        link.set_time(int(self._clock()))
        outdated = self._send_revoked(link)
        states = {**_states(link.status()), OUTDATED: outdated}
        return tuple(HealthEvent(name, vehicle, text) for name, text in states.items())

    def _send_revoked(self, link: Channel) -> str:
        """The reason why the vehicle keeps its old list, or "". It is served all the same: the
        maker checks each contract before it forwards it."""
        try:
            if revoked := self.queue.revoked():
                link.install_revoked(revoked, int(self._clock()))
        except TelematicsError as error:
            if error.reason != "refused":
                raise
            return f"refuses the list of revoked certificates ({error.detail})"
        return ""

    def _compare(self, vehicle: str, link: Channel) -> bool:
        # Before the comparison, which would restore the pool's old default.
        self._send_choices(vehicle)
        return self._comparison.run(vehicle, link)

    @property
    def locked(self) -> set[str]:
        """The PCIDs of vehicles that are locked: see `unlock`."""
        return self.health.lasting(LOCKED)

    def unlock(self, pcid: str) -> bool:
        """Let a locked vehicle install again, after the sender of the wrong keys is known. False
        when the vehicle is not reachable. Raises TelematicsError."""
        unlocked = self._fleet.ask(pcid, lambda link: link.unlock())
        if unlocked:
            self.health.tell_change(LOCKED, pcid.upper(), "")
            self._fleet.wake(pcid.upper())
        return unlocked

    def install_trust(self, pcid: str, region: str, anchors: Sequence[tuple[str, bytes]]) -> bool:
        """Install trust anchors in a vehicle, as `Maker.install_trust`, and let it have again the
        contracts that it has refused. False when it is not reachable. Raises TelematicsError."""
        installed = self._fleet.ask(pcid, lambda link: link.install_trust(region, anchors))
        if installed:
            self.queue.forget_refusals(pcid.upper())
            self._fleet.wake(pcid.upper())
        return installed

    def revoke(self, certificate: bytes) -> None:
        """Revoke a certificate (DER) in every vehicle, each from its next connection on."""
        self.queue.revoke(certificate)

    # -- its customers --

    def choose(self, pcid: str, emaid: str) -> None:
        """Make a contract the customer's default: stations install it, and the vehicle pays with
        it as soon as the vehicle is reachable.

        The choice is stored first: while the pool is not reachable, or does not accept this
        backend, the choice waits. Raises OpcpError when the pool refuses it; `ids.IdError` for a
        malformed PCID or EMAID.
        """
        vehicle, emaid = ids.parse_pcid(pcid).upper(), ids.parse_emaid(emaid)
        self.queue.intend(vehicle, emaid)
        try:
            self._send_choice(vehicle, emaid)
        except OpcpError as error:
            if error.status in _REFUSALS:
                raise
            log.warning("the choice of %s waits for the pool: %s", emaid, error)
        self._fleet.wake(vehicle)

    def remove(self, pcid: str, emaid: str) -> None:
        """Remove a contract from the vehicle, as its customer wants, until the customer chooses it
        again. The pool keeps it, and stations may install it. Raises `ids.IdError`."""
        vehicle = ids.parse_pcid(pcid).upper()
        self.queue.exclude(vehicle, ids.parse_emaid(emaid))
        self._fleet.wake(vehicle)

    def _send_choices(self, only: str | None = None) -> None:
        """Send the choices that the pool may not have, of one vehicle or of all.

        The process was stopped after such a choice was stored, or the pool was not reachable.
        Health has an event for a choice that the pool refuses.
        """
        for vehicle, emaid in self.queue.intended():
            if only not in (None, vehicle):
                continue
            try:
                self._send_choice(vehicle, emaid)
            except OpcpError as error:
                if error.status in _REFUSALS:
                    self.health.tell(REFUSED, vehicle, f"the choice of {emaid}: {error}")
                elif error.status != _FORBIDDEN:
                    return  # the pool would answer the same to the others
            else:
                self._fleet.wake(vehicle)

    def _send_choice(self, vehicle: str, emaid: str) -> None:
        """Send one choice, unless a newer one has replaced it. Raises OpcpError."""
        with self._sending.setdefault(vehicle, threading.Lock()):
            if not self.queue.is_intended(vehicle, emaid):
                return
            try:
                self._maker.choose(vehicle, emaid)
            except OpcpError as error:
                if error.status in _REFUSALS:
                    self.queue.end_intention(vehicle, emaid, is_chosen=False)
                raise
            self.queue.end_intention(vehicle, emaid, is_chosen=True)

    def customer_view(self, pcid: str) -> CustomerView:
        """The customer's view of a vehicle. Raises OpcpError."""
        vehicle = pcid.upper()
        waiting = self.queue.waiting(vehicle) + [
            Work(0, vehicle, emaid, CHOOSE, b"", WAITING, "waits for the pool")
            for chooser, emaid in self.queue.intended()
            if chooser == vehicle
        ]
        return view(pcid, self._maker.contracts(pcid), self._fleet.held(pcid), waiting)


def _states(status: VehicleStatus) -> dict[str, str]:
    """The text of each lasting state of a vehicle, "" where it is not in it."""
    missing = [
        name
        for name, is_there in (
            ("provisioning certificate", status.certified),
            ("V2G root", status.anchors),
        )
        if not is_there
    ]
    unnamed = f"{status.unnamed_keys} keys: the channel's `discard_keys` destroys them"
    return {
        LOCKED: "too many keys were not their certificates'" if status.locked else "",
        FULL: f"{status.envelopes} envelopes" if status.envelopes >= envelopes.ROOM else "",
        UNPROVISIONED: f"has no {' and no '.join(missing)}" if missing else "",
        UNNAMED: unnamed if status.unnamed_keys else "",
    }
