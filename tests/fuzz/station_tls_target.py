"""Fuzz target: the TLS port of a station that runs.

The first byte says when the rest is sent: in place of the first record, in place of the client's
second flight, as records after a handshake, or inside TLS.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from functools import cache

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from port_ends import (
    HANGS,
    WORLD,
    check,
    connect,
    drain,
    flights,
    hello,
    plain_context,
    play,
    request,
    station,
)

from evcc.link import v2gtp
from plugvault.tls import Identity, StationTls

SLOW = HANGS
FIRST, SECOND, RECORD, INSIDE = range(4)


def _sign(digest: bytes) -> bytes:
    assert WORLD.cpo.key is not None
    der = WORLD.cpo.key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    r, s = utils.decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


@cache
def port() -> int:
    leaf, *subs = WORLD.cpo.chain
    identity = Identity(leaf, tuple(subs), WORLD.v2g_root.der, _sign)
    return station(StationTls([identity]))


def seeds() -> Iterator[bytes]:
    yield bytes([FIRST]) + hello()
    yield bytes([SECOND]) + flights()[1]
    yield bytes([RECORD]) + b"\x17\x03\x03\x00\x40" + hashlib.sha512(b"").digest()
    yield bytes([RECORD]) + b"\x15\x03\x03\x00\x02\x01\x00"
    yield bytes([INSIDE]) + v2gtp.encode(request(1, bytes(8)))


def target(data: bytes) -> None:
    """Any bytes end one connection at most; right handshakes succeed all the while."""
    place, rest = (data[0] % 4 if data else FIRST), data[1:]
    with connect(port()) as vehicle, contextlib.suppress(OSError):
        if place in (FIRST, SECOND):
            if place == SECOND:
                vehicle.sendall(hello())
                vehicle.recv(5)
            vehicle.sendall(rest)
            vehicle.shutdown(1)
            drain(vehicle.recv)
    if place in (RECORD, INSIDE):
        with plain_context().wrap_socket(connect(port())) as secured:
            play(secured.sendall, secured.recv, 1)
            with contextlib.suppress(OSError):
                if place == INSIDE:
                    secured.sendall(rest)
                    secured.unwrap()
                else:
                    raw = secured.detach()
                    _send_raw(raw, rest)
    check()


def _send_raw(descriptor: int, data: bytes) -> None:
    """Bytes under TLS, on the connection itself."""
    import socket

    with socket.socket(fileno=descriptor) as raw:
        raw.settimeout(HANGS)
        raw.sendall(data)
        raw.shutdown(1)
        drain(raw.recv)
