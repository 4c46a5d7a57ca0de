"""JSON of OPCP 1.0.0: contract data, bundles, provisioning certificates, roots.

One member identifies the kind of a document. Unknown members are shown and not checked.
"""

import base64
import binascii
import re
from collections.abc import Callable
from typing import Any

from evcc import chain, exi, ids, x509
from evcc.errors import EvccError
from evcc.x509 import Certificate
from plugvault import exi_json
from plugvault.contract.data import ContractData
from plugvault.contract.iso15118_2 import xml
from plugvault.inspection.certificates import check_path, describe, inspect_certificates, read_all
from plugvault.inspection.messages import (
    check_emaid,
    check_sealed,
    inspect_exi,
    inspect_message,
)
from plugvault.inspection.pool_checks import check_contract_data
from plugvault.inspection.report import Report, Scope, UnreadableError
from plugvault.pki import forms
from plugvault.pki.names import serial_hex
from plugvault.pki.schemes import EDITIONS
from plugvault.pki.verify import verify_p256

Json = dict[str, Any]

_UUID = "[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"
_FINGERPRINT = re.compile(f"[0-9a-fA-F]{{64}}|{_UUID}")


def inspect_json(document: Any, scope: Scope) -> Report:
    """The report of a parsed JSON document. Raises UnreadableError."""
    if isinstance(document, list) and document and all(isinstance(x, str) for x in document):
        document = {"certificates": document}
    if not isinstance(document, dict):
        raise UnreadableError("JSON, but no object")
    for member, reader in _READERS.items():
        if member in document:
            try:
                return reader(document, scope)
            except (KeyError, TypeError, AttributeError) as error:
                raise UnreadableError(
                    f"JSON with {member}, but not of its form: {error}"
                ) from error
    raise UnreadableError(f"JSON of an unknown kind; its members: {', '.join(document)[:200]}")


def decode(text: Any, name: str) -> bytes:
    """The bytes of a base64 member; of a PEM block, where a member has one. name: of the member.
    Raises UnreadableError."""
    if not isinstance(text, str):
        raise UnreadableError(f"{name} is not a string")
    if "-----BEGIN" in text:
        try:
            return forms.blocks(text.encode())[0].content
        except forms.FormError as error:
            raise UnreadableError(f"{name}: {error.detail}") from error
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise UnreadableError(f"{name} is not base64") from error


# --- shared checks ---


def _ders(document: Json, *members: str) -> list[bytes]:
    """The certificates that are there, in this order."""
    return [decode(document[m], m) for m in members if document.get(m)]


def _chain(
    report: Report, ders: list[bytes], role: str, scope: Scope, **more: Any
) -> Certificate | None:
    report.content["certificates"] = [describe(der) for der in ders]
    certs = read_all(report, ders)
    if not certs:
        return None
    report.include(check_path(certs, role, scope, **more), "")
    return certs[0]


def _common(report: Report, document: Json) -> None:
    """PCID, namespace and root fingerprint, where the document has them."""
    if document.get("pcid") is not None:
        try:
            report.add("PCID", True, ids.parse_pcid(document["pcid"]))
        except ids.IdError as error:
            report.add("PCID", False, f"{document['pcid']!r}: {error}")
    namespace = document.get("xsdMsgDefNamespace")
    if namespace is not None:
        report.add("message namespace", namespace in EDITIONS, str(namespace))
    fingerprint = document.get("cpsV2GRootCertificateFingerprint")
    if fingerprint:
        good = bool(_FINGERPRINT.fullmatch(fingerprint))
        report.add("root fingerprint is SHA-256 (or a UUID)", good, fingerprint)


def _root_fingerprint(report: Report, document: Json, scope: Scope) -> None:
    """Whether the bundle's CPS root is one of the anchors."""
    fingerprint = document.get("cpsV2GRootCertificateFingerprint")
    if not fingerprint:
        return
    name = "CPS root is a trust anchor"
    if not scope.anchors:
        report.add(name, None, "no trust anchor given")
    elif len(fingerprint) != 64:
        report.add(name, None, "named by a UUID")
    else:
        fingerprints = [x509.fingerprint(anchor.der).hex() for anchor in scope.anchors]
        report.add(name, fingerprint.lower() in fingerprints, fingerprint)


# --- documents ---


def _v2g_message(document: Json, scope: Scope) -> Report:
    schema = exi_json.detect_root(document)
    try:
        message = exi_json.from_json(document, schema)
        exi.encode(message, schema)
    except EvccError as error:
        raise UnreadableError(f"JSON of a message, but not of its schema: {error}") from error
    return inspect_message(message, schema, scope)


def _ccp_response(document: Json, scope: Scope) -> Report:
    items = [item["messageDef"] for item in document["CCPResponse"]["emaidContent"]]
    report = Report("CCP response", {"contracts": []})
    report.add("one contract in ISO 15118-2", len(items) == 1, str(len(items)))
    for number, item in enumerate(items):
        part = _bundle(item, scope)
        report.content["contracts"].append(part.content)
        report.include(part, f"contract {number + 1}" if len(items) > 1 else "")
    return report


def _bundle(document: Json, scope: Scope) -> Report:
    """An object around one CertificateInstallationRes."""
    return _around_exi(document, "certificateInstallationRes", "contract bundle", scope)


def _request(document: Json, scope: Scope) -> Report:
    return _around_exi(document, "certificateInstallationReq", "CCP request", scope)


def _around_exi(document: Json, member: str, kind: str, scope: Scope) -> Report:
    data = decode(document[member], member)
    outer = {key: value for key, value in document.items() if key != member}
    report = Report(kind, {**outer})
    _common(report, document)
    _root_fingerprint(report, document, scope)
    kind_of_message = member[0].upper() + member[1:]
    try:
        part = inspect_exi(data, scope)
    except UnreadableError as error:
        report.add(f"{member} readable", False, str(error))
        return report
    if part.kind != kind_of_message:
        report.add(f"{member} readable", False, f"not EXI of a {kind_of_message}")
        return report
    report.content |= part.content
    report.include(part, "")
    if document.get("emaid"):
        body = part.content["message"]["V2G_Message"]["Body"][kind_of_message]
        inside = body.get("eMAID", {}).get("value", "")
        good = _same_emaid(document["emaid"], inside)
        report.add("EMAID is the message's", good, f"{document['emaid']}, message {inside}")
    return report


def _same_emaid(first: str, second: str) -> bool:
    try:
        return ids.parse_emaid(first) == ids.parse_emaid(second)
    except ids.IdError:
        return False


def _oem_message(document: Json, scope: Scope) -> Report:
    return _provisioning(document["OEMMessage"], scope)


def _provisioning(document: Json, scope: Scope) -> Report:
    members = ("vehicleCertificate", "subCA2Certificate", "subCA1Certificate")
    outer = {key: value for key, value in document.items() if key not in members}
    report = Report("provisioning certificate (PCP)", outer)
    _common(report, document)
    ders = _ders(document, *members)
    leaf = _chain(report, ders, chain.PROVISIONING, scope)
    if leaf and document.get("fingerprint"):
        right = x509.fingerprint(leaf.der).hex()
        report.add(
            "fingerprint is the vehicle certificate's",
            _plain(document["fingerprint"]) == right,
            right,
        )
    if leaf and document.get("pcid"):
        same = document["pcid"].upper() == leaf.names.get("CN", "").upper()
        report.add("PCID is the certificate's", same, leaf.names.get("CN", ""))
    return report


def _plain(text: str) -> str:
    return text.replace(":", "").lower()


def _roots(document: Json, scope: Scope) -> Report:
    entries = document["RootCertificateCollection"]["rootCertificates"]
    report = Report("root certificates (RCP)", {"roots": []})
    for entry in entries:
        part = _root(entry, scope)
        report.content["roots"].append(part.content)
        report.certificates += part.certificates
        report.include(part, entry.get("commonName") or part.content["certificate"].get("subject"))
    return report


def _root_response(document: Json, scope: Scope) -> Report:
    return _root(document["RootResponse"], scope)


def _root(entry: Json, scope: Scope) -> Report:
    der = decode(entry["caCertificate"], "caCertificate")
    outer = {key: value for key, value in entry.items() if key != "caCertificate"}
    report = Report("root certificate (RCP)", {**outer, "certificate": describe(der)})
    report.certificates = [der]
    certs = read_all(report, [der])
    if not certs:
        return report
    root = certs[0]
    try:
        chain.is_anchor(root, scope.at, verify_p256)
        report.add("may be a trust anchor", True, "a CA, in date, signed with its own key")
    except x509.CertificateError as error:
        report.add("may be a trust anchor", False, str(error))
    stated = {
        "fingerprint": ("fingerprint", x509.fingerprint(der).hex()),
        "rootAuthorityKeyIdentifierHex": ("key identifier", (root.aki or root.ski or b"").hex()),
        "rootIssuerSerialNumber": ("serial number", serial_hex(root.serial)),
    }
    for member, (name, right) in stated.items():
        if entry.get(member):
            good = _plain(entry[member]).lstrip("0") == right.lstrip("0")
            report.add(f"{name} is the certificate's", good, right)
    return report


def _contracts(document: Json, scope: Scope) -> Report:
    report = Report("contracts (CCP)", {"contracts": []})
    for entry in document["XMLContracts"]:
        der = decode(entry["contractCertificate"], "contractCertificate")
        outer = {key: value for key, value in entry.items() if key != "contractCertificate"}
        part = Report("contract", {**outer})
        _common(part, entry)
        leaf = _chain(part, [der], chain.CONTRACT, scope, alone="the answer has the leaf alone")
        check_emaid(part, entry["emaid"], leaf)
        report.content["contracts"].append(part.content)
        report.include(part, entry["emaid"])
    return report


def _signers(document: Json, scope: Scope) -> Report:
    members = ("cpsCertificate", "cpsCa2Certificate", "cpsCa1Certificate")
    report = Report("signers (CPS)", {"signers": []})
    for entry in document["cpsCertificates"]:
        part = Report("signer", {k: value for k, value in entry.items() if k not in members})
        leaf = _chain(part, _ders(entry, *members), chain.CPS, scope)
        report.content["signers"].append(part.content)
        report.include(part, leaf.names.get("CN", "") if leaf else "")
    return report


def _contract_order(document: Json, scope: Scope) -> Report:
    """An order of an operator without a PKI. The CPS checks its dates."""
    report = Report("contract to be made (CPS request)", document)
    _common(report, document)
    try:
        report.add("EMAID", True, ids.parse_emaid(document["emaid"]))
    except ids.IdError as error:
        report.add("EMAID", False, str(error))
    return report


def _contract_data(document: Json, scope: Scope) -> Report:
    data = document["contractData"]
    outer = {key: value for key, value in document.items() if key != "contractData"}
    report = Report("contract data (CPS request)", {**outer})
    _common(report, document)
    nested = data.get("contractSignatureCertChain")
    if nested:  # the form of the deprecated calls, still in the published example
        subs = nested.get("contractSignatureCertChainSubCertificates", [])
        texts = [nested["contractSignatureCertChainCertificate"], *subs]
        ders = [decode(text, "contractSignatureCertChain") for text in texts]
    else:
        ders = _ders(
            data, "contractCertificate", "contractSubCa2Certificate", "contractSubCa1Certificate"
        )
    leaf = _chain(report, ders, chain.CONTRACT, scope)
    emaid = document.get("emaid") or data.get("emaid")
    if emaid:
        check_emaid(report, emaid, leaf)
    point = decode(data["dHpublickey"], "dHpublickey")
    wrapped = decode(
        data["contractSignatureEncryptedPrivateKey"], "contractSignatureEncryptedPrivateKey"
    )
    report.content |= {
        "dHpublickey": point.hex(),
        "contractSignatureEncryptedPrivateKey": f"{len(wrapped)} bytes",
    }
    check_sealed(report, point, wrapped)
    if leaf:
        stated = emaid or leaf.names.get("CN", "")
        submitted = ContractData(stated, ders[0], tuple(ders[1:]), wrapped, point)
        check_contract_data(report, submitted, scope)
    return report


def _signed_data(document: Json, scope: Scope) -> Report:
    member = "signedData" if "signedData" in document else "signedContractDataXML"
    part = inspect_xml(decode(document[member], member), scope)
    outer = {key: value for key, value in document.items() if key != member}
    report = Report("signed contract data (CPS)", {**outer, **part.content})
    _common(report, document)
    _root_fingerprint(report, document, scope)
    report.include(part, "")
    if document.get("emaid"):
        body = part.content["message"]["V2G_Message"]["Body"]["CertificateInstallationRes"]
        inside = body["eMAID"]["value"]
        report.add("EMAID is the message's", _same_emaid(document["emaid"], inside), inside)
    return report


def inspect_xml(data: bytes, scope: Scope) -> Report:
    """The XML form of a CertificateInstallationRes. Raises UnreadableError."""
    try:
        message = xml.read(data)
        exi.encode(message)  # the codec reports missing elements
        return inspect_message(message, "iso2", scope)
    except EvccError as error:
        raise UnreadableError(f"XML, but no CertificateInstallationRes: {error}") from error


def _certificates(document: Json, scope: Scope) -> Report:
    return inspect_certificates(
        [decode(text, "a certificate") for text in document["certificates"]], scope
    )


def _error(document: Json, scope: Scope) -> Report:
    report = Report("OPCP error", document)
    report.add("request was accepted", False, "; ".join(map(str, document["errorMessages"])))
    return report


_READERS: dict[str, Callable[[Json, Scope], Report]] = {
    "V2G_Message": _v2g_message,
    "supportedAppProtocolReq": _v2g_message,
    "supportedAppProtocolRes": _v2g_message,
    "CCPResponse": _ccp_response,
    "messageDef": lambda document, scope: _bundle(document["messageDef"], scope),
    "certificateInstallationRes": _bundle,
    "certificateInstallationReq": _request,
    "OEMMessage": _oem_message,
    "vehicleCertificate": _provisioning,
    "RootCertificateCollection": _roots,
    "RootResponse": _root_response,
    "caCertificate": _root,
    "XMLContracts": _contracts,
    "cpsCertificates": _signers,
    "contractData": _contract_data,
    "contractEnds": _contract_order,
    "signedData": _signed_data,
    "signedContractDataXML": _signed_data,
    "certificates": _certificates,
    "errorMessages": _error,
}
