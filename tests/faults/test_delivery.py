"""Deliveries when workers are killed and receivers are away: nothing lost, the order kept."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from fixtures.receiver import Json, Receiver, receiving, until
from plugvault.delivery import Worker, signature
from plugvault.net import Outbound
from plugvault.opcp.services import Settings
from plugvault.pools import events, webhooks
from plugvault.pools.caller import OEM, Caller
from plugvault.pools.events import OEM_EVENTS
from plugvault.pools.records import Endpoint
from plugvault.pools.webhooks import EndpointChange
from plugvault.store import SqlStore

HERE = ("127.0.0.0/8",)
SETTINGS = Settings(networks=HERE, retries=20, retry_after=0.01)
MAKER = Caller("maker", frozenset({OEM}), wmis=frozenset({"PVT"}), client_id="m")
VEHICLES = [f"PVTP{number:013}" for number in range(12)]

# A worker as a process of its own, with its name, its lease and its time for an answer in seconds.
WORKER = """
import sys, threading, time
from plugvault.delivery import run, worker
from plugvault.opcp.services import Settings
from plugvault.store import SqlStore
worker.LEASE, worker.TIMEOUT = float(sys.argv[3]), float(sys.argv[4])
settings = Settings(networks=("127.0.0.0/8",), retries=20, retry_after=0.01)
store = SqlStore.open(sys.argv[1])
run(store, lambda endpoint: sys.argv[2], settings, time.time, threading.Event(), ())
"""
# The deliveries of a killed worker are soon free again.
SHORT = ("2", "1")
# The lease of a worker that lives does not end, however busy the machine is.
LONG = ("600", "300")


@contextmanager
def workers(
    url: str, *names: str, times: tuple[str, str] = SHORT
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Start workers; kill the remaining ones at the end."""
    running = [start(url, name, times) for name in names]
    try:
        yield running
    finally:
        for process in running:
            kill(process)


def start(
    url: str, name: str = "another", times: tuple[str, str] = SHORT
) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", WORKER, url, name, *times])


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


def subscribe(store: SqlStore, url: str) -> Endpoint:
    with store.write() as records:
        return webhooks.create(
            records, MAKER, EndpointChange(url, OEM_EVENTS), Outbound(HERE), time.time()
        )


def tell(store: SqlStore, vehicle: str) -> str:
    payload = {"emaid": "DEPVAC12345678", "pcid": vehicle}
    with store.write() as records:
        kind, now = "oem.contract.updated", time.time()
        return events.publish(records, kind, "PVT", payload, now, vehicle).event_id


def in_state(store: SqlStore, endpoint: Endpoint, state: str) -> int:
    with store.read() as records:
        return len(records.deliveries.of_endpoint(endpoint.endpoint_id, state, 10_000))


def arrived_in_order(receiver: Receiver, published: dict[str, list[str]]) -> None:
    """Every event at least once; of a vehicle none after a later one, but for repetitions."""
    for vehicle, expected in published.items():
        received = [
            delivered["eventId"]
            for delivered in receiver.events
            if delivered["payload"]["pcid"] == vehicle
        ]
        assert [event for event, _ in itertools.groupby(received)] == expected


def sometimes(failing: random.Random) -> Callable[[Json], int]:
    """A receiver that takes a moment, and now and then fails."""

    def answer(_: Json) -> int:
        time.sleep(failing.random() * 0.01)
        return 500 if failing.random() < 0.1 else 200

    return answer


def test_workers_killed_at_any_moment_lose_nothing_and_keep_the_order(
    store: SqlStore, store_url: str, receiver: Receiver
):
    chance = random.Random(os.environ.get("CI"))
    receiver.answer = sometimes(chance)
    endpoint = subscribe(store, receiver.url)
    published: dict[str, list[str]] = {vehicle: [] for vehicle in VEHICLES}
    count = 0
    with workers(store_url, "first", "second") as running:
        for _ in range(4):
            for _ in range(60):
                vehicle = chance.choice(VEHICLES)
                published[vehicle].append(tell(store, vehicle))
            count += 60
            before = len(receiver.got)
            until(lambda before=before: len(receiver.got) > before + 10, "deliveries go on")
            time.sleep(chance.random() * 0.2)
            kill(running.pop(0))
            running.append(start(store_url))
        until(lambda: in_state(store, endpoint, "sent") == count, "all are sent")
    assert in_state(store, endpoint, "dead") == in_state(store, endpoint, "pending") == 0
    arrived_in_order(receiver, published)


def test_two_processes_share_the_work(store: SqlStore, store_url: str, receiver: Receiver):
    endpoint = subscribe(store, receiver.url)
    count = 0

    def senders() -> set[str]:
        """Each process signs with its own name."""
        return {
            name
            for name in ("first", "second")
            for headers, body in list(receiver.got)
            if signature.headers(name, body)["payload-signature"] == headers["payload-signature"]
        }

    with workers(store_url, "first", "second", times=LONG):
        while len(senders()) < 2:
            tell(store, f"PVTP{count:013}")
            count += 1
            until(lambda count=count: len(receiver.got) >= count - 20, "deliveries go on")
        until(lambda: in_state(store, endpoint, "sent") == count, "all are sent")
    assert (
        len({delivered["eventId"] for delivered in receiver.events}) == len(receiver.got) == count
    )


def test_receiver_gets_everything_in_order_after_an_outage(store: SqlStore):
    with receiving() as away:
        port = away.port
        endpoint = subscribe(store, away.url)
    published = {vehicle: [tell(store, vehicle) for _ in range(4)] for vehicle in VEHICLES[:5]}
    stop = threading.Event()
    worker = Worker(store, lambda delivery: delivery, SETTINGS, time.time)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()

    def tried() -> bool:
        with store.read() as records:
            pending = records.deliveries.of_endpoint(endpoint.endpoint_id, "pending", 100)
        return sum(delivery.attempts for delivery, _ in pending) >= 10

    until(tried, "attempts")
    with receiving(port) as back:
        until(lambda: in_state(store, endpoint, "sent") == 20, "all are sent")
        stop.set()
        thread.join(60)
        arrived_in_order(back, published)


def test_outage_of_the_store_stops_no_delivery_for_good(
    sqlite_store: SqlStore, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
):
    endpoint = subscribe(sqlite_store, receiver.url)
    stop = threading.Event()
    real, chance = sqlite_store.write, random.Random(os.environ.get("CI"))

    @contextmanager
    def often_away() -> Iterator[object]:
        if chance.random() < 0.4:
            raise webhooks.PoolError("unavailable", "for a moment")
        with real() as records:
            yield records

    for vehicle in VEHICLES:
        tell(sqlite_store, vehicle)
    monkeypatch.setattr(sqlite_store, "write", often_away)
    monkeypatch.setattr("plugvault.delivery.worker.LEASE", 1.0)
    monkeypatch.setattr("plugvault.delivery.worker.TIMEOUT", 0.5)
    worker = Worker(sqlite_store, lambda name_: name_, SETTINGS, time.time)
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    until(lambda: in_state(sqlite_store, endpoint, "sent") == len(VEHICLES))
    stop.set()
    thread.join(60)
    assert {name_["payload"]["pcid"] for name_ in receiver.events} == set(VEHICLES)
