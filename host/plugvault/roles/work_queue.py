"""The work that waits for the maker's vehicles, and its customers' choices, in a small SQLite
file.

An event and its work are written in one transaction, so that a backend which stops at any point
loses no event and does the work of a repeated event once. The file holds no keys: a contract's key
is sealed to its vehicle.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plugvault.roles.state_file import Run, StateFile, Values, is_new_event

INSTALL, REMOVE, CHOOSE = "install", "remove", "choose"
WAITING, DONE, REJECTED, REPLACED = "waiting", "done", "rejected", "replaced"
FINISHED = 100  # tasks of a vehicle that are kept when they are finished, the newest ones
REMEMBERED = 86_400  # seconds for which a vehicle does not get a bundle again that it has refused
BY_VEHICLE = "the vehicle "  # begins the reason when the vehicle, not the maker, has rejected

_TABLES = """
CREATE TABLE IF NOT EXISTS vehicles (vehicle TEXT PRIMARY KEY, point BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS work (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    vehicle TEXT NOT NULL, emaid TEXT NOT NULL, action TEXT NOT NULL, message BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS revoked (certificate BLOB PRIMARY KEY);
CREATE TABLE IF NOT EXISTS listed (vehicle TEXT, emaid TEXT, PRIMARY KEY (vehicle, emaid));
CREATE TABLE IF NOT EXISTS unwanted (vehicle TEXT, emaid TEXT, PRIMARY KEY (vehicle, emaid));
CREATE TABLE IF NOT EXISTS refused (
    vehicle TEXT, emaid TEXT, message BLOB NOT NULL, at REAL NOT NULL, PRIMARY KEY (vehicle, emaid)
);
CREATE TABLE IF NOT EXISTS choices (vehicle TEXT PRIMARY KEY, emaid TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS work_waiting ON work (vehicle, state, number);
"""


@dataclass(frozen=True)
class Work:
    """One task for a vehicle. `vehicle`: PCID in upper case; `emaid`: "" for the choice of no
    contract; `message`: the CertificateInstallationRes in EXI for INSTALL, else empty; `reason`:
    why it has this state, or why it waits."""

    number: int
    vehicle: str
    emaid: str
    action: str
    message: bytes
    state: str
    reason: str


class WorkQueue:
    """The work for all vehicles of a maker. `close()` when done. `vehicle` is always a PCID in
    upper case.

    `clock()`: Unix seconds. `state_file`: the position in the stream of events, and their
    outcomes. Every method raises StateError.
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.state_file = StateFile(file, _TABLES)

    def close(self) -> None:
        self.state_file.close()

    def settle(self, event_id: str, reason: str = "", *work: tuple[str, str, str, bytes]) -> None:
        """Store the outcome of an event.

        `reason`: of its rejection; `work`: its tasks, each (vehicle, EMAID, action, message).
        Waiting work on the same EMAID is replaced. A bundle whose installation waits or is done
        makes no work, because a comparison has made it already.
        """
        with self.state_file.transaction() as run:
            if not is_new_event(run, event_id, reason):
                return
            for vehicle, emaid, action, message in work:
                if action == REMOVE:  # the contract has ended, and so has its exclusion
                    run("DELETE FROM unwanted WHERE vehicle = ? AND emaid = ?", (vehicle, emaid))
                if not run(_HANDLED, (vehicle, emaid, message)):
                    _add(run, vehicle, emaid, action, message)

    def add(self, vehicle: str, emaid: str, action: str, message: bytes = b"") -> None:
        """Add work without an event."""
        with self.state_file.transaction() as run:
            _add(run, vehicle, emaid, action, message)

    def last(self, vehicle: str) -> int:
        """The number of the vehicle's newest work, 0 without any."""
        rows = self.state_file.rows("SELECT MAX(number) FROM work WHERE vehicle = ?", vehicle)
        return int(rows[0][0] or 0)

    def add_after(self, last: int, vehicle: str, work: Sequence[tuple[str, str, bytes]]) -> bool:
        """Add work, each (action, EMAID, message). False, and nothing is added, when the vehicle
        got other work after the one with the number `last`."""
        with self.state_file.transaction() as run:
            if run("SELECT 1 FROM work WHERE vehicle = ? AND number > ?", (vehicle, last)):
                return False
            for action, emaid, message in work:
                _add(run, vehicle, emaid, action, message)
        return True

    def waiting(self, vehicle: str) -> list[Work]:
        """The vehicle's waiting work, oldest first."""
        rows = self.state_file.rows(
            "SELECT * FROM work WHERE vehicle = ? AND state = ? ORDER BY number", vehicle, WAITING
        )
        return [Work(*row) for row in rows]

    def finish(self, work: Work, state: str, reason: str = "") -> None:
        """Set the final state of waiting work, unless newer work has replaced it. A bundle that
        the vehicle has refused is remembered for a while."""
        with self.state_file.transaction() as run:
            run(
                "UPDATE work SET state = ?, reason = ? WHERE number = ? AND state = ?",
                (state, reason, work.number, WAITING),
            )  # fmt: skip
            if work.action == INSTALL and state == REJECTED and reason.startswith(BY_VEHICLE):
                refusal = (work.vehicle, work.emaid, work.message, self._clock())
                run("INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)", refusal)

    def is_refused(self, vehicle: str, emaid: str, message: bytes) -> bool:
        """Whether the vehicle itself has refused exactly this bundle within the last `REMEMBERED`
        seconds. After that it gets it again: its anchors, time or software may be others."""
        query = (
            "SELECT 1 FROM refused WHERE vehicle = ? AND emaid = ? AND message = ?"
            " AND at BETWEEN ? AND ?"  # a time in the future was written under a wrong clock
        )
        now = self._clock()
        return bool(self.state_file.rows(query, vehicle, emaid, message, now - REMEMBERED, now))

    def forget_refusals(self, vehicle: str) -> None:
        """Let the vehicle get again what it has refused."""
        with self.state_file.transaction() as run:
            run("DELETE FROM refused WHERE vehicle = ?", (vehicle,))

    def history(self, vehicle: str) -> list[Work]:
        """The work for a vehicle: everything that waits, and the newest FINISHED tasks of the
        rest."""
        rows = self.state_file.rows(
            "SELECT * FROM work WHERE vehicle = ? ORDER BY number", vehicle
        )
        return [Work(*row) for row in rows]

    # -- the customers' choices, and the pool's contracts --

    def intend(self, vehicle: str, emaid: str) -> None:
        """Store a customer's choice before the pool gets it."""
        with self.state_file.transaction() as run:
            run("INSERT OR REPLACE INTO choices VALUES (?, ?)", (vehicle, emaid))

    def intended(self) -> list[tuple[str, str]]:
        """(vehicle, EMAID) of each choice that the pool may not have."""
        return [(row[0], row[1]) for row in self.state_file.rows("SELECT * FROM choices")]

    def is_intended(self, vehicle: str, emaid: str) -> bool:
        """Whether this is the vehicle's latest choice, and the pool may not have it."""
        query = "SELECT 1 FROM choices WHERE vehicle = ? AND emaid = ?"
        return bool(self.state_file.rows(query, vehicle, emaid))

    def end_intention(self, vehicle: str, emaid: str, is_chosen: bool) -> None:
        """Note the pool's answer to a choice. With `is_chosen` the vehicle must pay with the
        contract, and has it again if the customer had removed it; otherwise the choice is
        dropped."""
        with self.state_file.transaction() as run:
            query = "DELETE FROM choices WHERE vehicle = ? AND emaid = ?"
            if run(query, (vehicle, emaid)) and is_chosen:
                run("DELETE FROM unwanted WHERE vehicle = ? AND emaid = ?", (vehicle, emaid))
                run("DELETE FROM refused WHERE vehicle = ? AND emaid = ?", (vehicle, emaid))
                run(_KEEP, (REPLACED, vehicle, emaid, REMOVE, WAITING))
                _add(run, vehicle, emaid, CHOOSE, b"")

    def exclude(self, vehicle: str, emaid: str) -> None:
        """Remove a contract from a vehicle until the customer chooses it again."""
        with self.state_file.transaction() as run:
            run("DELETE FROM choices WHERE vehicle = ? AND emaid = ?", (vehicle, emaid))
            run("INSERT OR IGNORE INTO unwanted VALUES (?, ?)", (vehicle, emaid))
            _add(run, vehicle, emaid, REMOVE, b"")

    def unwanted(self, vehicle: str) -> set[str]:
        """The EMAIDs that the customer does not want in the vehicle."""
        return self._emaids("SELECT emaid FROM unwanted WHERE vehicle = ?", vehicle)

    def note_listed(self, vehicle: str, emaids: set[str]) -> None:
        """Note that the pool has, or had, these contracts for a vehicle."""
        if new := emaids - self.listed(vehicle):
            with self.state_file.transaction() as run:
                for emaid in new:
                    run("INSERT OR IGNORE INTO listed VALUES (?, ?)", (vehicle, emaid))

    def listed(self, vehicle: str) -> set[str]:
        """The EMAIDs that the pool has, or had, for a vehicle: by its lists and its events."""
        return self._emaids("SELECT emaid FROM listed WHERE vehicle = ?", vehicle) | self._emaids(
            "SELECT DISTINCT emaid FROM work WHERE vehicle = ?", vehicle
        )

    def _emaids(self, query: str, vehicle: str) -> set[str]:
        return {str(row[0]) for row in self.state_file.rows(query, vehicle)}

    # -- the vehicles' keys, and revoked certificates --

    def set_point(self, vehicle: str, point: bytes) -> None:
        """Store the 65-byte point of a vehicle's provisioning key."""
        with self.state_file.transaction() as run:
            run(
                "INSERT INTO vehicles VALUES (?, ?) ON CONFLICT DO UPDATE SET point = ?",
                (vehicle, point, point),
            )  # fmt: skip

    def revoke(self, certificate: bytes) -> None:
        """Store a certificate (DER) that no vehicle may accept from now on."""
        with self.state_file.transaction() as run:
            run("INSERT OR IGNORE INTO revoked VALUES (?)", (certificate,))

    def revoked(self) -> list[bytes]:
        """The stored revoked certificates, DER."""
        return [bytes(row[0]) for row in self.state_file.rows("SELECT certificate FROM revoked")]

    def point(self, vehicle: str) -> bytes | None:
        """The stored point of a vehicle's provisioning key, 65 bytes; None for an unknown
        vehicle."""
        rows = self.state_file.rows("SELECT point FROM vehicles WHERE vehicle = ?", vehicle)
        return bytes(rows[0][0]) if rows else None


# The waiting work that new work replaces. A choice replaces every earlier choice, because a
# vehicle pays with one contract at a time. A removal replaces all work on its contract. A new
# bundle replaces the old one, and not the choice of it.
_REPLACE = """
UPDATE work SET state = :replaced WHERE vehicle = :vehicle AND state = :waiting AND CASE :action
    WHEN 'choose' THEN action = 'choose'
    WHEN 'remove' THEN emaid = :emaid
    ELSE emaid = :emaid AND action <> 'choose' END
"""
# The finished work that is older than the newest FINISHED is deleted; its contracts stay listed.
_LIST_OLD = """
INSERT OR IGNORE INTO listed SELECT vehicle, emaid FROM work
WHERE vehicle = :vehicle AND state <> :waiting
ORDER BY number DESC LIMIT -1 OFFSET :finished
"""
_DELETE_OLD = """
DELETE FROM work WHERE number IN (
    SELECT number FROM work WHERE vehicle = :vehicle AND state <> :waiting
    ORDER BY number DESC LIMIT -1 OFFSET :finished
)
"""
# A waiting removal ends when its customer chooses the contract.
_KEEP = """
UPDATE work SET state = ? WHERE vehicle = ? AND emaid = ? AND action = ? AND state = ?
"""
# An installation of this bundle that waits or is done, without newer work on the contract.
_HANDLED = """
SELECT 1 FROM (
    SELECT action, message, state FROM work
    WHERE vehicle = ? AND emaid = ? AND action <> 'choose' ORDER BY number DESC LIMIT 1
) WHERE action = 'install' AND message = ? AND state IN ('waiting', 'done')
"""
_INSERT = """
INSERT INTO work (vehicle, emaid, action, message, state, reason)
VALUES (:vehicle, :emaid, :action, :message, :waiting, '')
"""


def _add(run: Run, vehicle: str, emaid: str, action: str, message: bytes) -> None:
    values: Values = {
        "vehicle": vehicle, "emaid": emaid, "action": action, "message": message,
        "waiting": WAITING, "replaced": REPLACED, "finished": FINISHED,
    }  # fmt: skip
    run(_REPLACE, values)
    run(_INSERT, values)
    run(_LIST_OLD, values)
    run(_DELETE_OLD, values)
