"""The cryptography of a request to the pools, in a bare loop.

    opcp_bare.py FOLDER SECONDS put|post        FOLDER: a sandbox's --data

"put", contract data signed and stored: the signatures over the contract certificate and over the
vehicle's provisioning certificate are verified, SignedInfo is signed by the CPS leaf's key in its
SoftHSM token, and that signature verified before a vehicle would refuse it; SHA-256 of both
certificates, the four signed elements and SignedInfo. "post", a vehicle's request answered: the
vehicle's key, new for each request, is taken from its point, and the signatures over its request
and over its provisioning certificate are verified; SHA-256 of both, and of SignedInfo.
Signatures that are the same for every request (of sub-CAs, of the access token) are not counted,
and there is no ECDH in either: sealing is the operator's, opening the vehicle's. Keys of CAs and
of the CPS are loaded beforehand. Prints rounds per second.
"""

import hashlib
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pkcs11 import Mechanism

from plugvault.ecosystem.folder import Folder

ECDSA = ec.ECDSA(Prehashed(SHA256()))
CERTIFICATE, ELEMENT, BINARY = bytes(560), bytes(1700), bytes(80)  # as large as in a bundle


def sha256(*texts: bytes) -> None:
    for text in texts:
        hashlib.sha256(text).digest()


def loop(folder: Path, kind: str, stack: ExitStack) -> Callable[[], None]:
    """One round of the cryptography, as a function. kind: "put" or "post"."""
    digest = hashlib.sha256(CERTIFICATE).digest()
    key = ec.generate_private_key(ec.SECP256R1())
    public, signature = key.public_key(), key.sign(digest, ECDSA)
    point = public.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    leaf = Folder(folder).tokens(stack, "cps")["cps"].key("cps-leaf")._private

    def post() -> None:
        sha256(CERTIFICATE, CERTIFICATE, BINARY)
        vehicle = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        vehicle.verify(signature, digest, ECDSA)
        public.verify(signature, digest, ECDSA)

    def put() -> None:
        sha256(CERTIFICATE, CERTIFICATE, ELEMENT, BINARY, BINARY, BINARY, BINARY)
        public.verify(signature, digest, ECDSA)
        public.verify(signature, digest, ECDSA)
        leaf.sign(digest, mechanism=Mechanism.ECDSA)
        public.verify(signature, digest, ECDSA)

    return {"put": put, "post": post}[kind]


def rate(work: Callable[[], None], seconds: float) -> float:
    """Rounds per second."""
    start, rounds = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        for _ in range(50):
            work()
        rounds += 50
    return rounds / spent


def main() -> None:
    seconds = float(sys.argv[2])
    with ExitStack() as stack:
        work = loop(Path(sys.argv[1]), sys.argv[3], stack)
        print("ready", flush=True)
        sys.stdin.readline()
        rate(work, seconds / 4)  # fills the caches, as the warm-up of the requests does
        print(rate(work, seconds))


if __name__ == "__main__":
    main()
