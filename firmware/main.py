"""Wiring: read the configuration, open the ports it names, run the module.

    micropython main.py config.json     (Linux; on a board config.json lies beside this file)

The configuration is JSON:

    "link":  {"kind": "tty", "path": ..., "baud": 115200}
             {"kind": "uart", "number": 1, "baud": 115200, "tx": 4, "rx": 5}     (boards)
             {"kind": "tcp", "host": ..., "port": ...}
    "vault": {"kind": "pkcs11", "module": ..., "token": label, "pin_file": ...,  (needs ffi)
              "serial": where two tokens have one label,
              "options": for NSS, "minimum_custody": refuse a weaker token,
              "provisioning": "pkcs11:object=...;id=...", a key of one's own; these may be absent}
             token may be a URI [RFC 7512], and say module and PIN file too:
             "pkcs11:token=...;serial=...?module-path=...&pin-source=file:..."
             {"kind": "service", "socket": path}     or "host": ..., "port": ..., with a key
             {"kind": "link"}                        the bench computer's vault, over the link
              "name": ..., "key_file": ...           for these two: what is shared with the service
    "store": folder for contracts and trust anchors
    "maker": the maker's telematics key: 65 bytes, 0x04 | X | Y, as hex
    "legacy_emaid": true to accept the other coding of the signed eMAID (default false)

A key that is not known, or a value of another type, is an error. A PIN file, and a key file, is
one line, its owner's alone (mode 0600).

Ends with 1 after a failure, with 78 (EX_CONFIG) after one that a new start would only repeat: a
wrong PIN, which a token counts, a token that is too weak, or a configuration that is wrong.
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

_FINAL = ("pin", "pin-locked", "custody", "config")


def main(path: str) -> None:
    """Run until the line is gone. Raises: EvccError for what the ports or stores refuse."""
    said = _configuration(path)
    stream = _open_link(said["link"])
    line = Line(stream, Mux(_epoch()), clock.ticks_ms)
    vault = _open_vault(said["vault"], line)
    module = Module(
        line,
        said["maker"],
        vault,
        Files(said["store"]),
        clock.now,
        said.get("legacy_emaid", False),
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


def _open_link(link: dict):
    """Imports only the port it opens: not every board has every one."""
    kind = link["kind"]
    if kind == "tcp":
        from evcc.ports import tcp

        return tcp.connect(link["host"], link["port"])
    from evcc.ports import serial

    baud = link.get("baud", 115200)
    if kind == "tty":
        return serial.open_tty(link["path"], baud)
    pins = {name: link[name] for name in ("tx", "rx") if name in link}
    return serial.open_uart(link["number"], baud, **pins)


def _open_vault(vault: dict, line: Line):
    kind = vault["kind"]
    if kind == "pkcs11":
        return _open_token(vault)
    from evcc.vault import service

    shared = "", b""
    if "key_file" in vault:
        shared = vault["name"], _shared_key(vault["key_file"])
    if kind == "link":
        return service.connect(ChannelStream(line, VAULT), *shared)
    if "host" in vault:
        from evcc.ports import tcp

        return service.connect(lambda: tcp.connect(vault["host"], vault["port"]), *shared)
    from evcc.ports import unix

    return service.connect(lambda: unix.connect(vault["socket"]), *shared)


def _open_token(vault: dict):
    from evcc.vault import VaultError, pin, pkcs11

    module, token, pin_file = config.token(vault)
    more = [vault.get(key, "") for key in ("options", "minimum_custody", "provisioning")]
    try:
        return pkcs11.open(module, token, pin.of_file(pin_file), *more)
    except VaultError as e:
        if e.reason != "refused":
            raise
        raise config.ConfigError("config", e.detail)  # two tokens of one name, a key that is none


def _shared_key(path: str) -> bytes:
    from evcc.vault import pin

    key = config.unhex(pin.of_file(path, "key"), 32)
    if key is None:
        raise config.ConfigError("config", path + " is not 32 bytes as hexadecimal digits")
    return key


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "config.json")
    except EvccError as e:
        if not isinstance(e, PortError) or e.reason != "closed":
            sys.stderr.write(str(e) + "\n")
            sys.exit(78 if e.reason in _FINAL else 1)
