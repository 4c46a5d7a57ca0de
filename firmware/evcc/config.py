"""The module's configuration, checked before anything is opened. `main.py` says what a key means.

Strict: a key that nobody knows, a value of another type, or one thing said in two places is an
error. What is ignored would be something that somebody meant.
"""

import json

from . import utf8
from .errors import EvccError

_TEXT, _NUMBER, _TRUTH, _TABLE = str, int, bool, dict
_WORDS = {_TEXT: "a text", _NUMBER: "a number", _TRUTH: "true or false", _TABLE: "an object"}
# Each a table: {key: (type, whether it must be there)}.
_WHOLE = {
    "link": (_TABLE, True),
    "vault": (_TABLE, True),
    "store": (_TEXT, True),
    "maker": (_TEXT, True),
    "legacy_emaid": (_TRUTH, False),
}
_LINKS = {
    "tty": {"path": (_TEXT, True), "baud": (_NUMBER, False)},
    "uart": {
        "number": (_NUMBER, True),
        "baud": (_NUMBER, False),
        "tx": (_NUMBER, False),
        "rx": (_NUMBER, False),
    },
    "tcp": {"host": (_TEXT, True), "port": (_NUMBER, True)},
}
_SHARED = {"name": (_TEXT, False), "key_file": (_TEXT, False)}
_VAULTS = {
    "pkcs11": {
        "module": (_TEXT, False),
        "token": (_TEXT, False),
        "serial": (_TEXT, False),
        "pin_file": (_TEXT, False),
        "options": (_TEXT, False),
        "minimum_custody": (_TEXT, False),
        "provisioning": (_TEXT, False),
    },
    "service": {
        "socket": (_TEXT, False),
        "host": (_TEXT, False),
        "port": (_NUMBER, False),
        "name": (_TEXT, False),
        "key_file": (_TEXT, False),
    },
    "link": _SHARED,
}
_WHERE = {True: ((False, False),), False: ((True, True),)}  # by "socket": "host" and "port"
_POINT = 65


class ConfigError(EvccError):
    """What is wrong with the configuration, for a person."""

    REASONS = ("config",)


def parse(data: bytes) -> dict:
    """The configuration in a file's bytes; "maker" is bytes. Raises: ConfigError."""
    try:
        said = json.loads(utf8.decode(data))
    except UnicodeError:
        raise ConfigError("config", "it is not UTF-8")
    except ValueError as error:
        raise ConfigError("config", "it is not JSON: " + str(error))
    return checked(said)


def checked(said) -> dict:
    """The same with "maker" as bytes. Raises: ConfigError."""
    if type(said) is not dict:
        raise ConfigError("config", "it is not an object")
    _check("", said, _WHOLE)
    _check_kind("link", said["link"], _LINKS)
    _check_kind("vault", said["vault"], _VAULTS)
    _check_vault(said["vault"])
    maker = unhex(said["maker"], _POINT)
    if maker is None or maker[0] != 4:
        raise ConfigError("config", "maker: 65 bytes as hexadecimal digits, 04 first")
    found = dict(said)
    found["maker"] = maker
    return found


def unhex(text: str, length: int) -> "bytes | None":
    """The bytes of exactly 2 * length hexadecimal digits and nothing between them, or None."""
    if len(text) != 2 * length or [c for c in text if c not in "0123456789abcdefABCDEF"]:
        return None
    return bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])


def token(vault: dict) -> tuple:
    """(module, token's name, PIN file) of a "vault" of kind "pkcs11", wherever each is said.

    Raises: ConfigError.
    """
    from .vault import VaultError, uri

    try:
        name, module, pin_file = uri.split(vault.get("token", ""))
        name = uri.named(name, vault.get("serial", ""))
    except VaultError as error:
        raise ConfigError("config", "vault: token: " + error.detail)
    found = []
    for key, of_uri in (("module", module), ("pin_file", pin_file)):
        own = vault.get(key, "")
        if own and of_uri:
            raise ConfigError("config", "vault: %s is said twice, in the URI too" % key)
        if not (own or of_uri):
            raise ConfigError("config", "vault: %s is missing" % key)
        found.append(own or of_uri)
    return found[0], name, found[1]


def _check_kind(where: str, table: dict, kinds: dict) -> None:
    kind = table.get("kind")
    if type(kind) is not str or kind not in kinds:
        raise ConfigError("config", "%s: kind is one of %s" % (where, ", ".join(sorted(kinds))))
    known = dict(kinds[kind])
    known["kind"] = (_TEXT, True)
    _check(where + ": ", table, known)


def _check(where: str, table: dict, known: dict) -> None:
    for key, value in table.items():
        if key not in known:
            raise ConfigError("config", "%s%s: nobody knows this key" % (where, key))
        # Exactly: True is a number too, to Python.
        if type(value) is not known[key][0]:
            raise ConfigError("config", "%s%s is %s" % (where, key, _WORDS[known[key][0]]))
    for key, (_, is_needed) in known.items():
        if is_needed and key not in table:
            raise ConfigError("config", "%s%s is missing" % (where, key))


def _check_vault(vault: dict) -> None:
    if vault["kind"] == "pkcs11":
        token(vault)
    remote = "host" in vault, "port" in vault
    if vault["kind"] == "service" and remote not in _WHERE["socket" in vault]:
        raise ConfigError("config", "vault: either socket, or host and port")
    if ("name" in vault) != ("key_file" in vault):
        raise ConfigError("config", "vault: name and key_file, or neither")
