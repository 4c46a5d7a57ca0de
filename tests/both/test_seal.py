"""The seal of the vault's frames; `tests/attacks/test_vault_tcp.py` attacks it."""

from evcc.vault import VaultError
from evcc.vault.seal import Seal
from helpers import raises

KEY = bytes(range(32))
NONCES = bytes(range(100, 132))
FRAME = b"\x00\x05\x01\x08\x00\x01\x07"
# HMAC-SHA256 twice, by OpenSSL.
SEALED = "00170108000107001052a87740ab7b93bff388d05e4819263d"


def test_a_sealed_frame_has_the_known_bytes():
    assert Seal(KEY, b"car", NONCES, True).seal(FRAME) == bytes.fromhex(SEALED)


def test_each_end_opens_the_frames_of_the_other():
    client, service = [Seal(KEY, b"car", NONCES, side) for side in (True, False)]
    for sender, receiver in ((client, service), (client, service), (service, client)):
        assert receiver.unseal(sender.seal(FRAME)[2:]) == FRAME[2:]


def test_any_change_is_refused():
    sealed = Seal(KEY, b"car", NONCES, True).seal(FRAME)[2:]
    for i in range(len(sealed)):
        changed = sealed[:i] + bytes((sealed[i] ^ 128,)) + sealed[i + 1 :]
        raises(VaultError, "refused", Seal(KEY, b"car", NONCES, False).unseal, changed)
    for i in range(len(sealed)):
        raises(VaultError, "refused", Seal(KEY, b"car", NONCES, False).unseal, sealed[:i])


def test_key_of_another_length_is_refused():
    for length in (0, 16, 31, 33, 64):
        raises(VaultError, "refused", Seal, bytes(length), b"car", NONCES, True)
