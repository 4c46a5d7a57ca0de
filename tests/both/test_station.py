"""The car's own connection to a station, with ports that a test plays: order, time, every end."""

from evcc import tls
from evcc.network import sdp, station
from evcc.network.station import DATA, FAILED, FOUND, OPEN, Station
from evcc.ports.stream import PortError

LINK_LOCAL = bytes.fromhex("fe80000000000000000000000000057a")
GLOBAL = bytes.fromhex("20010db8000000000000000000000001")
PLAIN = sdp.response(LINK_LOCAL, 50000, sdp.NO_TLS)


class Udp:
    def __init__(self, ports, host, port):
        self.source = "udp"
        self.ports = ports
        ports.notes.append(("udp", host, port))
        if ports.is_down:
            raise PortError("unavailable", "the link is down")

    def send(self, datagram):
        self.ports.sent.append(datagram)

    def receive(self):
        return self.ports.arriving.pop(0) if self.ports.arriving else None

    def close(self):
        self.ports.notes.append(("udp closed",))


class Dialled:
    def __init__(self, ports, host, port):
        self.source = "tcp"
        self.ports = ports
        ports.notes.append(("tcp", host, port))

    def is_open(self):
        if self.ports.is_refused:
            raise PortError("unavailable", "refused")
        return self.ports.accepts

    def receive(self, size):
        return self.ports.stream.pop(0) if self.ports.stream else None

    def send(self, data):
        taken = min(self.ports.room, len(data))
        self.ports.wire += data[:taken]
        return taken

    def close(self):
        self.ports.notes.append(("tcp closed",))


class Ports:
    def __init__(self, *arriving):
        self.arriving = list(arriving)
        self.notes, self.sent, self.stream, self.wire = [], [], [], b""
        self.accepts, self.is_refused, self.is_down, self.room = True, False, False, 1000

    def Udp(self, host, port):  # noqa: N802 - as the module `evcc.ports.network`
        return Udp(self, host, port)

    def Dialled(self, host, port):  # noqa: N802
        return Dialled(self, host, port)


def plain(ports, **settings):
    """A connection that wants no TLS."""
    wishes = {"interface": "eth1", "tls": "none"}
    wishes.update(settings)
    return Station(ports, wishes, None)


def opened(ports):
    connection = plain(ports)
    reports = connection.step(0)
    assert reports == [(FOUND, "fe80:0:0:0:0:0:0:57a%eth1, port 50000, without TLS")]
    assert connection.sources() == [("tcp", True)]
    assert connection.step(1) == [(OPEN, False)]
    return connection


def test_a_search_asks_the_group_of_the_interface_until_its_end():
    ports = Ports()
    connection = plain(ports)
    now, reports = 0, []
    while not reports:
        reports = connection.step(now)
        assert reports or connection.wait_ms(now) <= 250
        now += 10
    assert reports == [(FAILED, ("station-not-found", "no answer"))]
    assert ports.sent == [sdp.request(sdp.NO_TLS)] * 50
    assert ports.notes == [("udp", "ff02::1%eth1", 15118), ("udp closed",)]
    assert now == 50 * 250 + 10
    assert connection.step(now) == [] and connection.sources() == []


def test_a_search_for_tls_passes_a_station_without_and_says_so():
    ports = Ports(b"noise", PLAIN)
    connection = Station(ports, {"interface": "eth1"}, None)
    reports, now = [], 0
    while not reports:
        reports = connection.step(now)
        now += 250
    ((name, (reason, detail)),) = reports
    assert (name, reason) == (FAILED, "station-not-found")
    assert "without-tls" in detail
    assert ports.sent[0] == sdp.request(sdp.TLS)


def test_a_setting_lets_a_station_without_tls_do():
    ports = Ports(PLAIN)
    connection = Station(ports, {"interface": "eth1", "tls": "optional"}, None)
    assert connection.step(0)[0][0] == FOUND
    assert connection.step(0) == [(OPEN, False)]
    assert connection.secure is False


def test_only_a_link_local_address_gets_the_interface():
    ports = Ports(sdp.response(GLOBAL, 50000, sdp.TLS))
    connection = plain(ports)
    assert connection.step(0) == [(FOUND, "2001:db8:0:0:0:0:0:1, port 50000, TLS")]
    assert connection.secure is True
    assert ("tcp", "2001:db8:0:0:0:0:0:1", 50000) in ports.notes


def test_a_given_address_needs_no_search():
    for address, host in (("::1", "::1"), ("FE80::1", "FE80::1%eth1")):
        ports = Ports()
        connection = plain(ports, address=address, port=49152)
        assert connection.step(0)[0][0] == FOUND
        assert ports.notes == [("tcp", host, 49152)]


def test_bytes_go_both_ways_in_pieces_of_any_size():
    ports = Ports(PLAIN)
    connection = opened(ports)
    ports.room = 3
    connection.send(b"request")
    assert ports.wire == b"req"
    assert connection.sources() == [("tcp", True)]
    ports.stream.append(b"ans")
    assert connection.step(2) == [(DATA, b"ans")]
    assert connection.step(3) == []
    assert ports.wire == b"request"
    assert connection.sources() == [("tcp", False)]


class Library(tls.Client):
    """A TLS library that has decrypted `records` already, and returns one at a time."""

    def __init__(self, *records):
        self.records = list(records)

    def handshake(self):
        return True

    def outgoing(self):
        return b""

    def read(self):
        return self.records.pop(0) if self.records else b""


class Peer:
    def findings(self):
        return ""


def test_plain_text_left_in_the_tls_library_needs_no_further_bytes_of_the_network():
    tls._OPEN["test"] = lambda peer, keylog: Library(b"header", b"body")
    try:
        wishes = {"interface": "eth1", "address": "::1", "port": 49152}
        connection = Station(Ports(), wishes, Peer(), "test")
        connection.step(0)
        connection.step(1)
    finally:
        del tls._OPEN["test"]
    received = []
    while not received or connection.wait_ms(2) == 0:
        received += connection.step(2)
    assert received == [(DATA, b"header"), (DATA, b"body")]


def test_the_end_of_the_stream_is_a_lost_station():
    ports = Ports(PLAIN)
    connection = opened(ports)
    ports.stream.append(b"")
    ((name, (reason, _)),) = connection.step(2)
    assert (name, reason) == (FAILED, "lost")
    assert ports.notes[-1] == ("tcp closed",)
    connection.send(b"late")
    assert ports.wire == b""


def test_an_interface_or_port_that_fails_is_unreachable():
    ports = Ports()
    ports.is_down = True
    assert plain(ports).step(0) == [(FAILED, ("unreachable", "unavailable: the link is down"))]
    ports = Ports(PLAIN)
    ports.accepts = False
    connection = plain(ports)
    connection.step(0)
    assert connection.step(1) == []  # still on its way
    ports.is_refused = True
    assert connection.step(2) == [(FAILED, ("unreachable", "unavailable: refused"))]


def test_each_failure_is_of_the_closed_list():
    for reason in ("station-not-found", "unreachable", "tls", "lost"):
        assert reason in station.FAILURES
