"""Wireshark's `tshark` reads our captures: every V2GTP message is there, TLS decrypted."""

import shutil
import ssl
from pathlib import Path

import pytest

from captured import CAR, ISO_SUITE, STATION, TlsPair, converse, followed, tshark
from evcc import exi
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from plugvault.capture import Capture

pytestmark = pytest.mark.skipif(
    shutil.which("tshark") is None, reason="no tshark here: `apt-get install tshark`"
)

OFFER = {"supportedAppProtocolReq": messages.supported_app_protocol_req()}
MESSAGES = [
    (True, v2gtp.encode(exi.encode(OFFER, "sap"))),
    (False, v2gtp.encode(bytes(4416))),
    (True, v2gtp.encode(b"\x80\x98")),
]


@pytest.mark.parametrize("by_car", [True, False])
def test_tshark_decrypts_every_message_with_the_keys_in_the_file(
    tmp_path: Path, by_car: bool
) -> None:
    path = tmp_path / "session.pcapng"
    with Capture(path) as capture:
        pair = TlsPair(capture, by_car=by_car)
        converse(pair, MESSAGES)
        pair.close()
    capture.keys.unlink()
    assert followed(path, "tls") == MESSAGES


def test_tshark_finds_no_error_in_our_packets(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    with Capture(path) as capture:
        capture.datagram(CAR, ("ff02::1", 15118), v2gtp.encode(b"\x00\x00", 0x9000))
        for port in range(51000, 51003):
            pair = TlsPair(capture, suite=ISO_SUITE, port=port)
            converse(pair, MESSAGES)
            pair.close()
    checks = ("-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE")
    wrong = "_ws.expert.severity >= 0x00600000 || tcp.checksum.status == 0 || tcp.analysis.flags"
    assert tshark("-r", str(path), *checks, "-Y", wrong) == ""
    assert len(tshark("-r", str(path), "-Y", "tls.handshake.type == 1").splitlines()) == 3


def test_tshark_shows_messages_without_tls_as_they_were(tmp_path: Path) -> None:
    with Capture(tmp_path / "plain.pcapng") as capture:
        connection = capture.connection(STATION, CAR)
        for by_car, data in MESSAGES:
            connection.wire("in" if by_car else "out", data)
        connection.close("in")
    assert followed(tmp_path / "plain.pcapng", "tcp") == MESSAGES


def test_tshark_decrypts_tls_1_3_too(tmp_path: Path) -> None:
    path = tmp_path / "session.pcapng"
    with Capture(path) as capture:
        converse(TlsPair(capture, version=ssl.TLSVersion.TLSv1_3), MESSAGES)
    # In TLS 1.3 the station's tickets come first, and tshark takes their sender for the client.
    assert [data for _, data in followed(path, "tls")] == [data for _, data in MESSAGES]
