"""The settings of a station: its address, its TLS, its limits, and its faults on demand."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from plugvault.capture import Capture
from plugvault.station.faults import NO_FAULTS, Faults
from plugvault.station.iso15118_2.secc import Secc
from plugvault.station.limits import LIMITS, Limits
from plugvault.tls import StationTls


@dataclass(frozen=True)
class StationSettings:
    """The settings of a station.

    host: an address of this machine, with its scope if it is link-local. port: 0 takes a free one
    of `server.PORTS`. tls: the station's own TLS; None: plain TCP. insecure_contract: offer
    payment by contract and the certificate service without TLS, too. clock: Unix seconds. capture:
    gets the bytes of every connection and the keys of TLS. secc: makes a session, with the
    arguments of `Secc`.
    """

    host: str = "127.0.0.1"
    port: int = 0
    tls: StationTls | None = None
    insecure_contract: bool = False
    limits: Limits = LIMITS
    faults: Faults = NO_FAULTS
    clock: Callable[[], float] = time.time
    capture: Capture | None = None
    secc: Callable[..., Secc] = Secc


SETTINGS = StationSettings()
