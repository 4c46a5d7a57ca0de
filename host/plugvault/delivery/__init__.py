"""What happens beside the requests: deliveries to webhooks, and the pools' regular duties.

    run(store, secret, settings, clock, stop)     # until stop.set(); several processes may

All it knows is in the store, so it may be killed anywhere and go on: a delivery is leased while
somebody has it in hand, and settled in one transaction with what follows from its outcome.
"""

from plugvault.delivery.periodic import TASKS, PeriodicTask, PurgeEvents, run
from plugvault.delivery.revocation import RecheckRevocation
from plugvault.delivery.worker import Worker

__all__ = ["TASKS", "PeriodicTask", "PurgeEvents", "RecheckRevocation", "Worker", "run"]
