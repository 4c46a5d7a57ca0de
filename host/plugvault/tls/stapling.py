"""The OCSP answer that a station staples: fetched before it is needed, renewed before it ends.

A handshake never waits for the responder. Without a current answer none is sent: the vehicle
decides whether it continues without one. An answer that says "revoked" is sent, and logged.
"""

import logging
import threading
import time
from collections.abc import Callable

from plugvault.contexts import Startable
from plugvault.pki import ocsp

RETRY = 60.0  # seconds after a failure
LONGEST = 3600.0  # seconds between two answers, however long one is valid

_log = logging.getLogger(__name__)


class Staple(Startable):
    """The current answer about a certificate, while the context lasts.

    certificate, issuer: DER. ask: the DER of an OCSP request -> the DER of the answer; it may
    raise any exception. clock: Unix seconds.
    """

    def __init__(
        self,
        certificate: bytes,
        issuer: bytes,
        ask: Callable[[bytes], bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._certificate, self._issuer = certificate, issuer
        self._ask, self._clock = ask, clock
        self._answer: bytes | None = None
        self._until = 0.0
        self._ended = threading.Event()

    def _start(self) -> None:
        pause = self.renew()
        thread = threading.Thread(target=self._run, args=(pause,), name="ocsp", daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self._ended.set)

    def __call__(self) -> bytes | None:
        """The answer, DER; None when there is none that is current."""
        return self._answer if self._clock() < self._until else None

    def renew(self) -> float:
        """Fetch a new answer; a failure leaves the old one. Returns the seconds until the next
        fetch: half of the remaining validity."""
        now = self._clock()
        try:
            answer = self._ask(ocsp.request(self._certificate, self._issuer))
            status = ocsp.read(answer, self._certificate, self._issuer, now)
        except Exception as error:  # noqa: BLE001 - the station continues without an answer
            _log.warning("no OCSP answer about the station's certificate: %s", error)
            return RETRY
        if status.status != "good":
            _log.error("OCSP says that the station's certificate is %s", status.status)
        self._answer, self._until = answer, status.until
        return min(max((status.until - now) / 2, RETRY), LONGEST)

    def _run(self, pause: float) -> None:
        while not self._ended.wait(pause):
            pause = self.renew()
