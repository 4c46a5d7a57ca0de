"""The schemes of ISO 15118: limits of certificates and the transport of a contract key, as rows.

ISO 15118-2 [V2G2-814..823]: one-pass ECDH on secp256r1, the concatenation KDF of SP 800-56A with
SHA-256, AES-128-CBC. ISO 15118-20's secp521r1 with AES-256-GCM is another row of the same shape.
The host's tables (`plugvault.pki.schemes`) take their rows from here. `pkcs11` does the work.
"""

import hashlib
from collections import namedtuple

from evcc.p256_curve import on_curve

Scheme = namedtuple(
    "Scheme",
    (
        "name",
        "edition",  # as OPCP's paths name it
        "namespace",  # of the edition's messages
        "curve",  # as OPCP names it
        "certificate_limit",  # bytes of a certificate's DER
        "on_curve",  # point -> bool: uncompressed, reduced, on the curve, not infinity
        "ec_params",  # CKA_EC_PARAMS: the curve's OID in DER
        "order",  # n of the curve, big-endian, as wide as the scalar
        "point_length",  # 0x04 | X | Y
        "other_info",  # of the KDF: AlgorithmID, PartyUInfo, PartyVInfo
        "hash",  # of the KDF: CKM_*
        "hashed",  # the same of bytes, where the token is not to do it: bytes -> bytes
        "hash_derivation",  # a key derived by that hash of another: CKM_*
        "key_length",  # leading bytes of the hash that are the cipher's key
        "cipher",  # which of the vault's ways to open `wrapped`
        "wrapped_length",  # IV | ciphertext [| tag]
        "has_aad",
        "trial",  # a private key that is no secret, and its point
    ),
)

# A key pair that is no secret: what a token is tried with.
_TRIAL_KEY = (
    b"\x42\x59\xbd\x7c\x37\x8b\x1a\xa8\xe4\xaa\x3a\x28\x39\x03\x09\x5c"
    b"\x74\xec\x39\x95\xce\x10\xae\x1d\xa5\xd0\x79\x97\xff\x81\x3e\x82"
)
_TRIAL_POINT = (
    b"\x04"
    b"\xbd\x9a\x0f\xf5\x65\x36\xc8\x85\xf1\x63\xfb\x11\x42\x1b\x22\x5a"
    b"\x7b\x5d\x4b\xee\x97\x84\x92\xf3\x48\x7e\xf1\x0d\x98\xdd\xb8\xd4"
    b"\x64\x6a\xfb\x03\x8b\x92\x09\xf1\x61\x40\x56\x05\xb7\x12\x9f\xf1"
    b"\x93\x88\xd0\xc4\x61\x86\x61\x8e\x8e\x6f\xbd\x57\x4b\xa9\x71\xdd"
)

SCHEMES = {
    "iso2": Scheme(
        name="iso2",
        edition="ISO15118-2",
        namespace="urn:iso:15118:2:2013:MsgDef",
        curve="secp256r1",
        certificate_limit=800,
        on_curve=on_curve,
        ec_params=b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
        order=b"\xff\xff\xff\xff\x00\x00\x00\x00"
        + b"\xff" * 8
        + b"\xbc\xe6\xfa\xad\xa7\x17\x9e\x84"
        b"\xf3\xb9\xca\xc2\xfc\x63\x25\x51",
        point_length=65,
        other_info=b"\x01UV",
        hash=0x250,  # CKM_SHA256
        hashed=lambda data: hashlib.sha256(data).digest(),
        hash_derivation=0x393,  # CKM_SHA256_KEY_DERIVATION
        key_length=16,
        cipher="aes-cbc",
        wrapped_length=48,
        has_aad=False,
        trial=(_TRIAL_KEY, _TRIAL_POINT),
    ),
}
