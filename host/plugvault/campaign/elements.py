"""The elements of a message as files, for a module whose EXI codec is elsewhere: `{elements}`.

    code, session, emaid   text: ResponseCode, SessionID in hexadecimal digits, eMAID
    cps.pem, cps-subs.pem  SAProvisioningCertificateChain: its leaf, its sub-CAs
    contract.pem, contract-subs.pem   ContractSignatureCertChain likewise
    dh.bin, encrypted.bin  DHpublickey; ContractSignatureEncryptedPrivateKey
    signed-info.exi        SignedInfo as the fragment that is signed
    signature.bin          SignatureValue; signature.der: the same for OpenSSL, where it is r | s
    members                text: a line for each kind of member of Signature, `NUMBER PATH`, and
                           for an algorithm its name
    NAME.exi, references   the fragment of each signed element; `DIGEST  NAME.exi` lines with the
                           signed digests, as `sha256sum --check` reads them

Nothing is judged here: what a message lacks has no file.
"""

import base64
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from evcc import exi
from evcc.errors import EvccError

Element = dict[str, Any]
SIGNED = (
    "ContractSignatureCertChain",
    "ContractSignatureEncryptedPrivateKey",
    "DHpublickey",
    "eMAID",
)


class ElementsError(EvccError):
    """A message that cannot be decoded, or that is no CertificateInstallationRes."""

    REASONS = ("message",)


def write(folder: Path, message: bytes) -> None:
    """Write the elements of a CertificateInstallationRes, EXI, in place of those in `folder`.

    Raises ElementsError("message").
    """
    try:
        content = exi.decode(message)["V2G_Message"]
        body = content["Body"]["CertificateInstallationRes"]
        files = {**_of_body(body), **_of_header(content["Header"], body)}
    except (EvccError, KeyError) as error:
        raise ElementsError("message", f"the message has no elements: {error}") from error
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, value in files.items():
        (folder / name).write_bytes(value)


def _of_body(body: Element) -> dict[str, bytes]:
    files = {
        "code": body["ResponseCode"].encode(),
        "emaid": body["eMAID"]["value"].encode(),
        "dh.bin": body["DHpublickey"]["value"],
        "encrypted.bin": body["ContractSignatureEncryptedPrivateKey"]["value"],
    }
    for name, element in (
        ("cps", "SAProvisioningCertificateChain"),
        ("contract", "ContractSignatureCertChain"),
    ):
        chain = body[element]
        subs = chain.get("SubCertificates", {}).get("Certificate", [])
        files[f"{name}.pem"] = _pem(chain["Certificate"])
        files[f"{name}-subs.pem"] = b"".join(map(_pem, subs))
    return files


def _of_header(header: Element, body: Element) -> dict[str, bytes]:
    files: dict[str, bytes] = {"session": header["SessionID"].hex().encode()}
    if "Signature" not in header:
        return files
    signature = header["Signature"]
    info = signature["SignedInfo"]
    names = {"#" + body[name].get("Id", ""): name for name in SIGNED}
    lines = []
    for reference in info["Reference"]:
        digest, uri = reference["DigestValue"], reference.get("URI", "")
        name = names.get(uri)
        if name is not None:
            files[f"{name}.exi"] = exi.fragment(name, body[name])
        lines.append(f"{digest.hex()}  {f'{name}.exi' if name else ascii(uri)}\n")
    members = Counter(_members(signature))
    value = signature["SignatureValue"]["value"]
    if len(value) == 64:
        r, s = (int.from_bytes(half, "big") for half in (value[:32], value[32:]))
        files["signature.der"] = encode_dss_signature(r, s)
    return {
        **files,
        "references": "".join(lines).encode(),
        "members": "".join(f"{number} {name}\n" for name, number in members.items()).encode(),
        "signed-info.exi": exi.fragment("SignedInfo", info, "xmldsig"),
        "signature.bin": value,
    }


def _members(element: Any, path: str = "") -> Iterator[str]:
    """`PATH` or `PATH ALGORITHM` of each simple member below an element, in order."""
    if isinstance(element, dict):
        for name, value in element.items():
            yield from _members(value, f"{path}/{name}" if path else name)
    elif isinstance(element, list):
        for value in element:
            yield from _members(value, path)
    else:
        yield f"{path} {ascii(element)[1:-1]}" if path.endswith("/Algorithm") else path


def _pem(der: bytes) -> bytes:
    text = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"
