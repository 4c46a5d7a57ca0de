"""Fuzz target: the vault service's requests, and its client's answers, out of any bytes."""

import contextlib
from collections.abc import Iterator

from evcc.vault import PROVISIONING, VaultError
from evcc.vault import service as codec
from evcc.vault.seal import Seal
from plugvault.vault_service.callers import VaultCaller
from plugvault.vault_service.handlers import RequestHandler

_CALLER = VaultCaller(rate=1e12, openings=None)


class _NoKeys:
    def __getattr__(self, name: str):
        def call(*arguments):
            raise VaultError("full")  # "not-found" is no refusal of a deletion asked for again

        return call


class _NoRecords:
    def of(self, owner: bytes) -> "_NoRecords":
        return self

    def bind(self, client: bytes, uses: bool = True) -> None:
        pass

    def owners(self) -> list[bytes]:
        raise VaultError("full")


class _Answers:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def write(self, data: bytes) -> None:
        pass

    def read(self, n: int, timeout_ms: int) -> bytes:
        if not timeout_ms:
            return b""
        piece, self.data = self.data[:n], self.data[n:]
        return piece


def seeds() -> Iterator[bytes]:
    for code, (_, count) in enumerate(codec.OPERATIONS):
        yield codec.pack(1, code, [PROVISIONING] * count)
    yield codec.pack(1, 0, [bytes(64)])
    yield codec.pack(1, 3, [b"exists"])


def target(data: bytes) -> None:
    """Every request gets one frame with a reason; every answer is a value or a VaultError."""
    frame = RequestHandler(_NoKeys(), _NoRecords()).answer(_CALLER, data[2:])
    if codec.frame_size(frame, codec.MAX_ANSWER) != len(frame) or not frame[3]:
        raise AssertionError("not one refusal")
    for ask in (
        lambda vault: vault.sign(PROVISIONING, bytes(32)),
        lambda vault: vault.keys(),
        lambda vault: vault.custody(PROVISIONING),
    ):
        for name, key in (("", b""), ("car", bytes(32))):
            with contextlib.suppress(VaultError):
                ask(codec.connect(_Answers(data), name, key))
    seal = Seal(bytes(32), b"car", bytes(32), is_client=False)
    try:
        seal.unseal(data)
    except VaultError:
        return
    raise AssertionError("sealed without the key of the other side")
