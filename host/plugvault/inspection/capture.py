"""A capture of network traffic, explained as sessions with their search, TLS and messages, and
every check of each message and of the session.

Validity is judged at the time of the session, unless the user gives another one.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, BinaryIO

from evcc import chain, exi, protocols, x509
from evcc.errors import EvccError
from evcc.iso15118_2 import messages
from evcc.network import sdp
from plugvault import exi_json
from plugvault.capture import tls
from plugvault.capture.files import CaptureError
from plugvault.capture.layers import shown
from plugvault.inspection.certificates import check_path, describe, read_all
from plugvault.inspection.conversation import (
    Contents,
    Conversation,
    Search,
    Spoken,
    announced_end,
    read,
)
from plugvault.inspection.messages import inspect_exi
from plugvault.inspection.report import OK, Check, Report, Scope, UnreadableError, listed
from plugvault.inspection.session_rules import Told, check_session, note, response_times
from plugvault.pki import ocsp

LIMIT = 64 << 20  # bytes of a capture file
SESSIONS = 100
MESSAGES = 20_000  # of one capture; a message takes about a millisecond
_MS = 1_000_000  # nanoseconds
_LAST_DATE = 253_402_300_799  # 9999-12-31, in seconds
_ISO_SUITES = (0xC023, 0xC025)
_MESSAGE = "message "  # how the checks of one message begin
_FORM = "EXI in its plain form"
_SECURITY = {sdp.TLS: "TLS", sdp.NO_TLS: "no TLS"}


def inspect_capture(stream: BinaryIO, scope: Scope) -> Report:
    """The report of a pcap or pcapng. Raises UnreadableError."""
    try:
        contents = read(stream, scope.keylog)
    except CaptureError as error:
        raise UnreadableError(str(error)) from error
    report = Report("capture")
    if contents.problems:
        report.add("capture readable to its end", False, listed(contents.problems))
    telling = _Telling(report, contents.searches)
    sessions = [
        telling.session(number, conversation, scope)
        for number, conversation in enumerate(contents.conversations[:SESSIONS], 1)
    ]
    report.content = {
        "packets": contents.packets,
        "keys": contents.keys,
        **_left_out(contents),
        "sessions": sessions,
        "searches": [
            _search(search)
            for number, search in enumerate(contents.searches[:SESSIONS])
            if number not in telling.used
        ],
    }
    if not sessions:
        report.add("a session of ISO 15118 is in it", None, "no V2GTP, and no TLS of a station")
    return report


def _left_out(contents: Contents) -> dict[str, int]:
    left_out = {
        "packetsOfUnreadLinks": contents.unread,
        "otherConnections": contents.others,
        "furtherSessions": max(len(contents.conversations) - SESSIONS, 0),
    }
    return {name: count for name, count in left_out.items() if count}


class _Telling:
    """One session after another. used: the places of the searches that belong to a session. left:
    the number of messages that may still be shown."""

    def __init__(self, report: Report, searches: list[Search]) -> None:
        self.used: set[int] = set()
        self.left = MESSAGES
        self._report = report
        self._searches = searches

    def session(self, number: int, conversation: Conversation, scope: Scope) -> dict[str, Any]:
        """The content of one session; its checks go into the report."""
        _put_car_first(conversation)
        connection = conversation.connection
        part = Report("session")
        found = _searches_of(conversation, self._searches)
        self.used.update(found)
        began = min([connection.began, *(self._searches[at].time for at in found)])
        if scope.is_now:
            scope = replace(scope, at=_seconds(began))
        content: dict[str, Any] = {
            "car": shown(connection.client),
            "station": shown(connection.server),
            "began": _date(began),
        }
        if found:
            content["sdp"] = [_search(self._searches[at], began) for at in found]
            _check_security(part, self._searches[found[-1]], conversation)
        if conversation.handshake is not None:
            content["tls"] = _tls(part, conversation.handshake, scope, began)
        told, story = _messages(part, conversation.spoken[: self.left], scope, began)
        self.left -= len(story)
        content["messages"] = story
        if len(story) < len(conversation.spoken):
            content["furtherMessages"] = len(conversation.spoken) - len(story)
        content["seconds"] = _duration(conversation, began)
        content["end"] = _end(conversation)
        _check_connection(part, conversation)
        has_tls = conversation.handshake is not None
        check_session(part, told, is_whole=connection.has_start, has_tls=has_tls)
        self._add(f"session {number}", part.checks)
        return content

    def _add(self, head: str, checks: list[Check]) -> None:
        """Add the checks of a session: first its own, then those of its messages."""
        for check in sorted(checks, key=lambda check: check.check.startswith(_MESSAGE)):
            joint = ", " if check.check.startswith(_MESSAGE) else ": "
            name = head + joint + check.check
            self._report.checks.append(Check(name, check.verdict, check.detail))


def _put_car_first(conversation: Conversation) -> None:
    """The client is the car. Where the capture began later, the first request tells the car."""
    connection = conversation.connection
    if connection.has_start or conversation.handshake is not None:
        return
    for spoken in conversation.spoken:
        name = _name(spoken.payload)
        if name.endswith(("Req", "Res")):
            if spoken.by_client != name.endswith("Req"):
                connection.client, connection.server = connection.server, connection.client
                conversation.spoken = [
                    s._replace(by_client=not s.by_client) for s in conversation.spoken
                ]
            return


def _name(payload: bytes) -> str:
    """The name of a message; "" for none of ISO 15118-2."""
    schema = exi_json.detect(payload)
    try:
        message = exi.decode(payload, schema)
    except exi.ExiError:
        return ""
    return messages.opened(message)[1] if schema == "iso2" else str(next(iter(message)))


def _check_connection(part: Report, conversation: Conversation) -> None:
    connection = conversation.connection
    if not connection.has_start:
        part.add("the capture has its beginning", None, "it began later")
    part.add(
        "every byte is there and readable",
        not conversation.problems,
        listed(conversation.problems[:5]) or f"{connection.repeated} segments were sent again",
    )


def _end(conversation: Conversation) -> str:
    ends = {"client": "the car", "server": "the station"}
    verb, _, end = conversation.connection.end.rpartition(" ")
    return f"{verb} {ends[end]}" if end else "still open when the capture ended"


# -- the search ---------------------------------------------------------------------------------


def _searches_of(conversation: Conversation, searches: list[Search]) -> list[int]:
    """The last answer that names the station before the connection, and the request before it."""
    connection = conversation.connection
    answer = None
    for at, search in enumerate(searches):
        if search.time <= connection.began and announced_end(search.data) == connection.server:
            answer = at
    if answer is None:
        return []
    car = searches[answer].destination
    for at in range(answer - 1, -1, -1):
        if searches[at].source == car and searches[at].data[2:4] == b"\x90\x00":
            return [at, answer]
    return [answer]


def _search(search: Search, began: int | None = None) -> dict[str, Any]:
    is_answer = search.data[2:4] == b"\x90\x01"
    body = search.data[8:]
    content: dict[str, Any] = {
        "at": _date(search.time) if began is None else _at(search.time, began),
        "name": "SDP response" if is_answer else "SDP request",
        "from": shown(search.source),
        "to": shown(search.destination),
    }
    end = announced_end(search.data)
    if end is not None:
        content["station"] = shown(end)
        body = body[18:]
    if len(body) < 2:
        return {**content, "broken": search.data.hex()[:200]}
    return {**content, "security": _SECURITY.get(body[0], f"{body[0]:02x}")}


def _check_security(part: Report, answer: Search, conversation: Conversation) -> None:
    body = answer.data[8 + 18 :]
    stated = _SECURITY.get(body[0], f"{body[0]:02x}") if body else "nothing"
    spoken = "no TLS" if conversation.handshake is None else "TLS"
    part.add(
        "the connection is as SDP has said", stated == spoken, f"SDP: {stated}, then {spoken}"
    )


# -- TLS ----------------------------------------------------------------------------------------


def _tls(part: Report, handshake: tls.Handshake, scope: Scope, began: int) -> dict[str, Any]:
    version = tls.VERSIONS.get(handshake.version, f"{handshake.version:04x}")
    suite = tls.SUITES.get(handshake.suite)
    name = suite.name if suite else f"{handshake.suite:04x}"
    alerts = [_alert(by_client, number) for by_client, number in handshake.alerts]
    content: dict[str, Any] = {"version": version, "suite": name}
    if handshake.completed:
        content["completed"] = _at(handshake.completed, began)
    part.add("TLS: version 1.2", handshake.version == 0x0303, version)
    part.add("TLS: a suite of ISO 15118-2", handshake.suite in _ISO_SUITES, name)
    harmful = [alert for alert in alerts if not alert.endswith("close_notify")]
    part.add("TLS: no alert", not harmful, listed(harmful))
    if alerts:
        content["alerts"] = alerts
    if handshake.wants_certificate:
        content["clientCertificate"] = "given" if handshake.has_client_certificate else "wanted"
    content["trustedCaKeys"] = handshake.names_roots
    if handshake.chain:
        content["chain"] = [describe(der) for der in handshake.chain]
        _check_chain(part, handshake.chain, scope)
    content["ocsp"] = _check_ocsp(part, handshake, scope)
    return content


def _alert(by_client: bool, number: int) -> str:
    name = tls.ALERTS.get(number, f"alert {number}")
    return f"{'car' if by_client else 'station'}: {name}"


def _check_chain(part: Report, ders: list[bytes], scope: Scope) -> None:
    inner = Report("chain")
    certs = read_all(inner, ders)
    if certs:
        inner.include(check_path(certs, chain.CPO, scope), "")
    part.include(inner, "TLS, station's chain")


def _check_ocsp(part: Report, handshake: tls.Handshake, scope: Scope) -> str:
    """A few words about the stapled answer, which concerns the leaf alone."""
    name = "TLS: OCSP answer of the station"
    if not handshake.ocsp:
        words = "asked for, not given" if handshake.asks_ocsp else "not asked for"
        part.add(name, None, words)
        return words
    issuer = _issuer(handshake.chain, scope)
    if issuer is None:
        part.add(name, None, "the issuer of the station's certificate is not there")
        return "given, not checked"
    try:
        answer = ocsp.read(handshake.ocsp, handshake.chain[0], issuer, scope.at)
    except EvccError as error:
        part.add(name, False, str(error))
        return f"given, refused: {error}"
    part.add(name, answer.status == "good", answer.status)
    return answer.status


def _issuer(ders: list[bytes], scope: Scope) -> bytes | None:
    try:
        certs = [x509.parse(der) for der in ders]
    except EvccError:
        return None
    above = [*certs[1:], *scope.anchors]
    return next((cert.der for cert in above if cert.subject == certs[0].issuer), None)


# -- the messages -------------------------------------------------------------------------------


def _messages(
    part: Report, everything: list[Spoken], scope: Scope, began: int
) -> tuple[list[Told], list[dict[str, Any]]]:
    """The messages that the rules understand, and all of them for the story."""
    told: list[Told] = []
    story: list[dict[str, Any]] = []
    plain = 0
    for number, spoken in enumerate(everything, 1):
        row: dict[str, Any] = {
            "at": _at(spoken.time, began),
            "from": "car" if spoken.by_client else "station",
            "bytes": 8 + len(spoken.payload),
        }
        inner, message = _read(spoken, scope)
        if message is not None:
            told.append(_told(number, spoken, message, began))
            scope = _with_contract(scope, told[-1])
            row |= _summary(told[-1])
        row = {"name": inner.kind, **inner.content, **row}
        plain += any(c.check == _FORM and c.verdict == OK for c in inner.checks)
        checks = [c for c in inner.checks if c.check != _FORM or c.verdict != OK]
        part.include(Report("", checks=checks), f"{_MESSAGE}{number} {inner.kind}")
        story.append(row)
    if story:
        part.add("EXI in its plain form", True if plain else None, f"{plain} of {len(story)}")
    for number, milliseconds in response_times(told).items():
        story[number - 1]["afterMs"] = round(milliseconds, 3)
    return told, story


def _read(spoken: Spoken, scope: Scope) -> tuple[Report, dict[str, Any] | None]:
    """The report of one message, and the message where it is one of ISO 15118-2."""
    if spoken.payload_type != 0x8001:
        name = protocols.of_payload(spoken.payload_type) or f"payload {spoken.payload_type:04x}"
        return _unread(f"{name}, {protocols.LATER}", spoken), None
    try:
        report = inspect_exi(spoken.payload, scope)
    except UnreadableError as error:
        name = exi_json.foreign_protocol(spoken.payload)
        kind = f"{name}, {protocols.LATER}" if name else "?"
        return _unread(kind, spoken, str(error)), None
    return report, exi.decode(spoken.payload, report.content["schema"])


def _unread(kind: str, spoken: Spoken, why: str = "") -> Report:
    report = Report(kind, {"payload": spoken.payload.hex()[:2000]})
    report.add("a message of ISO 15118-2", False if why and kind == "?" else None, why or kind)
    return report


def _told(number: int, spoken: Spoken, message: dict[str, Any], began: int) -> Told:
    time = (spoken.time - began) / _MS
    if "V2G_Message" in message:
        session_id, name, body, _ = messages.opened(message)
        return Told(number, time, spoken.by_client, name, body, session_id)
    ((name, body),) = message.items()
    return Told(number, time, spoken.by_client, name, body if isinstance(body, dict) else {}, None)


def _summary(told: Told) -> dict[str, str]:
    """Response code and a few words."""
    words = note(told.name, told.body)
    if told.name == "supportedAppProtocolReq":
        offers = [offer["ProtocolNamespace"] for offer in told.body["AppProtocol"]]
        words = listed(dict.fromkeys(map(_protocol, offers)))
    summary = {"responseCode": told.body.get("ResponseCode"), "note": words}
    return {name: str(value) for name, value in summary.items() if value}


def _protocol(namespace: str) -> str:
    name = protocols.of_namespace(namespace)
    return name if name == protocols.ISO2 else f"{name} ({protocols.LATER})"


def _with_contract(scope: Scope, told: Told) -> Scope:
    """The scope for what follows: signatures with the contract key that the car has named."""
    if told.name != "PaymentDetailsReq":
        return scope
    try:
        leaf = x509.parse(told.body["ContractSignatureCertChain"]["Certificate"])
    except EvccError:
        return replace(scope, contract_point=None)
    return replace(scope, contract_point=leaf.point)


# -- times --------------------------------------------------------------------------------------


def _duration(conversation: Conversation, began: int) -> float:
    times: Iterable[int] = (chunk.time for chunk in conversation.connection.chunks)
    return _at(max(times, default=began), began)


def _at(time: int, began: int) -> float:
    """Seconds since the session began."""
    return round((time - began) / 1e9, 6)


def _seconds(time: int) -> int:
    return max(0, min(time // 1_000_000_000, _LAST_DATE))


def _date(time: int) -> str:
    date = datetime.fromtimestamp(_seconds(time), UTC)
    return date.strftime("%Y-%m-%dT%H:%M:%S") + f".{time // _MS % 1000:03}Z"
