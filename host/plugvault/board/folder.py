"""The records of this computer about its boards, in the folder of `--data`.

    …                      an ecosystem, as `plugvault sandbox --data` keeps it: the boards' maker
    boards/UID/board.json  0600: its ports, the key it shares with its vault, its token's PIN
    boards/UID/token/      its SoftHSM token, unless a token is configured (PLUGVAULT_TOKEN …)
    boards/UID/vault/      the vault service's records of envelopes

UID is the number of the board's chip. One command at a time uses a board.
"""

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from plugvault import file_lock, json_file
from plugvault.board.errors import DeviceError
from plugvault.board.facts import Facts
from plugvault.board.ports import SerialPort, named, with_serial_number
from plugvault.ecosystem.folder import write
from plugvault.tokens import providers
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.selection import TokenConfiguration, choose

_FILE = "board.json"
_REMEDY = "Use the plugvault that wrote it, or another --data folder"


def default_folder() -> Path:
    """The folder of the boards without --data and PLUGVAULT_DATA."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share"
    return Path(base) / "plugvault" / "boards"


@dataclass(frozen=True)
class Board:
    """A board that was flashed from this computer.

    prompt, link: devices; serial_number, link_number: of their USB, to find them under another
    name. key: 32 bytes as hex, shared with the vault service. token: the description of a token
    that the user configured, "" for one made here; location, pin: of a token made here. maker: the
    maker's key, hex.
    """

    uid: str
    folder: Path = field(repr=False)
    machine: str = ""
    prompt: str = ""
    serial_number: str = ""
    link: str = ""
    link_number: str = ""
    baud: int = 115200
    maker: str = ""
    pcid: str = ""
    token: str = ""
    location: dict[str, Any] = field(default_factory=dict, repr=False)
    key: str = field(default="", repr=False)
    pin: str = field(default="", repr=False)

    @property
    def data(self) -> Path:
        """The folder of --data."""
        return self.folder.parents[1]

    def save(self, **changes: Any) -> "Board":
        """Store the board with these changes, and return it."""
        board = replace(self, **changes)
        data = {name: value for name, value in asdict(board).items() if name != "folder"}
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self.folder / _FILE, json.dumps(data, indent=1).encode())
        return board

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Let one command at a time use the board. Raises: DeviceError("state")."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            descriptor = file_lock.acquire(self.folder, timeout=0)
        except TimeoutError as error:
            who = file_lock.holder(self.folder)
            raise DeviceError(
                "state", f"another command uses the board {self.uid}{who}: wait for its end"
            ) from error
        try:
            yield
        finally:
            os.close(descriptor)

    def configuration(self) -> TokenConfiguration:
        """The token with the board's keys. Raises: VaultError, DeviceError("state")."""
        chosen = choose().vault
        described = _description(chosen)
        if described != self.token:
            where = self.token or "a token made here"
            raise DeviceError(
                "state", f"the board's keys are in {where}, not in {described or 'one made here'}"
            )
        if chosen is not None:
            return chosen
        location = {"conf": None, "options": "", **self.location}
        return TokenConfiguration(
            TokenLocation.from_json(location), self.pin, choose().minimum_custody
        )

    def ports(self, found: list[SerialPort]) -> "Board":
        """The board with the names that its ports have now."""
        prompt = with_serial_number(self.serial_number, found)
        link = with_serial_number(self.link_number, found)
        return replace(
            self,
            prompt=prompt.device if prompt else self.prompt,
            link=link.device if link else self.link,
        )


def _with(name: str, boards: list[Board]) -> Board | None:
    """The first board with this number or port, which need not be there now."""
    return next((b for b in boards if name in (b.uid, b.prompt, b.link)), None)


def _description(chosen: TokenConfiguration | None) -> str:
    return f"{chosen.location.label} of {chosen.location.module}" if chosen else ""


class Boards:
    """The boards in the folder of `--data`."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._folder = data / "boards"

    def all(self) -> list[Board]:
        """Every board that was flashed from here, by its number. Raises: DeviceError("state")."""
        if self.data.exists() and not self.data.is_dir():
            raise DeviceError("state", f"{self.data} is a file: name a folder")
        if not self._folder.is_dir():
            return []
        folders = sorted(folder for folder in self._folder.iterdir() if (folder / _FILE).exists())
        return [self._read(folder) for folder in folders]

    def get(self, uid: str) -> Board | None:
        """The board with this chip number, None for an unknown one. Raises: DeviceError("state")
        for text that is no chip number, or a damaged file."""
        if not re.fullmatch(r"[0-9a-f]{4,64}", uid):
            raise DeviceError("state", f"{uid!r} is no number of a chip")
        folder = self._folder / uid
        return self._read(folder) if (folder / _FILE).exists() else None

    def find(self, port: str | None, found: list[SerialPort]) -> Board:
        """The board with this prompt, link or number; without a `port` the only board.

        Raises: DeviceError("port" | "state").
        """
        boards = [board.ports(found) for board in self.all()]
        if port is None:
            if len(boards) == 1:
                return boards[0]
            if not boards:
                raise DeviceError(
                    "state",
                    f"no board in {self.data}: `plugvault flash` comes first or, without hardware,"
                    " `plugvault board simulate`",
                )
            names = "; ".join(f"{board.uid} at {board.prompt}" for board in boards)
            raise DeviceError("port", f"several boards: name one as PORT. There are: {names}")
        board = _with(port, boards) or _with(named(port, found).device, boards)
        if board is not None:
            return board
        raise DeviceError(
            "state", f"{port} is no board of {self.data}: `plugvault flash {port}` comes first"
        )

    def prompt_of(self, uid: str, found: list[SerialPort]) -> str | None:
        """The prompt of the board with this chip number; None for text that is no such number.
        Raises: DeviceError("state")."""
        return next((b.ports(found).prompt for b in self.all() if b.uid == uid), None)

    def make(self, facts: Facts) -> Board:
        """The stored board of these facts; a new one gets a token and a key.

        Raises: VaultError, DeviceError("state").
        """
        known = self.get(facts.uid)
        if known is not None:
            known.configuration()
            return known.save(machine=facts.machine)
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        board = Board(facts.uid, self._folder / facts.uid, machine=facts.machine)
        chosen = choose().vault
        key = secrets.token_bytes(32).hex()
        if chosen is not None:
            return board.save(key=key, token=_description(chosen))
        pin = secrets.token_hex(8)
        folder = board.folder / f"token-{secrets.token_hex(2)}"  # not that of an interrupted start
        board.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        location = providers.SOFTHSM.make(folder, "board", pin)
        texts = {name: str(value) for name, value in asdict(location).items() if value}
        return board.save(key=key, pin=pin, location=texts)

    def _read(self, folder: Path) -> Board:
        file = folder / _FILE
        try:
            data = json_file.read(file)
        except OSError as error:
            raise DeviceError("state", f"{file}: {error.strerror}") from error
        except json_file.JsonError as error:
            raise DeviceError("state", f"{file}: {error}. {_REMEDY}") from error
        empty = Board(folder.name, folder)
        if not (isinstance(data, dict) and _is_of(empty, data)):
            raise DeviceError("state", f"{file} is damaged, or of no known plugvault. {_REMEDY}")
        return replace(empty, **data)


def _is_of(empty: Board, data: dict[str, Any]) -> bool:
    """Whether a file has fields of a board, each of its type, and those of this one."""
    types = {field.name: type(getattr(empty, field.name)) for field in fields(empty)}
    del types["folder"]  # it is not in the file
    if any(types.get(name) is not type(value) for name, value in data.items()):
        return False
    key, location = data.get("key", ""), data.get("location", {})
    is_key = re.fullmatch(r"[0-9a-fA-F]{64}", key) is not None
    is_location = all(isinstance(value, str) for value in location.values())
    is_whole = bool(data.get("token")) or {"module", "label"} <= location.keys()
    return data.get("uid") == empty.uid and is_key and is_location and is_whole
