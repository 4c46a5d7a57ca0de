"""What an ecosystem does beside answering: deliver events and forget old ones, clean its pools,
end operators, ask foreign CAs what they have revoked."""

import threading

from plugvault import delivery
from plugvault.opcp.services import Services

ASK_AGAIN = 3600.0  # seconds between two rounds of asking foreign CAs
FORGET = 600.0  # seconds between two looks for old events


def run(services: Services, stop: threading.Event) -> None:
    """Until `stop`. Any number of threads, processes and machines may do it at once."""
    own = frozenset(one.identifier.hex() for one in services.authorities)
    ask_again = delivery.RecheckRevocation(services.refresh, own)
    delivery.run(
        services.store,
        services.webhook_secret,
        services.settings,
        services.clock,
        stop,
        (
            *delivery.TASKS,
            delivery.PeriodicTask("revocation", ASK_AGAIN, ask_again),
            delivery.PeriodicTask(
                "old events", FORGET, delivery.PurgeEvents(services.settings.keep_events)
            ),
        ),
    )
