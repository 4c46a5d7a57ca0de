"""SDP, ISO 15118-2 section 7.10.1: the datagrams of both ends, and the car's search."""

from evcc.network import sdp
from evcc.network.sdp import NO_TLS, TLS, SdpError
from helpers import raises

STATION = bytes.fromhex("fe80000000000000020000fffe000001")


def test_a_request_is_a_header_the_security_and_tcp():
    assert sdp.request(TLS).hex() == "01fe9000000000020000"
    assert sdp.request(NO_TLS).hex() == "01fe9000000000021000"
    for security in (TLS, NO_TLS):
        assert sdp.read_request(sdp.request(security)) == security


def test_an_answer_is_a_header_address_port_security_and_tcp():
    datagram = sdp.response(STATION, 50000, TLS)
    assert datagram.hex() == "01fe900100000014" + STATION.hex() + "c350" + "0000"
    assert sdp.read_response(datagram) == (STATION, 50000, TLS)


def test_a_car_that_asked_for_tls_refuses_a_station_without():
    datagram = sdp.response(STATION, 50000, NO_TLS)
    raises(SdpError, "without-tls", sdp.read_response, datagram)
    assert sdp.read_response(datagram, TLS, without_tls=True).security == NO_TLS
    assert sdp.read_response(datagram, NO_TLS).security == NO_TLS


def test_a_car_that_asked_for_no_tls_takes_a_station_with_tls():
    assert sdp.read_response(sdp.response(STATION, 50000, TLS), NO_TLS).security == TLS


def test_only_the_exact_message_is_read():
    for good, read in (
        (sdp.request(TLS), sdp.read_request),
        (sdp.response(STATION, 50000, TLS), sdp.read_response),
    ):
        for size in range(8):
            raises(SdpError, "header", read, good[:size])
        for size in range(8, len(good)):
            raises(SdpError, "length", read, good[:size])
        raises(SdpError, "length", read, good + b"\0")
        for at in range(8):
            raises(SdpError, "header", read, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        raises(SdpError, "security", read, good[:-2] + b"\1\0")
        raises(SdpError, "transport", read, good[:-1] + b"\x10")
    raises(SdpError, "header", sdp.read_request, sdp.response(STATION, 50000, TLS))
    raises(SdpError, "header", sdp.read_response, sdp.request(TLS))


def test_an_answer_names_one_host_and_a_port():
    group = bytes.fromhex("ff020000000000000000000000000001")
    head = bytes.fromhex("01fe900100000014")
    for address in (group, bytes(16)):
        raises(SdpError, "address", sdp.response, address, 50000, TLS)
        raises(SdpError, "address", sdp.read_response, head + address + b"\xc3\x50\0\0")
    raises(SdpError, "address", sdp.response, STATION[1:], 50000, TLS)
    for port in (0, 65536):
        raises(SdpError, "port", sdp.response, STATION, port, TLS)
    raises(SdpError, "port", sdp.read_response, head + STATION + bytes(4))
    raises(SdpError, "security", sdp.response, STATION, 50000, 1)
    raises(SdpError, "security", sdp.request, 1)


def test_an_answer_does_not_lead_a_car_to_its_loopback():
    for tail in ("000000000001", "ffff7f000001", "00007f000001"):
        answer = sdp.response(bytes(10) + bytes.fromhex(tail), 50000, TLS)
        search = sdp.Search()
        assert search.take(answer) is None
        assert search.refused.reason == "address"
        assert sdp.Search(loopback=True).take(answer).port == 50000


def test_a_search_asks_each_quarter_of_a_second_at_most_50_times():
    search = sdp.Search()
    now, asked = 1000, []
    while not search.is_over(now):
        if search.due(now):
            asked.append(now)
        now += 10
    assert asked == [1000 + 250 * n for n in range(50)]
    assert now == 1000 + 50 * 250
    assert search.due(now) is None


def test_a_search_goes_on_after_a_wrong_answer_and_names_it():
    search = sdp.Search()
    assert search.due(0) == sdp.request(TLS)
    assert search.deadline(0) == 250
    assert search.take(b"noise") is None
    assert search.take(sdp.response(STATION, 50000, NO_TLS)) is None
    assert search.refused.reason == "without-tls"
    assert search.take(sdp.response(STATION, 50000, TLS)) == (STATION, 50000, TLS)
    assert sdp.Search(TLS, True).take(sdp.response(STATION, 1, NO_TLS)).security == NO_TLS
