"""Ask the OCSP responders of a path's certificates whether any is revoked [RFC 6960].

What a maker does before it forwards [V2G2-894]. An answer counts when the issuer, or a responder
the issuer has certified for it, has signed it, and it is about this certificate and of now. A
certificate its issuer does not know is treated as a revoked one. No answer is no verdict.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

from plugvault.net import NetError, Outbound
from plugvault.pki import ocsp
from plugvault.pki.path import read_any
from plugvault.roles.client import OpcpError

TIMEOUT = 5.0  # seconds for one answer


class Responders:
    """What `VehicleMaker` asks: `revoked(path)`, DER, leaf first, root last. Raises OpcpError.

    `networks`: addresses that may be asked although they are not public; `clock()`: Unix seconds.
    """

    def __init__(
        self, networks: Iterable[str] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self._outbound = Outbound(networks, TIMEOUT)
        self._clock = clock

    def __call__(self, path: Sequence[bytes]) -> bool:
        return any(self._is_revoked(one, above) for one, above in pairwise(path))

    def _is_revoked(self, certificate: bytes, issuer: bytes) -> bool:
        url = read_any(certificate).ocsp
        if url is None:
            return False
        try:
            answer = self._outbound.request(
                "POST",
                url,
                ocsp.request(certificate, issuer),
                {"Content-Type": "application/ocsp-request"},
            )
            told = ocsp.read(answer.body, certificate, issuer, self._clock())
        except NetError as error:
            raise OpcpError("unreachable", f"OCSP: {error}") from error
        except ocsp.OcspError as error:
            raise OpcpError("answer", f"OCSP: {url}: {error}") from error
        return told.status != "good"
