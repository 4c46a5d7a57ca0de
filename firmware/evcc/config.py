"""The module's configuration, checked before anything is opened. `main.py` explains the keys.

Strict: an unknown key, a value of another type, or a setting in two places is an error. An ignored
setting would be a mistake that stays unseen.
"""

import json

from . import utf8
from .errors import EvccError

_TEXT, _NUMBER, _TRUTH, _TABLE = str, int, bool, dict
_WORDS = {_TEXT: "a text", _NUMBER: "a number", _TRUTH: "true or false", _TABLE: "an object"}
# Each a table: {key: (type, whether it is required)}.
_SETTINGS = {
    "link": (_TABLE, True),
    "vault": (_TABLE, True),
    "store": (_TEXT, True),
    "maker": (_TEXT, True),
    "legacy_emaid": (_TRUTH, False),
    "insecure_contract": (_TRUTH, False),
    "renew_days": (_NUMBER, False),
    "watchdog": (_NUMBER, False),
    "network": (_TABLE, False),
}
_LINKS = {
    "tty": {"path": (_TEXT, True), "baud": (_NUMBER, False)},
    "uart": {
        "number": (_NUMBER, True),
        "baud": (_NUMBER, False),
        "tx": (_NUMBER, False),
        "rx": (_NUMBER, False),
    },
    "tcp": {
        "host": (_TEXT, True),
        "port": (_NUMBER, True),
        "ssid": (_TEXT, False),
        "password_file": (_TEXT, False),
    },
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
_POINT = 65


class ConfigError(EvccError):
    """A mistake in the configuration; `detail` names the key."""

    REASONS = ("config",)


def parse(data: bytes) -> dict:
    """The configuration in a file's bytes (JSON in UTF-8), as `checked` returns it.

    Raises: ConfigError.
    """
    try:
        settings = json.loads(utf8.decode(data))
    except UnicodeError:
        raise ConfigError("config", "it is not UTF-8")
    except ValueError as error:
        raise ConfigError("config", "it is not JSON: " + str(error))
    return checked(settings)


def checked(settings) -> dict:
    """A copy of the settings after all checks, with "maker" as 65 bytes. Raises: ConfigError."""
    if type(settings) is not dict:
        raise ConfigError("config", "it is not an object")
    check("", settings, _SETTINGS)
    _check_link(settings["link"])
    _check_kind("vault", settings["vault"], _VAULTS)
    _check_vault(settings["vault"])
    if "network" in settings:
        try:
            from .network import settings as network_settings
        except ImportError:
            raise ConfigError("config", "network: a board has none")
        network_settings.check(settings["network"])
    maker = unhex(settings["maker"], _POINT)
    if maker is None or maker[0] != 4:
        raise ConfigError("config", "maker: 65 bytes as hexadecimal digits, 04 first")
    result = dict(settings)
    result["maker"] = maker
    return result


def link(data: bytes) -> "dict | None":
    """The "link" of a configuration whose other keys may be wrong; None: "link" is wrong too."""
    try:
        table = json.loads(utf8.decode(data))["link"]
        _check_link(table)
    except (ConfigError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return table


def unhex(text: str, length: int) -> "bytes | None":
    """The bytes of exactly 2 * length hexadecimal digits without separators, or None."""
    if len(text) != 2 * length or [c for c in text if c not in "0123456789abcdefABCDEF"]:
        return None
    return bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])


def token(vault: dict) -> tuple:
    """(module, token's name, PIN file) of a "vault" of kind "pkcs11", from its keys or its URI.

    Raises: ConfigError.
    """
    from .vault import VaultError, uri

    try:
        name, module, pin_file = uri.split(vault.get("token", ""))
        name = uri.named(name, vault.get("serial", ""))
    except VaultError as error:
        raise ConfigError("config", "vault: token: " + error.detail)
    paths = []
    for key, of_uri in (("module", module), ("pin_file", pin_file)):
        own = vault.get(key, "")
        if own and of_uri:
            raise ConfigError("config", "vault: %s is said twice, in the URI too" % key)
        if not (own or of_uri):
            raise ConfigError("config", "vault: %s is missing" % key)
        paths.append(own or of_uri)
    return paths[0], name, paths[1]


def _check_link(table: dict) -> None:
    _check_kind("link", table, _LINKS)
    if ("ssid" in table) != ("password_file" in table):
        raise ConfigError("config", "link: ssid and password_file, or neither")


def _check_kind(where: str, table: dict, kinds: dict) -> None:
    kind = table.get("kind")
    if type(kind) is not str or kind not in kinds:
        raise ConfigError("config", "%s: kind is one of %s" % (where, ", ".join(sorted(kinds))))
    schema = dict(kinds[kind])
    schema["kind"] = (_TEXT, True)
    check(where + ": ", table, schema)


def check(where: str, table: dict, schema: dict) -> None:
    """Check a table's keys and types.

    where: the beginning of an error's text, the table's name and ": ". schema: {key: (type,
    whether it is required)}. Raises: ConfigError.
    """
    for key, value in table.items():
        if key not in schema:
            raise ConfigError("config", "%s%s: unknown key" % (where, key))
        # The exact type: True is also an int in Python.
        if type(value) is not schema[key][0]:
            raise ConfigError("config", "%s%s is %s" % (where, key, _WORDS[schema[key][0]]))
    for key, (_, is_required) in schema.items():
        if is_required and key not in table:
            raise ConfigError("config", "%s%s is missing" % (where, key))


def _check_vault(vault: dict) -> None:
    if vault["kind"] == "pkcs11":
        token(vault)
    if vault["kind"] == "service":
        is_remote = "socket" not in vault
        if [key in vault for key in ("host", "port")] != [is_remote, is_remote]:
            raise ConfigError("config", "vault: either socket, or host and port")
    if ("name" in vault) != ("key_file" in vault):
        raise ConfigError("config", "vault: name and key_file, or neither")
