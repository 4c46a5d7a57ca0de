"""Look at a token from a process of its own: a damaged one can make its library end the process.

    python -m plugvault.tokens.probe

Reads one line of JSON from stdin, {"do": a name of `DO`, and its arguments}, PINs among them;
prints what it found as JSON, or {"reason", "detail"}. `ask` is the other end.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evcc.errors import EvccError
from evcc.vault import PROVISIONING, VaultError

_PATIENCE = 120.0  # seconds; a card takes its time to make a key


def ask(do: str, **arguments: Any) -> Any:
    """What the function of `DO` by this name returns. Raises VaultError as it does."""
    orders = json.dumps({"do": do, **arguments}, default=str)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "plugvault.tokens.probe"],
            input=orders.encode(),
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise VaultError("unavailable", f"no answer within {_PATIENCE:.0f} s") from None
    try:
        said = json.loads(done.stdout)
    except ValueError:
        why = "a damaged file does that, or two copies of one token in SoftHSM's folder"
        detail = f"its library ended with {done.returncode}: {why}"
        said = {"reason": "unavailable", "detail": detail}
    if isinstance(said, dict) and "reason" in said:
        reason, detail = said["reason"], said["detail"]
        if reason not in VaultError.REASONS:  # of the car's store, or its certificate
            reason, detail = "refused", f"{reason}: {detail}"
        raise VaultError(reason, detail)
    return said


def tokens(module: str, conf: str | None, options: str) -> list[dict[str, Any]]:
    """Every token of the library, whether anybody has its PIN or not."""
    from plugvault.cryptoki.token import Hsm

    with Hsm(module, conf, options) as hsm:
        return [
            {
                "module": module,
                "slot": token.slot.slot_id,
                "label": token.label,
                "serial": token.serial.decode(errors="replace").strip(),
                "manufacturer": token.manufacturer_id.strip(),
                "model": token.model.strip(),
                "flags": int(token.flags),
            }
            for token in hsm.tokens()
        ]


def report(pin: str, **place: Any) -> dict[str, Any]:
    from plugvault.tokens import selftest
    from plugvault.tokens.selection import place_of

    return selftest.report(place_of(place), pin)


def keys(pin: str, provisioning: str = "", **place: Any) -> list[dict[str, str]]:
    """Every car's keys in a token. A key of which half is missing has no custody."""
    from evcc.vault.pkcs11 import for_owner, owners, with_adopted_key
    from plugvault.tokens.selection import place_of

    def row(name: str, owner: bytes, one: Any, key: bytes, point: bytes) -> dict[str, str]:
        level = one.custody(key) if point else ""
        return {"key": name, "custody": level, "owner": owner.hex(), "point": bytes(point).hex()}

    vault, found = place_of(place).open(pin), []
    try:
        if provisioning:
            one = with_adopted_key(vault, provisioning)
            found = [row("adopted", b"", one, PROVISIONING, one.public(PROVISIONING))]
        for owner in sorted({b"", *owners(vault)}):
            one = for_owner(vault, owner)
            held = one.keys()
            found += [row(_name(key), owner, one, key, point) for key, point in held]
    finally:
        vault.close()
    return found


def unlock(pin: str, state: str | None, owner: str | None, **place: Any) -> list[dict[str, Any]]:
    """Lift the lock of an owner's envelopes, or of all: [{"owner", "mismatches"}], those that were
    counted before. Raises VaultError("not-found") where there is no such record."""
    from plugvault.tokens.selection import place_of
    from plugvault.vault_service.envelopes import records_of

    where = place_of(place)
    vault = where.open(pin)
    try:
        records = records_of(vault, where.module, where.conf, where.options, state)
        owners = [one.hex() for one in records.owners()]
        if owner is not None and owner not in owners:
            raise VaultError("not-found", f"{records.folder} has no record of {owner or 'nobody'}")
        return [
            {"owner": one, "mismatches": records.of(bytes.fromhex(one)).unlock()}
            for one in (owners if owner is None else [owner])
        ]
    finally:
        vault.close()


def _name(key: bytes) -> str:
    if key == PROVISIONING:
        return "provisioning"
    return f"contract {key.hex()}" if key else "damaged, without a name"


def empty(pin: str, **place: Any) -> int:
    """Destroy every car's keys in a token; how many there were."""
    from evcc.vault.pkcs11 import for_owner, owners
    from plugvault.tokens.selection import place_of

    vault, count = place_of(place).open(pin), 0
    try:
        for owner in {b"", *owners(vault)}:
            own = for_owner(vault, owner)
            held = own.keys()
            for key, _ in held:
                own.delete(key)
                count += 1
        return count
    finally:
        vault.close()


def adopt(
    pin: str,
    what: str,
    minimum_custody: str,
    certificate: str | None,
    store: str | None,
    **place: Any,
) -> dict[str, str]:
    from plugvault.tokens import adoption
    from plugvault.tokens.selection import place_of

    vault = place_of(place).open(pin, minimum_custody)
    try:
        files = [Path(one) if one else None for one in (certificate, store)]
        return adoption.adopt(vault, what, *files)
    finally:
        vault.close()


DO: dict[str, Callable[..., Any]] = {
    "tokens": tokens,
    "report": report,
    "keys": keys,
    "empty": empty,
    "adopt": adopt,
    "unlock": unlock,
}


def main() -> int:
    said = json.loads(sys.stdin.buffer.readline())
    try:
        found = DO[said.pop("do")](**said)
    except EvccError as error:
        found = {"reason": error.reason, "detail": error.detail}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
