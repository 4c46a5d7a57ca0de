"""The table "network" of the configuration: where and how the module finds a station by itself.

    "interface": the network interface to the station, as "eth1"
    "tls": "required" (default); "optional": a station without TLS will do; "none": without TLS
    "ocsp": true to refuse a station without a good OCSP answer (default false)
    "address", "port": of the station, instead of the search by SDP
    "trace": a file for `evcc.ports.trace`, for tests alone

A computer's: no board's list has this file.
"""

from evcc import config

REQUIRED, OPTIONAL, NONE = "required", "optional", "none"  # values of "tls"
_NETWORK = {
    "interface": (str, True),
    "tls": (str, False),
    "ocsp": (bool, False),
    "address": (str, False),
    "port": (int, False),
    "trace": (str, False),
}
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_NAME = _LETTERS + _LETTERS.upper() + "0123456789-_.@:"
_ADDRESS = "0123456789abcdefABCDEF:."


def check(table: dict) -> None:
    """Check the table's keys and values. Raises: ConfigError."""
    config.check("network: ", table, _NETWORK)
    name = table["interface"]
    if not 0 < len(name) < 16 or not all(letter in _NAME for letter in name):
        raise config.ConfigError("config", "network: interface is 1 to 15 letters of a name")
    if table.get("tls", REQUIRED) not in (REQUIRED, OPTIONAL, NONE):
        raise config.ConfigError("config", "network: tls is required, optional or none")
    if table.get("ocsp") and table.get("tls", REQUIRED) != REQUIRED:
        raise config.ConfigError("config", "network: ocsp needs tls: required")
    if ("address" in table) != ("port" in table):
        raise config.ConfigError("config", "network: address and port, or neither")
    if "address" in table:
        address = table["address"]
        if ":" not in address or not all(letter in _ADDRESS for letter in address):
            raise config.ConfigError("config", "network: address is IPv6, without a scope")
        if not 0 < table["port"] < 65536:
            raise config.ConfigError("config", "network: port is 1 to 65535")
