"""Real ends for the fuzz targets of the ports: a station that serves, and a car that connects.

Every socket is on the loopback. A failure that an end only logs is raised by `check`.
"""

import atexit
import contextlib
import logging
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.extend([str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "both")])

from session_target import fresh

from captured import own_certificate, station_chain
from evcc import exi
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from evcc.network.station import DATA, FAILED, OPEN
from evcc.network.station import Station as CarConnection
from evcc.p256 import verify
from evcc.ports import network
from evcc.session_engine import CLOSED
from evcc.tls.peer import Peer
from evcc.x509 import parse
from plugvault.station import Offer, Station, StationSettings
from plugvault.station.limits import Limits
from scripted import OFFERED, answer
from world import EMAID, NOW, World

HOST = "::1"
HANGS = 20  # seconds without an end: above every time-out of these ends
SUITE = "ECDHE-ECDSA-AES128-SHA256"
WORLD = World()
_READ = 4096


class _Errors(logging.Handler):
    """Keeps what an end logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []
        for name in ("plugvault.station", "asyncio"):
            logging.getLogger(name).addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))

    def check(self) -> None:
        if self.found:
            raise AssertionError(self.found.pop())


ERRORS = _Errors()
check = ERRORS.check


# -- the station --------------------------------------------------------------------------------


def station(tls: Any = None) -> int:
    """The port of a station that serves until the process ends."""
    serving = Station(
        Offer(),
        [WORLD.v2g_root.der, WORLD.mo_root.der],
        lambda request: WORLD.response(b"\x04" + request[:64].ljust(64)),
        StationSettings(
            host=HOST,
            tls=tls,
            insecure_contract=True,
            limits=Limits(fetch_seconds=1.0, handshake_seconds=5.0, sequence_timeout_ms=5000),
            clock=lambda: NOW,
        ),
    )
    stack = contextlib.ExitStack()
    _, port = stack.enter_context(serving.in_thread())
    atexit.register(stack.close)
    return port


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), HANGS)


def request(number: int, session_id: bytes) -> bytes:
    """The payload of the right request at this place of a session."""
    if number == 0:
        offer = {"supportedAppProtocolReq": messages.supported_app_protocol_req()}
        return exi.encode(offer, "sap")
    name, body = REQUESTS[number - 1]
    session_id = messages.NO_SESSION if number == 1 else session_id
    return exi.encode(messages.envelope(session_id, name, body))


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("SessionSetupReq", messages.session_setup_req(bytes(6))),
    ("ServiceDiscoveryReq", messages.service_discovery_req()),
    ("ServiceDetailReq", messages.service_detail_req(2)),
    (
        "PaymentServiceSelectionReq",
        messages.payment_service_selection_req("Contract", [(1, None), (2, 1)]),
    ),
    ("PaymentDetailsReq", messages.payment_details_req(EMAID, WORLD.contract.chain)),
    ("AuthorizationReq", messages.authorization_req("id1", bytes(16))),
]


def play(send: Callable[[bytes], Any], receive: Callable[[int], bytes], count: int) -> bytes:
    """Send `count` right requests, and take a good answer to each. Returns the SessionID."""
    session_id = messages.NO_SESSION
    for number in range(count):
        send(v2gtp.encode(request(number, session_id)))
        payloads: list[bytes] = []
        reader = v2gtp.PayloadReader()
        while not payloads:
            data = receive(_READ)
            if not data:
                raise AssertionError(f"the station is gone after {number} right requests")
            payloads = reader.feed(data)
        schema = "iso2" if number else "sap"
        message = exi.decode(payloads[0], schema)
        if number:
            session_id, _, body, _ = messages.opened(message)
        else:
            ((_, body),) = message.items()
        if not body["ResponseCode"].startswith("OK"):
            raise AssertionError(f"{number}: {body}")
    return session_id


def drain(receive: Callable[[int], bytes]) -> bytes:
    """All that the other end sends until it closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError, BrokenPipeError):
        while data := receive(_READ):
            received += data
    return received


def plain_context() -> ssl.SSLContext:
    """The context of a client that accepts every certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITE)
    return context


def station_context(*, good: bool = True) -> ssl.SSLContext:
    """The server's side. good: with the chain of a station in `WORLD`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(SUITE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "chain.pem"
        path.write_bytes(b"".join(station_chain(WORLD) if good else own_certificate()))
        context.load_cert_chain(path)
    return context


def hello() -> bytes:
    """A right ClientHello record."""
    end, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        plain_context().wrap_bio(end, out).do_handshake()
    return out.read()


def flights() -> tuple[bytes, bytes]:
    """(the server's answer to a ClientHello, the client's answer to that)."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = plain_context().wrap_bio(to_client, to_server)
    server = station_context().wrap_bio(to_server, to_client, server_side=True)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    with contextlib.suppress(ssl.SSLWantReadError):
        server.do_handshake()
    first = to_client.read()
    to_client.write(first)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return first, to_server.read()


# -- the car ------------------------------------------------------------------------------------

PAIRS = tuple(OFFERED)  # about in the order in which the car of `session_target` asks


class HostileStation:
    """Accepts one connection after another, and calls `behave` with each."""

    def __init__(self) -> None:
        self._listener = socket.socket(socket.AF_INET6)
        self._listener.bind((HOST, 0))
        self._listener.listen()
        self.port: int = self._listener.getsockname()[1]

    def serve_one(self, behave: Callable[[socket.socket], object]) -> threading.Thread:
        thread = threading.Thread(target=self._serve, args=(behave,), daemon=True)
        thread.start()
        return thread

    def _serve(self, behave: Callable[[socket.socket], object]) -> None:
        connection, _ = self._listener.accept()
        connection.settimeout(HANGS)
        # The car may go at any time.
        with connection, contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
            behave(connection)


def answer_rightly(
    send: Callable[[bytes], Any], receive: Callable[[int], bytes], count: int
) -> str:
    """Answer `count` requests of a car in the way it expects, or fewer if it has no more. Returns
    the pair of the next one."""
    pair = ""
    for number in range(count + 1):
        reader = v2gtp.PayloadReader()
        while not (payloads := reader.feed(data := receive(_READ))):
            if not data:
                return pair
        if number:
            _, name, _, _ = messages.opened(exi.decode(payloads[0]))
        else:
            name = next(iter(exi.decode(payloads[0], "sap")))
        pair = name.removesuffix("Req")
        if number < count:
            send(answer(pair, OFFERED[pair]))
    return pair


def car_at(port: int, *, tls: bool) -> list[tuple[str, Any]]:
    """A car that goes to a station on this port, until its session or its connection ends.

    Returns the reports of the connection and the events of the session.
    """
    peer = Peer([parse(WORLD.v2g_root.der)], verify, NOW)
    wish = "required" if tls else "none"
    settings = {"interface": "lo", "tls": wish, "address": HOST, "port": port}
    return drive(CarConnection(network, settings, peer), network.wait)


def drive(connection: CarConnection, wait: Callable[[list[Any], int], object]) -> list[Any]:
    session, all_events = None, list[tuple[str, Any]]()
    began = time.monotonic()
    try:
        while time.monotonic() - began < HANGS:
            now = int((time.monotonic() - began) * 1000)
            frames: list[bytes] = []
            for name, value in connection.step(now):
                all_events.append((name, value))
                if name == FAILED:
                    return all_events
                if name == OPEN:
                    session = fresh()
                    frames += session.start(now)
                elif name == DATA and session is not None:
                    more, events = session.receive(value, now)
                    frames += more
                    all_events += events
            if session is not None:
                frames += session.timeout(now)[0]
                for frame in frames:
                    connection.send(frame)
                if session.state == CLOSED:
                    return all_events
            wait(connection.sources(), min(connection.wait_ms(now), 50))
    finally:
        connection.close()
    raise TimeoutError("the car does not come to an end")
