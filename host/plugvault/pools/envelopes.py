"""The used DH points and contract keys, so that no envelope serves as a decryption oracle.

ISO 15118-2 seals a contract key with AES-CBC, which has no integrity. An attacker could send the
DH point of a victim's envelope again, with one bit of the envelope changed and a certificate for a
key to match. The vehicle's answer would tell one bit of the victim's key. So a DH point belongs to
one envelope and one certificate, and a contract key to one EMAID. P and -P give the same secret,
so a point is identified by its X coordinate. Hashes of them are stored.

These marks outlive their contract. A mark is forgotten when the certificate has expired and no
later certificate has the same key. The sender chooses the end of its certificate, so a mark is
kept for at least `LEAST`.
"""

from hashlib import sha256

from plugvault.contract.data import ContractData
from plugvault.pki import path
from plugvault.pools import contracts
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Seen
from plugvault.pools.repositories import Records

LEAST = 2 * 365 * 86400  # seconds: the usual longest validity of a contract certificate
POINT_IN_USE = "dHpublickey : was used for another contract or another envelope"
KEY_IN_USE = "contractCertificate : its public key was used for another EMAID"


def seen(data: ContractData, until: int) -> tuple[Seen, Seen]:
    """The marks of the DH point and of the contract key, to be kept until `until` (Unix seconds).
    The checks have validated the form of `data` before."""
    point, key = _marks(data.dh_point, data.certificate)
    envelope = sha256(data.dh_point + data.wrapped + data.certificate).digest()
    owner = sha256(contracts.key(data.emaid).encode()).digest()
    return Seen(point, envelope, key, until), Seen(key, owner, key, until)


def take(records: Records, data: ContractData, now: float) -> None:
    """Record the DH point and the key of contract data, and lock both in this transaction.

    Raises PoolError("conflict") when one of them was used for something else.
    """
    not_after = path.read(data.certificate).not_after
    point, key = seen(data, max(not_after, int(now) + LEAST))
    records.lock(f"seen {point.mark.hex()}", f"seen {key.mark.hex()}")
    stored = _find(records, (point, key))
    records.seen.add([mark for mark in (point, key) if mark.mark not in stored])
    stored_key = stored.get(key.mark)
    if stored_key and stored_key.until < not_after:
        records.seen.extend(key.mark, not_after)


def _find(records: Records, pair: tuple[Seen, Seen]) -> dict[bytes, Seen]:
    stored = {mark.mark: mark for mark in records.seen.known([mark.mark for mark in pair])}
    for mark, refusal in zip(pair, (POINT_IN_USE, KEY_IN_USE), strict=True):
        if mark.mark in stored and stored[mark.mark].holds != mark.holds:
            raise PoolError("conflict", refusal)
    return stored


def _marks(dh_point: bytes, certificate: bytes) -> tuple[bytes, bytes]:
    """The hashes that identify the DH point and the contract's public key, 32 bytes each."""
    points = (b"dh", dh_point), (b"key", path.read(certificate).point)
    first, second = (sha256(kind + point[1:33]).digest() for kind, point in points)
    return first, second
