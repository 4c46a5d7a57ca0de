"""The ways to a module: `--module KIND:ADDRESS`.

    exec:./install {message} {trust} {at}   a command for each message (`command.py`): 0 accepted,
                             1 refused, anything else a crash, and so is a report of one
    lines:COMMAND            a process that speaks `vocabulary` on its standard input and output
    tcp:HOST:PORT            the same over TCP
    serial:DEVICE[:BAUD]     the same on a serial port
    http:URL                 the same: each request is a POST, its answer the response's body
    py:PACKAGE:FUNCTION      a function of Python: request (dict) -> answer (dict)
    station:IF[:COMMAND]     this computer is the vehicle's charging station [`station_adapter`]

A new way is a row of `KINDS`.
"""

import contextlib
import importlib
import shlex
import socket
import subprocess
from collections.abc import Callable
from typing import Protocol

import httpx

from plugvault import guardian, unreachable
from plugvault.campaign import vocabulary
from plugvault.campaign.cases import Campaign, CampaignError
from plugvault.campaign.command import CommandModule, end_group
from plugvault.campaign.function import Function, Limited, answered, end_of
from plugvault.campaign.lines import LinesModule
from plugvault.campaign.vocabulary import Answer, Begin, Hello, Json, ModuleError

_END_SECONDS = 2.0
_BAUD = 115_200


class Module(Protocol):
    """A module under test. Each call raises ModuleError."""

    def hello(self) -> Hello:
        """The module's name, version and abilities."""

    def begin(self, begin: Begin) -> None:
        """Set the state that the next message meets."""

    def install(self, message: bytes) -> Answer:
        """Give the module a message, EXI, and return its answer."""

    def sign(self, emaid: str, digest: bytes) -> bytes:
        """A signature by the key of a contract: r | s, 64 bytes. digest: SHA-256, 32 bytes."""

    def state(self) -> str:
        """A text that is the same for the same state of the module."""

    def close(self) -> None:
        """End the module, or the connection to it."""


class CalledModule:
    """A module with one function `call`: request -> answer, JSON objects. `end()`: called by
    `close`."""

    def __init__(self, call: Callable[[Json], Json], end: Callable[[], object]) -> None:
        self._call, self._end = call, end

    def hello(self) -> Hello:
        return vocabulary.hello_of(self._call(vocabulary.hello_request()))

    def begin(self, begin: Begin) -> None:
        self._call(vocabulary.begin_request(begin))

    def install(self, message: bytes) -> Answer:
        return vocabulary.answer_of(self._call(vocabulary.install_request(message)))

    def sign(self, emaid: str, digest: bytes) -> bytes:
        return vocabulary.signature_of(self._call(vocabulary.sign_request(emaid, digest)))

    def state(self) -> str:
        return vocabulary.state_of(self._call(vocabulary.state_request()))

    def close(self) -> None:
        self._end()


def _of_command(command: str, seconds: float) -> Module:
    try:
        process = subprocess.Popen(
            shlex.split(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError, IndexError) as error:
        raise CampaignError("module", f"lines:{command}: {error}") from error
    try:
        guardian.watch(process, group=True)
    except OSError as error:
        raise CampaignError("module", f"lines:{command}: {error}") from error
    if process.stdin is None or process.stdout is None:
        raise CampaignError("module", f"lines:{command}: no standard input or output")

    def explain() -> str:
        try:
            return f"the module has ended: exit status {process.wait(_END_SECONDS)}"
        except subprocess.TimeoutExpired:
            return ""

    def end() -> None:
        process.terminate()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
        finally:  # after a second Ctrl-C too
            end_group(process)
            guardian.release(process, group=True)

    return LinesModule(process.stdout, process.stdin, explain, end, seconds)  # type: ignore[arg-type]


def _of_tcp(address: str, seconds: float) -> Module:
    host, _, port = address.rpartition(":")
    try:
        connection = socket.create_connection((host.strip("[]"), int(port)), seconds)
    except OSError as error:
        raise CampaignError("module", unreachable.reason(error, f"tcp:{address}")) from error
    except (ValueError, OverflowError) as error:
        raise CampaignError("module", f"tcp:{address}: HOST:PORT is wanted") from error
    connection.settimeout(None)
    file = connection.makefile("rwb")

    def end() -> None:
        with contextlib.suppress(OSError):  # the module has closed it
            connection.shutdown(socket.SHUT_RDWR)
        connection.close()

    return LinesModule(file, file, _nothing, end, seconds)  # type: ignore[arg-type]


def _of_serial(address: str, seconds: float) -> Module:
    from plugvault import serial_port

    device, _, baud = address.partition(":")
    try:
        port = serial_port.open_alone(device, int(baud or _BAUD))
    except (OSError, ValueError) as error:
        raise CampaignError("module", f"serial:{address}: {error}") from error
    end = port.cancel_read
    return LinesModule(port, port, _nothing, end, seconds, is_kept=True)  # type: ignore[arg-type]


def _of_http(address: str, seconds: float) -> Module:
    try:
        url = httpx.URL(address if address.startswith("http") else f"http:{address}")
    except (httpx.InvalidURL, ValueError) as error:
        raise CampaignError("module", f"http:{address}: {error}") from error
    client = httpx.Client(timeout=seconds, headers={"Accept-Encoding": "identity"})
    # The limit of httpx is for each read, and a module may send a byte at a time.
    limited = Limited(lambda request: _posted(client, url, request), seconds)

    def call(request: Json) -> Json:
        body, error = limited.end(request)
        if error is not None:
            raise error
        return vocabulary.parse(body)

    def end() -> None:
        limited.close()
        client.close()

    return CalledModule(call, end)


def _posted(client: httpx.Client, url: httpx.URL, request: Json) -> bytes:
    """The body of the answer. Raises ModuleError."""
    body = bytearray()
    try:
        with client.stream("POST", url, json=request) as response:
            if response.status_code != httpx.codes.OK:
                raise ModuleError("crash", f"HTTP status {response.status_code}")
            for part in response.iter_raw():  # decoded, a small body could become large
                body += part
                if len(body) > vocabulary.MAX_LINE:
                    raise ModuleError("answer", f"more than {vocabulary.MAX_LINE} bytes")
    except httpx.TimeoutException:
        raise ModuleError("timeout", f"no answer within {client.timeout.read:g} s") from None
    except (httpx.UnsupportedProtocol, OverflowError, ValueError) as error:
        raise ModuleError("crash", str(error)) from error
    except httpx.HTTPError as error:
        server = f"{url.scheme}://{url.netloc.decode()}"
        raise ModuleError("crash", unreachable.reason(error, server)) from error
    return bytes(body)


def _of_python(address: str, seconds: float) -> Module:
    package, _, name = address.partition(":")
    try:
        function: Function = getattr(importlib.import_module(package), name)
    except (Exception, SystemExit) as error:  # the package may raise any of its own
        text = vocabulary.clean(f"py:{address}: {type(error).__name__}: {error}")
        raise CampaignError("module", text) from error
    limited = Limited(function, seconds)
    return CalledModule(limited.call, limited.close)


def of_function(function: Function) -> Module:
    """The module of a Python function, called in this thread: request -> answer. It has no limit
    of time."""
    return CalledModule(lambda request: answered(end_of(function, request)), _nothing)


def _nothing() -> str:
    """No explanation, and nothing to end."""
    return ""


KINDS: dict[str, Callable[[str, float], Module]] = {
    "exec": CommandModule,
    "lines": _of_command,
    "tcp": _of_tcp,
    "serial": _of_serial,
    "http": _of_http,
    "https": lambda address, seconds: _of_http(f"https:{address}", seconds),
    "py": _of_python,
}


def open_module(text: str, seconds: float, campaign: Campaign | None = None) -> Module:
    """The module of `--module`.

    text: KIND:ADDRESS. seconds: for one answer. campaign: for `station:` alone. Raises
    CampaignError("module").
    """
    kind, colon, address = text.partition(":")
    if kind == "station" and colon and campaign is not None:
        from plugvault.campaign.station_adapter import open_station  # it loads the TLS library

        return open_station(address, seconds, campaign)
    if not colon or kind not in KINDS:
        kinds = ", ".join([*KINDS, "station"])
        raise CampaignError("module", f"{text!r} is no way to a module: {kinds}, then a colon")
    return KINDS[kind](address, seconds)
