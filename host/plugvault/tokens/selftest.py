"""What a token can do, found out by doing it with throw-away keys: the report people read."""

from typing import Any

from evcc.vault import VaultError
from evcc.vault.pkcs11 import custody_by_scheme
from evcc.vault.schemes import SCHEMES
from plugvault.tokens.location import TokenLocation


def report(location: TokenLocation, pin: str) -> dict[str, Any]:
    """{"module", "token", "schemes": {"iso2": {"level", "why"}}}.

    level: of `evcc.vault.levels.LEVELS`, "" where no way works; why: what the next level lacks.
    Leaves nothing in the token. Raises as `TokenLocation.open` does.
    """
    vault = location.open(pin)
    try:
        found = custody_by_scheme(vault)
    except VaultError as error:
        found = dict.fromkeys(SCHEMES, ("", f"no keys for a trial: {error}"))
    finally:
        vault.close()
    return {
        "module": str(location.module),
        "token": location.label,
        "schemes": {name: {"level": level, "why": why} for name, (level, why) in found.items()},
    }
