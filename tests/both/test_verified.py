"""The memory of good signatures: what it takes for known, and what it asks for again."""

from evcc.vault import VaultError
from evcc.verified import ROOM, Verified
from helpers import raises

POINT, DIGEST, SIGNATURE = b"\4" + bytes(64), bytes(32), bytes(range(64))


class Judge:
    """Says `verdict` to everything, and keeps the questions."""

    def __init__(self, verdict=True):
        self.verdict = verdict
        self.asked = []

    def __call__(self, *triple):
        self.asked.append(triple)
        return self.verdict


def changed(data, at=1):
    out = bytearray(data)
    out[at] ^= 1
    return bytes(out)


def test_good_signature_is_verified_once():
    judge = Judge()
    verify = Verified(judge).check
    for _ in range(3):
        assert verify(POINT, DIGEST, SIGNATURE) is True
    assert judge.asked == [(POINT, DIGEST, SIGNATURE)]


def test_another_key_digest_or_signature_is_verified_by_itself():
    judge = Judge()
    verify = Verified(judge).check
    verify(POINT, DIGEST, SIGNATURE)
    judge.verdict = False
    for point, digest, signature in (
        (changed(POINT), DIGEST, SIGNATURE),  # another anchor of the same name
        (POINT, changed(DIGEST), SIGNATURE),  # an altered certificate
        (POINT, DIGEST, changed(SIGNATURE)),
        (POINT, DIGEST, changed(SIGNATURE, 63)),
        (POINT, DIGEST, SIGNATURE + b"\0"),
        (POINT, DIGEST, SIGNATURE[:-1]),
    ):
        assert verify(point, digest, signature) is False
        assert judge.asked[-1] == (point, digest, signature)
    assert verify(POINT, DIGEST, SIGNATURE) is True


def test_the_same_bytes_divided_otherwise_are_verified_by_themselves():
    judge = Judge()
    verify = Verified(judge).check
    verify(POINT, DIGEST, SIGNATURE)
    judge.verdict = False
    together = POINT + DIGEST + SIGNATURE
    for first, second in ((64, 97), (66, 97), (65, 96), (65, 98), (0, 161)):
        assert not verify(together[:first], together[first:second], together[second:])


def test_bad_signature_is_not_remembered():
    judge = Judge(False)
    verify = Verified(judge).check
    for _ in range(2):
        assert verify(POINT, DIGEST, SIGNATURE) is False
    assert len(judge.asked) == 2
    judge.verdict = True
    assert verify(POINT, DIGEST, SIGNATURE) is True


def test_signature_that_the_vault_could_not_judge_is_not_remembered():
    def gone(*_):
        raise VaultError("unavailable")

    verified = Verified(gone)
    for _ in range(2):
        raises(VaultError, "unavailable", verified.check, POINT, DIGEST, SIGNATURE)
    assert verified._good == []


def test_memory_is_bounded_and_keeps_the_last_used():
    judge = Judge()
    verified = Verified(judge)
    verify = verified.check
    for i in range(ROOM):
        verify(POINT, DIGEST, bytes([i]) * 64)
    verify(POINT, DIGEST, bytes(64))  # used again: the second oldest is now the oldest
    verify(POINT, DIGEST, SIGNATURE)
    assert len(verified._good) == ROOM == 32
    judge.asked = []
    verify(POINT, DIGEST, bytes(64))
    assert judge.asked == []
    verify(POINT, DIGEST, b"\1" * 64)
    assert judge.asked == [(POINT, DIGEST, b"\1" * 64)]
