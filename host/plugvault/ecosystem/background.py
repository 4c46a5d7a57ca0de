"""The background work of an ecosystem: deliver events, purge old ones, clean the pools, end
operators, and ask foreign CAs for revoked certificates."""

import threading

from plugvault import delivery
from plugvault.opcp.services import Services

RECHECK_INTERVAL = 3600.0  # seconds between two rounds of requests to foreign CAs
PURGE_INTERVAL = 600.0  # seconds between two searches for old events


def run(services: Services, stop: threading.Event) -> None:
    """Work until `stop`. Any number of threads, processes and machines may do so together."""
    own = frozenset(authority.identifier.hex() for authority in services.authorities)
    recheck = delivery.RecheckRevocation(services.update_revocations, own)
    purge = delivery.PurgeEvents(services.settings.keep_events)
    delivery.run(
        services.store,
        services.webhook_secret,
        services.settings,
        services.clock,
        stop,
        (
            *delivery.TASKS,
            delivery.PeriodicTask("revocation", RECHECK_INTERVAL, recheck),
            delivery.PeriodicTask("old events", PURGE_INTERVAL, purge),
        ),
    )
