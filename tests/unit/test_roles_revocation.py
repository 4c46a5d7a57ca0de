"""The maker's OCSP client: the signers it trusts, and the answers it rejects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from bundles import PROVISIONING, WORLD
from fixtures.pools import authority
from fixtures.responders import Listener
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.pki import responder
from plugvault.pki.responder import RevocationEntry
from plugvault.roles.client import OpcpError
from plugvault.roles.revocation import Responders
from world import EMAID, NOW, Issued, root

LOOPBACK = ("127.0.0.0/8",)
ISSUER = WORLD.mo_sub2
STRANGER = root("MO Root", dc="MO").sub("S1", 1, dc="MO").sub("S2", dc="MO")


class Place(Listener):
    def path(self) -> list[bytes]:
        """Return a contract's path with this responder in its leaf: leaf first, root last."""
        data = issue_contract(EMAID, PROVISIONING.der, authority(ISSUER), NOW, ocsp=self.url)
        return [data.certificate, *data.subs, WORLD.mo_root.der]

    def is_revoked(self, clock: float = NOW) -> bool:
        return Responders(LOOPBACK, lambda: clock)(self.path())


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as responder_:
        yield responder_


def says(
    certificate_status: responder.CertificateStatus, by: Issued = ISSUER, at: float = NOW
) -> Callable[[bytes], bytes]:
    def answer(request: bytes) -> bytes:
        return responder.answer(
            authority(by), responder.read(request), certificate_status, at, at + 3600
        )

    return answer


def revoked(request: bytes) -> bytes:
    serial = responder.read(request).serial
    return says(RevocationEntry(serial, int(NOW), "keyCompromise"))(request)


@pytest.mark.parametrize(
    "answers, is_revoked", [(says("good"), False), (revoked, True), (says("unknown"), True)]
)
def test_an_answer_signed_by_the_issuer_counts(
    place: Place, answers: Callable[[bytes], bytes], is_revoked: bool
):
    place.answers = answers
    assert place.is_revoked() is is_revoked
    assert place.asked == ["application/ocsp-request"]


def test_a_certificate_without_a_responder_is_not_asked_about(place: Place):
    assert not Responders(LOOPBACK, lambda: NOW)(place.path()[1:])
    assert place.asked == []


def about_another(request: bytes) -> bytes:
    request_ = ocsp.OCSPRequestBuilder().add_certificate(
        WORLD.mo_sub2.certificate, WORLD.mo_root.certificate, hashes.SHA1()
    )
    return says("good")(request_.build().public_bytes(Encoding.DER))


def delegated(**changes: Any) -> Callable[[bytes], bytes]:
    """Return an answer of a delegated responder; `changes` make its certificate wrong."""

    def answer(request: bytes) -> bytes:
        usage = changes.get("usage", [ExtendedKeyUsageOID.OCSP_SIGNING])
        below = changes.get("below", ISSUER)
        extensions = [(x509.ExtendedKeyUsage(usage), False)] if usage else []
        signer = below.issue("Responder", extensions=extensions, **changes.get("dates", {}))
        parsed = ocsp.load_der_ocsp_request(request)
        now = datetime.fromtimestamp(NOW, UTC)
        return (
            ocsp.OCSPResponseBuilder()
            .add_response_by_hash(
                issuer_name_hash=parsed.issuer_name_hash,
                issuer_key_hash=parsed.issuer_key_hash,
                serial_number=parsed.serial_number,
                algorithm=hashes.SHA1(),
                cert_status=ocsp.OCSPCertStatus.GOOD,
                this_update=now,
                next_update=None,
                revocation_time=None,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
            .certificates([signer.certificate])
            .sign(signer.key, hashes.SHA256())
            .public_bytes(Encoding.DER)
        )

    return answer


def test_a_responder_that_the_issuer_certified_may_answer(place: Place):
    place.answers = delegated()
    assert place.is_revoked() is False


@pytest.mark.parametrize(
    "answers",
    [
        lambda request: b"",
        lambda request: b"<html>",
        lambda request: responder.failure("unauthorized"),
        lambda request: responder.failure("try-later"),
        about_another,
        says("good", by=STRANGER),
        says("good", at=NOW - 86_400),
        says("good", at=NOW + 86_400),
        delegated(usage=[]),
        delegated(usage=[ExtendedKeyUsageOID.SERVER_AUTH]),
        delegated(below=STRANGER),
        delegated(dates={"not_before": NOW - 86_400, "not_after": NOW - 1}),
    ],
)
def test_without_a_valid_answer_there_is_no_verdict(
    place: Place, answers: Callable[[bytes], bytes]
):
    place.answers = answers
    with pytest.raises(OpcpError, match="OCSP"):
        place.is_revoked()


def test_an_address_that_is_not_public_is_not_called(place: Place):
    place.answers = says("good")
    with pytest.raises(OpcpError, match="not public"):
        Responders((), lambda: NOW)(place.path())
    assert place.asked == []
