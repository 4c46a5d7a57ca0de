"""Start the module: read the configuration, open the ports that it names, run.

    micropython main.py config.json     (Linux; on a board config.json lies beside this file)

The configuration is JSON:

    "link":  {"kind": "tty", "path": ..., "baud": 115200}
             {"kind": "uart", "number": 1, "baud": 115200, "tx": 4, "rx": 5}     (boards)
             {"kind": "tcp", "host": ..., "port": ...}
              "ssid": ..., "password_file": ...      on a board: the Wi-Fi network to join first
    "vault": {"kind": "pkcs11", "module": ..., "token": label, "pin_file": ...,  (needs ffi)
              "serial": where two tokens have one label,
              "options": for NSS, "minimum_custody": refuse a weaker token,
              "provisioning": "pkcs11:object=...;id=...", the car's own key; these may be absent}
             token may be a URI [RFC 7512], and say module and PIN file too:
             "pkcs11:token=...;serial=...?module-path=...&pin-source=file:..."
             {"kind": "service", "socket": path}     or "host": ..., "port": ..., with a key
             {"kind": "link"}                        the bench computer's vault, over the link
              "name": ..., "key_file": ...           for these two: shared with the service
    "store": folder for contracts and trust anchors, for one module at a time
    "maker": the maker's telematics key: 65 bytes, 0x04 | X | Y, as hex
    "legacy_emaid": true to accept the other coding of the signed eMAID (default false)
    "insecure_contract": true to use a contract where the connection is not TLS (default false)
    "renew_days": ask a station for the next contract as many days before the end of this one
    "watchdog": on a board: milliseconds without a turn of the loop after which it is reset
    "network": {"interface": ...}    the module finds a station by itself (Linux only): see
             evcc/network/settings.py

An unknown key, or a value of another type, is an error. A relative path begins in the current
folder: on a board the one with this file. A PIN file and a key file hold one line and have mode
0600.

A module that cannot start reports the reason over the link. A board then tries again, after
`_RETRY_MS`, until its owner holds it back: see `boot.py`.

Exit status: 1 after a failure; 78 (EX_CONFIG) after a failure that a restart would repeat: a wrong
PIN, which the token counts, a token that is too weak, a wrong configuration.
"""

import os
import sys

if "held" not in globals():  # a board has run boot.py, whose globals main.py shares
    from boot import held
from evcc import config, unable
from evcc.errors import EvccError, reason_of, text_of
from evcc.link.line import ChannelStream, Line
from evcc.link.mux import VAULT, Mux
from evcc.module import Module
from evcc.pause import set_pause
from evcc.ports import clock
from evcc.ports.files import make_folder, open_folder
from evcc.ports.stream import PortError

_BAUD = 115200
_FINAL = ("pin", "pin-locked", "custody", "config")
_BOARDS = ("rp2", "esp32", "pyboard")
_RETRY_MS = 10000  # of a board
_TELL_MS = 2000  # elsewhere, at most: for a bench that comes after the module


def main(path: str, lines: list) -> Module:
    """The module, ready to run. path: of the configuration. lines: keeps the line for the next
    attempt.

    Raises: the errors of configuration, ports, stores and vault, after their report on the line.
    """
    is_board = sys.platform in _BOARDS
    try:
        settings = _configuration(path)
        if not lines:
            lines.append(_line(settings))
        return _module(settings, lines[0], is_board)
    except Exception as error:
        if not lines and isinstance(error, config.ConfigError):
            lines.extend(_line_without_settings(path, is_board))
        if lines:
            _tell(lines[0], error, is_board)
        raise


def _line(settings: dict) -> Line:
    link = settings["link"]
    return Line(_LINKS[link["kind"]](link), Mux(_epoch()), clock.ticks_ms)


def _module(settings: dict, line: Line, is_board: bool) -> Module:
    vault = settings["vault"]
    set_clock = None
    if is_board:
        from evcc.ports import board

        set_clock = board.set_clock
        if "watchdog" in settings:
            line.feed = board.watchdog(settings["watchdog"])
    make = _networked if "network" in settings else Module
    module = make(
        line,
        settings["maker"],
        _VAULTS[vault["kind"]](vault, line),
        _store(settings["store"], is_board),
        clock.now,
        settings,
        set_clock,
        vault["kind"],
    )
    if is_board:
        set_pause(module)
    return module


def _store(folder: str, is_board: bool):
    """The car's files, held by one process: two modules would undo each other's writes."""
    if not is_board:
        from evcc.ports import exclusive

        make_folder(folder)
        exclusive.hold_folder(folder)  # `open_folder` removes what another module is writing
    return open_folder(folder)


def _networked(*arguments) -> Module:
    """A module that finds a station by itself: Linux only."""
    from evcc.network import module as networked
    from evcc.ports import network, trace

    module = networked.NetworkedModule(*arguments)
    path = arguments[5]["network"].get("trace")
    module.connect_by(network, trace.Trace(path) if path else None)
    return module


def _line_without_settings(path: str, is_board: bool) -> list:
    """[the line of a wrong configuration], as far as it says one; of a board its first UART."""
    link = config.link(_read(path) or b"")
    if link is None and is_board:
        from evcc.ports import board

        link = board.default_link()
    try:
        return [] if link is None else [_line({"link": link})]
    except EvccError:
        return []


def _tell(line: Line, error: Exception, is_board: bool) -> None:
    try:
        unable.tell(line, error, _RETRY_MS if is_board else _TELL_MS, is_board)
    except EvccError:
        pass  # the line is gone: the first error is the one to report


def _configuration(path: str) -> dict:
    data = _read(path)
    if data is None:
        raise config.ConfigError("config", path + " cannot be read")
    try:
        return config.parse(data)
    except config.ConfigError as e:
        raise config.ConfigError("config", path + ": " + e.detail)


def _read(path: str) -> "bytes | None":
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _epoch() -> int:
    """A number for `Mux` that is new at each start; it need not be secret."""
    return int.from_bytes(os.urandom(4), "big") or 1


# Each port and each vault is imported where it is opened: no board has all of them.


def _open_tcp(link: dict):
    from evcc.ports import tcp

    if "ssid" in link:
        from evcc.ports import board
        from evcc.vault import pin

        board.join(link["ssid"], pin.of_file(link["password_file"], "password"))
    return tcp.connect(link["host"], link["port"])


def _open_tty(link: dict):
    from evcc.ports import serial

    return serial.open_tty(link["path"], link.get("baud", _BAUD))


def _open_uart(link: dict):
    from evcc.ports import board

    pins = {name: link[name] for name in ("tx", "rx") if name in link}
    return board.open_uart(link["number"], link.get("baud", _BAUD), **pins)


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


def _start(path: str) -> int:
    """Run; the exit status. On a board: run again and again."""
    lines: list = []
    while True:
        try:
            module = main(path, lines)
            while True:  # not in a function of its own: the stack of a board is small
                module.step()
        except Exception as e:
            is_board = sys.platform in _BOARDS
            if not is_board and not isinstance(e, EvccError):
                raise
            is_closed = isinstance(e, PortError) and e.reason == "closed"
            if not is_closed:
                sys.stderr.write(text_of(e) + "\n")
            if isinstance(e, PortError):
                lines.clear()
            if not is_board:
                return 0 if is_closed else 78 if reason_of(e) in _FINAL else 1
            clock.sleep_ms(1000)


if __name__ == "__main__" and not held:
    status = _start(sys.argv[1] if len(sys.argv) > 1 else "config.json")
    if status:
        sys.exit(status)
