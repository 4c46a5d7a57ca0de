"""Modules with one mistake each, of those that are met in the field: a campaign has to find them.

Each is our module in this process with one part replaced while it works.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from cryptography.hazmat.primitives.asymmetric import ec

from evcc import chain, signature
from evcc.contracts import Contracts
from evcc.envelopes import Envelopes
from evcc.iso15118_2 import installation
from evcc.vault import PROVISIONING, VaultError
from plugvault.cases.pki import point
from plugvault.pki.verify import verify_p256

BOTH = str(Path(__file__).parent / "both")
if BOTH not in sys.path:
    sys.path.append(BOTH)

import softvault  # noqa: E402
from campaign_run import Module  # noqa: E402

PROVISIONING_SCALAR = 0x1234567890ABCDEF


class Vault(softvault.SoftVault):
    """A vault in plain Python, with a known provisioning key. Points and signatures are OpenSSL's:
    a campaign asks for every public key after each refusal."""

    def __init__(self) -> None:
        super().__init__()
        self.add(PROVISIONING_SCALAR, PROVISIONING)

    def public(self, key: bytes) -> bytes:
        return point(ec.derive_private_key(self._key(key), ec.SECP256R1()).public_key())

    def verify(self, point: bytes, digest: bytes, raw: bytes) -> bool:
        return verify_p256(point, digest, raw)


def without(name: str) -> Any:
    """The checks without the one of this name."""
    checks = tuple((n, _nothing if n == name else check) for n, check in installation.CHECKS)
    return patch.object(installation, "CHECKS", checks)


def _nothing(*arguments: Any) -> None:
    """A check that is not made."""


def _emaid_taken_from_the_certificate(attempt: Any) -> None:
    attempt.emaid = attempt.leaf.names["CN"].replace("-", "").upper()[:15]


def _any_session(attempt: Any) -> None:
    attempt.request = attempt.request or installation.InstallationRequest(b"\0")


def _replaced(name: str, other: Callable[[Any], None]) -> Any:
    checks = tuple((n, other if n == name else check) for n, check in installation.CHECKS)
    return patch.object(installation, "CHECKS", checks)


def _only_the_signature(signed: Any, parts: Any, point: bytes, verify: Any, *_: Any) -> bool:
    """SignedInfo is verified, the digests in it are not."""
    raw = signed["SignatureValue"]["value"]
    if not verify(point, signature.signed_info_digest(signed["SignedInfo"]), raw):
        raise signature.SignatureError("signature")
    return False


def _only_the_digests(signed: Any, parts: Any, *_: Any) -> bool:
    """The digests are compared, their signature is not verified."""
    digests = signature.referenced(signed["SignedInfo"])
    for ident, name, value in parts:
        if digests.get("#" + ident) != signature.digest(name, value):
            raise signature.SignatureError("digest", name)
    return False


def _no_role(leaf: Any, role: str) -> None:
    if role != chain.CPS:
        _check_role(leaf, role)


_check_role = chain.check_role


def _opened(
    derive: Callable[[bytes], bytes], read: Callable[[bytes], int], is_checked: bool
) -> Any:
    """`open_contract_key` with another key derivation, reading of the scalar, or no comparison."""

    def open_contract_key(
        vault: Vault,
        scheme: str,
        dh_point: bytes,
        wrapped: bytes,
        aad: bytes,
        public: bytes,
        key: bytes,
    ) -> bytes:
        peer = softvault.decoded(dh_point)
        z = softvault.multiply(vault._key(PROVISIONING), peer)[0].to_bytes(32, "big")
        scalar = read(softvault.aes_cbc_decrypt(derive(z), wrapped))
        if is_checked and (
            not 0 < scalar < softvault.N
            or softvault.encoded(softvault.multiply(scalar, softvault.G)) != public
        ):
            raise VaultError("key-mismatch")
        return bytes(vault.add(scalar % softvault.N or 1, key))

    return patch.object(Vault, "open_contract_key", open_contract_key)


def _kdf(z: bytes) -> bytes:
    return hashlib.sha256(b"\0\0\0\1" + z + b"\x01\x55\x56").digest()[:16]


def _x963(z: bytes) -> bytes:
    return hashlib.sha256(z + b"\0\0\0\1" + b"\x01\x55\x56").digest()[:16]


def _unsigned(plain: bytes) -> int:
    return int.from_bytes(plain, "big")


def _signed(plain: bytes) -> int:
    return int.from_bytes(plain, "big", signed=True)


def _crash_on_long_messages(attempt: Any) -> None:
    if len(attempt.response) > 9000:
        raise MemoryError("a buffer of 9,000 bytes")
    _decode(attempt)


_decode = dict(installation.CHECKS)["decode"]

# the mistake: (what is replaced, cases to try, cases that must be found)
MISTAKES: dict[str, tuple[Callable[[], Any], str, set[str]]] = {
    "the ResponseCode is not read": (
        lambda: without("response-code"),
        "RC-01*",
        {f"RC-{number:03}" for number in range(10, 20)},
    ),
    "the session is not compared": (
        lambda: _replaced("asked", _any_session),
        "SE-00*",
        {"SE-001", "SE-002", "SE-003", "SE-004", "SE-005"},
    ),
    "any leaf below a V2G root is a CPS": (
        lambda: patch.object(chain, "check_role", _no_role),
        "PA-04*",
        {"PA-040", "PA-041", "PA-042", "PA-043"},
    ),
    "dates are not compared": (
        lambda: patch.object(chain, "check_current", _nothing),
        "PA-00[1-4]",
        {"PA-001", "PA-002", "PA-003", "PA-004"},
    ),
    "digests are not computed": (
        lambda: patch.object(signature, "verify", _only_the_signature),
        "SG-01*",
        {"SG-014"},
    ),
    "the signature is not verified": (
        lambda: patch.object(signature, "verify", _only_the_digests),
        "SG-0[45]*",
        {"SG-040", "SG-049", "SG-052", "SG-053"},
    ),
    "the EMAID is that of the certificate": (
        lambda: _replaced("emaid", _emaid_taken_from_the_certificate),
        "EM-01*",
        {"EM-010", "EM-011", "EM-012"},
    ),
    "the opened key is not compared": (
        lambda: _opened(_kdf, _unsigned, is_checked=False),
        "KT-04*",
        {"KT-040", "KT-045", "KT-046"},
    ),
    "the scalar is read as a signed number": (
        lambda: _opened(_kdf, _signed, is_checked=True),
        "KT-00[24]",
        {"KT-002", "KT-004"},
    ),
    "leading zeros of Z are lost": (
        lambda: _opened(lambda z: _kdf(z.lstrip(b"\0")), _unsigned, is_checked=True),
        "KT-00*",
        {"KT-005"},
    ),
    "leading zeros of the scalar are refused": (
        lambda: _opened(_kdf, lambda plain: _unsigned(plain) if plain[0] else 0, is_checked=True),
        "KT-00*",
        {"KT-001", "KT-003"},
    ),
    "the key derivation of X9.63": (
        lambda: _opened(_x963, _unsigned, is_checked=True),
        "KT-00*",
        {f"KT-00{number}" for number in range(1, 9)},
    ),
    "replays are taken": (
        lambda: patch.object(Contracts, "admit", _nothing),
        "SE-01*",
        {"SE-012", "SE-013"},
    ),
    "a DH point may come again": (
        lambda: patch.object(Envelopes, "check", _nothing),
        "KT-080",
        {"KT-080"},
    ),
    "a buffer that is too short": (
        lambda: _replaced("decode", _crash_on_long_messages),
        "EN-00*",
        {"EN-006"},
    ),
}


@contextmanager
def working(mistake: str, folder: Path) -> Iterator[Callable[[dict[str, Any]], Any]]:
    """A module with this mistake ("" for none), as a function: request -> answer."""
    folder.mkdir(exist_ok=True)
    module = Module(Vault(), str(folder / "store"))
    if not mistake:
        yield module.answer
        return
    with MISTAKES[mistake][0]():
        yield module.answer
