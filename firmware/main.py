"""Start the module: read the configuration, open the ports that it names, run.

    micropython main.py config.json     (Linux; on a board config.json lies beside this file)

The configuration is JSON:

    "link":  {"kind": "tty", "path": ..., "baud": 115200}
             {"kind": "uart", "number": 1, "baud": 115200, "tx": 4, "rx": 5}     (boards)
             {"kind": "tcp", "host": ..., "port": ...}
    "vault": {"kind": "pkcs11", "module": ..., "token": label, "pin_file": ...,  (needs ffi)
              "serial": where two tokens have one label,
              "options": for NSS, "minimum_custody": refuse a weaker token,
              "provisioning": "pkcs11:object=...;id=...", the car's own key; these may be absent}
             token may be a URI [RFC 7512], and say module and PIN file too:
             "pkcs11:token=...;serial=...?module-path=...&pin-source=file:..."
             {"kind": "service", "socket": path}     or "host": ..., "port": ..., with a key
             {"kind": "link"}                        the bench computer's vault, over the link
              "name": ..., "key_file": ...           for these two: shared with the service
    "store": folder for contracts and trust anchors
    "maker": the maker's telematics key: 65 bytes, 0x04 | X | Y, as hex
    "legacy_emaid": true to accept the other coding of the signed eMAID (default false)

An unknown key, or a value of another type, is an error. A PIN file and a key file hold one line
and have mode 0600.

Exit status: 1 after a failure; 78 (EX_CONFIG) after a failure that a restart would repeat: a wrong
PIN, which the token counts, a token that is too weak, a wrong configuration.
"""

import os
import sys

import boot  # noqa: F401 - a board has run it already; elsewhere it is run here
from evcc import config
from evcc.errors import EvccError
from evcc.link.line import ChannelStream, Line
from evcc.link.mux import VAULT, Mux
from evcc.module import Module
from evcc.ports import clock
from evcc.ports.files import Files
from evcc.ports.stream import PortError

_BAUD = 115200
_FINAL = ("pin", "pin-locked", "custody", "config")


def main(path: str) -> None:
    """Run until the line is closed. Raises: EvccError for what the ports or stores refuse."""
    settings = _configuration(path)
    link, vault = settings["link"], settings["vault"]
    line = Line(_LINKS[link["kind"]](link), Mux(_epoch()), clock.ticks_ms)
    module = Module(
        line,
        settings["maker"],
        _VAULTS[vault["kind"]](vault, line),
        Files(settings["store"]),
        clock.now,
        settings.get("legacy_emaid", False),
    )
    module.run()


def _configuration(path: str) -> dict:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as e:
        raise config.ConfigError("config", "%s cannot be read (errno %d)" % (path, e.errno))
    try:
        return config.parse(data)
    except config.ConfigError as e:
        raise config.ConfigError("config", path + ": " + e.detail)


def _epoch() -> int:
    """Not secret, only new."""
    return int.from_bytes(os.urandom(4), "big") or 1


# Each port and each vault is imported where it is opened: no board has all of them.


def _open_tcp(link: dict):
    from evcc.ports import tcp

    return tcp.connect(link["host"], link["port"])


def _open_tty(link: dict):
    from evcc.ports import serial

    return serial.open_tty(link["path"], link.get("baud", _BAUD))


def _open_uart(link: dict):
    from evcc.ports import serial

    pins = {name: link[name] for name in ("tx", "rx") if name in link}
    return serial.open_uart(link["number"], link.get("baud", _BAUD), **pins)


def _open_token(vault: dict, line: Line):
    from evcc.vault import VaultError, pin, pkcs11

    module, token, pin_file = config.token(vault)
    options = [vault.get(key, "") for key in ("options", "minimum_custody", "provisioning")]
    try:
        return pkcs11.open(module, token, pin.of_file(pin_file), *options)
    except VaultError as e:
        if e.reason != "refused":
            raise
        # Two tokens of one name, or a URI that names no key.
        raise config.ConfigError("config", e.detail)


def _connect_service(vault: dict, line: Line):
    from evcc.vault import service

    if "host" in vault:
        from evcc.ports import tcp

        return service.connect(lambda: tcp.connect(vault["host"], vault["port"]), *_secret(vault))
    from evcc.ports import unix

    return service.connect(lambda: unix.connect(vault["socket"]), *_secret(vault))


def _connect_link(vault: dict, line: Line):
    from evcc.vault import service

    return service.connect(ChannelStream(line, VAULT), *_secret(vault))


def _secret(vault: dict) -> tuple:
    """(name, key) that the car shares with a vault service; ("", b"") for none."""
    if "key_file" not in vault:
        return "", b""
    from evcc.vault import pin

    path = vault["key_file"]
    key = config.unhex(pin.of_file(path, "key"), 32)
    if key is None:
        raise config.ConfigError("config", path + " is not 32 bytes as hexadecimal digits")
    return vault["name"], key


# A new kind of vault is a row here, and a row for its keys in `evcc.config`.
_LINKS = {"tcp": _open_tcp, "tty": _open_tty, "uart": _open_uart}
_VAULTS = {"pkcs11": _open_token, "service": _connect_service, "link": _connect_link}


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "config.json")
    except EvccError as e:
        if not isinstance(e, PortError) or e.reason != "closed":
            sys.stderr.write(str(e) + "\n")
            sys.exit(78 if e.reason in _FINAL else 1)
