"""The place of each certificate of a test PKI, by its path and role, not by its file's name.

    layout = arranged(collection, now)
    layout.slots["prov-sub2"]           # Member(der, key), the CA that certifies the CPS
    layout.missing                      # ["cps-leaf: …"], as text

The slots have the names of an ecosystem's certificates, as in SLOTS. A leaf's role is in its
subject [ISO 15118-2 Annex F]; a CA is what the leaves below it make it, or else what its own
subject says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from evcc import chain, ids
from evcc.x509 import Certificate, CertificateError
from plugvault.pki import path
from plugvault.pki.collection import Collection
from plugvault.pki.names import distinguished_name
from plugvault.pki.schemes import PrivateKey

# role of a leaf: the branch of its CAs, the kind of its root, its own slot
_BRANCHES = {
    chain.CPS: ("prov", "v2g", "cps-leaf"),
    chain.CPO: ("cpo", "v2g", "cpo-leaf"),
    chain.PROVISIONING: ("oem", "oem", ""),
    chain.CONTRACT: ("mo", "mo", ""),
}
_ORDER = tuple(_BRANCHES)
# The words of a CA's own subject, for a CA without a leaf: (word, branch or kind of root)
_WORDS = (
    ("PROV", "prov"),
    ("CPS", "prov"),
    ("CPO", "cpo"),
    ("CSO", "cpo"),
    ("OEM", "oem"),
    ("MO", "mo"),
    ("V2G", "v2g"),
)
_KINDS = {"prov": "v2g", "cpo": "v2g", "v2g": "v2g", "oem": "oem", "mo": "mo"}
SLOTS = {
    "v2g-root": "V2G root",
    "prov-sub1": "sub-CA 1 of the CPS",
    "prov-sub2": "sub-CA 2 of the CPS",
    "cps-leaf": "CPS (signs contract data)",
    "cpo-sub1": "sub-CA 1 of the charge points",
    "cpo-sub2": "sub-CA 2 of the charge points",
    "cpo-leaf": "charging station (SECC)",
    "oem-root": "OEM root",
    "oem-sub1": "sub-CA 1 of the vehicle maker",
    "oem-sub2": "sub-CA 2 of the vehicle maker",
    "mo-root": "MO root",
    "mo-sub1": "sub-CA 1 of the mobility operator",
    "mo-sub2": "sub-CA 2 of the mobility operator",
}


@dataclass(frozen=True)
class Member:
    """A certificate with its place. key: its private key, None where the PKI has none; source: the
    name of its file; subs: DER of the CAs above a leaf without the root, nearest first."""

    der: bytes
    key: PrivateKey | None
    source: str
    subs: tuple[bytes, ...] = ()

    @property
    def name(self) -> str:
        """The subject as text, as OPCP writes it."""
        return distinguished_name(path.read_any(self.der).names)


@dataclass
class Layout:
    """The places of a PKI's certificates.

    slots: by the names in SLOTS. vehicles, contracts: leaves by PCID or EMAID (their CN). others:
    certificates without a place, each with the reason.
    """

    slots: dict[str, Member] = field(default_factory=dict)
    vehicles: dict[str, Member] = field(default_factory=dict)
    contracts: dict[str, Member] = field(default_factory=dict)
    others: list[tuple[Member, str]] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """A sentence for each slot without a certificate and for each certificate of a slot
        without a private key."""
        lacking = [f"{slot}: no certificate" for slot in SLOTS if slot not in self.slots]
        keyless = [f"{slot}: no private key" for slot, m in self.slots.items() if m.key is None]
        return [*lacking, *keyless]


def arranged(collection: Collection, now: float) -> Layout:
    """The places of the certificates. now: Unix seconds.

    Of two certificates for one place, one that is valid at `now` goes before one that is not, then
    one with a private key before one without, then the one that ends later.
    """
    return _Arrangement(collection, now).layout


class _Arrangement:
    def __init__(self, collection: Collection, now: float) -> None:
        self._collection, self._now = collection, now
        self.layout = Layout()
        self._certificates: list[Certificate] = []
        for der in collection.certificates:
            try:
                self._certificates.append(path.read_any(der))
            except CertificateError as error:
                member = Member(der, None, collection.sources[der])
                self.layout.others.append((member, f"not usable: {error}"))
        self._certificates.sort(key=self._worth, reverse=True)
        for leaf in self._leaves():
            self._place_leaf(leaf)
        for ca in self._certificates:
            self._place_lonely_ca(ca)
        placed = self._placed()
        for certificate in self._certificates:
            if certificate.der not in placed:
                member = self._member(certificate)
                self.layout.others.append((member, _reason(certificate)))

    def _placed(self) -> set[bytes]:
        layout = self.layout
        places = (layout.slots, layout.vehicles, layout.contracts)
        return {member.der for place in places for member in place.values()}

    def _leaves(self) -> list[Certificate]:
        """Those with a role. The roots above CPS and CPO are V2G roots: these come first."""
        leaves = [leaf for leaf in self._certificates if role_of(leaf)]
        return sorted(leaves, key=lambda leaf: _ORDER.index(str(role_of(leaf))))

    def _worth(self, certificate: Certificate) -> tuple[bool, bool, int]:
        is_valid = certificate.not_before <= self._now <= certificate.not_after
        has_key = self._collection.certificates[certificate.der] is not None
        return is_valid, has_key, certificate.not_after

    def _member(self, certificate: Certificate, above: Sequence[Certificate] = ()) -> Member:
        der = certificate.der
        subs = tuple(ca.der for ca in above if ca.issuer != ca.subject)
        key = self._collection.certificates[der]
        return Member(der, key, self._collection.sources[der], subs)

    def _place_leaf(self, leaf: Certificate) -> None:
        """Place a leaf and the CAs above it."""
        role, above = str(role_of(leaf)), self._above(leaf)
        branch, kind, slot = _BRANCHES[role]
        member = self._member(leaf, above)
        if slot:
            self.layout.slots.setdefault(slot, member)
        else:
            is_vehicle = role == chain.PROVISIONING
            place = self.layout.vehicles if is_vehicle else self.layout.contracts
            place.setdefault(leaf.names.get("CN", ""), member)
        subs = [ca for ca in above if ca.issuer != ca.subject]
        for ca, level in zip(subs, ("sub2", "sub1"), strict=False):
            self.layout.slots.setdefault(f"{branch}-{level}", self._member(ca))
        for root in above[len(subs) :]:
            # A maker or an operator without a root of its own is below the V2G root.
            below_v2g = self._is_v2g(root) or word_of(root) == "v2g"
            self.layout.slots.setdefault(
                "v2g-root" if below_v2g else f"{kind}-root", self._member(root)
            )

    def _is_v2g(self, root: Certificate) -> bool:
        member = self.layout.slots.get("v2g-root")
        return member is not None and member.der == root.der

    def _place_lonely_ca(self, ca: Certificate) -> None:
        """Place a CA that has no leaf here, by its own subject and path length."""
        word = word_of(ca)
        if word is None or not ca.is_ca or ca.der in self._placed():
            return
        if ca.issuer == ca.subject:
            self.layout.slots.setdefault(f"{_KINDS[word]}-root", self._member(ca))
        elif word != "v2g" and ca.path_length in (0, 1):
            self.layout.slots.setdefault(f"{word}-sub{2 - ca.path_length}", self._member(ca))

    def _above(self, leaf: Certificate) -> list[Certificate]:
        """The CAs above a certificate, nearest first, each link by name and signature."""
        found, top = list[Certificate](), leaf
        while top.issuer != top.subject:
            issuers = [
                ca
                for ca in self._certificates
                if ca.is_ca
                and ca.subject == top.issuer
                and ca not in found
                and path.verify(ca.point, top.tbs_digest, top.signature)
            ]
            if not issuers:
                break
            top = issuers[0]
            found.append(top)
        return found


def role_of(certificate: Certificate) -> str | None:
    """The role that a leaf's subject states: by its DC, or else by the form of its CN. None for a
    CA and for any other leaf."""
    if certificate.is_ca:
        return None
    by_dc = {"CPS": chain.CPS, "CPO": chain.CPO, "MO": chain.CONTRACT, "OEM": chain.PROVISIONING}
    domain = certificate.names.get("DC")
    if domain in by_dc:
        return by_dc[domain]
    for role, parse in ((chain.CONTRACT, ids.parse_emaid), (chain.PROVISIONING, ids.parse_pcid)):
        try:
            parse(certificate.names.get("CN", ""))
        except ids.IdError:
            continue
        return role
    return None


def word_of(ca: Certificate) -> str | None:
    """The branch that a CA's subject names ("prov", "cpo", "oem", "mo" or "v2g"), or None."""
    texts = (ca.names.get(name, "").upper() for name in ("DC", "CN", "OU"))
    words = [text.replace("_", " ").replace("-", " ") for text in texts]
    return _first_word([words[0] if words[0] != "V2G" else "", *words[1:], words[0]])


def _first_word(texts: Iterable[str]) -> str | None:
    for text in texts:
        for word, branch in _WORDS:
            # "MO" is also a part of other words, so only the start of a word counts.
            if any(part.startswith(word) for part in text.split()):
                return branch
    return None


def _reason(certificate: Certificate) -> str:
    if not certificate.is_ca:
        return "a leaf whose subject names no role: DC is none of CPS, CPO, OEM, MO"
    return "a CA above none of the leaves, or a second one for its place"
