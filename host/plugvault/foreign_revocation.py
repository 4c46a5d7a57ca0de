"""Learn which certificates of foreign CAs are revoked, before the pools decide: OCSP over HTTP.

A certificate's responder is asked only when the path ends in a root of RCP and the issuer is not
one of our own CAs, whose statuses are in the store. A revocation is stored, and the pools find it
there. An unusable answer is logged and nothing is stored: a contract does not wait for a foreign
server. A responder is not asked again while its answer holds. Within a minute after a failure,
neither this responder nor any other address in certificates of the same issuer is asked: a company
with a PKI of its own chooses the addresses. For the same reason only a few requests wait for
responders at a time, and fewer of one caller; the others continue without an answer, and the next
recheck of all stored certificates asks.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from threading import Lock

from evcc.x509 import Certificate, CertificateError
from plugvault.net import NetError, Outbound
from plugvault.pki import ocsp, path
from plugvault.pki.names import distinguished_name
from plugvault.pools.certificates import REASONS
from plugvault.pools.records import Status
from plugvault.pools.repositories import Store
from plugvault.seldom import Seldom

log = logging.getLogger("plugvault.foreign_revocation")

TIMEOUT = 2.0  # seconds for one answer, and until the last question about a path: a caller waits
AT_ONCE = 16  # requests that wait for responders, of the 40 that have a thread
PER_CALLER = 4  # of them
RECHECK = 3600.0  # seconds until a good certificate is checked again, at the latest
BACK_OFF = 60.0  # seconds in which a responder that failed is not asked
MOST = 50_000  # certificates and responders whose next check is remembered


class ForeignRevocation:
    """The function `Services.update_revocations`. Safe to use from several threads.

    `own`: key identifiers of our CAs, hexadecimal; `outbound`: the addresses that may be called;
    `clock()`: Unix seconds; `monotonic()`: seconds of a clock that never goes back, by which the
    next question is due.
    """

    def __init__(
        self,
        store: Store,
        own: Iterable[str],
        outbound: Outbound,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._own, self._outbound = store, frozenset(own), outbound
        self._clock, self._monotonic = clock, monotonic
        # Identity, URL or issuer -> the time of the next check, monotonic.
        self._next: dict[str, float] = {}
        self._waiting: Counter[str] = Counter()  # requests by caller
        self._lock = Lock()
        self._skipped = Seldom(log, "responders are not asked for a request: {}")

    def __call__(self, certificates: Sequence[bytes], caller: str | None = None) -> None:
        """Ask the responders that are due, and store the revocations. Raises PoolError of the
        store alone.

        `certificates`: DER, a leaf and its issuers, in any order; `caller`: the client_id of the
        request that waits; None: our own work, which has no limit.
        """
        try:
            path_certificates = [path.read_any(der) for der in certificates]
        except CertificateError:
            return  # the pools refuse the path with a reason
        due = self._due(path_certificates)
        if not due or not self._begin(caller):
            return
        try:
            self._ask(due, path_certificates)
        finally:
            self._end(caller)

    def _begin(self, caller: str | None) -> bool:
        """Whether this request may wait for responders."""
        if caller is None:
            return True
        with self._lock:
            if self._waiting[caller] >= PER_CALLER or self._waiting.total() >= AT_ONCE:
                self._skipped("%d requests of %s wait", self._waiting[caller], caller)
                return False
            self._waiting[caller] += 1
            return True

    def _end(self, caller: str | None) -> None:
        if caller is not None:
            with self._lock:
                self._waiting[caller] -= 1
                if not self._waiting[caller]:
                    del self._waiting[caller]

    def _ask(self, due: Sequence[Certificate], subs: Sequence[Certificate]) -> None:
        with self._store.read() as records:
            roots = [path.read_any(root.certificate) for root in records.roots.all()]
        last = time.monotonic() + TIMEOUT
        # CAs first: a leaf's address must not use up the time in which they are asked about.
        for certificate in sorted(due, key=lambda each: not each.is_ca):
            if time.monotonic() > last:
                return
            issuer = _issuer(certificate, subs, roots)
            if issuer is not None and self._may_ask(certificate):
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
            and self._may_ask(certificate)
        ]

    def _may_ask(self, certificate: Certificate) -> bool:
        keys = _key(certificate), str(certificate.ocsp), _issuer_key(certificate)
        return all(self._is_due(key) for key in keys)

    def _is_due(self, key: str) -> bool:
        with self._lock:
            next_check = self._next.get(key)
        return next_check is None or next_check <= self._monotonic()

    def _postpone(self, key: str, seconds: float) -> None:
        with self._lock:
            self._next.pop(key, None)
            if len(self._next) >= MOST:
                del self._next[next(iter(self._next))]  # the revocation that was stored first
            self._next[key] = self._monotonic() + seconds

    def _check(self, certificate: Certificate, issuer: Certificate) -> None:
        url, now = str(certificate.ocsp), self._clock()
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
            self._postpone(url, BACK_OFF)
            self._postpone(_issuer_key(certificate), BACK_OFF)
            return
        if answer.status == "unknown":
            log.warning("%s does not know %s %s", url, *identity)
        elif answer.status == "revoked":
            self._enter(certificate, answer, now)
        self._postpone(_key(certificate), max(BACK_OFF, min(answer.until - now, RECHECK)))

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


def _issuer_key(certificate: Certificate) -> str:
    return f"issuer {path.identity(certificate)[0]}"


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
