"""The station at the other end of TLS: whether its certificate and its OCSP answer are accepted.

The chain must lead to a V2G root of the car's trust store, and its leaf must be a CPO's [ISO
15118-2, 7.7.3.3]. Dates are judged by the car's time, where it is known. A certificate is revoked
if the maker's list names it, or a stapled OCSP answer says so. A station without an answer is
accepted, unless `needs_ocsp`: its revocation is then not checked, and `findings` says so.
"""

import hashlib

from evcc import chain, x509
from evcc.errors import EvccError
from evcc.tls import ocsp

from . import TlsError

MAX_CERTIFICATES = 8  # that are read; a path has three below its root
LIMIT = 2048  # bytes of a certificate
_SHA1_OF_CERTIFICATE = 3  # identifier_type of trusted_ca_keys [RFC 6066]


class Peer:
    """The judgement on one station.

    roots: V2G roots, `x509.Certificate`. verify(point, digest, signature): see `p256.verify`.
    now: unix seconds; None: the time is not known, no date is judged. revocation:
    `revocation.Revocation`, or None. needs_ocsp: refuse a station without a good OCSP answer.

    `leaf`: the accepted certificate, else None. `error`: the TlsError of a refusal, or None.
    """

    def __init__(self, roots, verify, now, revocation=None, needs_ocsp: bool = False) -> None:
        self.needs_ocsp = needs_ocsp
        self.leaf = None
        self.error = None
        self._roots = roots
        self._verify = verify
        self._now = now
        self._revocation = revocation
        self._issuer = None
        self._status = ""  # of OCSP

    def accepts_chain(self, chain_der: list) -> bool:
        """Judge the certificates that the station sent, DER, leaf first. An EvccError becomes
        `error`."""
        self.leaf = None
        try:
            self.leaf, self._issuer = self._validated(chain_der)
        except EvccError as error:
            self.error = TlsError("certificate", str(error))
        return self.leaf is not None

    def accepts_answer(self, answer: "bytes | None") -> bool:
        """Judge the OCSP answer, DER; None: there is none. Call it after `accepts_chain`."""
        if self.leaf is None:
            return False
        try:
            if answer is None:
                self._status = ""
                text = "the station sends no OCSP answer"
            else:
                self._status = ocsp.read(answer, self.leaf, self._issuer, self._now, self._verify)
                text = "OCSP: " + self._status
            if self._status != ocsp.GOOD and (answer is not None or self.needs_ocsp):
                raise TlsError("revocation", text)
        except TlsError as error:
            self.error = error
        except EvccError as error:
            self.error = TlsError("revocation", "OCSP: " + str(error))
        if self.error is not None:
            self.leaf = None
        return self.leaf is not None

    def trusted_ca_keys(self) -> bytes:
        """The extension of this name [RFC 6066, section 6]: the roots, by the SHA-1 of each."""
        entries = [
            bytes([_SHA1_OF_CERTIFICATE]) + hashlib.sha1(root.der).digest()  # noqa: S324 - a name
            for root in self._roots
        ]
        body = b"".join(entries)
        return len(body).to_bytes(2, "big") + body

    def findings(self) -> str:
        """The accepted station, and what was not checked, for a person."""
        words = [self.leaf.names.get("CN", "") if self.leaf is not None else "no station"]
        words.append("revocation: " + (self._status or "not checked"))
        if self._revocation is not None and self._revocation.issued:
            is_stale = self._now is not None and self._revocation.is_stale(self._now)
            words.append("the maker's list: " + ("out of date" if is_stale else "checked"))
        if self._now is None:
            words.append("dates: not judged, the time is not known")
        return "; ".join(words)

    def _validated(self, chain_der: list) -> tuple:
        """(leaf, its issuer). Raises: CertificateError, VaultError."""
        if not 0 < len(chain_der) <= MAX_CERTIFICATES:
            raise x509.CertificateError("too-long", "%d certificates" % len(chain_der))
        # A root among them gives no trust: the path is built to the roots of the store.
        leaf, *subs = [x509.parse(der, LIMIT) for der in chain_der]
        is_revoked = None if self._revocation is None else self._revocation.includes
        root = chain.validate(
            leaf, subs, self._roots, chain.CPO, self._now, self._verify, is_revoked=is_revoked
        )
        path, _ = chain.build(leaf, subs, self._roots)
        return leaf, path[1] if len(path) > 1 else root
