"""The station's half of a test case's session, message by message."""

from __future__ import annotations

from typing import Any

from evcc import exi
from evcc.iso15118_2 import messages
from evcc.link import v2gtp
from iso2_requests import REQUESTS
from plugvault.campaign.case_session import Attempt, CaseSecc
from plugvault.cases.case import Timing
from plugvault.station import Offer
from world import World

SESSION = bytes(range(1, 9))


def attempt_of(message: bytes, *, is_asked: bool) -> Attempt:
    return Attempt(message, SESSION, is_asked, Timing(), 1.0)


def begun(attempt: Attempt) -> CaseSecc:
    secc = CaseSecc(attempt, Offer(), (), lambda: 0, 0, secure=True)
    hello = {"supportedAppProtocolReq": messages.supported_app_protocol_req()}
    secc.receive(v2gtp.encode(exi.encode(hello, "sap")), 0)
    return secc


def answers(secc: CaseSecc, name: str, body: dict[str, Any] | None = None) -> list[bytes]:
    """The payloads of the station's frames after a request."""
    message = messages.envelope(secc.session_id, name, REQUESTS[name] if body is None else body)
    frames, _ = secc.receive(v2gtp.encode(exi.encode(message)), 0)
    return [frame[v2gtp.HEADER_BYTES :] for frame in frames]


def names(payloads: list[bytes]) -> list[str]:
    return [messages.opened(exi.decode(payload))[1] for payload in payloads]


def test_a_session_has_the_id_of_its_case(world: World) -> None:
    secc = begun(attempt_of(world.response(world.oem_sub2.point), is_asked=True))
    answers(secc, "SessionSetupReq")
    assert secc.session_id == SESSION


def test_an_unsolicited_message_comes_before_a_response_and_no_contract_is_offered(
    world: World,
) -> None:
    message = world.response(world.oem_sub2.point)
    attempt = attempt_of(message, is_asked=False)
    secc = begun(attempt)
    answers(secc, "SessionSetupReq")
    assert not attempt.given
    planted, discovered = answers(secc, "ServiceDiscoveryReq")
    assert attempt.given
    assert planted == message
    (body,) = exi.decode(discovered)["V2G_Message"]["Body"].values()
    assert "ServiceList" not in body


def test_a_planted_contract_that_pays_is_noted(world: World) -> None:
    attempt = attempt_of(world.response(world.oem_sub2.point), is_asked=False)
    secc = begun(attempt)
    for name in ("SessionSetupReq", "ServiceDiscoveryReq"):
        answers(secc, name)
    selection = messages.payment_service_selection_req("Contract", [(1, None)])
    answers(secc, "PaymentServiceSelectionReq", selection)
    details = messages.payment_details_req("DEPVT0000000012", world.contract.chain)
    assert names(answers(secc, "PaymentDetailsReq", details)) == ["PaymentDetailsRes"]
    assert attempt.paid_with == world.contract.der


def test_the_message_of_a_case_is_sent_byte_for_byte_whatever_it_holds() -> None:
    attempt = attempt_of(b"\x80 no EXI at all", is_asked=True)
    secc = begun(attempt)
    for name in ("SessionSetupReq", "ServiceDiscoveryReq", "PaymentServiceSelectionReq"):
        answers(secc, name)
    assert answers(secc, "CertificateInstallationReq") == []  # it is fetched
    frames, _ = secc.fetched(None, 0)
    assert frames == [v2gtp.encode(attempt.message)]
    assert names(answers(secc, "CertificateInstallationReq")) == ["CertificateInstallationRes"]
    assert secc.state == "closed"
