"""A small Plug & Charge world in software keys, for tests: the PKI of the test cases, at random.

    world = World()                                  # roots, sub-CAs, CPS, CPO, OEM and MO leaves
    world.anchors                                    # [("V2G", der), ("MO", der), ("OEM", der)]
    bad = world.cps_sub2.issue("CPS", dc="CPO")      # any other certificate, in one call
    world.response(point)                            # a CertificateInstallationRes that installs
    world.response(point, cps=bad)                   # the same, signed by the wrong leaf
    world.response(point, edit=lambda m: ...)        # the same, changed after it was signed

Certificates and messages are made by `plugvault.cases`, which has nothing of the product but the
EXI codec: they come from `cryptography`, so that two implementations have to agree.
"""

from __future__ import annotations

import itertools
import os
import secrets
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from plugvault.cases import scene
from plugvault.cases.pki import (
    CA_USAGE,
    CONTRACT_USAGE,
    DAY,
    LEAF_USAGE,
    CasePki,
    Issued,
    Key,
    Pki,
    point,
    sign,
    subject_name,
    usage,
)
from plugvault.cases.scene import EMAID, SIGNED, Scene, derived
from plugvault.cases.seed import Seed

__all__ = [
    "AGREEMENT", "CA_USAGE", "CONTRACT_USAGE", "DAY", "EMAID", "NOW", "PCID", "SESSION_ID",
    "SIGNED",
    "Issued", "World", "issued", "point", "root", "seal", "sign", "subject_name", "usage",
]  # fmt: skip

NOW = 1_790_000_000  # 2026-09-21, a Monday: the world's clock, so that no test depends on today
PCID = "PVTP0000000000001"
SESSION_ID = bytes(range(1, 9))
AGREEMENT = LEAF_USAGE

_messages = itertools.count(1)


class _Random(Pki):
    """Keys and serial numbers at random: a test may issue in several threads, at any time."""

    organisation = "Plug Test"
    past, future = DAY, 90 * DAY

    def next_key(self) -> Key:
        return ec.generate_private_key(ec.SECP256R1())

    def next_serial(self) -> int:
        return x509.random_serial_number() >> 33


def root(common_name: str, now: int = NOW, dc: str = "V2G", **changes: Any) -> Issued:
    """A root of its own. changes: see `Pki.root`."""
    return _Random(Seed(0), now).root(common_name, dc, **changes)


def issued(
    certificate: x509.Certificate, key: Key | None, issuer: Issued | None = None, now: int = NOW
) -> Issued:
    """A certificate that was made elsewhere, to issue others under it."""
    return Issued(certificate, key, issuer, _Random(Seed(0), now))


class World(_Random, CasePki):
    """Three roots and all certificates below them. Every attribute is an `Issued`."""

    def __init__(self, now: int = NOW) -> None:
        super().__init__(Seed(secrets.randbits(128)), now)
        self.contract = self.new_contract(EMAID)

    @property
    def contract_key(self) -> Key:
        return self.contract.private_key

    def new_contract(self, emaid: str, **changes: Any) -> Issued:
        """A contract certificate of MO Sub2. changes: of `Issued.issue`."""
        profile = {"dc": "MO", "country": None, "key_usage": CONTRACT_USAGE}
        return self.mo_sub2.issue(emaid, **{**profile, **changes})

    def provisioning(self, public: bytes, pcid: str = PCID, **changes: Any) -> Issued:
        """The provisioning certificate of a vehicle whose key stays in its token."""
        profile = {"dc": "OEM", "public_key": public, "key_usage": AGREEMENT}
        return self.oem_sub2.issue(pcid, **{**profile, **changes})

    def response(
        self,
        provisioning_point: bytes,
        *,
        contract: Issued | None = None,
        session_id: bytes = SESSION_ID,
        **changes: Any,
    ) -> bytes:
        """A CertificateInstallationRes, signed by the CPS, that the vehicle whose provisioning key
        is `provisioning_point` can install. EXI. changes: see `Scene.message`."""
        message = self._scene(provisioning_point)
        return message.message(contract or self.contract, session=session_id, **changes)

    def body(
        self, provisioning_point: bytes, *, contract: Issued | None = None, **changes: Any
    ) -> scene.Message:
        """The unsigned CertificateInstallationRes. changes: see `Scene.body`."""
        return self._scene(provisioning_point).body(contract or self.contract, **changes)

    def _scene(self, provisioning_point: bytes) -> Scene:
        return Scene(self, provisioning_point, f"message {next(_messages)}", 0)


def seal(scalar: bytes, ephemeral: Key, recipient: bytes) -> bytes:
    """ContractSignatureEncryptedPrivateKey: IV and AES-128-CBC of the scalar [V2G2-818..822]."""
    return scene.seal(scalar, ephemeral, recipient, os.urandom(16), derived)
