"""The work that waits for the maker's vehicles, in a small SQLite file.

An event and its work are written in one transaction, so that a backend which stops anywhere loses
no event and does the work of a repeated event once. The file holds no keys: a contract's key is
sealed to its vehicle.
"""

from dataclasses import dataclass
from pathlib import Path

from plugvault.roles.state_file import Run, StateFile, Values, is_new_event

INSTALL, REMOVE, CHOOSE = "install", "remove", "choose"
WAITING, DONE, REJECTED, REPLACED = "waiting", "done", "rejected", "replaced"

_TABLES = """
CREATE TABLE IF NOT EXISTS vehicles (vehicle TEXT PRIMARY KEY, point BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS work (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    vehicle TEXT NOT NULL, emaid TEXT NOT NULL, action TEXT NOT NULL, message BLOB NOT NULL,
    state TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS revoked (certificate BLOB PRIMARY KEY);
CREATE INDEX IF NOT EXISTS work_waiting ON work (vehicle, state, number);
"""


@dataclass(frozen=True)
class Work:
    """One task for a vehicle. `vehicle`: PCID in upper case; `message`: the
    CertificateInstallationRes in EXI for INSTALL, else empty; `reason`: of its state, or of its
    waiting."""

    number: int
    vehicle: str
    emaid: str
    action: str
    message: bytes
    state: str
    reason: str


class WorkQueue:
    """`state_file`: the position in the stream of events, and their outcomes.

    `close()` when done.
    """

    def __init__(self, file: Path) -> None:
        self.state_file = StateFile(file, _TABLES)

    def close(self) -> None:
        self.state_file.close()

    def settle(self, event_id: str, reason: str = "", *work: tuple[str, str, str, bytes]) -> None:
        """Store the outcome of an event. `reason`: of its rejection; `work`: its tasks, each
        (vehicle, EMAID, action, message). Waiting work on the same EMAID is replaced."""
        with self.state_file.transaction() as run:
            if not is_new_event(run, event_id, reason):
                return
            for vehicle, emaid, action, message in work:
                _add(run, vehicle, emaid, action, message)

    def add(self, vehicle: str, emaid: str, action: str, message: bytes = b"") -> None:
        """Add work without an event."""
        with self.state_file.transaction() as run:
            _add(run, vehicle, emaid, action, message)

    def waiting(self, vehicle: str) -> list[Work]:
        """The vehicle's waiting work, oldest first."""
        rows = self.state_file.rows(
            "SELECT * FROM work WHERE vehicle = ? AND state = ? ORDER BY number", vehicle, WAITING
        )
        return [Work(*row) for row in rows]

    def finish(self, work: Work, state: str, reason: str = "") -> None:
        """Set the final state of waiting work, unless newer work has replaced it."""
        with self.state_file.transaction() as run:
            run(
                "UPDATE work SET state = ?, reason = ? WHERE number = ? AND state = ?",
                (state, reason, work.number, WAITING),
            )  # fmt: skip

    def history(self, vehicle: str) -> list[Work]:
        """All work for a vehicle, in any state."""
        rows = self.state_file.rows(
            "SELECT * FROM work WHERE vehicle = ? ORDER BY number", vehicle
        )
        return [Work(*row) for row in rows]

    def set_point(self, vehicle: str, point: bytes) -> None:
        """Store the 65-byte point of a vehicle's provisioning key."""
        with self.state_file.transaction() as run:
            run(
                "INSERT INTO vehicles VALUES (?, ?) ON CONFLICT DO UPDATE SET point = ?",
                (vehicle, point, point),
            )  # fmt: skip

    def revoke(self, certificate: bytes) -> None:
        """Store a certificate (DER) that no vehicle may trust from now on."""
        with self.state_file.transaction() as run:
            run("INSERT OR IGNORE INTO revoked VALUES (?)", (certificate,))

    def revoked(self) -> list[bytes]:
        return [bytes(row[0]) for row in self.state_file.rows("SELECT certificate FROM revoked")]

    def point(self, vehicle: str) -> bytes | None:
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
_INSERT = """
INSERT INTO work (vehicle, emaid, action, message, state, reason)
VALUES (:vehicle, :emaid, :action, :message, :waiting, '')
"""


def _add(run: Run, vehicle: str, emaid: str, action: str, message: bytes) -> None:
    values: Values = {
        "vehicle": vehicle, "emaid": emaid, "action": action, "message": message,
        "waiting": WAITING, "replaced": REPLACED,
    }  # fmt: skip
    run(_REPLACE, values)
    run(_INSERT, values)
