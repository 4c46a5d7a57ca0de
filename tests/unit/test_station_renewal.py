"""A station's next certificate: served when it is due, and nothing is lost when there is none."""

from __future__ import annotations

import ssl
from dataclasses import replace

import pytest

from fixtures.station_tls import TlsClient, identity
from plugvault.tls import Identity, Renewal, StationTls
from plugvault.tls.renewal import LONGEST, RETRY
from plugvault.tokens import TokenKey
from world import World

DAY = 86_400


def shown(tls: StationTls, root: bytes) -> bytes | None:
    """The leaf that a new connection shows, DER."""
    connection, client = tls.connection(), TlsClient(root).context
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    vehicle = client.wrap_bio(to_client, to_server)
    for _ in range(3):
        try:
            vehicle.do_handshake()
            break
        except ssl.SSLWantReadError:
            connection.feed(to_server.read())
            connection.handshake()
            to_client.write(connection.take())
    return vehicle.getpeercert(binary_form=True)


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def pair(world: World, key: TokenKey) -> tuple[Identity, Identity]:
    """A certificate of 90 days, and the next one, for the same key."""
    now = world.now
    old = identity(world, key, not_before=now, not_after=now + 90 * DAY)
    return old, identity(world, key, not_before=now, not_after=now + 150 * DAY)


def test_a_certificate_is_renewed_when_a_third_of_its_time_is_left(
    today: World, cpo_key: TokenKey
) -> None:
    old, new = pair(today, cpo_key)
    tls, clock, root = StationTls([old]), Clock(today.now), today.v2g_root.der
    renewal = Renewal(tls, old.leaf, lambda: new, clock)
    assert renewal.wait() == 60 * DAY
    assert renewal.step() == LONGEST
    assert shown(tls, root) == old.leaf
    clock.now += 60 * DAY
    assert renewal.step() == LONGEST
    assert shown(tls, root) == new.leaf
    assert renewal.wait() == 40 * DAY


@pytest.mark.parametrize("failure", ["raises", "of another root", "of another key"])
def test_a_certificate_stays_when_its_renewal_fails(
    failure: str, today: World, cpo_key: TokenKey
) -> None:
    old, new = pair(today, cpo_key)
    tls, clock = StationTls([old]), Clock(today.now + 70 * DAY)

    def renew() -> Identity:
        if failure == "raises":
            raise ConnectionError("the pool is away")
        if failure == "of another root":
            return replace(new, root=today.mo_root.der)
        return replace(new, sign=lambda digest: bytes(64))

    renewal = Renewal(tls, old.leaf, renew, clock)
    assert renewal.step() == RETRY
    assert shown(tls, today.v2g_root.der) == old.leaf


def test_an_open_connection_survives_the_renewal(today: World, cpo_key: TokenKey) -> None:
    old, new = pair(today, cpo_key)
    tls = StationTls([old])
    before = tls.connection()
    tls.replace(old.leaf, new)
    assert shown(tls, today.v2g_root.der) == new.leaf
    assert before.handshake() is False  # it waits for its client


def test_a_renewal_in_its_thread_ends_with_its_context(today: World, cpo_key: TokenKey) -> None:
    old, new = pair(today, cpo_key)
    tls = StationTls([old])
    with Renewal(tls, old.leaf, lambda: new, Clock(today.now)):
        pass
    assert shown(tls, today.v2g_root.der) == old.leaf
