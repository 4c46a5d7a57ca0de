"""The messages of the vault service, and a client's handling of answers and missing answers."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcc.ports.stream import PortError
from evcc.vault import VaultError
from evcc.vault import service as codec
from plugvault.vault_service.callers import VaultCaller
from plugvault.vault_service.envelopes import EnvelopeRecords
from plugvault.vault_service.handlers import RequestHandler, TokenLost

DIGEST = bytes(range(32))
SIGN = codec.OPERATIONS.index(("sign", 3))
KEYS = codec.OPERATIONS.index(("keys", 1))
CALLER = VaultCaller(rate=1e9, openings=None)


def answers_of(vault: Any) -> RequestHandler:
    CALLER.owned.clear()
    return RequestHandler(vault, EnvelopeRecords(Path("/nowhere")))


class NoKeys:
    """A vault that answers every operation with "full"."""

    def __getattr__(self, name: str):
        def call(*args):
            assert name in [operation for operation, _ in codec.OPERATIONS]
            raise VaultError("full")

        return call


class Late:
    """A stream that answers with the frames it was given, as fast as it is read."""

    def __init__(self, answers: bytes) -> None:
        self.answers, self.closed, self.written = answers, False, b""

    def write(self, data: bytes) -> None:
        self.written += data

    def read(self, n: int, timeout_ms: int) -> bytes:
        if not timeout_ms:
            return b""
        piece, self.answers = self.answers[: min(n, 3)], self.answers[min(n, 3) :]
        return piece

    def close(self) -> None:
        self.closed = True


@given(st.integers(0, 255), st.integers(0, 255), st.lists(st.binary(max_size=300), max_size=6))
def test_frames_come_back_as_they_were(tag: int, code: int, fields: list[bytes]) -> None:
    frame = codec.pack(tag, code, fields)
    assert codec.frame_size(frame, 10_000) == len(frame)
    assert codec.unpack(frame[2:]) == (tag, code, fields)


@given(st.binary(max_size=400))
def test_any_request_gets_one_answer_with_a_reason(body: bytes) -> None:
    frame = answers_of(NoKeys()).answer(CALLER, body)
    assert codec.frame_size(frame, codec.MAX_ANSWER) == len(frame)
    _, code, fields = codec.unpack(frame[2:])
    assert VaultError.REASONS[code - 1] in ("protocol", "full")
    assert len(fields) == 1


@given(st.binary(max_size=64))
def test_any_answer_is_a_value_or_a_vault_error(data: bytes) -> None:
    for ask in (lambda v: v.sign(b"k", DIGEST), lambda v: v.keys(), lambda v: v.custody(b"k")):
        try:
            ask(codec.connect(Late(data)))
        except VaultError as error:
            assert error.reason in VaultError.REASONS


def test_answer_that_is_not_text_where_text_belongs_is_a_protocol_error() -> None:
    for code in (0, 1):
        with pytest.raises(VaultError, match="protocol"):
            codec.connect(Late(codec.pack(1, code, [b"\xff\xfe"]))).custody(b"k")


def test_answer_that_makes_no_sense_is_a_protocol_error() -> None:
    frame = codec.pack(1, 0, [bytes(64)])
    for nonsense in (
        codec.pack(1, 0, []),  # nothing where a signature belongs
        codec.pack(1, len(VaultError.REASONS) + 1, []),
        codec.pack(1, 255, [b"x"]),
        frame[:4] + b"\0\x41" + frame[6:],  # a field beyond its frame
        b"\0\x03\x01\0\0",  # half a length
    ):
        with pytest.raises(VaultError) as caught:
            codec.connect(Late(nonsense)).sign(b"k", DIGEST)
        assert caught.value.reason == "protocol"


def test_link_offers_no_raw_ecdh() -> None:
    assert [name for name, _ in codec.OPERATIONS] == [
        "generate_provisioning_key",
        "public",
        "sign",
        "open_contract_key",
        "verify",
        "delete",
        "keys",
        "custody",
        "random",
        "status",
    ]
    for code in range(256):
        if code & ~codec.AGAIN < len(codec.OPERATIONS):
            continue
        request = codec.pack(7, code, [])[2:]
        answer = answers_of(NoKeys()).answer(CALLER, request)
        assert codec.unpack(answer[2:])[:2] == (7, VaultError.REASONS.index("protocol") + 1)


def test_operation_with_too_few_or_too_many_fields_is_refused() -> None:
    for code, (_, count) in enumerate(codec.OPERATIONS):
        for wrong in {0, 1, 2, 3, 4, 5, 6, 7} - {count}:
            request = codec.pack(1, code, [b"x"] * wrong)[2:]
            answer = answers_of(NoKeys()).answer(CALLER, request)
            assert codec.unpack(answer[2:])[1] == VaultError.REASONS.index("protocol") + 1


@pytest.mark.parametrize("length", [0, 12, 15, 17])
def test_contract_key_with_an_id_of_another_length_is_refused(length: int) -> None:
    """By the service itself, before its vault is asked."""
    request = codec.pack(1, 3, [b"", b"iso2", b"", b"", b"", b"", bytes(length)])[2:]
    answer = answers_of(NoKeys()).answer(CALLER, request)
    assert codec.unpack(answer[2:])[1] == VaultError.REASONS.index("protocol") + 1


def test_answer_that_comes_too_late_is_not_taken_for_the_next() -> None:
    late, right = codec.pack(200, 0, [b"old"]), codec.pack(1, 0, [b"new"])
    assert codec.connect(Late(late + right)).sign(b"k", DIGEST) == b"new"


class Line(Late):
    """A stream that cannot be opened again: half a late answer lies in it until somebody asks."""

    def __init__(self, late: bytes, right: bytes) -> None:
        super().__init__(late)
        self.right = right

    def write(self, data: bytes) -> None:
        self.answers += self.right

    def read(self, n: int, timeout_ms: int) -> bytes:
        piece, self.answers = self.answers[:n], self.answers[n:]
        return piece


def test_rest_of_a_late_answer_on_the_only_line_is_thrown_away() -> None:
    line = Line(codec.pack(200, 0, [b"old" * 20])[10:], codec.pack(1, 0, [b"new"]))
    assert codec.connect(line).sign(b"k", DIGEST) == b"new"


class Broken(Late):
    """A connection whose service dies at the request."""

    def __init__(self, asked: list[bytes]) -> None:
        super().__init__(b"")
        self.asked = asked

    def write(self, data: bytes) -> None:
        self.asked.append(data)

    def read(self, n: int, timeout_ms: int) -> bytes:
        raise PortError("closed", "the other end is gone")


class Awaited(Late):
    """A connection with an answer at the n-th poll, or after a sleep."""

    def __init__(self, looks: int) -> None:
        super().__init__(codec.pack(1, 0, [b"new"]))
        self.looks, self.slept = looks, 0

    def read(self, n: int, timeout_ms: int) -> bytes:
        self.looks -= not timeout_ms
        if not timeout_ms and self.looks:
            return b""
        self.slept += bool(timeout_ms)
        piece, self.answers = self.answers, b""
        return piece


def test_answer_that_comes_soon_is_not_slept_for() -> None:
    stream = Awaited(looks=20)
    assert codec.connect(lambda: stream).sign(b"k", DIGEST) == b"new"
    assert stream.slept == 0


def test_answer_that_takes_longer_is_slept_for() -> None:
    stream = Awaited(looks=10_000)
    assert codec.connect(lambda: stream).sign(b"k", DIGEST) == b"new"
    assert stream.slept == 1
    assert 0 < 10_000 - stream.looks < 1000


def test_line_is_not_looked_at_again_and_again() -> None:
    """No answer comes that soon on it."""
    stream = Awaited(looks=10_000)
    assert codec.connect(stream).sign(b"k", DIGEST) == b"new"
    assert stream.looks == 10_000 - 1, "for the rest of a late answer"


def test_lost_answer_is_asked_for_again_and_says_so() -> None:
    requests: list[bytes] = []
    streams = [Broken(requests), Broken(requests), Late(codec.pack(3, 0, [b"new"]))]
    opened = list(streams)
    assert codec.connect(lambda: opened.pop(0)).sign(b"k", DIGEST) == b"new"
    assert [frame[3] for frame in requests] == [SIGN, SIGN | codec.AGAIN]
    assert [stream.closed for stream in streams] == [True, True, False]


def test_request_that_its_service_dies_of_is_not_asked_for_ever() -> None:
    requests: list[bytes] = []
    with pytest.raises(VaultError, match="unavailable"):
        codec.connect(lambda: Broken(requests)).sign(b"k", DIGEST)
    assert len(requests) == 3


def test_silent_service_on_a_line_is_asked_again() -> None:
    class Silent(Late):
        asked = 0

        def write(self, data: bytes) -> None:
            self.asked += 1
            if self.asked == 2:
                self.answers = codec.pack(data[2], 0, [b"new"])

    assert codec.connect(Silent(b"")).sign(b"k", DIGEST) == b"new"


def test_answer_without_a_request_number_is_taken() -> None:
    """Without a process for the token the supervisor answers with a reason only."""
    why = codec.pack(0, VaultError.REASONS.index("token-missing") + 1, [b"car"])
    with pytest.raises(VaultError, match="token-missing: car"):
        codec.connect(lambda: Late(why)).sign(b"k", DIGEST)


@pytest.mark.parametrize("size", [codec.MAX_REQUEST, 70_000])
def test_request_that_is_too_long_is_refused_and_not_sent(size: int) -> None:
    """Also one whose length two bytes cannot say."""
    stream = Late(codec.pack(1, 0, [DIGEST]))
    vault = codec.connect(stream)
    with pytest.raises(VaultError, match="refused: request of"):
        vault.sign(b"k", bytes(size))
    assert stream.written == b""
    assert not stream.closed


@pytest.mark.parametrize(
    ("name", "arguments", "result"),
    [("sign", [DIGEST], bytes(64)), ("public", [], bytes(65)), ("custody", [], "L3")],
)
def test_key_that_disappears_makes_the_library_doubtful(
    name: str, arguments: list[bytes], result: object
) -> None:
    present = [True]

    def operation_(*_: bytes) -> object:
        if not present.pop():
            raise VaultError("not-found")
        return result

    operation = [operation_name for operation_name, _ in codec.OPERATIONS].index(name)
    request = codec.pack(1, operation, [b"", b"k", *arguments])[2:]
    answers = answers_of(SimpleNamespace(**{name: operation_}))
    assert codec.unpack(answers.answer(CALLER, request)[2:])[1] == 0
    present.append(False)
    with pytest.raises(TokenLost):
        answers.answer(CALLER, request)


@pytest.mark.parametrize("count", [1, 96, 97, 800])
def test_keys_are_all_in_one_answer_or_it_says_that_they_are_too_many(count: int) -> None:
    keys = [(n.to_bytes(16, "big"), bytes(65)) for n in range(count)]
    answers = answers_of(SimpleNamespace(keys=lambda: keys))
    frame = answers.answer(CALLER, codec.pack(1, KEYS, [b""])[2:])
    vault = codec.connect(Late(frame))
    if count <= 96:
        assert len(frame) + codec.SEAL <= codec.MAX_ANSWER
        assert vault.keys() == keys
    else:
        with pytest.raises(VaultError, match=f"full: {count} keys"):
            vault.keys()


def test_answer_over_the_limit_is_refused_before_it_is_read() -> None:
    stream = Late(b"\xff\xff" + bytes(100))
    with pytest.raises(VaultError, match="protocol"):
        codec.connect(lambda: stream).keys()
    assert stream.closed
    assert len(stream.answers) > 90
