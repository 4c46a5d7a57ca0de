"""The ecosystem's own PKI: its authorities and leaves, each key in a token.

Keys and certificates of an earlier start are used again; missing ones are made. A certificate
that ends within a week is issued again, for the same key; so is one that is not valid yet, from a
start with a clock ahead. A single process of a running ecosystem issues nothing: the pools and the
other processes would not know it, and the clock may be wrong.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from evcc.vault import VaultError
from evcc.x509 import Certificate
from plugvault.cryptoki import ed448, rsa, secret
from plugvault.cryptoki.ed448 import TokenEd448Key
from plugvault.cryptoki.rsa import TokenRsaKey
from plugvault.ecosystem.companies import CHARGE_POINTS, EVSE, MAKER, OPERATOR, POOL, company
from plugvault.ecosystem.folder import Folder
from plugvault.pki import path
from plugvault.pki.issue import Authority, der, issue, root, subordinate
from plugvault.pki.names import timestamp
from plugvault.tokens import Token, TokenKey

log = logging.getLogger("plugvault.ecosystem.authorities")

T = TypeVar("T")
AnyKey = TokenKey | TokenEd448Key | TokenRsaKey

LABELS = ("v2g", "oem", "mo", "cps", "cpo", "auth")  # one token for each company with keys
P256 = "secp256r1"
SOON = 7 * 86_400  # seconds before its end a certificate is issued again
UNTIMELY = (
    "by the clock of this process, %s, these certificates are not valid, or end within a week: %s."
    " They are used as they are. Set the clock, or start the whole ecosystem again for new ones"
)


@dataclass(frozen=True)
class Leaf:
    """A certificate with its path and its key in a token."""

    certificate: bytes
    subs: tuple[bytes, ...]
    key: TokenKey


class Authorities:
    """The authorities and leaves, made or loaded.

    v2g, oem, mo: the roots. vehicles, operator, hosted: the Sub2 that issue provisioning
    certificates, the operator's contracts, and contracts for operators without a PKI. cps,
    station: leaves. telematics: the maker's key for the channel to its vehicles. access: signs
    access tokens. webhooks: the key that webhook secrets are derived from. keys: every key, by its
    token. issued: the certificates of this start, DER. untimely: the names of certificates that a
    process without `issues` uses although they are to be issued again.

    enrolment: the Sub2 for each name of EST, see `opcp.services`. every: all CAs. certificates:
    all but the roots', DER. newer: the roots of ISO 15118-20, on P-521 and Ed448, with their
    branches below the first; empty without `edition20`.
    """

    def __init__(
        self,
        folder: Folder,
        tokens: dict[str, Token],
        now: float,
        ocsp: str,
        pool: str = POOL,
        edition20: bool = False,
        issues: bool = True,
    ) -> None:
        """`ocsp`: address of the responder, written into certificates; `pool`: the company of the
        V2G root; `edition20`: make the CAs of ISO 15118-20 too. A folder with them keeps them.
        `issues`: False for a process that only uses certificates; a missing one raises
        VaultError("not-found")."""
        self._folder, self._tokens, self._now, self._ocsp = folder, tokens, now, ocsp
        self.keys: dict[str, list[AnyKey]] = {}
        self._issues = issues
        self.issued: list[bytes] = []
        self.untimely: list[str] = []
        self.certificates: list[bytes] = []
        self.every: list[Authority] = []
        self.v2g = self._root("v2g", pool, "V2G Root CA")
        self.oem = self._root("oem", MAKER, "OEM Root CA")
        self.mo = self._root("mo", OPERATOR, "MO Root CA")
        self.telematics = self._key("oem", "telematics")
        signers = self._below(self.v2g, "v2g", "Prov", pool)
        self.cps = self._leaf("cps", "CPS 1", pool, signers)
        stations = self._below(self.v2g, "v2g", "CPO", pool)
        self.station = self._leaf("cpo", EVSE, CHARGE_POINTS, stations)
        self.vehicles = self._below(self.oem, "oem", "OEM", MAKER)
        self.operator = self._below(self.mo, "mo", "MO", OPERATOR)
        self.hosted = self._below(self.v2g, "v2g", "V2G MO", pool)
        self.enrolment = {
            "oem": self.vehicles,
            "cpo": stations,
            "mo": self.hosted,
            "cps": signers,
        }
        self.newer: list[Authority] = []
        if edition20 or folder.certificate("v2g-root-secp521r1"):
            self._make_newer(pool)
        self.access = find_or_make(
            lambda: rsa.key(tokens["auth"], "access-tokens"),
            lambda: rsa.generate(tokens["auth"], "access-tokens"),
        )
        self.webhooks = find_or_make(
            lambda: secret.find(tokens["auth"], "webhooks"),
            lambda: secret.generate(tokens["auth"], "webhooks"),
        )
        self.keys["auth"] = [self.access]
        if self.untimely:
            log.warning(UNTIMELY, timestamp(now), ", ".join(self.untimely))

    def _make_newer(self, pool: str) -> None:
        """One root for all branches, and one on Ed448 that vehicles may trust too."""
        top = self._root("v2g", pool, "V2G-20 Root CA", "secp521r1")
        self.newer = [top, self._root("v2g", pool, "V2G-20 Root CA Ed448", "ed448")]
        branches = {"cps": ("Prov-20", pool), "cpo": ("CPO-20", pool), "mo": ("MO-20", pool)}
        branches["oem"] = ("OEM-20", MAKER)
        for kind, (prefix, owner) in branches.items():
            below = self._below(top, "v2g", prefix, owner, "secp521r1")
            self.enrolment[f"{kind}/secp521r1"] = below
        self.enrolment["veh/secp521r1"] = self.enrolment["oem/secp521r1"]

    def _root(self, kind: str, owner: str, name: str, curve: str = P256) -> Authority:
        label = "root" if curve == P256 else f"root-{curve}"
        key = self._ca_key(kind, label, curve)
        names = {**company(owner), "CN": name}
        certificate = self._certificate(
            f"{kind}-{label}", key, lambda: der(root(kind, names, key, self._now).certificate)
        )
        return self._listed(Authority(x509.load_der_x509_certificate(certificate), key))

    def _listed(self, authority: Authority) -> Authority:
        self.every.append(authority)
        return authority

    def _below(
        self, above: Authority, kind: str, prefix: str, owner: str, curve: str = P256
    ) -> Authority:
        """Sub1 and Sub2 of one branch, their keys in the token `kind`; the Sub2, which issues."""
        for level in ("sub1", "sub2"):
            above = self._sub(above, kind, f"{prefix} {level.capitalize()}", level, owner, curve)
        return above

    def _sub(
        self, above: Authority, kind: str, name: str, level: str, owner: str, curve: str
    ) -> Authority:
        label = name.lower().replace(" ", "-")
        key = self._ca_key(kind, label, curve)
        profile, names = f"{kind}-{level}", {**company(owner), "CN": f"{name} CA"}

        def make() -> bytes:
            return der(subordinate(profile, names, key, above, self._now, self._ocsp).certificate)

        encoded = self._certificate(label, key, make)
        self.certificates.append(encoded)
        certificate = x509.load_der_x509_certificate(encoded)
        return self._listed(Authority(certificate, key, (above.certificate, *above.issuers)))

    def _leaf(self, profile: str, name: str, owner: str, above: Authority) -> Leaf:
        key = self._key(profile, f"{profile}-leaf")
        names = {**company(owner), "CN": name}
        certificate = self._certificate(
            f"{profile}-leaf",
            key,
            lambda: issue(profile, names, key.public_key(), above, self._now, ocsp=self._ocsp),
        )
        self.certificates.append(certificate)
        return Leaf(certificate, tuple(above.path), key)

    def _key(self, token: str, label: str) -> TokenKey:
        # After an interrupted start a key may exist without its certificate.
        opened = self._tokens[token]
        key = find_or_make(lambda: opened.key(label), lambda: opened.generate(label))
        self.keys.setdefault(token, []).append(key)
        return key

    def _ca_key(self, token: str, label: str, curve: str) -> TokenKey | TokenEd448Key:
        if curve == P256:
            return self._key(token, label)
        opened = self._tokens[token]
        key: TokenKey | TokenEd448Key
        if curve == "ed448":
            key = find_or_make(
                lambda: ed448.key(opened, label), lambda: ed448.generate(opened, label)
            )
        else:
            key = find_or_make(
                lambda: opened.key(label), lambda: opened.generate(label, curve=curve)
            )
        self.keys.setdefault(token, []).append(key)
        return key

    def _certificate(self, name: str, key: AnyKey, make: Callable[[], bytes]) -> bytes:
        """The stored certificate, or a new one when it is missing, ends soon or is not valid yet.
        Raises VaultError; "refused" for a stored certificate of another key, whose signatures no
        other party would accept."""
        certificate = self._folder.certificate(name)
        if certificate is not None and not _is_for(certificate, key):
            advice = f"put its key back, or remove certificates/{name}.pem for a new one"
            raise VaultError("refused", f"{name} is not for the key in its token: {advice}")
        if certificate is not None:
            if _is_valid(path.read_any(certificate), self._now):
                return certificate
            if not self._issues:
                self.untimely.append(name)
                return certificate
        elif not self._issues:
            raise VaultError("not-found", f"certificates/{name}.pem")
        new = make()
        self._folder.store_certificate(name, new)
        self.issued.append(new)
        return new


def _is_for(certificate: bytes, key: AnyKey) -> bool:
    form = Encoding.DER, PublicFormat.SubjectPublicKeyInfo
    public = x509.load_der_x509_certificate(certificate).public_key()
    return public.public_bytes(*form) == key.public_key().public_bytes(*form)


def _is_valid(certificate: Certificate, now: float) -> bool:
    return bool(certificate.not_before <= now <= certificate.not_after - SOON)


def find_or_make(find: Callable[[], T], make: Callable[[], T]) -> T:
    """The result of `find`, or of `make` when `find` raises VaultError("not-found")."""
    try:
        return find()
    except VaultError as error:
        if error.reason != "not-found":
            raise
        return make()
