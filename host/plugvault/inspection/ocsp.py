"""OCSP requests and responses [RFC 6960]: the certificates they are about, and their verdicts."""

from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from plugvault.inspection.report import Report, Scope
from plugvault.pki.names import serial_hex, timestamp

_GOOD = ocsp.OCSPCertStatus.GOOD


def inspect_ocsp(data: bytes, scope: Scope) -> Report | None:
    """The report of an OCSP request or response in DER; None for any other bytes."""
    try:
        return _response(ocsp.load_der_ocsp_response(data), scope)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass
    try:
        request = ocsp.load_der_ocsp_request(data)
        return Report("OCSP request", _asked(request))
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _asked(request: Any) -> dict[str, Any]:
    return {
        "serial": serial_hex(request.serial_number),
        "hash": request.hash_algorithm.name,
        "issuerKeyHash": request.issuer_key_hash.hex(),
    }


def _response(response: ocsp.OCSPResponse, scope: Scope) -> Report:
    status = response.response_status
    report = Report("OCSP response", {"status": status.name.lower()})
    is_answer = status == ocsp.OCSPResponseStatus.SUCCESSFUL
    report.add("the responder answers", is_answer, f"response status {status.name.lower()}")
    if not is_answer:
        return report
    answers = list(response.responses)
    report.content |= {
        "producedAt": timestamp(response.produced_at_utc.timestamp()),
        "responder": _responder(response),
        "answers": [_answer(answer) for answer in answers],
    }
    for answer in answers:
        _check(report, answer, scope)
    _check_signature(report, response)
    return report


def _responder(response: ocsp.OCSPResponse) -> str:
    if response.responder_name is not None:
        return response.responder_name.rfc4514_string()
    return "key " + (response.responder_key_hash or b"").hex()


def _answer(answer: ocsp.OCSPSingleResponse) -> dict[str, Any]:
    until = answer.next_update_utc
    revoked = answer.revocation_time_utc
    content = {
        **_asked(answer),
        "status": answer.certificate_status.name.lower(),
        "thisUpdate": timestamp(answer.this_update_utc.timestamp()),
        "nextUpdate": timestamp(until.timestamp()) if until else None,
        "revoked": timestamp(revoked.timestamp()) if revoked else None,
    }
    return {name: value for name, value in content.items() if value is not None}


def _check(report: Report, answer: ocsp.OCSPSingleResponse, scope: Scope) -> None:
    serial = serial_hex(answer.serial_number)
    status = answer.certificate_status
    report.add(f"certificate {serial} is good", status == _GOOD, status.name.lower())
    begins, ends = answer.this_update_utc.timestamp(), answer.next_update_utc
    name = f"answer about {serial} is valid at {timestamp(scope.at)}"
    if scope.at < begins:
        report.add(name, False, f"from {timestamp(begins)} only")
    elif ends is not None and scope.at > ends.timestamp():
        report.add(name, False, f"it ended at {timestamp(ends.timestamp())}")
    else:
        until = "for ever: it has no nextUpdate" if ends is None else timestamp(ends.timestamp())
        report.add(name, True, f"until {until}")


def _check_signature(report: Report, response: ocsp.OCSPResponse) -> None:
    """Check the signature with the responder's own certificate, where the response has it."""
    name = "signature of the response"
    certificates = response.certificates
    if not certificates:
        report.add(name, None, "it has no certificate: the CA that issued the other one signs it")
        return
    signer = certificates[0]
    key, algorithm = signer.public_key(), response.signature_hash_algorithm
    if not isinstance(key, ec.EllipticCurvePublicKey) or algorithm is None:
        report.add(name, None, f"by a key of another kind: {type(key).__name__}")
        return
    try:
        key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(algorithm))
    except InvalidSignature:
        report.add(name, False, f"not by the certificate in it, {_subject(signer)}")
        return
    report.add(name, True, f"by {_subject(signer)}, whose path is not checked here")


def _subject(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
