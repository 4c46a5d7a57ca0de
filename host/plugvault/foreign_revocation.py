"""Learn what other CAs have revoked, before the pools decide: OCSP over HTTP.

Only certificates whose path ends in a root of RCP are asked about, and not those of our own CAs,
whose status is in the store. What is revoked is entered there; the pools look nowhere else. When
a responder is silent or says nothing to be believed, that is logged and nothing is entered: a
contract does not wait for another's server. An answer is not asked for again while it holds, nor
a silent responder for a minute.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

from evcc.x509 import Certificate, CertificateError
from plugvault.net import NetError, Outbound
from plugvault.pki import ocsp, path
from plugvault.pki.names import distinguished_name
from plugvault.pools.certificates import REASONS
from plugvault.pools.records import Status
from plugvault.pools.repositories import Store

log = logging.getLogger("plugvault.foreign_revocation")

TIMEOUT = 2.0  # seconds for one answer: a caller waits
AGAIN = 3600.0  # seconds after which a good certificate is asked about again, at the latest
SILENT = 60.0  # seconds in which a responder that failed is left alone
KEPT = 50_000  # moments remembered


class ForeignRevocation:
    """`Services.refresh`. Safe to use from several threads.

    `own`: key identifiers of our CAs, hexadecimal; `outbound`: which addresses may be asked;
    `clock()`: Unix seconds.
    """

    def __init__(
        self,
        store: Store,
        own: Iterable[str],
        outbound: Outbound,
        clock: Callable[[], float],
    ) -> None:
        self._store, self._own, self._outbound = store, frozenset(own), outbound
        self._clock = clock
        self._next: dict[str, float] = {}
        self._lock = Lock()

    def __call__(self, certificates: Sequence[bytes]) -> None:
        """`certificates`: DER, a leaf and what is above it, in any order."""
        try:
            read = [path.read_any(der) for der in certificates]
        except CertificateError:
            return  # whoever decides will say so
        asked = [one for one in read if one.ocsp and path.identity(one)[0] not in self._own]
        if not any(self._due("/".join(path.identity(one))) for one in asked):
            return
        with self._store.read() as records:
            roots = [path.read_any(root.certificate) for root in records.roots.all()]
        for one in asked:
            issuer = _issuer(one, read, roots)
            if issuer is not None and self._due("/".join(path.identity(one))):
                self._ask(one, issuer)

    def _due(self, what: str) -> bool:
        with self._lock:
            return self._next.get(what, 0.0) <= self._clock()

    def _wait(self, what: str, until: float) -> None:
        with self._lock:
            if len(self._next) >= KEPT:
                self._next.clear()
            self._next[what] = until

    def _ask(self, certificate: Certificate, issuer: Certificate) -> None:
        url, now = str(certificate.ocsp), self._clock()
        if not self._due(url):
            return
        identity = path.identity(certificate)
        try:
            answer = self._outbound.request(
                "POST",
                url,
                ocsp.request(certificate.der, issuer.der),
                {"Content-Type": "application/ocsp-request"},
            )
            told = ocsp.read(answer.body, certificate.der, issuer.der, now)
        except (NetError, ocsp.OcspError) as error:
            log.warning("no status of %s %s from %s: %s", *identity, url, error)
            self._wait(url, now + SILENT)
            return
        if told.status == "unknown":
            log.warning("%s does not know %s %s", url, *identity)
        elif told.status == "revoked":
            self._enter(certificate, told, now)
        self._wait("/".join(identity), max(now + SILENT, min(told.until, now + AGAIN)))

    def _enter(self, certificate: Certificate, told: ocsp.OcspAnswer, now: float) -> None:
        issuer, serial = path.identity(certificate)
        reason = told.reason if told.reason in REASONS else "unspecified"
        revoked = told.revoked if told.revoked is not None else int(now)
        with self._store.write() as records:
            known = records.statuses.get(issuer, serial)
            if known is None or known.revoked is None:
                subject = distinguished_name(certificate.names)
                records.statuses.put(
                    Status(issuer, serial, subject, certificate.not_after, revoked, reason)
                )
        log.info("%s %s is revoked (%s)", issuer, serial, reason)


def _issuer(
    certificate: Certificate, others: Sequence[Certificate], roots: Sequence[Certificate]
) -> Certificate | None:
    """Who issued it, when its path ends in a root: a stranger's address is never called."""
    direct, step = None, certificate
    for _ in range(len(others) + 1):
        for above in (*roots, *others):
            if _issued(above, step):
                direct = direct or above
                if any(above is root for root in roots):
                    return direct
                step = above
                break
        else:
            return None
    return None


def _issued(above: Certificate, below: Certificate) -> bool:
    """Also that `path.identity` says so: what is learned is entered under that, and a CA that
    names another's key for its own would revoke what the other has issued."""
    return (
        above.is_ca
        and above.subject == below.issuer
        and above.ski == below.aki
        and path.has_key_digest(above)
        and path.verify(above.point, below.tbs_digest, below.signature)
    )
