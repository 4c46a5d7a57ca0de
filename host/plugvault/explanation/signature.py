"""The signature of the CPS, step by step, and the form that a peer's stack signs instead.

A form that is not the standard's is named and still refused.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from evcc import exi, x509
from evcc import signature as xml_signature
from plugvault.explanation.steps import Message, Step
from plugvault.pki.verify import verify_p256

RIGHT = "SignedInfo in the grammar of xmldsig"
SIGNED = (
    "ContractSignatureCertChain",
    "ContractSignatureEncryptedPrivateKey",
    "DHpublickey",
    "eMAID",
)


def explain_signature(message: Message) -> list[Step]:
    """The steps: each fragment with its digests, SignedInfo with its hash, r, s, the signer.
    message: of `message_of`."""
    signed = message["header"].get("Signature")
    if signed is None:
        return [Step("Signature", "", False, "the message is not signed")]
    steps = [*_digests(signed["SignedInfo"], message["body"])]
    info = exi.fragment("SignedInfo", signed["SignedInfo"], "xmldsig")
    digest = hashlib.sha256(info).digest()
    raw = signed["SignatureValue"]["value"]
    steps += [
        Step("SignedInfo, EXI fragment of the xmldsig schema", info),
        Step("SHA-256 of SignedInfo", digest),
        *_halves(raw),
    ]
    return [*steps, signer_step(signed["SignedInfo"], raw, message["body"])]


def _digests(info: Message, body: Message) -> Iterator[Step]:
    """For each element: its fragment, the computed digest and the signed one."""
    by_uri = {
        reference.get("URI", ""): reference.get("DigestValue", b"")
        for reference in info["Reference"]
    }
    for name in SIGNED:
        element = body[name]
        fragment = exi.fragment(name, element)
        digest = hashlib.sha256(fragment).digest()
        yield Step(f"{name}, EXI fragment", fragment)
        yield Step(f"{name}, digest computed", digest)
        expected = by_uri.pop("#" + element.get("Id", ""), None)
        if expected is None:
            yield Step(f"{name}, digest signed", "", False, "no reference names its Id")
            continue
        note = "" if digest == expected else other_digest(name, element, expected)
        yield Step(f"{name}, digest signed", expected, digest == expected, note)
    for uri, digest in by_uri.items():
        yield Step(f"reference {uri}", digest, False, "it names none of the four elements")


def other_digest(name: str, element: Message, expected: bytes) -> str:
    """The form in which a peer's stack computes the `expected` digest; a plain word for none."""
    forms = {
        "of the form some peers use, by the element's own type and not by the fragment grammar": (
            xml_signature.digest(name, element, True)
        ),
        "of the value alone": hashlib.sha256(_value(element)).digest(),
        "of the fragment, hashed twice": hashlib.sha256(
            xml_signature.digest(name, element)
        ).digest(),
    }
    without_id = {member: value for member, value in element.items() if member != "Id"}
    try:
        fragment = exi.fragment(name, without_id)
    except exi.ExiError:
        pass  # the schema asks for an Id there
    else:
        forms["of the fragment without its Id"] = hashlib.sha256(fragment).digest()
    for form, digest in forms.items():
        if digest == expected:
            return f"the digest is {form}"
    return "the element was changed after it was signed"


def _value(element: Message) -> bytes:
    value = element.get("value", b"")
    return value.encode() if isinstance(value, str) else value


def _halves(raw: bytes) -> list[Step]:
    if len(raw) != 64:
        return [Step("SignatureValue", raw, False, f"{len(raw)} bytes; r | s has 64")]
    good = xml_signature.in_range(raw)
    return [Step("r", raw[:32], good), Step("s", raw[32:], good)]


def signer_step(info: Message, raw: bytes, body: Message) -> Step:
    """The step of the signer, and of the form that the signature is over.

    info: SignedInfo; raw: SignatureValue; body: with the chains of CPS and contract."""
    for form, signature in _signatures(raw).items():
        for over, digest in _signed_info_digests(info).items():
            for name, point in _signers(body).items():
                if verify_p256(point, digest, signature):
                    return _signed_by(name, over, form)
    note = "SignedInfo or its signature was changed, or another key signed"
    return Step("signed by", "none of the message's keys", False, note)


def _signed_by(name: str, over: str, form: str) -> Step:
    if form or over != RIGHT:
        note = f"it verifies over {over}{form}: a peer's form, refused all the same"
        return Step("signed by", name, False, note)
    is_cps = name == "the CPS leaf"
    return Step("signed by", name, is_cps, "" if is_cps else "only the CPS may sign")


def _signers(body: Message) -> dict[str, bytes]:
    """{name: point} of the certificates in the message, the right one first."""
    signers = {}
    for element, title in (
        ("SAProvisioningCertificateChain", "the CPS"),
        ("ContractSignatureCertChain", "the contract's"),
    ):
        chain = body[element]
        ders = [chain["Certificate"], *chain.get("SubCertificates", {}).get("Certificate", [])]
        for number, der in enumerate(ders):
            place = "leaf" if number == 0 else f"sub-CA certificate {number}"
            try:
                signers[f"{title} {place}"] = x509.parse(der).point
            except x509.CertificateError:
                continue
    return signers


def _signed_info_digests(info: Message) -> dict[str, bytes]:
    """{form: the digest that ECDSA signs}: the standard's first, then those of peers."""
    right = hashlib.sha256(exi.fragment("SignedInfo", info, "xmldsig")).digest()
    whole = hashlib.sha256(exi.fragment("SignedInfo", info, "iso2")).digest()
    return {
        RIGHT: right,
        "SignedInfo in the grammar of the whole ISO 15118-2 schema": whole,
        "SignedInfo hashed twice": hashlib.sha256(right).digest(),
        "SignedInfo in the whole schema's grammar, hashed twice": hashlib.sha256(whole).digest(),
    }


def _signatures(raw: bytes) -> dict[str, bytes]:
    """{form: r | s} of a SignatureValue, as peers write it; "" is the standard's form."""
    try:
        text = base64.b64decode(raw, validate=True)
    except (binascii.Error, ValueError):
        text = b""
    written = {
        "": raw,
        ", written as DER": _of_der(raw),
        ", written as base64 text": text,
        ", written as base64 text of DER": _of_der(text),
    }
    return {form: value for form, value in written.items() if xml_signature.in_range(value)}


def _of_der(value: bytes) -> bytes:
    """r | s of a signature in DER; b"" for none."""
    try:
        r, s = decode_dss_signature(value)
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    except (ValueError, OverflowError):
        return b""
