"""An operator's customers: their contracts and vehicles, the contracts' states, and the charging
sessions to bill.

Events of the pools change the states as OPCP requires: after a new provisioning key the operator
asks the customer before it makes a new contract, and after a factory reset it makes none. An end
is stored before the pool is asked for it, and is completed after a stop or a lost answer.
"""

import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Protocol

from evcc import ids
from evcc.errors import EvccError
from plugvault.roles.client import OpcpError
from plugvault.roles.follower import Follower
from plugvault.roles.health import Health
from plugvault.roles.mo import Operator
from plugvault.roles.repetition import Repetition
from plugvault.roles.state_file import EventError, Run, StateFile, is_new_event

SIGNED, QUEUED, SENT, DELIVERED = "signed", "queued", "sent", "delivered"
ASK, RESET, REJECTED, ENDED, DECLINED = "ask", "reset", "rejected", "ended", "declined"
ENDING = "ending"  # the pool has got the request for the end, and its answer is missing

ENDS = "ends"  # the name in `Health` of the loop that completes them
COMPLETE_EVERY = 60.0  # seconds between its turns

_OPEN = (SIGNED, QUEUED, SENT, DELIVERED)  # the states of an existing contract

# The state of an existing contract after an event.
_STATE_AFTER = {
    "mo.prov.cert.updated": ASK,
    "mo.prov.cert.updated.factory.reset": ASK,  # the old name of the same
    "mo.prov.cert.factory.reset": RESET,
    "mo.prov.cert.deleted": ENDED,
    "mo.contract.rejected.by.oem": REJECTED,
    "mo.contract.queued.to.oem": QUEUED,
    "mo.contract.created.sent.to.oem": SENT,
    "mo.contract.updated.sent.to.oem": SENT,
    "mo.contract.delivered.to.oem": DELIVERED,
}

_TABLES = """
CREATE TABLE IF NOT EXISTS contracts (
    emaid TEXT PRIMARY KEY, pcid TEXT NOT NULL, state TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS sessions (
    evseid TEXT, session_id BLOB, emaid TEXT NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (evseid, session_id)
);
CREATE INDEX IF NOT EXISTS sessions_emaid ON sessions (emaid, at);
CREATE TABLE IF NOT EXISTS successors (emaid TEXT PRIMARY KEY, successor TEXT NOT NULL);
"""


class CustomerError(EvccError):
    """An operation that is not possible: "unknown" for an unknown customer, "state" in this state
    of the contract."""

    REASONS = ("unknown", "state")


@dataclass(frozen=True)
class Customer:
    """A customer's contract. `emaid`: normalised, without hyphens; `state`: one of the constants
    above."""

    emaid: str
    pcid: str
    state: str


class Charged(Protocol):
    """A station's record of a session and its contract. `time`: Unix seconds."""

    @property
    def emaid(self) -> str: ...
    @property
    def session_id(self) -> bytes: ...
    @property
    def evseid(self) -> str: ...
    @property
    def time(self) -> int: ...


class Customers:
    """An operator's customers. `file`: made when missing. `close()` when done.

    Methods that call the pools raise OpcpError, as `Operator` does. Methods for one contract raise
    CustomerError: "unknown", "state". `health`: which loops fail.
    """

    def __init__(self, operator: Operator, file: Path) -> None:
        self._operator = operator
        self._state_file = StateFile(file, _TABLES)
        self._ends = threading.RLock()  # one end or replacement at a time
        self.health = Health()
        self._follower: Follower | None = None
        self._completion: Repetition | None = None

    def close(self) -> None:
        for loop in (self._follower, self._completion):
            if loop is not None:
                loop.close()
        self.health.close()
        self._state_file.close()

    def follow(self) -> None:
        """Read the operator's events from the stream, in a thread, from the stored position on; in
        another thread, `complete` now and every COMPLETE_EVERY seconds."""
        self._follower = Follower(self._operator.client, self._state_file, self.take, self.health)
        self._completion = Repetition(ENDS, self.complete, COMPLETE_EVERY, self.health)

    def take(self, event: Mapping[str, Any]) -> str:
        """Change the state of an event's contract. The same event again changes nothing.

        Always returns "", because no event is rejected. Raises EventError when it is no event.
        """
        try:
            event_id, state = str(event["eventId"]), _STATE_AFTER.get(event["eventType"])
            if state is None:
                return ""
            emaid = ids.parse_emaid(event["payload"]["emaid"])
        except (KeyError, TypeError, ids.IdError) as error:
            raise EventError(f"not an event: {error}") from error
        with self._state_file.transaction() as run:
            if is_new_event(run, event_id):
                run(
                    "UPDATE contracts SET state = ? WHERE emaid = ? AND state IN (?, ?, ?, ?)",
                    (state, emaid, *_OPEN),
                )
        return ""

    def onboard(self, kind: str, text: str, document: str) -> str:
        """Make a contract for a new customer's vehicle. Returns its EMAID, which is stored before
        anything is signed. Arguments and errors as `Operator.onboard`."""
        pcid = self._operator.identify(kind, text, document)
        return self._sign(self._operator.new_emaid(), pcid)

    def renew(self, emaid: str) -> None:
        """Make a new key and certificate under the same EMAID."""
        customer = self._with(emaid, *_OPEN)
        self._operator.contract(customer.pcid, customer.emaid)

    def replace(self, emaid: str) -> str:
        """Make a contract under a new EMAID and end this one. Returns the new EMAID.

        The new EMAID is stored first: a repetition after a stop or a lost answer makes no third
        contract, and has the same answer after `complete` was faster.
        """
        with self._ends:
            customer = self._with(emaid, *_OPEN, ENDING, ENDED)
            new = self._successor(customer.emaid)
            if new is None or not self._operator.is_taken(new):
                self._with(customer.emaid, *_OPEN)
                new = new or self._new_successor(customer.emaid)
                self._sign(new, customer.pcid)
            if customer.state != ENDED:
                self.terminate(customer.emaid)
        return new

    def terminate(self, emaid: str) -> None:
        """End a contract. Its state is ENDING until the pool has confirmed the end: after a stop
        or a lost answer `complete` asks again, and so does a repetition of this call."""
        with self._ends:
            customer = self._with(emaid, *_OPEN, ENDING)
            self._store(Customer(customer.emaid, customer.pcid, ENDING))
            try:
                self._operator.terminate(customer.emaid)
            except OpcpError as error:
                if error.status != HTTPStatus.NOT_FOUND:  # else an earlier request has ended it
                    raise
            with self._state_file.transaction() as run:
                _put(run, Customer(customer.emaid, customer.pcid, ENDED))
                run("DELETE FROM successors WHERE successor = ?", (customer.emaid,))

    def complete(self) -> None:
        """Complete the ends, and the ends of replaced contracts, that a stop or a lost answer has
        left. An end that the pool refuses does not keep back the others: its OpcpError is raised
        last."""
        refusal: OpcpError | None = None
        with self._ends:
            for emaid, successor in self._unended():
                try:
                    if successor is None or self._operator.is_taken(successor):
                        self.terminate(emaid)
                except OpcpError as error:
                    if not error.status:
                        raise  # the others would have no answer either
                    refusal = error
        if refusal is not None:
            raise refusal

    def _unended(self) -> list[tuple[str, str | None]]:
        """The EMAIDs of the contracts to end, a replaced one with the EMAID of its successor."""
        successors = self._state_file.rows("SELECT emaid, successor FROM successors")
        existing = {customer.emaid for customer in self.all(*_OPEN)}
        replaced = [(old, new) for old, new in successors if {old, new} <= existing]
        return [(customer.emaid, None) for customer in self.all(ENDING)] + replaced

    def answer(self, emaid: str, accepted: bool) -> None:
        """Store the customer's answer: either the contract is made again for the vehicle's new
        key, or it is declined."""
        customer = self._with(emaid, ASK)
        if accepted:
            self._sign(customer.emaid, customer.pcid, before=customer)
        else:
            self._store(Customer(customer.emaid, customer.pcid, DECLINED))

    def bill(self, session: Charged) -> bool:
        """Add a session to the contract's account, also after the contract's end.

        False when the session is in the account already, so that a repeated report is paid once.
        Raises CustomerError("unknown") for the EMAID of another operator's customer.
        """
        customer = self.get(session.emaid)
        values = (session.evseid, session.session_id, customer.emaid, session.time)
        with self._state_file.transaction() as run:
            return run("INSERT OR IGNORE INTO sessions VALUES (?, ?, ?, ?)", values) == 1

    def account(self, emaid: str) -> list[tuple[int, str]]:
        """(Unix seconds, EVSEID) of each session to pay, oldest first. Raises
        CustomerError("unknown")."""
        query = "SELECT at, evseid FROM sessions WHERE emaid = ? ORDER BY at"
        return [(at, evse) for at, evse in self._state_file.rows(query, self.get(emaid).emaid)]

    def get(self, emaid: str) -> Customer:
        """The customer with this EMAID. Raises CustomerError("unknown"); `ids.IdError`."""
        rows = self._state_file.rows(
            "SELECT * FROM contracts WHERE emaid = ?", ids.parse_emaid(emaid)
        )
        if not rows:
            raise CustomerError("unknown", emaid)
        return Customer(*rows[0])

    def all(self, *states: str) -> list[Customer]:
        """The customers in one of these states, or all customers."""
        rows = self._state_file.rows("SELECT * FROM contracts ORDER BY rowid")
        customers = [Customer(*row) for row in rows]
        return [customer for customer in customers if not states or customer.state in states]

    def _with(self, emaid: str, *states: str) -> Customer:
        customer = self.get(emaid)
        if customer.state not in states:
            raise CustomerError("state", f"{customer.emaid}: {customer.state}")
        return customer

    def _successor(self, emaid: str) -> str | None:
        """The EMAID of a replacement that has begun, or None."""
        rows = self._state_file.rows("SELECT successor FROM successors WHERE emaid = ?", emaid)
        return str(rows[0][0]) if rows else None

    def _new_successor(self, emaid: str) -> str:
        new = self._operator.new_emaid()
        with self._state_file.transaction() as run:
            run("INSERT INTO successors VALUES (?, ?)", (emaid, new))
        return new

    def _sign(self, emaid: str, pcid: str, before: Customer | None = None) -> str:
        """Sign a contract that is stored first, because its events may come before the pool's
        answer. `before`: the state to restore when the pool refuses; None: the contract is new."""
        self._store(Customer(emaid, pcid, SIGNED))
        try:
            self._operator.contract(pcid, emaid)
        except Exception as error:
            if isinstance(error, OpcpError) and not 400 <= error.status < 500:
                raise  # the contract may exist; `renew` makes sure of it
            with self._state_file.transaction() as run:
                run("DELETE FROM contracts WHERE emaid = ?", (emaid,))
                if before is not None:
                    _put(run, before)
            raise
        return emaid

    def _store(self, customer: Customer) -> None:
        with self._state_file.transaction() as run:
            _put(run, customer)


def _put(run: Run, customer: Customer) -> None:
    run(
        "INSERT INTO contracts VALUES (:emaid, :pcid, :state)"
        " ON CONFLICT DO UPDATE SET pcid = :pcid, state = :state",
        asdict(customer),
    )
