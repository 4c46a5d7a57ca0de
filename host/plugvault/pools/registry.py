"""The vehicle registry: who may use a vehicle learns its PCID from the VIN or the number plate.

OPCP has no such service; in the field a licensing authority or the maker answers. The proof is
the number of the registration document, which the holder of the vehicle has and nobody else. Only
a slow digest of it is kept. Every question and every refusal goes into the audit trail, the proof
never. There is no listing, an unknown vehicle and a wrong proof are refused in the same words, and
after a few wrong proofs a caller is locked out of that vehicle for a while.
"""

import hashlib
import hmac
import re
from collections.abc import Callable

from plugvault.pools import audit, authorization
from plugvault.pools.caller import Caller, read_pcid
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Guesses, RegisteredVehicle
from plugvault.pools.repositories import Records, Store

TRIES = 3  # wrong proofs in a row
LOCKED = 900  # seconds
VIN_PATTERN = "^[A-HJ-NPR-Za-hj-npr-z0-9]{17}$"  # ISO 3779: no I, O, Q
REFUSED = "No vehicle with this identification and registration document number."
TOO_MANY = f"Too many wrong proofs for this vehicle; ask again in {LOCKED // 60} minutes."


def register(
    store: Store, caller: Caller, vin: str, plate: str | None, pcid: str, document: str
) -> RegisteredVehicle:
    """Put a maker's own vehicle into the registry, or new values in its place.

    Both the VIN and the PCID begin with the maker's WMI. Raises PoolError.
    """
    vin, pcid = read_vin(vin), read_pcid(pcid).upper()
    for identifier in (vin, pcid):
        authorization.check(caller, "registry.write", pcid=identifier)
    plate = read_plate(plate) if plate is not None else None
    digest = _digest(vin, read_document(document))  # slow: before anybody waits for this writer
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
    """The vehicle, for a caller that has the number of its registration document.

    Raises PoolError: "invalid" for what cannot be an identification or a document number;
    "forbidden" when the proof is wrong, once that has been counted.
    """
    name, document = READ[kind](text), read_document(document)
    subject = f"{kind} {name}"
    with store.read() as records:
        seen = _find(records, kind, name)
        locked = _wrong(records, caller, subject, now) >= TRIES
    # Slow, also for an unknown vehicle, and so done while no writer waits.
    digest = b"" if locked else _digest(seen.vin if seen else "", document)
    with store.write() as records:
        answer = _judged(records, caller, kind, name, digest, now)
    if isinstance(answer, PoolError):  # the transaction that counts it stands
        raise answer
    return answer


def _judged(
    records: Records, caller: Caller, kind: str, name: str, digest: bytes, now: float
) -> RegisteredVehicle | PoolError:
    subject = f"{kind} {name}"
    records.lock(f"guesses {caller.client_id} {subject}")  # guesses at once count too
    wrong = _wrong(records, caller, subject, now)

    def refused(words: str, detail: str) -> PoolError:
        audit.note(records, caller.signature, "vehicle lookup refused", subject, detail, now)
        return PoolError("forbidden", words)

    if wrong >= TRIES:  # whatever the proof is now
        return refused(TOO_MANY, "locked")
    found = _find(records, kind, name)
    expected = found.document_digest if found else bytes(32)
    if not hmac.compare_digest(digest, expected) or found is None:
        records.guesses.put(Guesses(caller.client_id, subject, wrong + 1, int(now)))
        return refused(REFUSED, f"wrong proof or unknown, {wrong + 1} in a row")
    records.guesses.delete(caller.client_id, subject)
    audit.note(records, caller.signature, "vehicle looked up", subject, "", now)
    return found


def _wrong(records: Records, caller: Caller, subject: str, now: float) -> int:
    """How many wrong proofs there were in a row."""
    before = records.guesses.get(caller.client_id, subject)
    return before.wrong if before and now < before.last + LOCKED else 0


def read_vin(text: str) -> str:
    """A VIN in upper case."""
    if not re.fullmatch(VIN_PATTERN, text):
        raise PoolError("invalid", f'vin : must match "{VIN_PATTERN}"')
    return text.upper()


def read_plate(text: str) -> str:
    """A number plate in upper case, without spaces and hyphens, as nobody agrees on them."""
    plate = re.sub(r"[\s·-]", "", text).upper()
    if not plate.isalnum() or not 2 <= len(plate) <= 15:
        raise PoolError("invalid", "plate : must have 2 to 15 letters and digits")
    return plate


def read_document(text: str) -> str:
    """The number of a registration document, in upper case and without spaces and hyphens."""
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
    """32 bytes. Slow, and salted with the vehicle: document numbers are short."""
    return hashlib.scrypt(document.encode(), salt=vin.encode(), n=4096, r=8, p=1, dklen=32)
