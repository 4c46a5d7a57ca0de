"""The report of a token's custody, by a trial with temporary keys."""

from typing import Any

from evcc.vault import VaultError
from evcc.vault.pkcs11 import custody_by_scheme
from evcc.vault.schemes import SCHEMES
from plugvault.tokens.location import TokenLocation


def report(location: TokenLocation, pin: str) -> dict[str, Any]:
    """{"module", "token", "schemes": {"iso2": {"level", "why"}}}.

    level: of `evcc.vault.levels.LEVELS`, "" where no way works; why: the obstacle to the next
    level. Nothing is left in the token. Raises as `TokenLocation.open`.
    """
    vault = location.open(pin)
    try:
        custody = custody_by_scheme(vault)
    except VaultError as error:
        custody = dict.fromkeys(SCHEMES, ("", f"no keys for a trial: {error}"))
    finally:
        vault.close()
    return {
        "module": str(location.module),
        "token": location.label,
        "schemes": {name: {"level": level, "why": why} for name, (level, why) in custody.items()},
    }
