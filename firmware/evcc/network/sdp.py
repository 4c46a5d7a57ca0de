"""SDP, the search for a charging station in the local network: the bytes of both ends.

ISO 15118-2 section 7.10.1: the car asks the multicast address `GROUP`, UDP port `PORT`; a station
answers with the address and port of its session. Each datagram is one V2GTP message (payload types
9000 and 9001). An answer of SDP is not authenticated: the trust in a station comes from TLS.

Sans-I/O; `evcc.ports.udp` has the socket.
"""

from collections import namedtuple

from evcc.errors import EvccError

TLS = 0x00  # values of the security byte
NO_TLS = 0x10
PORT = 15118
GROUP = "ff02::1"  # all nodes of the link
REPEAT_MS = 250  # SECC_Discovery_Timeout: how long a car waits for an answer before it asks again
REPEATS = 50

_TCP = 0x00
_REQUEST = bytes.fromhex("01fe900000000002")  # V2GTP header: version, payload type, length
_RESPONSE = bytes.fromhex("01fe900100000014")
_HEADER_BYTES = 8
_ADDRESS_BYTES = 16

# address: 16 bytes, IPv6. port: TCP. security: `TLS` or `NO_TLS`.
Found = namedtuple("Found", ("address", "port", "security"))


class SdpError(EvccError):
    """A datagram that is not the expected message, or an answer that the car refuses."""

    REASONS = (
        "header",  # version, payload type or length
        "length",  # of the datagram
        "security",  # a value without a meaning
        "transport",  # another one than TCP
        "address",  # of no single host
        "port",
        "without-tls",  # the car asked for TLS, and the station has none
    )


def request(security: int) -> bytes:
    """The car's datagram, 10 bytes. security: `TLS` or `NO_TLS`; else SdpError("security")."""
    return _REQUEST + bytes([_security(security), _TCP])


def read_request(datagram: bytes) -> int:
    """The security byte of a car's request.

    Raises: SdpError("header" | "length" | "transport" | "security").
    """
    body = _body(datagram, _REQUEST)
    _check_transport(body[1])
    return _security(body[0])


def response(address: bytes, port: int, security: int) -> bytes:
    """The station's datagram, 28 bytes. address: 16 bytes, IPv6. port: of TCP, 49152 to 65535 by
    the standard. security: `TLS` or `NO_TLS`.

    Raises: SdpError("address" | "port" | "security").
    """
    _check_host(address, port)
    tail = bytes([_security(security), _TCP])
    return _RESPONSE + address + port.to_bytes(2, "big") + tail


def read_response(datagram: bytes, requested: int = TLS, without_tls: bool = False) -> Found:
    """The station that a datagram names.

    requested: the security byte of the car's request. without_tls: accept a station without TLS
    although the car asked for it. Raises: SdpError.
    """
    body = _body(datagram, _RESPONSE)
    address = body[:_ADDRESS_BYTES]
    port = int.from_bytes(body[16:18], "big")
    _check_host(address, port)
    _check_transport(body[19])
    security = _security(body[18])
    if security == NO_TLS and requested == TLS and not without_tls:
        raise SdpError("without-tls", "the station at port %d" % port)
    return Found(address, port, security)


class Search:
    """The car's search: a request each `REPEAT_MS`, until an answer is accepted.

    `refused`: the SdpError of the last datagram that was not accepted, or None.
    """

    def __init__(
        self, security: int = TLS, without_tls: bool = False, loopback: bool = False
    ) -> None:
        """As for `read_response`. loopback: the search is on the car's own computer; elsewhere an
        answer must not name a loopback address, whose services trust their callers. The car's
        other addresses are not known here: its services on them are open to the network."""
        self.refused = None
        self._loopback = loopback
        self._security = security
        self._without_tls = without_tls
        self._sent = 0
        self._next_at = None

    def due(self, now_ms: int) -> "bytes | None":
        """The request to send now; None: not yet. now_ms: of a clock that never goes back."""
        if self.is_over(now_ms) or (self._next_at is not None and now_ms < self._next_at):
            return None
        self._sent += 1
        self._next_at = now_ms + REPEAT_MS
        return request(self._security)

    def take(self, datagram: bytes) -> "Found | None":
        """The station that a datagram names; None: it is refused, and the search goes on."""
        try:
            found = read_response(datagram, self._security, self._without_tls)
            # ::1, and the addresses of IPv4 in their two forms
            if not (self._loopback or any(found.address[:10])):
                raise SdpError("address", found.address.hex())
            return found
        except SdpError as error:
            self.refused = error
            return None

    def is_over(self, now_ms: int) -> bool:
        """Whether `REPEAT_MS` has passed since the last of all requests."""
        return self._sent >= REPEATS and now_ms >= self.deadline(now_ms)

    def deadline(self, now_ms: int) -> int:
        """The time to call `due` or `is_over` again, on the clock of `now_ms`."""
        return now_ms if self._next_at is None else self._next_at


def _body(datagram: bytes, header: bytes) -> bytes:
    """The payload of a datagram with exactly this header."""
    if datagram[:_HEADER_BYTES] != header:
        raise SdpError("header", datagram[:_HEADER_BYTES].hex())
    if len(datagram) != _HEADER_BYTES + header[7]:
        raise SdpError("length", "%d bytes" % len(datagram))
    return datagram[_HEADER_BYTES:]


def _security(value: int) -> int:
    if value not in (TLS, NO_TLS):
        raise SdpError("security", "%02x" % value)
    return value


def _check_transport(value: int) -> None:
    if value != _TCP:
        raise SdpError("transport", "%02x" % value)


def _check_host(address: bytes, port: int) -> None:
    if len(address) != _ADDRESS_BYTES or address[0] == 0xFF or not any(address):
        raise SdpError("address", address.hex())
    if not 0 < port < 65536:
        raise SdpError("port", str(port))
