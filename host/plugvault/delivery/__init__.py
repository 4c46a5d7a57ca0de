"""Background work: deliveries to webhooks, and the pools' periodic tasks.

    run(store, secret, settings, clock, stop)     # until stop.set(); several processes may

All state is in the store, so that a killed process loses nothing: a worker leases a delivery, and
settles it in one transaction with the events that follow from its outcome.
"""

from plugvault.delivery.periodic import TASKS, PeriodicTask, PurgeEvents, run
from plugvault.delivery.plausible import AtPlausibleTime
from plugvault.delivery.revocation import RecheckRevocation
from plugvault.delivery.waits import EndWaits
from plugvault.delivery.worker import Worker

__all__ = [
    "TASKS",
    "AtPlausibleTime",
    "EndWaits",
    "PeriodicTask",
    "PurgeEvents",
    "RecheckRevocation",
    "Worker",
    "run",
]
