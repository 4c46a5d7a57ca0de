"""The boards' maker: an ecosystem on this computer, and the work of its companies for one board.

The ecosystem is the one that `plugvault sandbox --data` runs; a board's command runs it in its own
process as long as the command takes. What the demo does with a car in a process is done here with
a board.
"""

import contextlib
import errno
import logging
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evcc.ids import IdError
from plugvault import file_lock
from plugvault.board.bench import BoardBench
from plugvault.board.errors import DeviceError
from plugvault.board.folder import Board
from plugvault.ecosystem import EVSE, WMI, Ecosystem
from plugvault.ecosystem.folder import sandbox_lock
from plugvault.roles import health, regions
from plugvault.roles.backend import Backend
from plugvault.roles.client import OpcpError
from plugvault.roles.work_queue import DONE, INSTALL
from plugvault.station import Offer, Station, StationSettings
from plugvault.telematics import ContractStatus, Maker, TelematicsError

REGION = "EU"
_LIST = "`plugvault board contracts` lists its contracts"
_COUNTRY, _ORGANISATION = "DE", "Example Cars"
_INSTALLATION = 180.0  # seconds: a board that verifies by itself takes some 20
_OF_A_CHARGE = ("charging", "charged", "paused", "resumed")  # events of the module
_Wishes = tuple[dict[str, Any], str]  # wishes of a session, and the event that it must have
_SESSION = 300.0  # the same; an emulated board on a busy computer takes minutes


@contextlib.contextmanager
def ecosystem(data: Path) -> Iterator[Ecosystem]:
    """The ecosystem in this folder, made when missing.

    Raises: DeviceError("state") while a sandbox uses the folder, VaultError.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(sandbox_lock(data))
        except OSError as error:
            detail = f"{data}: {error.strerror or error}"
            if error.errno == errno.EBUSY:
                detail += f"{file_lock.holder(data)}: wait for its end, or end it"
            raise DeviceError("state", detail) from error
        yield stack.enter_context(Ecosystem(data, is_locked=True))


class BoardMaker:
    """The maker's side of one board. `board`: changed by `provision`. The methods raise OpcpError
    and TelematicsError.

    Raises: DeviceError("state") for a board that obeys another maker's key.
    """

    def __init__(self, world: Ecosystem, board: Board, bench: BoardBench) -> None:
        if board.maker != world.telematics_key.point.hex():
            raise DeviceError("state", f"the board {board.uid} obeys another maker's key")
        self._world = world
        self.board = board
        self._bench = bench

    def connect(self) -> Maker:
        """The maker's channel, after both ends have authenticated."""
        maker = self._bench.maker(self._world.telematics_key)
        maker.connect()
        return maker

    def set_time(self) -> int:
        """Give the board this computer's time, and return it: Unix seconds."""
        now = int(time.time())
        self.connect().set_time(now)
        return now

    def provision(self) -> dict[str, Any]:
        """Give the board a provisioning certificate, its entry in PCP, and trust anchors. Returns
        {"pcid", "region", "anchors"}.

        A board with a certificate keeps it. Raises: DeviceError("state") for one that is not for
        the board's key.
        """
        maker = self.connect()
        maker.set_time(int(time.time()))
        status = maker.status()
        if status.certified:
            self._require_its_key(maker, status.pcid)
            self.board = self.board.save(pcid=status.pcid)
            return {"pcid": status.pcid, "region": status.region, "anchors": status.anchors}
        oem = self._world.oem
        pcid = WMI + "P" + "".join(secrets.choice("0123456789") for _ in range(13))
        leaf, subs = oem.enrol(maker.csr(pcid, _ORGANISATION, _COUNTRY))
        anchors = oem.anchors(REGION, leaf, subs)
        # The pool first: a board that loses its connection now gets its certificate later.
        oem.register(leaf, subs, [self._world.v2g_root])
        maker.install_trust(REGION, anchors)
        maker.install_certificate([leaf, *subs])
        self.board = self.board.save(pcid=pcid)
        return {"pcid": pcid, "region": REGION, "anchors": len(anchors)}

    def _require_its_key(self, maker: Maker, pcid: str) -> None:
        """Compare the board's key with the one in its certificate."""
        if self._certified_key(pcid) != maker.car:
            raise _other_car(pcid, "is for another key")

    def _certified_key(self, pcid: str) -> bytes:
        """The key in the board's certificate, as the pool has it. Raises: DeviceError("state")
        for a certificate that this ecosystem's maker has not registered."""
        try:
            return self._world.oem.point(pcid)
        except OpcpError as error:
            if error.status != 404:
                raise
            raise _other_car(pcid, "is of another maker") from error

    def trust(self, region: str) -> dict[str, Any]:
        """Replace the trust anchors by those of a sales region. Raises: DeviceError("config")."""
        roots = self._world.oem.client.roots_by_kind()
        try:
            anchors = regions.anchors(region, roots, self._world.oem_root)
        except ValueError as error:
            raise DeviceError("config", str(error)) from error
        maker = self.connect()
        maker.set_time(int(time.time()))
        maker.install_trust(region, anchors)
        return {"region": region, "anchors": len(anchors)}

    def contracts(self) -> list[ContractStatus]:
        """The contracts in the board."""
        return self.connect().contracts()

    def vault(self) -> str:
        """The kind of the board's vault: whose custody the contracts have."""
        return str(self._bench.status()["vault"])

    def choose(self, emaid: str) -> None:
        """Make a contract the customer's choice, in the pool and in the board. A contract that the
        pool does not have is chosen in the board alone."""
        with _named(emaid):
            with self._backend() as backend:
                try:
                    backend.choose(self._pcid(), emaid)
                except OpcpError as error:
                    if error.status != 404:
                        raise
            self.connect().choose_contract(emaid)

    def remove(self, emaid: str) -> None:
        """Remove a contract from the board, until the customer chooses it again."""
        with _named(emaid):
            with self._backend() as backend:
                backend.remove(self._pcid(), emaid)
            self.connect().remove_contract(emaid)

    def erase_contracts(self) -> list[str]:
        """Remove every contract from the board, as `remove` does, and destroy every other key
        without a contract. Returns the EMAIDs."""
        emaids = [contract.emaid for contract in self.contracts()]
        for emaid in emaids:
            self.remove(emaid)
        self.connect().discard_keys()
        return emaids

    @contextlib.contextmanager
    def _backend(self) -> Iterator[Backend]:
        """The maker's backend. The error of a lost line is not in its log: the call that waits
        raises it, too."""

        def is_of_another_error(record: logging.LogRecord) -> bool:
            failure = self._bench.bench.failure
            return failure is None or str(failure) not in record.getMessage()

        health.log.addFilter(is_of_another_error)
        try:
            with Backend(self._world.oem, self.board.folder / "maker.sqlite") as backend:
                yield backend
        finally:
            health.log.removeFilter(is_of_another_error)

    def install(self) -> dict[str, Any]:
        """A new contract of operator B, over the air: from the pool's event to the board."""
        pcid = self._registered_pcid()
        emaid = self._world.mo_v2g.new_emaid()
        with self._backend() as backend:
            backend.follow()
            seen = len(self._bench.bench.events)
            key = self._world.telematics_key
            backend.arrives(pcid, lambda point: self._bench.maker(key, point))
            self._world.mo_v2g.contract(pcid, emaid)
            self._await_installed(emaid, seen)
            backend.leaves(pcid)
            history = backend.queue.history(pcid)
            states = [
                work.state for work in history if (work.action, work.emaid) == (INSTALL, emaid)
            ]
        if DONE not in states:
            raise DeviceError("state", f"{emaid} is {', '.join(states)}, and not installed")
        return self._installed(emaid, "over the air")

    def _await_installed(self, emaid: str, seen: int) -> None:
        """Wait for this contract; others that the board lacks may be installed before it."""
        bench = self._bench.bench
        while bench.wait_event("installed", seen, _INSTALLATION) != emaid:
            names = [event.name for event in bench.events]
            seen = names.index("installed", seen) + 1

    def install_at_station(self) -> dict[str, Any]:
        """Install a new contract of operator A in a charging session."""
        pcid = self._registered_pcid()
        emaid = self._world.mo.contract(pcid)
        self._world.oem.choose(pcid, emaid)
        events = self._charge(None, want_contract=True)
        _require(("installed", emaid), events)
        return self._installed(emaid, "at the station")

    def _installed(self, emaid: str, path: str) -> dict[str, Any]:
        custody = {held.emaid: held.custody for held in self.contracts()}[emaid]
        return {"emaid": emaid, "custody": custody, "path": path, "vault": self.vault()}

    def authorize(
        self, emaid: str | None, charge: str | None = None, pause: bool = False, timeouts: int = 1
    ) -> dict[str, Any]:
        """Carry out a charging session at a station on this computer.

        charge: "AC" or "DC", a charge of a few messages after authorization; None: the session
        stops. pause: end that charge with a pause, and continue it in a second session. timeouts:
        the factor of the module's time-outs.

        Returns {"event", "emaid", "evse"}; with a charge, "charge" too: its events in their order.
        Raises DeviceError("state") when an expected event is missing.
        """
        sessions: list[_Wishes] = [({}, "authorized")]
        if charge is not None:
            wishes = {"mode": charge, "pause": pause}
            sessions = [({"charge": wishes}, "paused" if pause else "charged")]
        if charge is not None and pause:
            sessions.append(({"charge": {"mode": charge}, "resume": True}, "charged"))
        for wish, _ in sessions:
            wish["time_factor"] = timeouts
        try:
            events = self._charge(emaid, sessions=sessions)
        except DeviceError as error:
            raise self._without_contract(emaid, error) from error
        name, text = _require(("authorized", None), events)
        answer: dict[str, Any] = {"event": name, "emaid": text, "evse": EVSE}
        if charge is not None:
            answer["charge"] = [name for name, _ in events if name in _OF_A_CHARGE]
        return answer

    def _without_contract(self, emaid: str | None, error: DeviceError) -> DeviceError:
        """The error of a session, with the next step where a contract is missing."""
        if not self._bench.status()["contracts"]:
            cause = "the board has no contract. `plugvault board install` makes and installs one"
        elif emaid is not None and "failed no-contract" in error.detail:
            cause = f"the board has no contract {emaid}. {_LIST}"
        else:
            return error
        return DeviceError("state", f"{cause}. ({error.detail})")

    def _charge(
        self,
        emaid: str | None,
        want_contract: bool = False,
        sessions: Sequence[_Wishes] = (({}, "authorized"),),
    ) -> list[tuple[str, str]]:
        """The events of some sessions at one station. Raises: DeviceError("state")."""
        station = Station(
            Offer(evseid=EVSE),
            self._world.cpo.roots(),
            self._world.cpo.fetch_contract,
            StationSettings(tls=self._world.station_tls()),
        )
        roots, events = [self._world.v2g_root], []
        with station.in_thread() as address:
            for wishes, expected in sessions:
                seen = self._bench.charge(
                    *address,
                    want_contract=want_contract,
                    emaid=emaid,
                    timeout=_SESSION,
                    roots=roots,
                    **wishes,
                )
                _require((expected, None), seen)
                events += seen
            for record in station.records:
                events.append(("billed", record.emaid))
        return events

    def _pcid(self) -> str:
        status = self._bench.status()
        if not status["certified"]:
            raise DeviceError("state", "no provisioning certificate: `plugvault board provision`")
        return str(status["pcid"])

    def _registered_pcid(self) -> str:
        """The PCID of a car of this ecosystem: the operators make contracts for no other."""
        pcid = self._pcid()
        self._certified_key(pcid)
        return pcid


@contextlib.contextmanager
def _named(emaid: str) -> Iterator[None]:
    """Name the contract in the errors about its EMAID. Raises: DeviceError("config" | "state")."""
    try:
        yield
    except IdError as error:
        raise DeviceError("config", f"{emaid!r}: {error.detail}. {_LIST}") from error
    except TelematicsError as error:
        if (error.reason, error.detail) != ("refused", "not-found"):
            raise
        raise DeviceError("state", f"the board has no contract {emaid}. {_LIST}") from error


def _other_car(pcid: str, cause: str) -> DeviceError:
    return DeviceError(
        "state",
        f"the board's certificate, {pcid}, {cause}: the board became a car with another data"
        " folder. Name that folder by --data DIR, or make the board an empty car: `plugvault"
        " flash --erase-car`",
    )


def _require(event: tuple[str, str | None], events: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The event of this name (and text). Raises: DeviceError("state") with what came instead."""
    for name, text in events:
        if name == event[0] and event[1] in (None, text):
            return name, text
    instead = ", ".join(f"{name} {text}".strip() for name, text in events if name != "check")
    raise DeviceError("state", f"no {event[0]!r} of the module; its events: {instead or 'none'}")
