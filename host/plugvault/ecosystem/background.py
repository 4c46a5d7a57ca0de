"""The background work of an ecosystem: deliver events, purge old ones, clean the pools, end
operators, and ask foreign CAs for revoked certificates."""

import logging
import threading
import time

from plugvault import delivery
from plugvault.backoff import Backoff
from plugvault.delivery import AtPlausibleTime
from plugvault.opcp.services import Services
from plugvault.pools.cleansing import cleanse

log = logging.getLogger("plugvault.ecosystem.background")

RESTART, LONGEST_RESTART = 1.0, 60.0  # seconds after an error until the work begins again
STEADY = 60.0  # seconds the work must last before an error counts as the first again
RECHECK_INTERVAL = 3600.0  # seconds between two rounds of requests to foreign CAs
CLEANSING_INTERVAL = 60.0  # seconds between two searches for ended records
WAITS_INTERVAL = 60.0  # seconds between two searches for waits that a wrong clock has made
PURGE_INTERVAL = 600.0  # seconds between two searches for old events


def keep_running(services: Services, stop: threading.Event) -> None:
    """`run`, and again after an error of any kind, for a thread that nothing supervises. Returns
    after `stop`."""
    backoff = Backoff(RESTART, LONGEST_RESTART)
    while not stop.is_set():
        begun = time.monotonic()
        _turn(services, stop)
        if time.monotonic() - begun > STEADY:
            backoff.reset()
        stop.wait(backoff.pause())


def _turn(services: Services, stop: threading.Event) -> None:
    """Work until `stop`, or until an error, which is logged."""
    ended = threading.Event()  # `run` sets it when it fails, and the owner's must stay
    watch = threading.Thread(target=_hand_on, args=(stop, ended), daemon=True)
    watch.start()
    try:
        run(services, ended)
    except Exception:
        log.exception("the deliveries and periodic tasks begin again")
    finally:
        ended.set()
        watch.join()


def _hand_on(stop: threading.Event, ended: threading.Event) -> None:
    while not ended.is_set() and not stop.wait(0.05):
        pass
    ended.set()


def run(services: Services, stop: threading.Event) -> None:
    """Deliver events and run the periodic tasks until `stop`. Any number of threads, processes and
    machines may do so at the same time. Raises as `delivery.run`."""
    own = frozenset(authority.identifier.hex() for authority in services.authorities)
    recheck = delivery.RecheckRevocation(
        lambda certificates: services.update_revocations(certificates, None), own
    )
    purge = AtPlausibleTime("old events", delivery.PurgeEvents(services.settings.keep_events))
    delivery.run(
        services.store,
        services.webhook_secret,
        services.settings,
        services.clock,
        stop,
        (
            *delivery.TASKS,
            delivery.PeriodicTask(
                "cleansing", CLEANSING_INTERVAL, AtPlausibleTime("cleansing", cleanse)
            ),
            delivery.PeriodicTask("waits", WAITS_INTERVAL, delivery.EndWaits(services.settings)),
            delivery.PeriodicTask("revocation", RECHECK_INTERVAL, recheck),
            delivery.PeriodicTask("old events", PURGE_INTERVAL, purge),
        ),
        services.failing,
    )
