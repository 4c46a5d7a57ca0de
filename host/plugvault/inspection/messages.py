"""ISO 15118-2 messages: the content, and every check of a receiver.

The checks have the order of `evcc.iso15118_2.installation`. A check that only the vehicle can do
(the key of the contract certificate) is named and left open.
"""

from collections.abc import Callable
from typing import Any

from evcc import chain, exi, ids, p256_curve, signature
from evcc.errors import EvccError
from evcc.x509 import Certificate
from plugvault import exi_json
from plugvault.explanation import explain_envelope
from plugvault.explanation.key_transport import point_fault
from plugvault.explanation.signature import other_digest, signer_step
from plugvault.inspection.certificates import check_path, describe, read_all
from plugvault.inspection.pool_checks import check_bundle, check_request
from plugvault.inspection.report import Report, Scope, UnreadableError, listed
from plugvault.pki.verify import verify_p256

Message = dict[str, Any]
Part = tuple[str, str, Any]  # Id, element name, value

# Message: the elements its signature must name; () is the message's own body element.
_FOUR = (
    "ContractSignatureCertChain",
    "ContractSignatureEncryptedPrivateKey",
    "DHpublickey",
    "eMAID",
)
_SIGNED: dict[str, tuple[str, ...]] = {
    "CertificateInstallationRes": _FOUR,
    "CertificateUpdateRes": _FOUR,
    "CertificateInstallationReq": (),
    "CertificateUpdateReq": (),
    "AuthorizationReq": (),
    "MeteringReceiptReq": (),
}


def inspect_exi(data: bytes, scope: Scope) -> Report:
    """The report of an EXI document of any schema known. Raises UnreadableError."""
    schema = exi_json.detect(data)
    try:
        message = exi.decode(data, schema)
    except EvccError as error:
        text = exi_json.name_of_foreign(data) or f"begins like EXI, but: {error}"
        raise UnreadableError(text) from error
    report = inspect_message(message, schema, scope)
    report.content = {"bytes": len(data), **report.content}
    _check_form(report, data, message, schema)
    return report


def _check_form(report: Report, data: bytes, message: Message, schema: str) -> None:
    """Whether a new encoding gives the same bytes. EXI allows several forms."""
    again = exi.encode(message, schema)
    trailing = data[len(again) :]
    if again == data:
        report.add("EXI in its plain form", True, "encodes to the same bytes")
    elif data.startswith(again) and not any(trailing):
        report.add("EXI in its plain form", True, f"{len(trailing)} zero bytes after it")
    else:
        report.add("EXI in its plain form", None, "readable, but written in another legal form")


def inspect_message(message: Message, schema: str, scope: Scope) -> Report:
    """The report of a decoded message."""
    root = next(iter(message))
    content = {"schema": schema, "message": exi_json.to_json(message, schema)}
    if root != "V2G_Message":
        return Report(root, content)
    header, body = message[root].get("Header", {}), message[root].get("Body", {})
    name = next(iter(body), "V2G_Message without body")
    report = Report(name, content)
    value = body.get(name, {})
    certificates = _certificates(value)
    if certificates and not _is_refusal(value):
        content["certificates"] = {
            key: [describe(der) for der in ders] for key, ders in certificates.items()
        }
    if name in _CHECKS:
        _CHECKS[name](report, header, value, scope)
        if name == "CertificateInstallationRes" and not _is_refusal(value):
            check_bundle(report, message, scope)
        elif name == "CertificateInstallationReq":
            check_request(report, message)
    elif "Signature" in header:
        report.add("signature", None, f"no rule for the signature of a {name}")
    return report


def _is_refusal(body: Message) -> bool:
    return bool(body.get("ResponseCode", "").startswith("FAILED"))


# The chains and single certificates that messages carry, by element.
_CERTIFICATES = {
    "SAProvisioningCertificateChain": "CPS chain",
    "ContractSignatureCertChain": "contract chain",
    "OEMProvisioningCert": "provisioning certificate",
}


def _certificates(body: Message) -> dict[str, list[bytes]]:
    chains = {}
    for element, title in _CERTIFICATES.items():
        if isinstance(body.get(element), bytes):
            chains[title] = [body[element]]
        elif element in body:
            chains[title] = chain_of(body[element])
    return chains


def chain_of(value: Message) -> list[bytes]:
    """The certificates of a chain element, leaf first."""
    return [value["Certificate"], *value.get("SubCertificates", {}).get("Certificate", [])]


# --- the messages ---


def _installation_res(report: Report, header: Message, body: Message, scope: Scope) -> None:
    refusal = _is_refusal(body)
    report.add("response code", not refusal, body["ResponseCode"])
    if refusal:
        report.add("everything else", None, "a refusal carries dummies and no signature")
        return
    cps = _path(report, "CPS chain", body["SAProvisioningCertificateChain"], chain.CPS, scope)
    _signature(report, header, body, cps.point if cps else None, "the CPS leaf is unreadable")
    leaf = _path(
        report, "contract chain", body["ContractSignatureCertChain"], chain.CONTRACT, scope,
        vouched=True,
    )  # fmt: skip
    emaid = body["eMAID"]["value"]
    check_emaid(report, emaid, leaf)
    _check_opened(report, header, body, scope)


def check_emaid(report: Report, emaid: str, leaf: Certificate | None) -> None:
    """Compare the EMAID of a message or an answer with the contract certificate's CN."""
    name = "EMAID is the certificate's"
    if leaf is None:
        report.add(name, None, "the contract certificate is unreadable")
        return
    cn = leaf.names.get("CN", "")
    try:
        good = ids.parse_emaid(emaid) == ids.parse_emaid(cn)
    except ids.IdError as error:
        report.add(name, False, f"{emaid!r}, certificate {cn!r}: {error}")
        return
    report.add(name, good, f"{emaid}" if good else f"{emaid}, certificate of {cn}")


def check_sealed(report: Report, point: bytes, wrapped: bytes) -> None:
    """Check the ephemeral point and the sealed key, as far as this is possible without the
    vehicle's key."""
    _check_point(report, point)
    good = len(wrapped) == 48
    report.add(
        "encrypted private key has 48 bytes",
        good,
        "IV and two blocks" if good else f"{len(wrapped)} bytes; IV and two blocks are 48",
    )
    report.add(_SEALED, None, "only the vehicle's provisioning key opens it: --key")


_SEALED = "private key belongs to the contract certificate"


def _check_point(report: Report, point: bytes) -> None:
    good = len(point) == 65 and p256_curve.on_curve(point)
    report.add(
        "DH public key is an uncompressed point of the curve",
        good,
        "65 bytes, uncompressed" if good else point_fault(point),
    )


def _check_opened(report: Report, header: Message, body: Message, scope: Scope) -> None:
    """The sealed key, with the vehicle's key where it is given."""
    point = body["DHpublickey"]["value"]
    wrapped = body["ContractSignatureEncryptedPrivateKey"]["value"]
    check_sealed(report, point, wrapped)
    if scope.key is None:
        return
    report.checks.pop()
    wrong = [
        step
        for step in explain_envelope({"header": header, "body": body}, scope.key)
        if step.good is False
    ]
    detail = f"{wrong[0].name}: {wrong[0].note}" if wrong else "opened with --key"
    report.add(_SEALED, not wrong, detail)


def _installation_req(report: Report, header: Message, body: Message, scope: Scope) -> None:
    certs = _named(report, "provisioning certificate", [body["OEMProvisioningCert"]])
    leaf = certs[0] if certs else None
    if leaf:
        alone = "the request carries the leaf alone; its sub-CAs are in the PCP"
        part = check_path([leaf], chain.PROVISIONING, scope, alone=alone)
        report.include(part, "provisioning certificate")
    _signature(report, header, body, leaf.point if leaf else None, "its certificate is unreadable")


def _update_req(report: Report, header: Message, body: Message, scope: Scope) -> None:
    leaf = _path(
        report, "contract chain", body["ContractSignatureCertChain"], chain.CONTRACT, scope
    )
    _signature(report, header, body, leaf.point if leaf else None, "its certificate is unreadable")
    check_emaid(report, body["eMAID"], leaf)


def _payment_details_req(report: Report, header: Message, body: Message, scope: Scope) -> None:
    leaf = _path(
        report, "contract chain", body["ContractSignatureCertChain"], chain.CONTRACT, scope
    )
    check_emaid(report, body["eMAID"], leaf)


def _signed_elsewhere(report: Report, header: Message, body: Message, scope: Scope) -> None:
    if report.kind == "AuthorizationReq" and "Signature" not in header and "Id" not in body:
        report.add("signature", None, "external payment: nothing is signed")
        return
    where = "the contract certificate is in the session's PaymentDetailsReq"
    _signature(report, header, body, scope.contract_point, where)


_CHECKS: dict[str, Callable[[Report, Message, Message, Scope], None]] = {
    "CertificateInstallationRes": _installation_res,
    "CertificateUpdateRes": _installation_res,
    "CertificateInstallationReq": _installation_req,
    "CertificateUpdateReq": _update_req,
    "PaymentDetailsReq": _payment_details_req,
    "AuthorizationReq": _signed_elsewhere,
    "MeteringReceiptReq": _signed_elsewhere,
}


def _named(report: Report, name: str, ders: list[bytes]) -> list[Certificate] | None:
    part = Report(name)
    certs = read_all(part, ders)
    report.include(part, name)
    return certs


def _path(
    report: Report, name: str, value: Message, role: str, scope: Scope, *, vouched: bool = False
) -> Certificate | None:
    """Check one chain of a message; its leaf, or None when it cannot be read."""
    certs = _named(report, name, chain_of(value))
    if certs is None:
        return None
    report.include(check_path(certs, role, scope, vouched=vouched), name)
    return certs[0]


# --- the signature ---


def _signature(
    report: Report, header: Message, body: Message, point: bytes | None, without: str
) -> None:
    """Every check of an EXI signature. `without`: the reason when there is no public key."""
    name = report.kind
    if "Signature" not in header:
        report.add("signature", False, "there is none")
        return
    parts = _parts(name, body)
    info = header["Signature"].get("SignedInfo", {})
    references = info.get("Reference", [])
    _check_references(report, parts, references)
    _check_algorithms(report, info, references)
    for part in parts:
        _check_digest(report, part, references)
    value = header["Signature"].get("SignatureValue", {}).get("value", b"")
    if point is None:
        report.add("signature of SignedInfo", None, without)
        return
    try:
        good = verify_p256(point, signature.signed_info_digest(info), value)
        signer = "" if good else _signed_instead(info, value, body)
        report.add("signature of SignedInfo", good, signer or f"{len(value)} bytes")
        signature.verify(header["Signature"], parts, point, verify_p256)
        report.add("signature as the vehicle checks it", True, "all of the above in one")
    except EvccError as error:
        report.add("signature as the vehicle checks it", False, str(error))


def _signed_instead(info: Message, value: bytes, body: Message) -> str:
    """The signer or the form of a signature that fails, as far as one is known."""
    if len(value) == 64 and not signature.in_range(value):
        return "r or s is out of range"
    if "SAProvisioningCertificateChain" not in body:
        return "SignedInfo was changed, or another key signed"
    step = signer_step(info, value, body)
    name = step.value if isinstance(step.value, str) else step.value.hex()
    return f"{name}: {step.note}" if step.note else name


def _parts(name: str, body: Message) -> list[Part]:
    elements = _SIGNED[name]
    if not elements:
        return [(body.get("Id", ""), name, body)]
    return [(body[e].get("Id", ""), e, body[e]) for e in elements]


def _check_references(report: Report, parts: list[Part], references: list[Message]) -> None:
    needed = sorted("#" + ident for ident, _, _ in parts)
    stated = sorted(str(reference.get("URI")) for reference in references)
    report.add(
        f"references are exactly the {len(parts)} needed" if len(parts) > 1
        else "reference is exactly the one needed",
        needed == stated,
        listed(stated) if needed == stated else f"{listed(stated)} where {listed(needed)} belong",
    )  # fmt: skip


def _check_algorithms(report: Report, info: Message, references: list[Message]) -> None:
    algorithms = [
        (info.get("CanonicalizationMethod"), signature.CANONICAL_EXI),
        (info.get("SignatureMethod"), signature.ECDSA_SHA256),
    ]
    for reference in references:
        algorithms.append((reference.get("DigestMethod"), signature.SHA256))
        transforms = reference.get("Transforms", {}).get("Transform", [None])
        algorithms += [(transform, signature.CANONICAL_EXI) for transform in transforms]
    used = [(method or {}).get("Algorithm") for method, _ in algorithms]
    bad = [str(a) for a, (_, right) in zip(used, algorithms, strict=True) if a != right]
    report.add("algorithms", not bad, listed(bad) or "ecdsa-sha256, sha256, canonical EXI")


def _check_digest(report: Report, part: Part, references: list[Message]) -> None:
    ident, name, value = part
    check = f"digest of {name}"
    stated = [r.get("DigestValue") for r in references if r.get("URI") == "#" + ident]
    if len(stated) != 1:
        report.add(check, False, f"{len(stated)} references to {ident!r}")
        return
    signed = stated[0] or b""
    try:
        computed = signature.digest(name, value)
        why = "" if signed == computed else other_digest(name, value, signed)
    except EvccError as error:
        report.add(check, False, f"cannot be encoded: {error}")
        return
    if signed == computed:
        report.add(check, True, f"#{ident}, {signed.hex()}")
    else:
        values = f"signed {signed.hex()}, computed {computed.hex()}"
        report.add(check, False, f"#{ident}: {why}; {values}")
