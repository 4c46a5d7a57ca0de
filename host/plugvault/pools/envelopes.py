"""Which DH points and contract keys have been seen, so that no envelope is used as an oracle.

ISO 15118-2 seals a contract key with AES-CBC, which has no integrity. Whoever sends the DH point
of somebody's envelope again, with a bit of the envelope changed and a certificate for a key to
match, learns one bit of the contract key from what the vehicle makes of it. So a DH point belongs
to one envelope and one certificate, and a contract key to one EMAID. P and -P give one secret, so
a point is known by its X coordinate. What is kept are hashes.

A contract that is deleted takes nothing of this with it. It is forgotten when the certificate
has expired, and no later one is for the same key; who asks chooses when his certificate expires,
so it is kept for `LEAST` in any case.
"""

from functools import lru_cache
from hashlib import sha256

from plugvault.contract.issue import ContractData
from plugvault.pki import path
from plugvault.pools import contracts
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Seen
from plugvault.pools.repositories import Records

LEAST = 2 * 365 * 86400  # seconds: the longest that a contract certificate is good, as a rule
ANOTHERS_POINT = "dHpublickey : was used for another contract or another envelope"
ANOTHERS_KEY = "contractCertificate : its public key was used for another EMAID"


def seen(data: ContractData, until: int) -> tuple[Seen, Seen]:
    """What is kept of contract data whose form is checked: of its DH point, and of its key."""
    point, key = _marks(data.dh_point, data.certificate)
    envelope = sha256(data.dh_point + data.wrapped + data.certificate).digest()
    owner = sha256(contracts.key(data.emaid).encode()).digest()
    return Seen(point, envelope, key, until), Seen(key, owner, key, until)


def names(data: ContractData) -> tuple[str, ...]:
    """What `take` locks, after the vehicle and the EMAID."""
    return tuple(f"seen {mark.hex()}" for mark in _marks(data.dh_point, data.certificate))


def check(records: Records, data: ContractData) -> None:
    """Raises PoolError("conflict") for a DH point or a key that is another's."""
    _known(records, seen(data, 0))


def take(records: Records, data: ContractData, now: float) -> None:
    """As `check`, with nobody else's hand on the DH point and the key, which from now on are this
    contract's."""
    records.lock(*names(data))
    not_after = path.read(data.certificate).not_after
    wanted = seen(data, max(not_after, int(now) + LEAST))
    known = _known(records, wanted)
    records.seen.add([one for one in wanted if one.mark not in known])
    key = known.get(wanted[1].mark)
    if key and key.until < not_after:
        records.seen.extend(key.mark, not_after)


def _known(records: Records, wanted: tuple[Seen, Seen]) -> dict[bytes, Seen]:
    known = {one.mark: one for one in records.seen.known([one.mark for one in wanted])}
    for one, words in zip(wanted, (ANOTHERS_POINT, ANOTHERS_KEY), strict=True):
        if one.mark in known and known[one.mark].holds != one.holds:
            raise PoolError("conflict", words)
    return known


@lru_cache(maxsize=16)  # a request asks three times
def _marks(dh_point: bytes, certificate: bytes) -> tuple[bytes, bytes]:
    """What the DH point and the contract's public key are known by, 32 bytes each."""
    points = (b"dh", dh_point), (b"key", path.read(certificate).point)
    first, second = (sha256(kind + point[1:33]).digest() for kind, point in points)
    return first, second
