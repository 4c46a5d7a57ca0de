"""The vehicle registry: the PCID of a vehicle by its VIN or number plate, against a proof.

OPCP has no such service; in the field a licensing authority or the maker answers. The proof is
the number of the registration document, which only the holder of the vehicle has. A slow digest
of it is stored. Every question and every refusal is recorded in the audit trail, without the
proof. There is no listing. An unknown vehicle and a wrong proof get the same refusal. After
`TRIES` wrong proofs, under any of a vehicle's names, the caller cannot ask for that vehicle for
`LOCKED` seconds.
"""

import hashlib
import hmac
import re
from collections.abc import Callable

from plugvault.pools import audit, authorization
from plugvault.pools.caller import Caller, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import FailedAttemptCount, RegisteredVehicle
from plugvault.pools.repositories import Records, Store

TRIES = 3  # wrong proofs in a row
LOCKED = 900  # seconds
VIN_PATTERN = "^[A-HJ-NPR-Za-hj-npr-z0-9]{17}$"  # ISO 3779: no I, O, Q
REFUSED = "No vehicle with this identification and registration document number."
TOO_MANY = f"Too many wrong proofs for this vehicle; ask again in {LOCKED // 60} minutes."


def register(
    store: Store, caller: Caller, vin: str, plate: str | None, pcid: str, document: str
) -> RegisteredVehicle:
    """Enter a maker's vehicle, or replace its entry. `document`: the number of the registration
    document.

    The VIN and the PCID begin with the maker's WMI. Raises PoolError: "forbidden" for another
    maker's; "invalid" for a malformed value, and for a plate or PCID of another vehicle.
    """
    vin, pcid = read_vin(vin), read_pcid(pcid).upper()
    for identifier in (vin, pcid):
        authorization.check(caller, "registry.write", pcid=identifier)
    plate = read_plate(plate) if plate is not None else None
    digest = _digest(vin, read_document(document))  # slow, so before the write transaction
    vehicle = RegisteredVehicle(vin, plate, pcid, digest)
    with store.write() as records:
        for field, other in (
            ("plate", records.registry.by_plate(plate) if plate else None),
            ("pcid", records.registry.by_pcid(pcid)),
        ):
            if other and other.vin != vin:
                raise PoolError("invalid", f"{field} : belongs to another vehicle")
        records.registry.put(vehicle)
    return vehicle


def prove(
    store: Store, caller: Caller, kind: str, text: str, document: str, now: float
) -> RegisteredVehicle:
    """The vehicle, for a caller with the number of its registration document.

    `kind`: "pcid", "vin" or "plate"; `text`: the identifier of that kind. Raises PoolError:
    "invalid" for a malformed identifier or document number; "forbidden" for a wrong proof, after
    the attempt was counted.
    """
    name, document = READ[kind](text), read_document(document)
    subject = f"{kind} {name}"
    with store.read() as records:
        vehicle = _find(records, kind, name)
        is_locked = _failures(records, caller, subject, now) >= TRIES
    # Before the transaction. An unknown vehicle takes as long, so that the time reveals nothing.
    digest = b"" if is_locked else _digest(vehicle.vin if vehicle else "", document)
    with store.write() as records:
        result = _judge(records, caller, kind, name, digest, now)
    if isinstance(result, PoolError):  # raised here, so that the transaction counts the attempt
        raise result
    return result


def _judge(
    records: Records, caller: Caller, kind: str, name: str, digest: bytes, now: float
) -> RegisteredVehicle | PoolError:
    subject = f"{kind} {name}"
    records.lock(f"guesses {caller.client_id}")  # so that parallel attempts all count
    failures = _failures(records, caller, subject, now)

    def refuse(message: str, detail: str) -> PoolError:
        audit.note(records, caller.signature, "vehicle lookup refused", subject, detail, now)
        return PoolError("forbidden", message)

    if failures >= TRIES:  # even with the right proof
        return refuse(TOO_MANY, "locked")
    vehicle = _find(records, kind, name)
    expected_digest = vehicle.document_digest if vehicle else bytes(32)
    # A vehicle has several names, and the attempts under all of them count together. They get the
    # refusal of an unknown vehicle, because another one would reveal two names of one vehicle.
    subjects = [subject, f"vehicle {vehicle.vin}"] if vehicle else [subject]
    is_locked = _failures(records, caller, subjects[-1], now) >= TRIES
    if not hmac.compare_digest(digest, expected_digest) or vehicle is None or is_locked:
        for counted in subjects[:1] if is_locked else subjects:
            wrong = _failures(records, caller, counted, now) + 1
            records.failed_attempts.put(
                FailedAttemptCount(caller.client_id, counted, wrong, int(now))
            )
        return refuse(REFUSED, f"wrong proof or unknown, {failures + 1} in a row")
    for counted in subjects:
        records.failed_attempts.delete(caller.client_id, counted)
    audit.note(records, caller.signature, "vehicle looked up", subject, "", now)
    return vehicle


def forget(records: Records, now: float, limit: int) -> int:
    """Remove counts of wrong proofs that lock no vehicle any more, `limit` at most. Return their
    number."""
    return records.failed_attempts.forget(now - LOCKED, limit)


def _failures(records: Records, caller: Caller, subject: str, now: float) -> int:
    """The number of wrong proofs in a row."""
    count = records.failed_attempts.get(caller.client_id, subject)
    return count.wrong if count and now < count.last + LOCKED else 0


def read_vin(text: str) -> str:
    """A VIN (17 characters, ISO 3779) in upper case. Raises PoolError("invalid")."""
    if not re.fullmatch(VIN_PATTERN, text):
        raise PoolError("invalid", f'vin : must match "{VIN_PATTERN}"')
    return text.upper()


def read_plate(text: str) -> str:
    """A number plate in upper case, without spaces and hyphens, because both are optional. Raises
    PoolError("invalid")."""
    plate = re.sub(r"[\s·-]", "", text).upper()
    if not plate.isalnum() or not 2 <= len(plate) <= 15:
        raise PoolError("invalid", "plate : must have 2 to 15 letters and digits")
    return plate


def read_document(text: str) -> str:
    """The number of a registration document, in upper case and without spaces and hyphens. Raises
    PoolError("invalid")."""
    number = re.sub(r"[\s-]", "", text).upper()
    if not number.isalnum() or not 6 <= len(number) <= 40:
        raise PoolError("invalid", "registrationDocument : must have 6 to 40 letters and digits")
    return number


READ: dict[str, Callable[[str], str]] = {
    "pcid": lambda text: read_pcid(text).upper(),
    "vin": read_vin,
    "plate": read_plate,
}


def _find(records: Records, kind: str, name: str) -> RegisteredVehicle | None:
    find = {
        "pcid": records.registry.by_pcid,
        "vin": records.registry.by_vin,
        "plate": records.registry.by_plate,
    }
    return find[kind](name)


def _digest(vin: str, document: str) -> bytes:
    """scrypt of a document number, 32 bytes. The digest is slow and has the VIN as its salt,
    because document numbers are short."""
    return hashlib.scrypt(document.encode(), salt=vin.encode(), n=4096, r=8, p=1, dklen=32)
