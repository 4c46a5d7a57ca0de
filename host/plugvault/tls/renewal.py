"""The renewal of a station's certificate while the station runs.

A new certificate is fetched when a third of the old one's time is left, and served from the next
connection on. Until then, and when the renewal fails, the old certificate is served.
"""

import logging
import threading
import time
from collections.abc import Callable

from plugvault.contexts import Startable
from plugvault.pki import path
from plugvault.tls.station import Identity, StationTls

RETRY = 600.0  # seconds after a failure
LONGEST = 86_400.0  # seconds between two looks at the clock, which may be set

_log = logging.getLogger(__name__)


class Renewal(Startable):
    """The renewal of one certificate of `tls`, in a thread while the context lasts.

    leaf: the certificate, DER. renew(): the next identity; it may raise any exception. clock: Unix
    seconds.
    """

    def __init__(
        self,
        tls: StationTls,
        leaf: bytes,
        renew: Callable[[], Identity],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tls, self._leaf, self._renew, self._clock = tls, leaf, renew, clock
        self._ended = threading.Event()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="renewal", daemon=True)
        thread.start()
        self._stack.callback(thread.join)
        self._stack.callback(self._ended.set)

    def wait(self) -> float:
        """The seconds until the renewal is due; 0 when it is due now."""
        certificate = path.read_any(self._leaf)
        due = certificate.not_after - (certificate.not_after - certificate.not_before) / 3
        return max(due - self._clock(), 0.0)

    def step(self) -> float:
        """Renew the certificate if that is due. Returns the seconds until the next step. Raises
        nothing for a failed renewal."""
        wait = self.wait()
        if wait > 0:
            return min(wait, LONGEST)
        try:
            identity = self._renew()
            identity.check(self._clock())
            self._tls.replace(self._leaf, identity)
        except Exception as error:  # noqa: BLE001 - the station keeps the old one
            _log.warning("the station's certificate is not renewed: %s", error)
            return RETRY
        self._leaf = identity.leaf
        _log.info("the station has a new certificate")
        return min(max(self.wait(), RETRY), LONGEST)

    def _run(self) -> None:
        pause = self.step()
        while not self._ended.wait(pause):
            pause = self.step()
