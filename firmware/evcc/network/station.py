"""The car's own connection to a charging station: SDP, TCP and TLS, one machine that never waits.

The owner calls `step` whenever `sources` are ready or `wait_ms` has passed, and acts on its
reports. The ports come from the owner: this file opens nothing by itself.

A computer's: no board's list has this file. The bench of a board uses it for the board.
"""

from evcc import tls
from evcc.errors import EvccError, text_of
from evcc.network import sdp
from evcc.network.settings import NONE, OPTIONAL, REQUIRED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FOUND = "found"  # value: the station, for a person
SECURED = "secured"  # value: what was checked, for a person
OPEN = "open"  # value: whether it is TLS; from now on `send` may be used
DATA = "data"  # value: bytes of the session
FAILED = "failed"  # value: (reason of `FAILURES`, detail); the last report

FAILURES = (
    "station-not-found",  # no answer of SDP that the settings allow
    "unreachable",  # the interface, or the station's port
    "tls",
    "lost",  # the station has closed the connection, or broken it
)
_PIECE = 4096
_LINK_LOCAL = (0xFE, 0x80)
_SEARCHING, _CONNECTING, _SECURING, _OPEN, _CLOSED = range(5)
_REASON = {_SEARCHING: "unreachable", _CONNECTING: "unreachable", _SECURING: "tls", _OPEN: "lost"}


class Station:
    """One connection. ports: with the classes `Udp` and `Dialled` of `evcc.ports.udp` and `dial`.
    settings: see `settings`. peer: `tls.peer.Peer`. library: see `tls.client`. trace:
    `ports.trace.Trace`, or None.

    `secure`: whether the connection is TLS. No method raises an EvccError but `send`.
    """

    def __init__(self, ports, settings: dict, peer, library: str = "", trace=None) -> None:
        self.secure = False
        self._ports = ports
        self._settings = settings
        self._peer = peer
        self._library = library
        self._trace = trace
        self._state = _SEARCHING
        self._udp: "Any" = None
        self._tcp: "Any" = None
        self._tls: "Any" = None
        self._to_send = b""
        self._is_drained = True  # whether the TLS library has returned all its plain text
        wish = settings.get("tls", REQUIRED)
        self._search = sdp.Search(
            sdp.NO_TLS if wish == NONE else sdp.TLS,
            wish == OPTIONAL,
            settings.get("interface") == "lo",
        )
        self._steps = {
            _SEARCHING: self._search_on,
            _CONNECTING: self._connect,
            _SECURING: self._secure,
            _OPEN: self._serve,
        }

    def step(self, now_ms: int) -> list:
        """Continue as far as possible without waiting. Returns [(name of the report, value)].

        now_ms: milliseconds of a clock that never goes back."""
        if self._state == _CLOSED:
            return []
        try:
            return self._steps[self._state](now_ms)
        except EvccError as error:
            return self._fail(_REASON[self._state], text_of(error))

    def send(self, data: bytes) -> None:
        """Send bytes of the session as soon as the network takes them; nothing before `OPEN`.

        Raises: TlsError; PortError("closed")."""
        if self._state != _OPEN:
            return
        if self._tls is not None:
            self._tls.write(data)
        else:
            self._to_send += data
        self._flush()

    def sources(self) -> list:
        """[(source, whether it is to be written)] for `ports.wait`."""
        if self._udp is not None:
            return [(self._udp.source, False)]
        if self._tcp is not None:
            return [(self._tcp.source, self._state == _CONNECTING or bool(self._to_send))]
        return []

    def wait_ms(self, now_ms: int) -> int:
        """Milliseconds after which to call `step` although no source is ready."""
        if self._state != _SEARCHING:
            return 60000 if self._is_drained else 0
        if self._udp is None:
            return 0
        return max(self._search.deadline(now_ms) - now_ms, 0)

    def close(self) -> None:
        """End the connection, with the last alert of TLS if the network takes it at once."""
        state, self._state = self._state, _CLOSED
        if self._udp is not None:
            self._udp.close()
        if self._tcp is not None:
            try:
                if self._tls is not None:
                    if state == _OPEN:
                        self._tls.close()
                    self._flush()
            except EvccError:
                pass  # the other end is gone
            self._tcp.close()
        if self._tls is not None:
            self._tls.free()
        self._udp = self._tcp = self._tls = None

    def _fail(self, reason: str, detail: str) -> list:
        self.close()
        return [(FAILED, (reason, detail))]

    def _search_on(self, now_ms: int) -> list:
        settings = self._settings
        scope = "%" + settings["interface"]
        if "address" in settings:
            host = settings["address"]
            if host.lower()[:4] == "fe80":
                host += scope
            return self._dial(host, settings["port"], settings.get("tls", REQUIRED) != NONE)
        if self._udp is None:
            self._udp = self._ports.Udp(sdp.GROUP + scope, sdp.PORT)
        datagram = self._udp.receive()
        while datagram is not None:
            self._note("datagram", False, datagram)
            found = self._search.take(datagram)
            if found is not None:
                host = _text(found.address)
                if tuple(found.address[:2]) == _LINK_LOCAL:
                    host += scope
                return self._dial(host, found.port, found.security == sdp.TLS)
            datagram = self._udp.receive()
        datagram = self._search.due(now_ms)
        if datagram is not None:
            self._udp.send(datagram)
            self._note("datagram", True, datagram)
        elif self._search.is_over(now_ms):
            refused = self._search.refused
            detail = "no answer" if refused is None else "the last answer: " + str(refused)
            return self._fail("station-not-found", detail)
        return []

    def _dial(self, host: str, port: int, secure: bool) -> list:
        if self._udp is not None:
            self._udp.close()
            self._udp = None
        self.secure = secure
        self._state = _CONNECTING
        self._tcp = self._ports.Dialled(host, port)
        self._note("ends", host, port)
        how = "TLS" if secure else "without TLS"
        return [(FOUND, "%s, port %d, %s" % (host, port, how))]

    def _connect(self, now_ms: int) -> list:
        if not self._tcp.is_open():
            return []
        if not self.secure:
            self._state = _OPEN
            return [(OPEN, False)]
        self._state = _SECURING
        keylog = None if self._trace is None else self._trace.keys
        self._tls = tls.client(self._peer, self._library, keylog)
        return self._secure(now_ms)

    def _secure(self, now_ms: int) -> list:
        self._receive()
        try:
            is_done = self._tls.handshake()
        finally:
            self._flush()
        if not is_done:
            return []
        self._state = _OPEN
        return [(SECURED, self._peer.findings()), (OPEN, True)]

    def _serve(self, now_ms: int) -> list:
        self._flush()
        data = self._receive()
        if self._tls is not None:
            self._is_drained = True
            data = self._tls.read()  # raises "closed" at the end
            self._is_drained = not data
            self._flush()
        elif data == b"":
            return self._fail("lost", "the station has closed the connection")
        return [(DATA, data)] if data else []

    def _receive(self):
        """The bytes that have arrived, or None; with TLS they go to the library."""
        data = self._tcp.receive(_PIECE)
        if data:
            self._note("wire", False, data)
        if data is not None and self._tls is not None:
            self._tls.incoming(data)
        return data

    def _flush(self) -> None:
        if self._tls is not None:
            self._to_send += self._tls.outgoing()
        if self._to_send and self._tcp is not None:
            size = self._tcp.send(self._to_send)
            if size:
                self._note("wire", True, self._to_send[:size])
            self._to_send = self._to_send[size:]

    def _note(self, what: str, *values) -> None:
        if self._trace is not None:
            getattr(self._trace, what)(*values)


def _text(address: bytes) -> str:
    """An IPv6 address of 16 bytes as text, without a scope."""
    return ":".join(["%x" % (address[i] << 8 | address[i + 1]) for i in range(0, 16, 2)])
