"""How a contract key travels: the encryption schemes, one row each.

ISO 15118-2 [V2G2-814..823]: one-pass ECDH on secp256r1, the concatenation KDF of SP 800-56A with
SHA-256, AES-128-CBC. ISO 15118-20's secp521r1 with AES-256-GCM is another row of the same shape.
Says what the numbers are; `pkcs11` does the work.
"""

from collections import namedtuple

from evcc.p256 import on_curve

Scheme = namedtuple(
    "Scheme",
    (
        "name",
        "on_curve",  # point -> bool: uncompressed, reduced, on the curve, not infinity
        "ec_params",  # CKA_EC_PARAMS: the curve's OID in DER
        "order",  # n of the curve, big-endian, as wide as the scalar
        "point_length",  # 0x04 | X | Y
        "other_info",  # of the KDF: AlgorithmID, PartyUInfo, PartyVInfo
        "hash",  # of the KDF: CKM_*
        "key_length",  # leading bytes of the hash that are the cipher's key
        "cipher",  # which of the vault's ways to open `wrapped`
        "wrapped_length",  # IV | ciphertext [| tag]
        "has_aad",
    ),
)

SCHEMES = {
    "iso2": Scheme(
        name="iso2",
        on_curve=on_curve,
        ec_params=b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
        order=b"\xff\xff\xff\xff\x00\x00\x00\x00"
        + b"\xff" * 8
        + b"\xbc\xe6\xfa\xad\xa7\x17\x9e\x84"
        b"\xf3\xb9\xca\xc2\xfc\x63\x25\x51",
        point_length=65,
        other_info=b"\x01UV",
        hash=0x250,  # CKM_SHA256
        key_length=16,
        cipher="aes-cbc",
        wrapped_length=48,
        has_aad=False,
    ),
}
