"""What happens beside the requests: deliveries to webhooks, and the pools' regular duties.

    run(store, secret, settings, clock, stop)     # until stop.set(); several processes may

All it knows is in the store, so it may be killed anywhere and go on: a delivery is leased while
somebody has it in hand, and settled in one transaction with what follows from its outcome.
"""

from plugvault.delivery.duties import DUTIES, Duty, Forget, run
from plugvault.delivery.revocation import AskAgain
from plugvault.delivery.worker import Worker

__all__ = ["DUTIES", "AskAgain", "Duty", "Forget", "Worker", "run"]
