"""The ports of boards that this computer knows, beside those of USB: by the number of a chip, or
of the emulated board that runs."""

import os

from plugvault.board import ports, simulated
from plugvault.board.errors import DeviceError
from plugvault.board.folder import Boards
from plugvault.board.ports import SerialPort


def checked(port: str | None, link: str | None, boards: Boards) -> str | None:
    """The prompt of the options of `flash`, where a chip's number may name it.

    Raises: DeviceError("port") for ports that cannot be a prompt and a link; "gone" for those of
    an emulated board that has ended; "state".
    """
    if port is None:
        return None
    port = boards.prompt_of(port, ports.find()) or port
    simulated.require_running(boards.data, port)
    if link is not None:
        ports.require_two(port, link)
        _require_order(port, link, boards)
    return port


def _require_order(port: str, link: str, boards: Boards) -> None:
    """Raise DeviceError("port") where the two are a known board's link and prompt."""
    found = ports.find()
    known = [(board.prompt, board.link) for board in (b.ports(found) for b in boards.all())]
    emulated = simulated.running(boards.data)
    if emulated is not None:
        known.append((emulated.prompt, emulated.link))
    given = tuple(map(os.path.realpath, (link, port)))
    if any(given == tuple(map(os.path.realpath, pair)) for pair in known):
        raise DeviceError(
            "port",
            f"{port} is the board's link, and {link} its prompt: `plugvault flash {link} --link"
            f" {port}`",
        )


def emulated_prompt(boards: Boards, found: list[SerialPort]) -> SerialPort | None:
    """The prompt of the emulated board that runs, where no USB port is of MicroPython."""
    emulated = simulated.running(boards.data)
    if emulated is None or any(port.kind == ports.PROMPT for port in found):
        return None
    return ports.named(emulated.prompt, found)


def known_link(prompt: str, recorded: str, boards: Boards) -> str | None:
    """The link of the board with this prompt: the recorded one, or that of the emulated board,
    which has another name each time."""
    emulated = simulated.running(boards.data)
    if emulated is not None and emulated.prompt == prompt:
        return emulated.link
    return recorded or None
