"""Operations on a token for commands and tests. Each is run by `subprocess_probe.run`."""

from contextlib import closing
from pathlib import Path
from typing import Any

from evcc.vault import PROVISIONING
from evcc.vault.pkcs11 import TokenVault, for_owner, owners, with_adopted_key
from plugvault.cryptoki.hsm import Hsm
from plugvault.tokens import adoption, selftest
from plugvault.tokens.location import TokenLocation


def list_tokens(module: str, conf: str | None, options: str) -> list[dict[str, Any]]:
    """Every token of the library. No PIN is needed."""
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


def report(location: TokenLocation, pin: str) -> dict[str, Any]:
    """The custody that the token gives; see `selftest.report`."""
    return selftest.report(location, pin)


def list_keys(location: TokenLocation, pin: str, provisioning: str = "") -> list[dict[str, str]]:
    """The keys of every car in a token; an incomplete key has no custody.

    provisioning: the URI of an adopted key, or "". Raises as `TokenLocation.open`.
    """
    with closing(location.open(pin)) as vault:
        rows = []
        if provisioning:
            adopted = with_adopted_key(vault, provisioning)
            point = adopted.public(PROVISIONING)
            rows.append(_row("adopted", adopted, b"", PROVISIONING, point))
        for owner in sorted({b"", *owners(vault)}):
            own = for_owner(vault, owner)
            keys = own.keys()
            rows += [_row(_name(key), own, owner, key, point) for key, point in keys]
        return rows


def _row(name: str, vault: TokenVault, owner: bytes, key: bytes, point: bytes) -> dict[str, str]:
    custody = vault.custody(key) if point else ""
    return {"key": name, "custody": custody, "owner": owner.hex(), "point": bytes(point).hex()}


def _name(key: bytes) -> str:
    if key == PROVISIONING:
        return "provisioning"
    return f"contract {key.hex()}" if key else "damaged, without a name"


def destroy_keys(location: TokenLocation, pin: str, of: list[str] | None = None) -> int:
    """Destroy the keys of every car in a token, or of these owners, in hexadecimal digits. Returns
    their number. Raises as `TokenLocation.open`."""
    count = 0
    with closing(location.open(pin)) as vault:
        chosen = {b"", *owners(vault)} if of is None else set(map(bytes.fromhex, of))
        for owner in chosen:
            own = for_owner(vault, owner)
            keys = own.keys()
            for key, _ in keys:
                own.delete(key)
                count += 1
    return count


def adopt(
    location: TokenLocation,
    pin: str,
    key: str,
    minimum_custody: str = "",
    certificate: str | None = None,
    store: str | None = None,
) -> dict[str, str]:
    """Adopt a key pair of the token; see `adoption.adopt`. certificate, store: paths."""
    chain, folder = (Path(path) if path else None for path in (certificate, store))
    with closing(location.open(pin, minimum_custody)) as vault:
        return adoption.adopt(vault, key, chain, folder)
