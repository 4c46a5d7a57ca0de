"""Ask the OCSP responders of a path's certificates whether any is revoked [RFC 6960].

A maker does so before it forwards a contract [V2G2-894]. An answer is valid when the issuer, or a
responder with the issuer's certificate for it, has signed it, and when it is current and about
this certificate. A certificate that is unknown to its issuer counts as revoked. Without a valid
answer the certificate's status stays unknown.
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
    """The `revoked` of `VehicleMaker`: called with a path, DER, leaf first, root last. Returns
    whether a certificate of it is revoked. Raises OpcpError without a usable answer.

    `networks`: networks that it may call although they are not public; `clock()`: Unix seconds.
    """

    def __init__(
        self, networks: Iterable[str] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self._outbound = Outbound(networks, TIMEOUT)
        self._clock = clock

    def __call__(self, path: Sequence[bytes]) -> bool:
        return any(self._is_revoked(certificate, issuer) for certificate, issuer in pairwise(path))

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
            status = ocsp.read(answer.body, certificate, issuer, self._clock())
        except NetError as error:
            raise OpcpError("unreachable", f"OCSP: {error}") from error
        except ocsp.OcspError as error:
            raise OpcpError("answer", f"OCSP: {url}: {error}") from error
        return status.status != "good"
