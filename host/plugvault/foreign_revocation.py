"""Learn which certificates of foreign CAs are revoked, before the pools decide: OCSP over HTTP.

A certificate's responder is asked only when the path ends in a root of RCP and the issuer is not
one of our own CAs, whose statuses are in the store. A revocation is entered into the store, where
the pools look it up. An unusable answer is logged and nothing is entered: a contract does not wait
for a foreign server. A responder is not asked again while its answer holds, nor within a minute
after it failed.
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
RECHECK = 3600.0  # seconds until a good certificate is checked again, at the latest
BACK_OFF = 60.0  # seconds in which a responder that failed is not asked
MOST = 50_000  # certificates and responders whose next check is remembered


class ForeignRevocation:
    """`Services.update_revocations`. Safe to use from several threads.

    `own`: key identifiers of our CAs, hexadecimal; `outbound`: the addresses that may be called;
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
        self._next: dict[str, float] = {}  # identity or URL -> Unix seconds of the next check
        self._lock = Lock()

    def __call__(self, certificates: Sequence[bytes]) -> None:
        """`certificates`: DER, a leaf and its issuers, in any order."""
        try:
            path_certificates = [path.read_any(der) for der in certificates]
        except CertificateError:
            return  # the pools refuse the path with a reason
        due = self._due(path_certificates)
        if not due:
            return
        with self._store.read() as records:
            roots = [path.read_any(root.certificate) for root in records.roots.all()]
        for certificate in due:
            issuer = _issuer(certificate, path_certificates, roots)
            if issuer is not None and self._is_due(_key(certificate)):
                self._check(certificate, issuer)

    def is_due(self, certificates: Sequence[bytes]) -> bool:
        """Whether a call with these certificates would ask a responder."""
        try:
            return bool(self._due([path.read_any(der) for der in certificates]))
        except CertificateError:
            return False

    def _due(self, certificates: Sequence[Certificate]) -> list[Certificate]:
        return [
            certificate
            for certificate in certificates
            if certificate.ocsp
            and path.identity(certificate)[0] not in self._own
            and self._is_due(_key(certificate))
        ]

    def _is_due(self, key: str) -> bool:
        with self._lock:
            return self._next.get(key, 0.0) <= self._clock()

    def _postpone(self, key: str, until: float) -> None:
        with self._lock:
            if len(self._next) >= MOST:
                self._next.clear()
            self._next[key] = until

    def _check(self, certificate: Certificate, issuer: Certificate) -> None:
        url, now = str(certificate.ocsp), self._clock()
        if not self._is_due(url):
            return
        identity = path.identity(certificate)
        try:
            response = self._outbound.request(
                "POST",
                url,
                ocsp.request(certificate.der, issuer.der),
                {"Content-Type": "application/ocsp-request"},
            )
            answer = ocsp.read(response.body, certificate.der, issuer.der, now)
        except (NetError, ocsp.OcspError) as error:
            log.warning("no status of %s %s from %s: %s", *identity, url, error)
            self._postpone(url, now + BACK_OFF)
            return
        if answer.status == "unknown":
            log.warning("%s does not know %s %s", url, *identity)
        elif answer.status == "revoked":
            self._enter(certificate, answer, now)
        self._postpone(_key(certificate), max(now + BACK_OFF, min(answer.until, now + RECHECK)))

    def _enter(self, certificate: Certificate, answer: ocsp.OcspAnswer, now: float) -> None:
        issuer, serial = path.identity(certificate)
        reason = answer.reason if answer.reason in REASONS else "unspecified"
        revoked = answer.revoked if answer.revoked is not None else int(now)
        with self._store.write() as records:
            status = records.statuses.get(issuer, serial)
            if status is None or status.revoked is None:
                subject = distinguished_name(certificate.names)
                records.statuses.put(
                    Status(issuer, serial, subject, certificate.not_after, revoked, reason)
                )
        log.info("%s %s is revoked (%s)", issuer, serial, reason)


def _key(certificate: Certificate) -> str:
    return "/".join(path.identity(certificate))


def _issuer(
    certificate: Certificate, subs: Sequence[Certificate], roots: Sequence[Certificate]
) -> Certificate | None:
    """The issuer, when the path ends in a root: no address from an unknown path is called."""
    direct, step = None, certificate
    for _ in range(len(subs) + 1):
        for above in (*roots, *subs):
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
    """Whether `above` issued `below`, also by its key identifier: a status is entered under that,
    and a CA with the key identifier of another CA would revoke the certificates of that one."""
    return (
        above.is_ca
        and above.subject == below.issuer
        and above.ski == below.aki
        and path.has_key_digest(above)
        and path.verify(above.point, below.tbs_digest, below.signature)
    )
