"""Fuzz target: the vehicle's end of the maker's channel.

The first byte selects the sender: any peer (0: raw messages, a length byte before each), or the
authenticated maker, with any payload (1) or any fields (2: a length byte before each).
"""

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "both"))

from evcc import telematics as wire
from evcc.car import CarContext
from evcc.contracts import Contracts
from evcc.identity import Identity
from evcc.record import pack
from evcc.timekeeper import Timekeeper
from evcc.trust import Trust
from evcc.vault import PROVISIONING, VaultError
from memory import MemoryFiles

_MAKER, _CAR, _NONCE = b"\x04" + b"M" * 64, b"\x04" + b"C" * 64, bytes(32)


class Vault:
    """Signatures that are hashes: the fuzzer tests the protocol, not ECDSA."""

    def public(self, key: bytes) -> bytes:
        if key != PROVISIONING:
            raise VaultError("not-found")
        return _CAR

    def sign(self, key: bytes, digest: bytes) -> bytes:
        return signed(self.public(key), digest)

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        return signature == signed(point, digest)

    def random(self, n: int) -> bytes:
        return bytes(n)

    def custody(self, key: bytes) -> str:
        return "L0"


def signed(point: bytes, digest: bytes) -> bytes:
    return hashlib.sha256(point + digest).digest() * 2


def _refuse(response: bytes, emaid: Any, session_id: Any) -> None:
    raise VaultError("key-mismatch")


def seeds() -> Iterator[bytes]:
    for name in wire.REQUESTS:
        yield b"\x01" + pack([name, b"DEPVT0000000012"])
        for fields in ([], [b"DEPVT0000000012", bytes(32)], [b"PVTP0000000000001", b"M", b"DE"]):
            yield b"\x02" + b"".join(bytes([len(f)]) + f for f in [name, *fields])
    yield b"\x00\x21\x01" + _NONCE + b"\x41\x03" + bytes(64)
    yield b"\x00\x46\x05" + bytes(69)


def _split(data: bytes) -> Iterator[bytes]:
    while data:
        yield data[1 : 1 + data[0]]
        data = data[1 + data[0] :]


def target(data: bytes) -> None:
    """Nothing is raised; a stranger gets a challenge at most; the maker gets one sealed answer."""
    files, vault = MemoryFiles(), Vault()
    log: list[str] = []
    vehicle = wire.Vehicle(
        _MAKER,
        CarContext(
            vault,
            Identity(files, vault),
            Trust(files, vault.verify),
            Contracts(files),
            Timekeeper(files, lambda: 0, lambda: 0),
        ),
        _refuse,
        log.append,
        lambda name, text: None,
    )
    if data[:1] not in (b"\x01", b"\x02"):
        for message in _split(data[1:]):
            for answer in vehicle.receive(message):
                if answer[0] != wire.CHALLENGE:
                    raise AssertionError("said something to a stranger")
        if files.content:
            raise AssertionError("changed something for a stranger")
        return
    payload = data[1:] if data[:1] == b"\x01" else pack(list(_split(data[1:])))
    vehicle.receive(b"\x01" + _NONCE)
    proof = signed(_MAKER, wire.transcript(wire.TO_CAR, _NONCE, bytes(32), _MAKER))
    vehicle.receive(b"\x03" + proof)
    session = wire.transcript(b"S", _NONCE, bytes(32), _MAKER, _CAR)
    record = wire.seal(session, wire.TO_CAR, 0, payload, lambda d: signed(_MAKER, d))
    (answer,) = vehicle.receive(record)
    if wire.unseal(answer, session, wire.TO_MAKER, 0, _CAR, vault.verify) is None:
        raise AssertionError("not sealed")
    if vehicle.receive(record):
        raise AssertionError("answered twice")
