"""Look at a token from a process of its own: a damaged one can make its library end the process.

    python -m plugvault.hsm.apart

Reads one line of JSON from stdin, {"do": a name of `DO`, and its arguments}, PINs among them;
prints what it found as JSON, or {"reason", "detail"}. `ask` is the other end.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from evcc.vault import PROVISIONING, VaultError

_PATIENCE = 120.0  # seconds; a card takes its time to make a key


def ask(do: str, **arguments: Any) -> Any:
    """What the function of `DO` by this name returns. Raises VaultError as it does."""
    orders = json.dumps({"do": do, **arguments}, default=str)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "plugvault.hsm.apart"],
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
        raise VaultError(said["reason"], said["detail"])
    return said


def tokens(module: str, conf: str | None, options: str) -> list[dict[str, Any]]:
    """Every token of the library, whether anybody has its PIN or not."""
    from plugvault.hsm.token import Hsm

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
    from plugvault.hsm import selftest
    from plugvault.hsm.selection import place_of

    return selftest.report(place_of(place), pin)


def keys(pin: str, provisioning: str = "", **place: Any) -> list[dict[str, str]]:
    """Every car's keys in a token. A key of which half is missing has no custody."""
    from evcc.vault.pkcs11 import of, owners
    from plugvault.hsm.selection import place_of

    vault = place_of(place).open(pin, provisioning=provisioning)
    try:
        # An adopted key is nobody's until a car claims it.
        owned = {owner: of(vault, owner) if owner else vault for owner in [b"", *owners(vault)]}
        return [
            {
                "key": _name(key),
                "custody": one.custody(key) if point else "",
                "owner": owner.hex(),
                "point": bytes(point).hex(),
            }
            for owner, one in owned.items()
            for key, point in one.keys()
            if not (owner and provisioning and key == PROVISIONING)
        ]
    finally:
        vault.close()


def _name(key: bytes) -> str:
    if key == PROVISIONING:
        return "provisioning"
    return f"contract {key.hex()}" if key else "damaged, without a name"


def empty(pin: str, **place: Any) -> int:
    """Destroy every car's keys in a token; how many there were."""
    from evcc.vault.pkcs11 import of, owners
    from plugvault.hsm.selection import place_of

    vault, count = place_of(place).open(pin), 0
    try:
        for owner in {b"", *owners(vault)}:
            own = of(vault, owner)
            for key, _ in own.keys():
                own.delete(key)
                count += 1
        return count
    finally:
        vault.close()


DO: dict[str, Callable[..., Any]] = {
    "tokens": tokens,
    "report": report,
    "keys": keys,
    "empty": empty,
}


def main() -> int:
    said = json.loads(sys.stdin.buffer.readline())
    try:
        found = DO[said.pop("do")](**said)
    except VaultError as error:
        found = {"reason": error.reason, "detail": error.detail}
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
