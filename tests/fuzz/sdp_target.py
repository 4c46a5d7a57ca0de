"""Fuzz target: SDP, both ends, on any datagram."""

from collections.abc import Iterator

from evcc.network import sdp

STATION = bytes.fromhex("fe80000000000000020000fffe000001")


def seeds() -> Iterator[bytes]:
    for security in (sdp.TLS, sdp.NO_TLS):
        yield sdp.request(security)
        yield sdp.response(STATION, 50000, security)


def target(data: bytes) -> None:
    """Only SdpError may come out; a datagram that is read is the one that would be written."""
    try:
        if sdp.request(sdp.read_request(data)) != data:
            raise AssertionError("another request")
    except sdp.SdpError:
        pass
    try:
        if sdp.response(*sdp.read_response(data, sdp.NO_TLS)) != data:
            raise AssertionError("another answer")
    except sdp.SdpError:
        pass
    found = sdp.Search().take(data)
    if found is not None and found.security != sdp.TLS:
        raise AssertionError("a station without TLS is taken")
