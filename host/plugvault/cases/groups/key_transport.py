"""KT: DH point, ciphertext, key derivation, and the key inside."""

from collections.abc import Callable
from itertools import count
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash

from evcc.p256_curve import N
from plugvault.cases.case import ACCEPT, EITHER, REFUSE, Case, Change
from plugvault.cases.derivations import OTHER_INFO, WRONG
from plugvault.cases.groups.bits import flipped
from plugvault.cases.pki import Issued, Key, point
from plugvault.cases.scene import Scene, public_key, scalar_of

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

# -- messages that a module must open --


def _contract_of(scene: Scene, scalar: int) -> Issued:
    return scene.contract(key=ec.derive_private_key(scalar, ec.SECP256R1()))


def _first_scalar(scene: Scene, good: Callable[[bytes], bool]) -> int:
    scalars = (scene.pki.seed.scalar(f"{scene.case} scalar {n}") for n in count())
    return next(scalar for scalar in scalars if good(scalar.to_bytes(32, "big")))


def _first_ephemeral(scene: Scene, good: Callable[[Key, bytes], bool]) -> Key:
    """The first ephemeral key whose secret Z with the vehicle is as wanted."""
    vehicle = public_key(scene.vehicle)
    keys = (scene.key(f"ephemeral {n}") for n in count())
    return next(key for key in keys if good(key, key.exchange(ec.ECDH(), vehicle)))


def _scalar(good: Callable[[bytes], bool]) -> Change:
    return lambda scene: {"contract": _contract_of(scene, _first_scalar(scene, good))}


def _exact(scalar: int) -> Change:
    return lambda scene: {"contract": _contract_of(scene, scalar)}


def _ephemeral(good: Callable[[Key, bytes], bool]) -> Change:
    return lambda scene: {"ephemeral": _first_ephemeral(scene, good)}


def _zero_iv(scene: Scene) -> dict[str, Any]:
    contract = scene.contract()
    sealed = scene.seal(scalar_of(contract), iv=bytes(16))
    return {"contract": contract, "encrypted": sealed}


# -- DH points --


def _dh(make: Callable[[Scene, bytes], bytes]) -> Change:
    """Another DHpublickey, made of the good one; the ciphertext is the good one."""
    return lambda scene: {"dh": make(scene, point(scene.key("ephemeral")))}


def _compressed(good: bytes) -> bytes:
    return bytes([2 + (good[64] & 1)]) + good[1:33]


def _not_reduced() -> bytes:
    """The point of x = 0, written with x = p."""
    y = pow(_B, (P + 1) // 4, P)
    return b"\x04" + P.to_bytes(32, "big") + y.to_bytes(32, "big")


def _on_p256k1(scene: Scene, good: bytes) -> bytes:
    key = ec.derive_private_key(scene.pki.seed.scalar(f"{scene.case} k1"), ec.SECP256K1())
    numbers = key.public_key().public_numbers()
    return b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")


_POINT = "DHpublickey is an uncompressed point of the curve, 65 bytes [V2G2-819]."
_INVALID = "Points off the curve draw out the provisioning key bit by bit (invalid-curve attack)."
_LAX = "A lax reader agrees on another secret than the one it believes."
_POINTS: tuple[tuple[int, str, str, Callable[[Scene, bytes], bytes]], ...] = (
    (20, "a compressed point", _LAX, lambda scene, good: _compressed(good)),
    (21, "a compressed point filled up to 65 bytes", _LAX,
     lambda scene, good: _compressed(good) + bytes(32)),
    (22, "a hybrid point", _LAX, lambda scene, good: bytes([6 + (good[64] & 1)]) + good[1:]),
    (23, "a point off the curve", _INVALID, lambda scene, good: flipped(good, 65 * 8 - 1)),
    (24, "a point of secp256k1", _INVALID, _on_p256k1),
    (25, "infinity, one byte", _INVALID, lambda scene, good: b"\0"),
    (26, "infinity, as 65 zero bytes", _INVALID, lambda scene, good: bytes(65)),
    (27, "coordinates 0, 0", _INVALID, lambda scene, good: b"\x04" + bytes(64)),
    (28, "an X that is not below p", _INVALID, lambda scene, good: _not_reduced()),
    (29, "a point in a DER octet string", _LAX, lambda scene, good: b"\x04\x41" + good),
    (30, "a point without its first byte", _LAX, lambda scene, good: good[1:]),
    (31, "an empty DHpublickey", _LAX, lambda scene, good: b""),
    (32, "Y before X", _INVALID, lambda scene, good: good[:1] + good[33:] + good[1:33]),
    (33, "the vehicle's own provisioning key", "The vehicle's own key pair is used as a sender's.",
     lambda scene, good: scene.vehicle),
)  # fmt: skip

# -- ciphertexts --


def _encrypted(make: Callable[[Scene, bytes], bytes]) -> Change:
    """Another ciphertext, made of the good one."""

    def change(scene: Scene) -> dict[str, Any]:
        contract = scene.contract()
        good = scene.seal(scalar_of(contract))
        return {"contract": contract, "encrypted": make(scene, good)}

    return change


def _sealed(make: Callable[[bytes], bytes]) -> Change:
    """Another plaintext, made of the contract's scalar."""

    def change(scene: Scene) -> dict[str, Any]:
        contract = scene.contract()
        return {"contract": contract, "scalar": make(scalar_of(contract))}

    return change


def _kdf(derive: Callable[[bytes], bytes]) -> Change:
    """Another key derivation."""

    def change(scene: Scene) -> dict[str, Any]:
        contract = scene.contract()
        return {
            "contract": contract,
            "encrypted": scene.seal(scalar_of(contract), derive=derive),
        }

    return change


def _ecb(scene: Scene) -> dict[str, Any]:
    contract = scene.contract()
    secret = scene.key("ephemeral").exchange(ec.ECDH(), public_key(scene.vehicle))
    key = ConcatKDFHash(hashes.SHA256(), 16, OTHER_INFO).derive(secret)
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - a wrong one
    sealed = encryptor.update(scalar_of(contract)) + encryptor.finalize()
    return {"contract": contract, "encrypted": scene.octets("iv", 16) + sealed}


def _as_edition_20(scene: Scene) -> dict[str, Any]:
    """The 94 bytes of ISO 15118-20: AES-256-GCM."""
    contract = scene.contract()
    secret = scene.key("ephemeral").exchange(ec.ECDH(), public_key(scene.vehicle))
    key = ConcatKDFHash(hashes.SHA512(), 32, OTHER_INFO).derive(secret)
    nonce = scene.octets("iv", 12)
    plain = bytes(34) + scalar_of(contract)
    return {"contract": contract, "encrypted": nonce + AESGCM(key).encrypt(nonce, plain, None)}


def _for_another_vehicle(scene: Scene) -> dict[str, Any]:
    contract = scene.contract()
    other = point(scene.key("another vehicle"))
    return {
        "contract": contract,
        "encrypted": scene.seal(scalar_of(contract), recipient=other),
    }


def _other_ephemeral(scene: Scene) -> dict[str, Any]:
    return {"dh": point(scene.key("another ephemeral"))}


def _another_key(scene: Scene) -> dict[str, Any]:
    return {"scalar": scene.pki.seed.scalar(f"{scene.case} another").to_bytes(32, "big")}


def _negated(scene: Scene) -> dict[str, Any]:
    contract = scene.contract()
    scalar = N - int.from_bytes(scalar_of(contract), "big")
    return {"contract": contract, "scalar": scalar.to_bytes(32, "big")}


def _oracle_question(scene: Scene) -> dict[str, Any]:
    """The first question of an oracle: an envelope that was seen, one bit of its IV flipped, and
    the certificate of the key that this gives."""
    first = Scene(scene.pki, scene.vehicle, scene.case, scene.slot).contract()
    changed = int.from_bytes(scalar_of(first), "big") ^ 1 << 128
    return {
        "contract": _contract_of(scene, changed),
        "encrypted": flipped(scene.seal(scalar_of(first)), 127),
    }


def _installed_first(scene: Scene) -> list[bytes]:
    return [scene.response(contract=scene.contract())]


_KEY = "1 <= d < n, and d*G is the certificate's key [V2G2-823]."
_NO_USE = "The contract is stored and pays nothing: the driver stands at the station."
_INTEGRITY = "AES-CBC has no integrity; only the certificate's key tells a changed ciphertext."
_LENGTH = "IV and two blocks: 48 bytes [V2G2-820]."
_KDF = "SP 800-56A: SHA-256(00000001 | Z | 01 55 56), the first 16 bytes [V2G2-818]."
_ENVELOPE = "This is no envelope for this vehicle."


def _refused(
    number: int, title: str, requirement: str, because: str, gain: str, stage: str, change: Change
) -> Case:
    return Case(f"KT-{number:03}", title, REFUSE, requirement, because, gain, stage, change=change)


_SCALARS: tuple[tuple[int, str, Change], ...] = (
    (40, "the scalar 0", _sealed(lambda scalar: bytes(32))),
    (41, "the scalar n", _sealed(lambda scalar: N.to_bytes(32, "big"))),
    (42, "the scalar n + 1", _sealed(lambda scalar: (N + 1).to_bytes(32, "big"))),
    (43, "the scalar 2^256 - 1", _sealed(lambda scalar: b"\xff" * 32)),
    (44, "the scalar n + 5 for the certificate of 5", lambda scene: {
        "contract": _contract_of(scene, 5), "scalar": (N + 5).to_bytes(32, "big")
    }),
    (45, "the scalar of another key", _another_key),
    (46, "the negated scalar", _negated),
    (47, "the scalar with its bytes reversed", _sealed(lambda scalar: scalar[::-1])),
    (48, "the scalar with its lowest bit changed", _sealed(lambda scalar: flipped(scalar, 255))),
)  # fmt: skip
_CIPHERTEXTS: tuple[tuple[int, str, Change], ...] = (
    (50, "the IV with its last bit changed", _encrypted(lambda scene, c: flipped(c, 127))),
    (51, "the first block with one bit changed", _encrypted(lambda scene, c: flipped(c, 128))),
    (52, "the last byte changed", _encrypted(lambda scene, c: flipped(c, 48 * 8 - 1))),
    (53, "the two blocks exchanged", _encrypted(lambda scene, c: c[:16] + c[32:] + c[16:32])),
    (54, "48 bytes of noise", _encrypted(lambda scene, c: scene.octets("noise", 48))),
    (55, "48 zero bytes", _encrypted(lambda scene, c: bytes(48))),
    (56, "the IV behind the ciphertext", _encrypted(lambda scene, c: c[16:] + c[:16])),
    (57, "ECB in place of CBC", _ecb),
    (58, "the envelope of another vehicle", _for_another_vehicle),
    (59, "another DH point than the envelope's", _other_ephemeral),
)
_LENGTHS: tuple[tuple[int, str, Change], ...] = (
    (60, "no ciphertext", _encrypted(lambda scene, c: b"")),
    (61, "the IV alone", _encrypted(lambda scene, c: c[:16])),
    (62, "IV and one block", _encrypted(lambda scene, c: c[:32])),
    (63, "47 bytes", _encrypted(lambda scene, c: c[:47])),
    (64, "49 bytes", _encrypted(lambda scene, c: c + b"\0")),
    (65, "64 bytes: the scalar with PKCS#7 padding",
     _sealed(lambda scalar: scalar + bytes([16]) * 16)),
    (66, "the 94 bytes of ISO 15118-20", _as_edition_20),
    (67, "the scalar in clear, 32 bytes", lambda scene: {
        "contract": (contract := scene.contract()), "encrypted": scalar_of(contract)
    }),
)  # fmt: skip

CASES = [
    *(
        Case(f"KT-{number:03}", title, ACCEPT, requirement, because, change=change)
        for number, title, requirement, because, change in (
            (1, "the scalar 1", "FIPS 186-5, A.2", "Every scalar from 1 to n-1 is a key.",
             _exact(1)),
            (2, "the scalar n - 1", "FIPS 186-5, A.2", "Every scalar from 1 to n-1 is a key.",
             _exact(N - 1)),
            (3, "a scalar with a leading zero byte", "V2G2-822",
             "The scalar has 32 bytes; one in 256 begins with zero.",
             _scalar(lambda scalar: scalar[0] == 0)),
            (4, "a scalar with its top bit set", "V2G2-822",
             "The scalar is unsigned; half of all have this bit.",
             _scalar(lambda scalar: scalar[0] >= 128)),
            (5, "a Z with a leading zero byte", "SP 800-56A, 5.7.1.2",
             "Z has the length of the field; one in 256 begins with zero.",
             _ephemeral(lambda key, z: z[0] == 0)),
            (6, "a Z with its top bit set", "SP 800-56A, 5.7.1.2", "Z is unsigned.",
             _ephemeral(lambda key, z: z[0] >= 128)),
            (7, "a DH point whose X has a leading zero byte", "V2G2-819",
             "A coordinate has 32 bytes.", _ephemeral(lambda key, z: point(key)[1] == 0)),
            (8, "a DH point whose Y has a leading zero byte", "V2G2-819",
             "A coordinate has 32 bytes.", _ephemeral(lambda key, z: point(key)[33] == 0)),
        )
    ),
    Case(
        "KT-010",
        "an IV of zeros",
        EITHER,
        "V2G2-821",
        "The IV is to be random; the key is used once, and the message opens.",
        change=_zero_iv,
    ),
    *(
        _refused(number, title, "V2G2-819", _POINT, gain, "key-transport", _dh(make))
        for number, title, gain, make in _POINTS
    ),
    *(
        _refused(number, title, "V2G2-823", _KEY, _NO_USE, "key", change)
        for number, title, change in _SCALARS
    ),
    *(
        _refused(
            number, title, "V2G2-823", _ENVELOPE if number > 57 else _INTEGRITY, _NO_USE, "key",
            change,
        )
        for number, title, change in _CIPHERTEXTS
    ),
    *(
        _refused(number, title, "V2G2-820", _LENGTH, _NO_USE, "key-transport", change)
        for number, title, change in _LENGTHS
    ),
    *(
        _refused(number, title, "V2G2-818", _KDF, _NO_USE, "key", _kdf(derive))
        for number, (title, derive) in enumerate(WRONG, 70)
    ),
    Case(
        "KT-080",
        "an envelope that was seen, one bit of its IV changed, with the certificate to match",
        REFUSE,
        "house",
        "A DH point comes once. AES-CBC lets its sender ask about single bits of the old key.",
        "256 such messages, each installed or refused, give the first contract's key in clear.",
        "key-transport",
        before=_installed_first,
        change=_oracle_question,
    ),
]  # fmt: skip
