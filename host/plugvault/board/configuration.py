"""config.json of a board: its link, its vault on this computer, its store, its maker.

`evcc.ports.pins` says where each kind of board has a UART besides that of its prompt; another
choice is the user's (`--uart`, `--tx`, `--rx`).
"""

import json
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evcc import config
from evcc.ports import pins
from plugvault.board.errors import DeviceError
from plugvault.board.facts import Facts

FILE, KEY_FILE, STORE = "config.json", "vault-key", "store"  # in the root of the board's files
BAUD = 115200


@dataclass(frozen=True)
class BoardUart:
    """A UART of the board. number: of the port; tx, rx: its pins, None for the port's own; baud:
    bits a second."""

    number: int
    tx: int | None = None
    rx: int | None = None
    baud: int = BAUD

    def as_config(self) -> dict[str, Any]:
        """The member "link" of config.json."""
        pins = {"tx": self.tx, "rx": self.rx}
        return {
            "kind": "uart",
            "number": self.number,
            "baud": self.baud,
            **{name: pin for name, pin in pins.items() if pin is not None},
        }


def default_link(facts: Facts) -> BoardUart | None:
    """The UART for the link on this kind of board; None for an unknown kind."""
    link = pins.of_board(facts.platform, facts.machine)
    return None if link is None else BoardUart(*link[:3])


def make(link: BoardUart, name: str, maker: bytes, root: str = "/", store: str = STORE) -> bytes:
    """The bytes of config.json. name: of the board at its vault service; maker: 65 bytes; root:
    of the board's files, see `Repl.root`; store: a folder in it.

    Raises: DeviceError("config").
    """
    settings = {
        "link": link.as_config(),
        "vault": {"kind": "link", "name": name, "key_file": root + KEY_FILE},
        "store": root + store,
        "maker": maker.hex(),
    }
    return checked(json.dumps(settings, indent=1).encode())


def of_file(path: Path) -> bytes:
    """The bytes of a configuration that the user wrote. Raises: DeviceError("config")."""
    try:
        return checked(path.read_bytes())
    except OSError as error:
        raise DeviceError("config", f"{path}: {error.strerror}") from error


def completed(data: bytes, name: str, root: str) -> bytes:
    """A configuration of the user's for one board: with the name and the key file that `flash`
    gives to the board's vault, where it says neither. The name is the chip's number, which the
    user does not know before.

    name, root: see `make`. Raises: DeviceError("config") for others, with which the vault would
    not answer, and for a store that is not among the board's files.
    """
    settings = json.loads(data)
    vault, store = settings["vault"], settings["store"]
    if not posixpath.join(root, store).startswith(root):
        raise DeviceError("config", f"store: the board's files are in {root}, and {store} is not")
    if vault["kind"] != "link":
        return data
    key_file = root + KEY_FILE
    if "name" not in vault:
        settings["vault"] = {**vault, "name": name, "key_file": key_file}
        return checked(json.dumps(settings, indent=1).encode())
    if (vault["name"], posixpath.join(root, vault["key_file"])) != (name, key_file):
        raise DeviceError(
            "config",
            f"vault: name and key_file are {name} and {key_file} on this board: leave both out",
        )
    return data


def checked(data: bytes) -> bytes:
    """The same bytes, after the module's own checks. Raises: DeviceError("config")."""
    settings = read(data)
    if settings["link"]["kind"] != "uart":
        raise DeviceError("config", "a board's link is of kind uart")
    return data


def read(data: bytes) -> dict[str, Any]:
    """The settings in the bytes of config.json. Raises: DeviceError("config")."""
    try:
        settings: dict[str, Any] = config.parse(data)
    except config.ConfigError as error:
        raise DeviceError("config", error.detail) from error
    return settings


def maker_key(text: str) -> bytes:
    """The maker's telematics key, 65 bytes, from its 130 hexadecimal digits. Raises:
    DeviceError("config")."""
    point = config.unhex(text, 65)
    if point is None or point[0] != 4:
        raise DeviceError("config", "--maker takes 65 bytes as hexadecimal digits, 04 first")
    return point
