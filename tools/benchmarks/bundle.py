"""A sealed, signed contract bundle, compared with a bare loop of its cryptographic primitives.

Ours: the operator's `issue_contract` (key pair, certificate after the profile, seal) and the CPS's
verification and signature. Bare: the same primitives of `cryptography` alone. Both alternate in
one run. The cost with EXI is an absolute figure; `exi.py` has the budget of EXI.
"""

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.serialization import Encoding

from answer import EMAID, NOW, World
from plugvault.contract.iso15118_2.bundle import bundle, to_exi
from plugvault.contract.iso15118_2.issue import issue_contract
from plugvault.pki.issue import Authority
from plugvault.pki.keys import raw_signer
from plugvault.pki.verify import verify_p256

AT_LEAST = 0.7
ROUNDS = 300
DIGEST = hashlib.sha256(b"SignedInfo").digest()


def bare(world: World, vehicle: x509.Certificate, signer: ec.EllipticCurvePrivateKey) -> None:
    """Every primitive once, on prepared inputs."""
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(
        world.mo_sub2.certificate.subject,
        world.contract.certificate.subject,
        key.public_key(),
        x509.random_serial_number(),
        datetime.fromtimestamp(NOW, UTC),
        datetime.fromtimestamp(NOW, UTC) + timedelta(days=700),
        list(world.contract.certificate.extensions),
    )
    builder.sign(world.mo_sub2.key, SHA256()).public_bytes(Encoding.DER)
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    shared = ephemeral.exchange(ec.ECDH(), vehicle.public_key())
    wrapping = ConcatKDFHash(SHA256(), 16, b"\x01UV").derive(shared)
    scalar = key.private_numbers().private_value.to_bytes(32, "big")
    encryptor = Cipher(algorithms.AES(wrapping), modes.CBC(os.urandom(16))).encryptor()
    encryptor.update(scalar)
    signature = signer.sign(DIGEST, ec.ECDSA(SHA256()))
    signer.public_key().verify(signature, DIGEST, ec.ECDSA(SHA256()))


def median(seconds: list[float]) -> float:
    """The median of durations in seconds, in microseconds."""
    return statistics.median(seconds) * 1e6


def timed(work: Callable[[], object]) -> float:
    """The seconds of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def bench() -> list[dict[str, object]]:
    world = World()
    vehicle = world.provisioning(world.cpo.point)  # any point will do: the key is never opened
    issuers = (world.mo_sub1.certificate, world.mo_root.certificate)
    operator = Authority(world.mo_sub2.certificate, world.mo_sub2.key, issuers)
    sign = raw_signer(world.cps.key)

    def ours() -> None:
        issue_contract(EMAID, vehicle.der, operator, NOW)
        verify_p256(world.cps.point, DIGEST, sign(DIGEST))

    def with_exi() -> None:
        data = issue_contract(EMAID, vehicle.der, operator, NOW)
        to_exi(bundle(data, world.cps.der, world.cps.chain[1:], sign))

    bare_times, our_times, exi_times = [], [], []
    for _ in range(ROUNDS):
        bare_times.append(timed(lambda: bare(world, vehicle.certificate, world.cps.key)))
        our_times.append(timed(ours))
        exi_times.append(timed(with_exi))
    ratio = median(bare_times) / median(our_times)
    name = "contract issued, sealed and signed, against bare primitives"
    return [
        {"name": name, "value": ratio, "unit": "×", "at_least": AT_LEAST},
        {"name": "  ours, cryptography only", "value": median(our_times), "unit": "µs"},
        {"name": "  bare primitives", "value": median(bare_times), "unit": "µs"},
        {
            "name": "  ours, with EXI, to the wire's bytes",
            "value": median(exi_times),
            "unit": "µs",
        },
    ]
