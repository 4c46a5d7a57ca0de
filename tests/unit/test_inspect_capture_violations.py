"""`plugvault inspect` names the violations in a capture, and the protocols it does not read."""

import base64
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from captured import (
    CAR,
    STATION,
    TlsPair,
    session,
    steady_clock,
)
from evcc import exi, x509
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from evcc.network import sdp
from inspected_captures import (
    Messages,
    detail,
    envelope,
    names,
    of,
    plain,
    search,
)
from plugvault.capture import Capture
from plugvault.capture.files import Frame, records
from plugvault.inspection import inspect
from plugvault.inspection.report import FAILED, NOT_CHECKED, Scope, UnreadableError
from world import NOW, World


@pytest.fixture(scope="module")
def spoken(world: World) -> Messages:
    return session(world)


@pytest.fixture(scope="module")
def scope(world: World) -> Scope:
    return Scope(NOW, tuple(x509.parse(der) for _, der in world.anchors))


@pytest.fixture
def frames(tmp_path: Path, spoken: Messages) -> list[Frame]:
    """The packets of a session without TLS."""
    data = plain(tmp_path / "frames.pcapng", spoken)
    return [record for record in records(BytesIO(data)) if isinstance(record, Frame)]


# -- violations -------------------------------------------------------------------------------


def test_a_contract_without_tls_is_a_violation(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    report = inspect(plain(tmp_path / "c", spoken), scope)
    assert of(report, FAILED) == ["session 1: payment by contract over TLS only"]


def test_a_connection_that_breaks_the_word_of_sdp_is_a_violation(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    with Capture(tmp_path / "c", clock=steady_clock(NOW)) as capture:
        search(capture, sdp.TLS)
        connection = capture.connection(STATION, CAR)
        for by_car, data in spoken:
            connection.wire("in" if by_car else "out", data)
    report = inspect((tmp_path / "c").read_bytes(), scope)
    assert "session 1: the connection is as SDP has said" in of(report, FAILED)


def test_a_request_at_the_wrong_time_is_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    without_discovery = [*spoken[:4], *spoken[6:]]
    report = inspect(plain(tmp_path / "c", without_discovery), scope)
    what = detail(report, "session 1: order of the requests")
    assert what == "5 ServiceDetailReq after SessionSetupReq"


def test_a_message_of_another_session_is_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    stop = messages.session_stop_req()
    data = plain(tmp_path / "c", [*spoken[:16], (True, envelope("SessionStopReq", stop))])
    report = inspect(data, scope)
    what = detail(report, "session 1: one session, one SessionID")
    assert what.startswith("17 SessionStopReq: 0000000000000000 instead of ")


def test_a_late_response_and_a_silent_car_are_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    now = [NOW * 10**9]
    with Capture(tmp_path / "c", clock=lambda: now[0]) as capture:
        connection = capture.connection(STATION, CAR)
        for number, (by_car, data) in enumerate(spoken[:6], 1):
            now[0] += {4: 2_001, 5: 60_001}.get(number, 1) * 10**6
            connection.wire("in" if by_car else "out", data)
    report = inspect((tmp_path / "c").read_bytes(), scope)
    late = detail(report, "session 1: responses in time")
    assert late == "4 SessionSetupRes after 2.001 s of 2.000 s"
    assert (
        detail(report, "session 1: requests within 60 s") == "5 ServiceDiscoveryReq after 60.001 s"
    )
    assert "session 1: ends with SessionStop" in of(report, NOT_CHECKED)


def test_a_refusal_is_named(tmp_path: Path, spoken: Messages, scope: Scope) -> None:
    refusal = {"ResponseCode": "FAILED_SequenceError", "EVSEID": "ZZ00000"}
    spoken = [*spoken[:3], (False, envelope("SessionSetupRes", refusal))]
    report = inspect(plain(tmp_path / "c", spoken), scope)
    told = detail(report, "session 1: response codes")
    assert told.startswith("4 SessionSetupRes: FAILED_SequenceError (")


def test_a_response_code_of_another_message_is_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    wrong = {"ResponseCode": "OK_CertificateExpiresSoon", "EVSEID": "ZZ00000"}
    spoken = [*spoken[:3], (False, envelope("SessionSetupRes", wrong))]
    report = inspect(plain(tmp_path / "c", spoken), scope)
    told = detail(report, "session 1: each response code is one of its message")
    assert told == "4 SessionSetupRes: OK_CertificateExpiresSoon"


def test_a_station_that_says_ongoing_for_too_long_is_named(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    request = envelope("AuthorizationReq", {})
    waiting = {"ResponseCode": "OK", "EVSEProcessing": "Ongoing"}
    response = envelope("AuthorizationRes", waiting)
    now = [NOW * 10**9]
    with Capture(tmp_path / "c", clock=lambda: now[0]) as capture:
        connection = capture.connection(STATION, CAR)
        for _ in range(4):
            connection.wire("in", request)
            connection.wire("out", response)
            now[0] += 25 * 10**9
    report = inspect((tmp_path / "c").read_bytes(), scope)
    told = detail(report, "session 1: no response is Ongoing for too long")
    assert told == "8 AuthorizationRes, since 75.000 s"


def test_a_challenge_of_another_session_is_named(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope
) -> None:
    other = session(world)
    report = inspect(plain(tmp_path / "c", [*spoken[:14], *other[14:]]), scope)
    check = "session 1: AuthorizationReq has the station's challenge"
    assert check in of(report, FAILED)


def test_an_alert_is_named_with_its_sender(tmp_path: Path, scope: Scope) -> None:
    with Capture(tmp_path / "c", clock=steady_clock(NOW)) as capture:
        search(capture)
        pair = TlsPair(capture)
        pair.connection.wire("in", b"\x15\x03\x03\x00\x02\x02\x30")
    # An alert in the open after the handshake, as a forger would send it.
    report = inspect((tmp_path / "c").read_bytes(), scope)
    assert "does not verify" in detail(report, "session 1: every byte is there and readable")
    data = b"\x16\x03\x03\x00\x05\x01\x00\x00\x01\x00"
    with Capture(tmp_path / "d", clock=steady_clock(NOW)) as capture:
        search(capture)
        connection = capture.connection(STATION, CAR)
        connection.wire("in", data)
        connection.wire("out", b"\x15\x03\x03\x00\x02\x02\x28")
    report = inspect((tmp_path / "d").read_bytes(), scope)
    assert detail(report, "session 1: TLS: no alert") == "station: handshake_failure"


# -- other protocols --------------------------------------------------------------------------


LATER = "not supported (yet)"


def test_messages_of_other_protocols_have_their_names(
    tmp_path: Path, spoken: Messages, scope: Scope
) -> None:
    foreign = [
        (True, v2gtp.encode(b"\x80\x12\x34", 0x8002)),
        (True, v2gtp.encode(b"\x80\x12\x34", 0x8004)),
        (True, v2gtp.encode(b"\x80\x9a\x00\x11\xd0")),
        (True, v2gtp.encode(bytes.fromhex("8008040000000000000000080e2cfaa062"))),
    ]
    report = inspect(plain(tmp_path / "c", [*spoken[:2], *foreign]), scope)
    assert names(report)[2:] == [
        f"ISO 15118-20 (common messages), {LATER}",
        f"ISO 15118-20 (DC), {LATER}",
        f"DIN 70121, {LATER}",
        f"ISO 15118-20, {LATER}",
    ]


def test_the_offers_of_a_car_have_their_names(tmp_path: Path, scope: Scope) -> None:
    offers = [
        {
            "ProtocolNamespace": namespace,
            "VersionNumberMajor": 2,
            "VersionNumberMinor": 0,
            "SchemaID": number,
            "Priority": number,
        }
        for number, namespace in enumerate(
            (messages.NAMESPACE, "urn:din:70121:2012:MsgDef", "urn:iso:std:iso:15118:-20:DC"), 1
        )
    ]
    offer = exi.encode({"supportedAppProtocolReq": {"AppProtocol": offers}}, "sap")
    report = inspect(plain(tmp_path / "c", [(True, v2gtp.encode(offer))]), scope)
    (message,) = report.content["sessions"][0]["messages"]
    assert message["note"] == f"ISO 15118-2, DIN 70121 ({LATER}), ISO 15118-20 ({LATER})"


def test_a_frame_of_iso15118_20_has_its_name(scope: Scope) -> None:
    report = inspect(v2gtp.encode(b"\x80\x12", 0x8003), scope)
    assert report.kind == f"V2GTP, ISO 15118-20 (AC), {LATER}"
    assert report.ok


@pytest.mark.parametrize("form", [bytes, lambda it: it.hex().encode(), base64.b64encode])
@pytest.mark.parametrize(
    ("start", "name"),
    [
        ("809a0011d020", "DIN 70121"),
        ("8008040000000000000000080e2cfaa062", "ISO 15118-20"),  # AuthorizationSetupReq
        ("8098042a55aa1f00000000080e2cfaa06200", "ISO 15118-20"),  # SessionStopRes
    ],
)
def test_a_document_of_another_protocol_has_its_name(
    start: str, name: str, form: Callable[[bytes], bytes], scope: Scope
) -> None:
    with pytest.raises(UnreadableError, match=f"^a message of {name}: not supported"):
        inspect(form(bytes.fromhex(start)), scope)


def test_a_broken_message_of_iso15118_2_is_not_called_one_of_another_protocol(
    scope: Scope,
) -> None:
    body = messages.session_setup_req(bytes(6))
    for length in range(9):
        message = exi.encode(messages.envelope(bytes(length), "SessionSetupReq", body))
        with pytest.raises(UnreadableError, match=r"^begins like EXI, but"):
            inspect(message[:-3], scope)


def test_the_handshake_without_a_frame_has_its_name(spoken: Messages, scope: Scope) -> None:
    names = [inspect(v2gtp_[8:], scope).kind for _, v2gtp_ in spoken[:2]]
    assert names == ["supportedAppProtocolReq", "supportedAppProtocolRes"]
