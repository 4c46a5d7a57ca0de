"""An operator's book: the states of a contract, and the actions that need the customer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from plugvault.roles import customers as book
from plugvault.roles.client import OpcpError
from plugvault.roles.customers import CustomerError, Customers

PCID = "PVTP0000000000001"


class Operator:
    """An operator without pools that records the calls it gets."""

    def __init__(self) -> None:
        self.done: list[tuple[str, ...]] = []
        self.pool: set[str] = set()
        self.fails: Exception | None = None
        self.asked = 0  # to end a contract
        self.refuses: set[str] = set()  # EMAIDs whose end is refused
        self.stops: BaseException | None = None  # after the pool's answer to the next call

    def identify(self, *proof: str) -> str:
        return PCID

    def new_emaid(self) -> str:
        return f"DEPVT{len(self.done):09}Z"

    def is_taken(self, emaid: str) -> bool:
        return emaid in self.pool

    def contract(self, pcid: str, emaid: str) -> str:
        if self.fails:
            raise self.fails
        self.done.append(("contract", emaid))
        self.pool.add(emaid)
        self._answered()
        return emaid

    def terminate(self, emaid: str) -> None:
        self.asked += 1
        if self.fails:
            raise self.fails
        if emaid not in self.pool:
            raise OpcpError("refused", "404", 404)
        if emaid in self.refuses:
            raise OpcpError("refused", "409", 409)
        self.done.append(("terminate", emaid))
        self.pool.remove(emaid)
        self._answered()

    def _answered(self) -> None:
        stops, self.stops = self.stops, None
        if stops:
            raise stops


@pytest.fixture
def operator() -> Operator:
    return Operator()


@pytest.fixture
def customers(operator: Any, tmp_path: Path) -> Iterator[Customers]:
    opened = Customers(operator, tmp_path / "customers.sqlite")
    yield opened
    opened.close()


def tell(customers: Customers, kind: str, emaid: str, event_id: str = "") -> str:
    event = {
        "eventId": event_id or kind,
        "eventType": kind,
        "payload": {"emaid": emaid, "pcid": PCID},
    }
    customers.take(event)
    return customers.get(emaid).state


@pytest.mark.parametrize(
    "kind, state",
    [
        ("mo.prov.cert.updated", book.ASK),
        ("mo.prov.cert.updated.factory.reset", book.ASK),
        ("mo.prov.cert.factory.reset", book.RESET),
        ("mo.prov.cert.deleted", book.ENDED),
        ("mo.contract.rejected.by.oem", book.REJECTED),
        ("mo.contract.queued.to.oem", book.QUEUED),
        ("mo.contract.created.sent.to.oem", book.SENT),
        ("mo.contract.delivered.to.oem", book.DELIVERED),
        ("mo.contract.deleted.sent.to.oem", book.SIGNED),
        ("root.cert.added", book.SIGNED),
    ],
)
def test_an_event_is_noted_and_makes_no_contract(
    customers: Customers, operator: Operator, kind: str, state: str
):
    emaid = customers.onboard("plate", "AB12", "123456")
    assert tell(customers, kind, emaid) == state
    assert operator.done == [("contract", emaid)]


def test_after_a_new_key_there_is_a_contract_only_when_the_customer_wants_one(
    customers: Customers, operator: Operator
):
    emaid = customers.onboard("plate", "AB12", "123456")
    tell(customers, "mo.prov.cert.updated", emaid, "1")
    with pytest.raises(CustomerError):  # only with the customer's answer
        customers.renew(emaid)
    customers.answer(emaid, accepted=True)
    assert customers.get(emaid).state == book.SIGNED
    assert operator.done == [("contract", emaid)] * 2
    assert tell(customers, "mo.prov.cert.updated", emaid, "1") == book.SIGNED  # told again
    assert tell(customers, "mo.prov.cert.updated", emaid, "2") == book.ASK
    customers.answer(emaid, accepted=False)
    assert customers.get(emaid).state == book.DECLINED
    assert len(operator.done) == 2


@pytest.mark.parametrize("kind", ["mo.prov.cert.factory.reset", "mo.prov.cert.deleted"])
def test_an_ended_contract_is_not_made_again(customers: Customers, operator: Operator, kind: str):
    emaid = customers.onboard("plate", "AB12", "123456")
    tell(customers, kind, emaid)
    for act in (
        lambda: customers.answer(emaid, accepted=True),
        lambda: customers.renew(emaid),
        lambda: customers.replace(emaid),
        lambda: customers.terminate(emaid),
    ):
        with pytest.raises(CustomerError, match=emaid):
            act()
    assert tell(customers, "mo.contract.delivered.to.oem", emaid) != book.DELIVERED
    assert operator.done == [("contract", emaid)]


def test_renewing_keeps_the_emaid_and_replacing_does_not(customers: Customers, operator: Operator):
    emaid = customers.onboard("plate", "AB12", "123456")
    customers.renew(emaid)
    new = customers.replace(emaid)
    assert operator.done[1:] == [("contract", emaid), ("contract", new), ("terminate", emaid)]
    assert [(customer.emaid, customer.state) for customer in customers.all()] == [
        (emaid, book.ENDED),
        (new, book.SIGNED),
    ]
    assert [customer.emaid for customer in customers.all(book.SIGNED, book.ASK)] == [new]


class Killed(BaseException):
    """The end of the process: no code after it is carried out."""


STOPS = pytest.mark.parametrize("stop", [Killed(), OpcpError("unreachable")], ids=["kill", "lost"])


@STOPS
def test_an_end_without_an_answer_is_completed_and_nothing_lives_again(
    customers: Customers, operator: Operator, stop: BaseException
):
    emaid = customers.onboard("plate", "AB12", "123456")
    operator.stops = stop
    with pytest.raises(type(stop)):
        customers.terminate(emaid)
    assert [customer.emaid for customer in customers.all(book.ENDING)] == [emaid]
    assert tell(customers, "mo.contract.delivered.to.oem", emaid) == book.ENDING
    for act in (customers.renew, customers.replace):
        with pytest.raises(CustomerError, match="ending"):
            act(emaid)
    customers.terminate(emaid)
    assert customers.get(emaid).state == book.ENDED
    assert operator.pool == set()


@STOPS
def test_the_next_process_completes_an_end_by_itself(
    customers: Customers, operator: Any, tmp_path: Path, stop: BaseException
):
    emaid, other = (customers.onboard("plate", "AB12", "123456") for _ in range(2))
    operator.stops = stop
    with pytest.raises(type(stop)):
        customers.terminate(emaid)
    customers.close()
    with closing(Customers(operator, tmp_path / "customers.sqlite")) as again:
        again.complete()
        assert again.get(emaid).state == book.ENDED
    assert operator.pool == {other}


def test_an_end_that_the_pool_refuses_keeps_back_no_other_one(
    customers: Customers, operator: Operator
):
    emaids = [customers.onboard("plate", "AB12", "123456") for _ in range(3)]
    for emaid in emaids:
        operator.fails = OpcpError("unreachable")
        with pytest.raises(OpcpError):
            customers.terminate(emaid)
    with pytest.raises(OpcpError, match="unreachable"):
        customers.complete()
    assert operator.asked == len(emaids) + 1, "the pool would not answer for the others either"
    operator.fails, operator.refuses = None, {emaids[0]}
    with pytest.raises(OpcpError, match="409"):
        customers.complete()
    assert [customer.emaid for customer in customers.all(book.ENDING)] == emaids[:1]
    assert operator.pool == {emaids[0]}


def test_an_end_that_the_pool_refuses_stays_intended(customers: Customers, operator: Operator):
    emaid = customers.onboard("plate", "AB12", "123456")
    operator.fails = OpcpError("refused", "403", 403)
    with pytest.raises(OpcpError):
        customers.terminate(emaid)
    operator.fails = None
    customers.terminate(emaid)
    assert operator.pool == set()


@STOPS
@pytest.mark.parametrize("stops_in", ["contract", "terminate"])
def test_a_replacement_that_was_stopped_makes_no_third_contract(
    customers: Customers, operator: Operator, stops_in: str, stop: BaseException
):
    emaid = customers.onboard("plate", "AB12", "123456")
    if stops_in == "terminate":
        operator.terminate = failing_once(operator, operator.terminate, stop)  # type: ignore[method-assign]
    else:
        operator.stops = stop
    with pytest.raises(type(stop)):
        customers.replace(emaid)
    new = customers.replace(emaid)
    assert operator.pool == {new}
    assert operator.done[1:] == [("contract", new), ("terminate", emaid)]
    assert [customer.emaid for customer in customers.all(book.SIGNED)] == [new]


@STOPS
@pytest.mark.parametrize("stops_in", ["contract", "terminate"])
def test_the_old_contract_of_a_stopped_replacement_is_ended_once(
    customers: Customers, operator: Operator, stops_in: str, stop: BaseException
):
    emaid = customers.onboard("plate", "AB12", "123456")
    if stops_in == "terminate":
        operator.terminate = failing_once(operator, operator.terminate, stop)  # type: ignore[method-assign]
    else:
        operator.stops = stop
    with pytest.raises(type(stop)):
        customers.replace(emaid)
    for _ in range(2):
        customers.complete()
    (new,) = operator.pool
    assert operator.done[1:] == [("contract", new), ("terminate", emaid)]
    assert customers.get(emaid).state == book.ENDED
    assert customers.replace(emaid) == new
    assert operator.pool == {new}


def test_a_replacement_without_a_new_contract_ends_nothing(
    customers: Customers, operator: Operator
):
    emaid = customers.onboard("plate", "AB12", "123456")
    for fails in (OpcpError("unreachable"), OpcpError("refused", "400", 400)):
        operator.fails = fails
        with pytest.raises(OpcpError):
            customers.replace(emaid)
        operator.fails = None
        customers.complete()
        assert operator.pool == {emaid}


def failing_once(operator: Operator, call: Callable[[str], None], stop: BaseException) -> Any:
    """The call, which has no answer at the first time."""

    def terminate(emaid: str) -> None:
        operator.stops, operator.terminate = stop, call  # type: ignore[method-assign]
        call(emaid)

    return terminate


def test_after_a_factory_reset_no_replacement_is_completed(
    customers: Customers, operator: Operator
):
    emaid = customers.onboard("plate", "AB12", "123456")
    operator.fails = OpcpError("unreachable")
    with pytest.raises(OpcpError):
        customers.replace(emaid)
    operator.fails = None
    tell(customers, "mo.prov.cert.factory.reset", emaid)
    with pytest.raises(CustomerError, match="reset"):
        customers.replace(emaid)
    assert operator.pool == {emaid}


def test_the_emaid_of_an_ended_replacement_is_not_used_again(
    customers: Customers, operator: Operator
):
    emaid = customers.onboard("plate", "AB12", "123456")
    operator.stops = Killed()
    with pytest.raises(Killed):
        customers.replace(emaid)
    (first,) = operator.pool - {emaid}
    customers.terminate(first)
    assert customers.replace(emaid) != first
    assert customers.get(first).state == book.ENDED


def test_a_replacement_refused_at_its_repetition_is_not_in_the_book(
    customers: Customers, operator: Operator
):
    emaid = customers.onboard("plate", "AB12", "123456")
    for fails in (OpcpError("unreachable"), OpcpError("refused", "400", 400)):
        operator.fails = fails
        with pytest.raises(OpcpError):
            customers.replace(emaid)
    assert [customer.emaid for customer in customers.all()] == [emaid]


def test_a_contract_that_was_refused_is_not_in_the_book(customers: Customers, operator: Operator):
    operator.fails = OpcpError("refused", "400", 400)
    with pytest.raises(OpcpError):
        customers.onboard("plate", "AB12", "123456")
    assert customers.all() == []


def test_a_contract_with_a_lost_answer_stays_in_the_book(customers: Customers, operator: Operator):
    operator.fails = OpcpError("unreachable")
    with pytest.raises(OpcpError):
        customers.onboard("plate", "AB12", "123456")
    (customer,) = customers.all()
    operator.fails = None
    customers.renew(customer.emaid)


def test_the_book_survives_its_process(customers: Customers, operator: Any, tmp_path: Path):
    emaid = customers.onboard("plate", "AB12", "123456")
    tell(customers, "mo.prov.cert.updated", emaid, "1")
    customers.answer(emaid, accepted=True)
    customers.close()
    again = Customers(operator, tmp_path / "customers.sqlite")
    assert tell(again, "mo.prov.cert.updated", emaid, "1") == book.SIGNED
    again.close()


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"eventId": "1", "eventType": "mo.prov.cert.updated"},
        {"eventId": "1", "eventType": "mo.prov.cert.updated", "payload": {"emaid": "x"}},
        {"eventId": "1", "eventType": "mo.prov.cert.updated", "payload": None},
    ],
)
def test_a_malformed_event_is_refused(customers: Customers, event: dict[str, Any]):
    with pytest.raises(ValueError, match="not an event"):
        customers.take(event)
