"""Which token to use, where somebody has one: said once, for every part of the project.

A small file names it, variables of the environment or a command's options do, each before the one
named first here:

    module = "/usr/lib/vendor/libvendor.so"     PLUGVAULT_MODULE           --module
    token = "car 17"                            PLUGVAULT_TOKEN            --token
    serial = "0a1b2c3d"                         PLUGVAULT_SERIAL           --serial
    pin = "file:/run/secrets/pin"               PLUGVAULT_PIN              --pin
    minimum_custody = "L2"                      PLUGVAULT_MINIMUM_CUSTODY  --minimum-custody
    conf = "/etc/softhsm/softhsm2.conf"                                    --conf
    options = "configdir='sql:/srv/nss'"                                   --options
    provisioning = "pkcs11:object=car%2017"                                (an adopted key)

    [role.v2g]                                  # this role's keys are in a token of its own
    module = ...                                # and token, serial, pin, conf, options

The file is what `--config` or PLUGVAULT_CONFIG names. `pin` says where the PIN is [`pin.read`],
never the PIN. `conf`: SoftHSM's configuration, else SOFTHSM2_CONF names it; `options`: what
C_Initialize is given (NSS). No module said is SoftHSM's. `serial`: where two tokens have one
label, or in place of a label. `token` may be a URI [RFC 7512], which says module and PIN file too:
"pkcs11:token=car%2017;serial=0a1b2c3d?module-path=/usr/lib/x.so&pin-source=file:/run/secrets/pin".
One thing said twice in one place is an error; a token named in an earlier place takes nothing of
the name of a later one.

Without a token nothing is chosen, and whoever asks makes a throw-away one of its own. A
`minimum_custody` counts for that one too: what it refuses is what would open contract keys, for
the keys of roles are made where they stay.
"""

import os
import tomllib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from evcc.vault import VaultError, uri
from evcc.vault.adopted import Adopted
from evcc.vault.levels import LEVELS
from evcc.vault.pkcs11 import TokenVault
from plugvault.tokens import pin
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.softhsm import find_module

CONFIG = "PLUGVAULT_CONFIG"
_VARIABLES = {
    "module": "PLUGVAULT_MODULE",
    "token": "PLUGVAULT_TOKEN",
    "serial": "PLUGVAULT_SERIAL",
    "pin": "PLUGVAULT_PIN",
    "minimum_custody": "PLUGVAULT_MINIMUM_CUSTODY",
}
_OF_A_TOKEN = ("module", "token", "serial", "pin", "conf", "options")
_OF_ALL = (*_OF_A_TOKEN, "minimum_custody", "provisioning")


@dataclass(frozen=True)
class TokenConfiguration:
    """A token's location, its PIN, and what is demanded of it."""

    location: TokenLocation
    pin: str = field(repr=False)
    minimum_custody: str = ""
    provisioning: str = ""  # the URI of a key that is adopted

    def open(self) -> TokenVault:
        """The token's vault, in this process. Raises as `TokenLocation.open` does."""
        return self.location.open(self.pin, self.minimum_custody, self.provisioning)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """The configuration that another process sent as JSON, by `dataclasses.asdict`."""
        return cls(**{**fields, "location": TokenLocation.from_json(fields["location"])})


@dataclass(frozen=True)
class Selection:
    """What was said for a car's keys. `vault`: their token, None where none was named."""

    vault: TokenConfiguration | None = None
    minimum_custody: str = ""


NO_SELECTION = Selection()


def choose(
    said: Mapping[str, Any] | None = None,
    file: Path | str | None = None,
    environ: MutableMapping[str, str] = os.environ,
) -> Selection:
    """said: options by the names of the keys above; None is not said. file: in place of
    PLUGVAULT_CONFIG's. The PINs of what was chosen are read now.

    Raises: VaultError("refused" | "pin" | "module-missing"), saying what to change.
    """
    keys = _read(file, environ)
    del keys["role"]
    in_file = keys
    in_environment = {key: environ[name] for key, name in _VARIABLES.items() if environ.get(name)}
    keys = {}
    for source in (in_file, in_environment, said or {}):
        keys |= _named({key: value for key, value in source.items() if value})
    minimum = checked_level(keys.pop("minimum_custody", ""))
    if not keys.get("token"):
        for key in ("pin", "provisioning"):
            if keys.get(key):
                raise VaultError("refused", f"a {key} without its token: say --token LABEL too")
        return Selection(None, minimum)
    return Selection(_configuration(keys, environ, minimum), minimum)


def _named(keys: dict[str, str]) -> dict[str, str]:
    """What one place says, a URI taken to pieces: `token` names the token and no more."""
    name, module, pin_file = uri.split(keys.get("token", ""))
    of_uri = {"module": module, "pin": f"file:{pin_file}" if pin_file else ""}
    twice = [key for key, value in of_uri.items() if value and keys.get(key)]
    if twice:
        raise VaultError("refused", f"{twice[0]} is said twice, in the URI too")
    serial = keys.get("serial", "")
    if name or serial:
        of_uri["token"] = uri.named(name, serial)
    rest = {key: value for key, value in keys.items() if key not in ("token", "serial")}
    return rest | {key: value for key, value in of_uri.items() if value}


def choose_roles(
    file: Path | str | None = None, environ: MutableMapping[str, str] = os.environ
) -> dict[str, TokenConfiguration]:
    """The tokens of an ecosystem's roles, by the role's name. Raises as `choose`."""
    roles = _read(file, environ)["role"]
    return {
        name: _configuration(_named(role), environ, where=f"[role.{name}]")
        for name, role in roles.items()
    }


def checked_level(minimum: str) -> str:
    """A `minimum_custody`, or "". Raises: VaultError("refused")."""
    if minimum and minimum not in LEVELS:
        raise VaultError("refused", f"minimum_custody is one of {', '.join(LEVELS)}")
    return minimum


def _configuration(
    keys: Mapping[str, str], environ: Mapping[str, str], minimum: str = "", where: str = ""
) -> TokenConfiguration:
    label, source = keys.get("token"), keys.get("pin")
    if not label:
        raise VaultError("refused", f"{where} lacks token = LABEL")
    if not source:
        said = f"{where or '--token'} {label}: where is its PIN? --pin, or pin = {pin.WAYS}"
        raise VaultError("refused", said)
    conf = keys.get("conf") or environ.get("SOFTHSM2_CONF")
    location = TokenLocation(
        module=Path(keys.get("module") or find_module()),
        label=label,
        conf=Path(conf) if conf else None,
        options=keys.get("options", ""),
    )
    provisioning = keys.get("provisioning", "")
    if provisioning:
        Adopted(provisioning)  # refuses a name that is none, before the token is asked
    return TokenConfiguration(location, pin.read(source, label), minimum, provisioning)


def _read(named: Path | str | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """The file's keys, and "role" in any case."""
    named = named or environ.get(CONFIG)
    if not named:
        return {"role": {}}
    file = Path(named)
    try:
        with file.open("rb") as opened:
            keys = tomllib.load(opened)
    except OSError as error:
        raise VaultError("refused", f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise VaultError("refused", f"{file} is not TOML: {error}") from error
    _check(file, "", {k: v for k, v in keys.items() if k != "role"}, _OF_ALL)
    roles = keys.get("role", {})
    for name, role in roles.items() if isinstance(roles, dict) else [("NAME", None)]:
        _check(file, f"[role.{name}] ", role, _OF_A_TOKEN)
    return {"role": {}, **keys}


def _check(file: Path, where: str, table: Any, known: tuple[str, ...]) -> None:
    wrong = [""]
    if isinstance(table, dict):
        wrong = [k for k, v in table.items() if k not in known or not isinstance(v, str)]
    if wrong:
        said = f"{file}: {where}{wrong[0]}: texts by the names {', '.join(known)}; [role.NAME]"
        raise VaultError("refused", said)
