"""Check the file of `tools/case_vectors` by an independent opening, with `cryptography` alone.

    python tools/case_vectors/check.py FILE.json

The envelope of each valid message must open, and its signature must verify. A message that a
vehicle refuses for its signature, its DH point, its ciphertext or its key must fail one of the
two. Certificate paths, order and EXI are not checked here.
"""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

CANONICAL_EXI = "http://www.w3.org/TR/canonical-exi/"
ECDSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
Json = dict[str, Any]


def opens(vehicle: ec.EllipticCurvePrivateKey, parts: Json) -> bool:
    """Whether the envelope gives the private key of the contract certificate."""
    dh, sealed = bytes.fromhex(parts["dhPublicKey"]), bytes.fromhex(parts["encryptedKey"])
    if len(dh) != 65 or dh[0] != 4 or len(sealed) != 48:
        return False
    try:
        sender = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), dh)
    except ValueError:
        return False
    secret = vehicle.exchange(ec.ECDH(), sender)
    key = ConcatKDFHash(hashes.SHA256(), 16, b"\x01UV").derive(secret)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(sealed[:16])).decryptor()
    scalar = int.from_bytes(decryptor.update(sealed[16:]) + decryptor.finalize(), "big")
    if not 0 < scalar < N:
        return False
    contract = ec.derive_private_key(scalar, ec.SECP256R1()).public_key()
    leaf = x509.load_der_x509_certificate(bytes.fromhex(parts["contractChain"][0]))
    return contract == leaf.public_key()


def is_signed(parts: Json) -> bool:
    """Whether the CPS has signed exactly the four elements, by the algorithms of ISO 15118-2."""
    signature = parts["signature"]
    if signature is None or len(signature["references"]) != 4:
        return False
    digests = {
        f"#{fragment['id']}": hashlib.sha256(bytes.fromhex(fragment["exi"])).hexdigest()
        for fragment in signature["fragments"]
    }
    references = {entry["uri"]: entry["digest"] for entry in signature["references"]}
    names = (signature["canonicalization"], signature["algorithm"])
    if digests != references or names != (CANONICAL_EXI, ECDSA_SHA256):
        return False
    for entry in signature["references"]:
        if entry["transforms"] != [CANONICAL_EXI] or entry["digestMethod"] != SHA256:
            return False
    return _verifies(parts["cpsChain"][0], signature)


def _verifies(signer: str, signature: Json) -> bool:
    value = bytes.fromhex(signature["value"])
    key = x509.load_der_x509_certificate(bytes.fromhex(signer)).public_key()
    if len(value) != 64 or not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    r, s = int.from_bytes(value[:32], "big"), int.from_bytes(value[32:], "big")
    try:
        signed = bytes.fromhex(signature["signedInfo"])
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def is_in(value: str, message: bytes) -> bool:
    """Whether a value (hex) stands in a message: EXI aligns nothing to bytes."""
    number = int.from_bytes(message, "big")
    return any(
        bytes.fromhex(value) in (number << shift).to_bytes(len(message) + 1, "big")
        for shift in range(8)
    )


def problem(test: Json, vehicle: ec.EllipticCurvePrivateKey) -> str | None:
    """The fault of a test; "" for none, None for a test that is not checked here."""
    parts, stage = test["message"]["parts"], (test["flags"] or [""])[0]
    if parts is None:
        return None if test["result"] != "valid" else "a valid message without its parts"
    message = bytes.fromhex(test["message"]["exi"])
    if not all(is_in(parts[name], message) for name in ("dhPublicKey", "encryptedKey")):
        return "its parts are not those of the message"
    if test["result"] == "valid":
        if not opens(vehicle, parts):
            return "valid, and does not open"
        return "" if is_signed(parts) else "valid, and its signature fails"
    if stage in ("key", "key-transport") and not test["before"]:
        return "invalid, and opens" if opens(vehicle, parts) else ""
    if stage == "signature":
        return None if is_signed(parts) else ""
    return None


def main(path: str) -> int:
    """Print the result; the number of faulty tests, at most 1, as the exit status."""
    vectors = json.loads(Path(path).read_text(encoding="utf-8"))
    scalar = int(vectors["vehicle"]["privateKey"], 16)
    vehicle = ec.derive_private_key(scalar, ec.SECP256R1())
    tests = [test for group in vectors["testGroups"] for test in group["tests"]]
    problems = {test["case"]: problem(test, vehicle) for test in tests}
    faults = {case: text for case, text in problems.items() if text}
    for case, text in faults.items():
        print(f"{case}: {text}")
    decided = sum(text == "" for text in problems.values())
    print(f"{decided} of {len(tests)} tests are as this opening finds them, {len(faults)} are not")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
