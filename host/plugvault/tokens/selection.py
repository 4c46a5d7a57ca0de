"""The selection of a token, for every part of the project.

A small file names the token, or environment variables do, or a command's options. Options override
variables, and variables override the file:

    module = "/usr/lib/vendor/libvendor.so"     PLUGVAULT_MODULE           --module
    token = "car 17"                            PLUGVAULT_TOKEN            --token
    serial = "0a1b2c3d"                         PLUGVAULT_SERIAL           --serial
    pin = "file:/run/secrets/pin"               PLUGVAULT_PIN              --pin
    minimum_custody = "L2"                      PLUGVAULT_MINIMUM_CUSTODY  --minimum-custody
    conf = "/etc/softhsm/softhsm2.conf"                                    --conf
    options = "configdir='sql:/srv/nss'"                                   --options
    provisioning = "pkcs11:object=car%2017"                                (an adopted key)

    [role.v2g]                                  # a token for this role's keys
    module = ...                                # and token, serial, pin, conf, options

`--config` or PLUGVAULT_CONFIG names the file. `pin` is the PIN's source [`pin.read`], never the
PIN. `conf`: SoftHSM's configuration; the default is SOFTHSM2_CONF. `options`: the text for
C_Initialize (NSS). The default of `module` is SoftHSM's. `serial`: where two tokens have one
label, or in place of a label. `token` may be a URI [RFC 7512], which can name module and PIN file:
"pkcs11:token=car%2017;serial=0a1b2c3d?module-path=/usr/lib/x.so&pin-source=file:/run/secrets/pin".
A source that has one setting twice is an error. A source that names the token replaces the whole
name of a weaker source.

Without a configured token, commands and tests make a throw-away one. A `minimum_custody` holds for
that one too. It applies to tokens that open contract keys; the keys of roles are made in their
tokens.
"""

import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from evcc.vault import VaultError, uri
from evcc.vault.adopted import Adopted
from evcc.vault.levels import LEVELS
from evcc.vault.pkcs11 import TokenVault
from plugvault import toml_file
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
    """A token's location, its PIN, and the custody that it must give."""

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
    """The token for a car's keys. `vault`: None where none is configured; `minimum_custody`: then
    the one for a temporary token."""

    vault: TokenConfiguration | None = None
    minimum_custody: str = ""


NO_SELECTION = Selection()


def choose(
    options: Mapping[str, Any] | None = None,
    file: Path | str | None = None,
    environ: MutableMapping[str, str] = os.environ,
) -> Selection:
    """Read the selection, and the token's PIN.

    options: a command's, by the names of the keys above; None is not given. file: in place of
    PLUGVAULT_CONFIG's. Raises: VaultError("refused" | "pin" | "module-missing"), with the remedy.
    """
    keys = _read(file, environ)
    del keys["role"]
    in_file = keys
    in_environment = {key: environ[name] for key, name in _VARIABLES.items() if environ.get(name)}
    keys = {}
    for source in (in_file, in_environment, options or {}):
        keys |= _named({key: value for key, value in source.items() if value})
    minimum = checked_level(keys.pop("minimum_custody", ""))
    if not keys.get("token"):
        for key in ("pin", "provisioning"):
            if keys.get(key):
                raise VaultError("refused", f"a {key} without its token: say --token LABEL too")
        return Selection(None, minimum)
    return Selection(_configuration(keys, environ, minimum), minimum)


def _named(keys: dict[str, str]) -> dict[str, str]:
    """The keys of one source, a URI taken apart: `token` is the token's name and no more."""
    name, module, pin_file = uri.split(keys.get("token", ""))
    of_uri = {"module": module, "pin": f"file:{pin_file}" if pin_file else ""}
    double = [key for key, value in of_uri.items() if value and keys.get(key)]
    if double:
        raise VaultError("refused", f"{double[0]} is said twice, in the URI too")
    serial = keys.get("serial", "")
    if name or serial:
        of_uri["token"] = uri.named(name, serial)
    others = {key: value for key, value in keys.items() if key not in ("token", "serial")}
    return others | {key: value for key, value in of_uri.items() if value}


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
    """A valid `minimum_custody`, or "". Raises: VaultError("refused")."""
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
        detail = f"{where or '--token'} {label}: where is its PIN? --pin, or pin = {pin.WAYS}"
        raise VaultError("refused", detail)
    conf = keys.get("conf") or environ.get("SOFTHSM2_CONF")
    location = TokenLocation(
        module=Path(keys.get("module") or find_module()),
        label=label,
        conf=Path(conf) if conf else None,
        options=keys.get("options", ""),
    )
    provisioning = keys.get("provisioning", "")
    if provisioning:
        Adopted(provisioning)  # refuses an invalid name before the token is asked
    return TokenConfiguration(location, pin.read(source, label), minimum, provisioning)


def _read(path: Path | str | None, environ: Mapping[str, str]) -> dict[str, Any]:
    """The file's keys. "role" is always among them."""
    path = path or environ.get(CONFIG)
    if not path:
        return {"role": {}}
    file = Path(path)
    try:
        keys = toml_file.read(file)
    except OSError as error:
        raise VaultError("refused", f"{file}: {error.strerror}") from error
    except toml_file.TomlError as error:
        raise VaultError("refused", f"{file} is not TOML: {error}") from error
    _check(file, "", {k: v for k, v in keys.items() if k != "role"}, _OF_ALL)
    roles = keys.get("role", {})
    for name, role in roles.items() if isinstance(roles, dict) else [("NAME", None)]:
        _check(file, f"[role.{name}] ", role, _OF_A_TOKEN)
    return {"role": {}, **keys}


def _check(file: Path, where: str, table: Any, names: tuple[str, ...]) -> None:
    wrong = [""]
    if isinstance(table, dict):
        wrong = [k for k, v in table.items() if k not in names or not isinstance(v, str)]
    if wrong:
        detail = f"{file}: {where}{wrong[0]}: texts by the names {', '.join(names)}; [role.NAME]"
        raise VaultError("refused", detail)
