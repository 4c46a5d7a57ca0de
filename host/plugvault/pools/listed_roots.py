"""Which V2G roots of RCP a vehicle's request lists.

The request names each root by issuer name and serial number. The serial numbers are compared
exactly, the names with the tolerances of `pki.issuer_names`. A tolerance never takes a name for
one of two roots.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evcc.x509 import Certificate
from plugvault.contract.iso15118_2.bundle import ISO2
from plugvault.pki import issuer_names, path
from plugvault.pools.records import Root
from plugvault.pools.repositories import Records

Identifier = tuple[str, int]
"""(issuer name, serial number) of a root, as a vehicle writes them."""


class AmbiguousError(Exception):
    """A vehicle's name of a root that could be the name of several roots of RCP."""

    def __init__(self, name: str, roots: Sequence[str]) -> None:
        super().__init__(f"{name!r} may be any of {', '.join(roots)}")


@dataclass(frozen=True)
class ListedRoot:
    """A root that a request lists. `name`: as the vehicle wrote it; `tolerances`: of
    `issuer_names.TOLERANCES`, empty for a name in the form of RFC 4514."""

    name: str
    tolerances: frozenset[str]


def find(records: Records, root: Root, identifiers: Sequence[Identifier]) -> ListedRoot | None:
    """The identifier of `root` in a vehicle's list, the one with the fewest tolerances. None when
    the list does not have it.

    Raises AmbiguousError when every name for it could as well be the name of another root in RCP.
    """
    certificate = path.read(root.certificate)
    candidates = [
        ListedRoot(name, tolerances)
        for name, serial in identifiers
        if (tolerances := match(certificate, name, serial)) is not None
    ]
    candidates.sort(key=lambda listed: (_looseness(listed), len(listed.tolerances)))
    if candidates and _looseness(candidates[0]):
        return _unambiguous(records, root, candidates)
    return candidates[0] if candidates else None


def _unambiguous(
    records: Records, root: Root, candidates: Sequence[ListedRoot]
) -> ListedRoot | None:
    """The first candidate that is no name of another root of RCP."""
    serial = path.read(root.certificate).serial
    others = [
        other
        for other in records.roots.all("V2G")
        if other.namespace == ISO2 and other.fingerprint != root.fingerprint
    ]
    ambiguous = None
    for candidate in candidates:
        rivals = {
            other.fingerprint: issuer_names.looseness(tolerances)
            for other in others
            if (tolerances := match(path.read(other.certificate), candidate.name, serial))
            is not None
        }
        if not rivals or min(rivals.values()) > _looseness(candidate):
            return candidate
        if min(rivals.values()) == _looseness(candidate):
            ambiguous = AmbiguousError(candidate.name, [root.fingerprint, *rivals])
    if ambiguous:
        raise ambiguous
    return None


def match(root: Certificate, name: str, serial: int) -> frozenset[str] | None:
    """The tolerances under which an identifier names `root`; None when it does not."""
    if root.serial != serial or len(name) > issuer_names.LONGEST:
        return None
    return issuer_names.match(issuer_names.read(name), root)


def _looseness(listed: ListedRoot) -> int:
    return issuer_names.looseness(listed.tolerances)
