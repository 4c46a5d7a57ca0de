"""`plugvault inspect` tells each session in a capture, with the keys that it is given."""

import json
import re
import socket
import ssl
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path

import pytest
from defusedxml import ElementTree
from rich.console import Console

from captured import (
    CAR,
    TlsPair,
    converse,
    session,
    station_chain,
    steady_clock,
)
from evcc import exi, x509
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from inspected_captures import (
    NAMES,
    NO_ENCRYPT_THEN_MAC,
    Messages,
    detail,
    envelope,
    names,
    of,
    over_tls,
    pcap,
    plain,
)
from plugvault.capture import Capture
from plugvault.capture.files import Frame, records
from plugvault.cli.app import main
from plugvault.inspection import inspect
from plugvault.inspection.report import FAILED, NOT_CHECKED, OK, Scope
from plugvault.inspection.sequence import draw
from plugvault.inspection.show import show
from world import NOW, World


@pytest.fixture(scope="module")
def spoken(world: World) -> Messages:
    return session(world)


@pytest.fixture(scope="module")
def scope(world: World) -> Scope:
    return Scope(NOW, tuple(x509.parse(der) for _, der in world.anchors))


@pytest.fixture
def whole(tmp_path: Path, world: World, spoken: Messages) -> bytes:
    return over_tls(tmp_path / "whole.pcapng", world, spoken)


# -- a whole session --------------------------------------------------------------------------


def test_a_session_is_told_from_its_search_to_its_end(whole: bytes, scope: Scope) -> None:
    report = inspect(whole, scope)
    assert report.kind == "capture"
    assert of(report, FAILED) == []
    (told,) = report.content["sessions"]
    assert names(report) == NAMES
    assert (told["car"], told["station"]) == ("[fe80::2]:51000", "[fe80::1]:49152")
    assert [search["name"] for search in told["sdp"]] == ["SDP request", "SDP response"]
    assert told["tls"]["suite"] == "ECDHE-ECDSA-AES128-SHA256"
    assert told["end"] == "closed by the car"
    assert report.content["searches"] == []


def test_an_installation_in_a_capture_has_every_check_of_the_message_alone(
    whole: bytes, spoken: Messages, scope: Scope
) -> None:
    alone = inspect(spoken[11][1], scope)
    head = "session 1, message 12 CertificateInstallationRes: "
    rows = [
        (check.check.removeprefix(head), check.verdict)
        for check in inspect(whole, scope).checks
        if check.check.startswith(head)
    ]
    left_out = ("V2GTP payload type", "V2GTP length", "EXI in its plain form")
    assert rows == [(c.check, c.verdict) for c in alone.checks if c.check not in left_out]
    assert len(rows) > 40


def test_a_signature_is_verified_with_the_contract_of_its_session(
    whole: bytes, spoken: Messages, scope: Scope
) -> None:
    alone = inspect(spoken[14][1], scope)
    assert "signature of SignedInfo" in of(alone, NOT_CHECKED)
    check = "session 1, message 15 AuthorizationReq: signature of SignedInfo"
    assert check in of(inspect(whole, scope), OK)


def test_a_capture_is_judged_at_its_own_time_unless_told_otherwise(
    whole: bytes, scope: Scope
) -> None:
    late = Scope(NOW + 10 * 365 * 86400, scope.anchors)
    assert of(inspect(whole, late), FAILED)
    now = Scope(late.at, scope.anchors, is_now=True)
    assert of(inspect(whole, now), FAILED) == []


@pytest.mark.parametrize("options", [0, NO_ENCRYPT_THEN_MAC])
def test_both_orders_of_mac_and_encryption_are_read(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope, options: int
) -> None:
    data = over_tls(tmp_path / "c", world, spoken, options=options)
    assert names(inspect(data, scope)) == NAMES


@pytest.mark.parametrize(
    "suite", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384"]
)
def test_other_suites_are_read_and_named(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope, suite: str
) -> None:
    report = inspect(over_tls(tmp_path / "c", world, spoken, suite=suite), scope)
    assert names(report) == NAMES
    assert of(report, FAILED) == ["session 1: TLS: a suite of ISO 15118-2"]


def test_tls_1_3_is_named_and_not_read(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope
) -> None:
    data = over_tls(tmp_path / "c", world, spoken, version=ssl.TLSVersion.TLSv1_3)
    report = inspect(data, scope)
    assert report.content["sessions"][0]["tls"]["version"] == "TLS 1.3"
    assert "session 1: TLS: version 1.2" in of(report, FAILED)


# -- keys -------------------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path: Path, world: World, spoken: Messages) -> tuple[bytes, bytes]:
    """A capture without its keys, and the keys."""
    data = over_tls(tmp_path / "with.pcapng", world, spoken)
    keys = (tmp_path / "with.pcapng.keys").read_bytes()
    frames = [record for record in records(BytesIO(data)) if isinstance(record, Frame)]
    return pcap(frames), keys


def test_without_a_key_the_session_is_told_up_to_its_encryption(
    sealed: tuple[bytes, bytes], scope: Scope
) -> None:
    report = inspect(sealed[0], scope)
    assert names(report) == []
    assert "no key" in detail(report, "session 1: every byte is there and readable")
    assert "session 1: TLS, station's chain: role CPO" in of(report, OK)


def test_the_keys_of_a_key_log_open_a_capture(sealed: tuple[bytes, bytes], scope: Scope) -> None:
    data, keys = sealed
    report = inspect(data, Scope(scope.at, scope.anchors, keylog=b"# a comment\n" + keys))
    assert names(report) == NAMES


def test_keys_that_travel_in_datagrams_open_a_capture(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope
) -> None:
    with Capture(tmp_path / "c", clock=steady_clock(NOW)) as capture:
        pair = TlsPair(capture, chain=station_chain(world))
        line = capture.keys.read_bytes().splitlines()[-1]
        capture.datagram((CAR[0], 49152), ("ff02::1", 49152), line)
        converse(pair, spoken)
    data = (tmp_path / "c").read_bytes()
    frames = [record for record in records(BytesIO(data)) if isinstance(record, Frame)]
    assert names(inspect(pcap(frames), scope)) == NAMES


def test_a_wrong_key_is_told_and_nothing_is_invented(
    sealed: tuple[bytes, bytes], scope: Scope
) -> None:
    data, keys = sealed
    wrong = keys[: keys.rindex(b" ")] + b" " + b"00" * 48
    report = inspect(data, Scope(scope.at, scope.anchors, keylog=wrong))
    assert names(report) == []
    assert "does not verify" in detail(report, "session 1: every byte is there and readable")


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES128-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"])
@pytest.mark.parametrize("options", [0, NO_ENCRYPT_THEN_MAC])
def test_a_record_that_was_changed_ends_its_direction(
    tmp_path: Path, world: World, spoken: Messages, scope: Scope, suite: str, options: int
) -> None:
    with Capture(tmp_path / "c", clock=steady_clock(NOW)) as capture:
        pair = TlsPair(capture, chain=station_chain(world), suite=suite, options=options)
        converse(pair, spoken[:4])
        before = (tmp_path / "c").stat().st_size
        converse(pair, spoken[4:])
    data = bytearray((tmp_path / "c").read_bytes())
    at = data.index(b"\x17\x03\x03", before) + 5 + 20  # of the car: ServiceDiscoveryReq
    data[at] ^= 1
    report = inspect(bytes(data), scope)
    assert NAMES[4] not in names(report)
    assert set(NAMES[1::2]) <= set(names(report))  # the station's messages are all there
    problem = detail(report, "session 1: every byte is there and readable")
    assert problem.startswith("the client: encrypted record 4 does not verify")


# -- what a person sees -----------------------------------------------------------------------


def test_the_story_has_a_line_for_each_message(whole: bytes, scope: Scope) -> None:
    console = Console(file=(text := StringIO()), width=140)
    show(console, "c.pcapng", inspect(whole, scope))
    for name in NAMES:
        assert name in text.getvalue()
    assert "OCSP: not asked for" in text.getvalue()


def test_the_picture_is_whole_and_needs_no_other_file(whole: bytes, scope: Scope) -> None:
    picture = draw("c.pcapng", inspect(whole, scope).content)
    root = ElementTree.fromstring(picture)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert set(NAMES) <= set(texts)
    assert "prefers-color-scheme: dark" in picture
    assert picture.count("http") == 1  # the namespace: nothing is loaded


def test_words_of_a_peer_steer_no_picture(tmp_path: Path, scope: Scope) -> None:
    evil = {"ResponseCode": "OK_NewSessionEstablished", "EVSEID": "</text><script>&\x1b[2J"}
    data = plain(tmp_path / "c", [(False, envelope("SessionSetupRes", evil))])
    picture = draw("<&>", inspect(data, scope).content)
    root = ElementTree.fromstring(picture)
    assert not [element for element in root.iter() if "script" in element.tag]
    assert "\x1b" not in picture


# -- the command ------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(["inspect", *arguments])
    return int(end.value.code or 0), capsys.readouterr().out


def test_the_command_reads_the_keys_beside_a_capture_and_draws_it(
    tmp_path: Path, sealed: tuple[bytes, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pcap").write_bytes(sealed[0])
    (tmp_path / "a.pcap.keys").write_bytes(sealed[1])
    picture = tmp_path / "a.svg"
    status, out = run(capsys, str(tmp_path / "a.pcap"), "--json", "--svg", str(picture))
    document = json.loads(out)
    assert (status, document["kind"]) == (0, "capture")
    (told,) = document["content"]["sessions"]
    assert [message["name"] for message in told["messages"]] == NAMES
    assert "SessionStopRes" in picture.read_text()


def test_the_command_reads_a_key_log(
    tmp_path: Path, sealed: tuple[bytes, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "b.pcap").write_bytes(sealed[0])
    (tmp_path / "keys").write_bytes(sealed[1])
    assert run(capsys, str(tmp_path / "b.pcap"))[0] == 1
    assert run(capsys, str(tmp_path / "b.pcap"), "--keylog", str(tmp_path / "keys"))[0] == 0


def test_a_capture_without_tls_is_made_for_tools_that_have_no_keys(
    tmp_path: Path, sealed: tuple[bytes, bytes], spoken: Messages, scope: Scope,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    source, out = tmp_path / "a.pcap", tmp_path / "plain.pcapng"
    source.write_bytes(sealed[0])
    (tmp_path / "a.pcap.keys").write_bytes(sealed[1])
    assert run(capsys, str(source), "--plain", str(out))[0] == 0
    before = inspect(sealed[0], replace(scope, keylog=sealed[1])).content["sessions"][0]
    report = inspect(out.read_bytes(), scope)
    (after,) = report.content["sessions"]
    assert names(report) == NAMES
    assert after["messages"] == [
        {**message, "at": moved["at"]}
        for message, moved in zip(before["messages"], after["messages"], strict=True)
    ]
    assert [after[end] for end in ("car", "station")] == [
        before[end] for end in ("car", "station")
    ]
    assert len(after["sdp"]) == 2
    assert not (tmp_path / "plain.pcapng.keys").exists()
    assert b"".join(data for _, data in spoken[:1]) in out.read_bytes()


@pytest.mark.parametrize("option", ["--svg", "--plain"])
def test_a_picture_of_no_capture_is_refused(
    tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "frame").write_bytes(v2gtp.encode(b"\x80\x12", 0x8003))
    assert run(capsys, str(tmp_path / "frame"), option, str(tmp_path / "x"))[0] == 2
    assert not (tmp_path / "x").exists()


# -- the document -----------------------------------------------------------------------------


DOCUMENT = Path(__file__).parents[2] / "host/docs/captures.md"


def test_options_in_the_document_are_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    _, inspects = run(capsys, "--help")
    with pytest.raises(SystemExit):
        main(["station", "--help"])
    serves = capsys.readouterr().out
    named = set(re.findall(r"(?<!\S)`?(--[a-z]+)", DOCUMENT.read_text()))
    assert {"--keylog", "--svg", "--plain", "--pcap"} <= named
    assert [option for option in named if option not in inspects + serves] == []


def test_the_program_in_the_document_writes_a_capture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scope: Scope
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    offer = exi.encode({"supportedAppProtocolReq": messages.supported_app_protocol_req()}, "sap")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        peer = socket.create_connection(server.getsockname()[:2])
        sock, _ = server.accept()
        with peer, sock:
            words = {
                "sock": sock,
                "context": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
                "received": v2gtp.encode(offer),
                "sent": v2gtp.encode(offer),
            }
            exec(program, words)
    report = inspect((tmp_path / "session.pcapng").read_bytes(), scope)
    (told,) = report.content["sessions"]
    assert (len(told["messages"]), told["end"]) == (2, "closed by the car")
