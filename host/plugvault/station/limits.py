"""The limits of a station: numbers of vehicles, and times."""

from dataclasses import dataclass, replace

from plugvault.station.engine import SEQUENCE_TIMEOUT_MS
from plugvault.station.iso15118_2.performance import PERFORMANCE_MS

FETCH_SECONDS = PERFORMANCE_MS["CertificateInstallation"] / 1000  # the vehicle waits 5 s


@dataclass(frozen=True)
class Limits:
    """The limits of a station.

    max_clients: sessions at the same time, and as many handshakes; the station closes further
    connections. fetch_seconds: for the operator's answer. handshake_seconds: for the whole TLS
    handshake. sequence_timeout_ms: for the vehicle's next request.
    """

    max_clients: int = 8
    fetch_seconds: float = FETCH_SECONDS
    handshake_seconds: float = 10.0
    sequence_timeout_ms: int = SEQUENCE_TIMEOUT_MS

    def scaled(self, factor: float) -> "Limits":
        """These limits with all times multiplied by `factor`, for slow vehicles and operators."""
        return replace(
            self,
            fetch_seconds=self.fetch_seconds * factor,
            handshake_seconds=self.handshake_seconds * factor,
            sequence_timeout_ms=int(self.sequence_timeout_ms * factor),
        )


LIMITS = Limits()
