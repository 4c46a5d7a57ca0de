"""A certificate read by comparison is the certificate that `evcc.x509` reads: all of it, or the
same refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evcc import x509
from plugvault.pki import moulds
from world import World

VECTORS = Path(__file__).parents[1] / "vectors/certificates.json"
SEEDS = [bytes.fromhex(text) for text in json.loads(VECTORS.read_text()).values()]
SAID = (
    *("der", "tbs", "tbs_digest", "serial", "issuer", "subject", "names", "not_before"),
    *("not_after", "point", "signature", "is_ca", "path_length", "key_usage", "ski", "aki"),
    *("ocsp", "unknown_critical"),
)


@pytest.fixture(autouse=True)
def _nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moulds, "_moulds", {})


def outcome(read: Any, data: bytes) -> Any:
    try:
        certificate = read(data)
    except x509.CertificateError as error:
        return error.reason, str(error)
    return {name: getattr(certificate, name) for name in SAID}


def model_of(data: bytes) -> x509.Certificate:
    """Read strictly, and all of it cut out."""
    moulds._moulds.clear()
    try:
        return moulds.read(data)
    finally:
        moulds._moulds.clear()


def readable() -> Iterator[bytes]:
    for seed in SEEDS:
        try:
            x509.parse(seed)
        except x509.CertificateError:
            continue
        yield seed


MODELS = list(readable())


def agrees(mould: moulds.Mould, data: bytes) -> bool:
    """Whether the mould takes it; it must be what it says."""
    made = mould.read(data)
    if made is None:
        return False
    assert outcome(lambda _: made, data) == outcome(x509.parse, data)
    return True


def test_every_kind_of_certificate_fits_its_own_mould() -> None:
    taken = [agrees(moulds.Mould(model_of(model)), model) for model in MODELS]
    assert sum(taken) > len(taken) * 0.9  # what has texts beyond ASCII is always read strictly
    assert len(taken) > 10


@pytest.mark.parametrize("model", MODELS[:8], ids=range(8))
def test_no_byte_may_be_another_but_where_evcc_would_take_it_too(model: bytes) -> None:
    mould = moulds.Mould(model_of(model))
    for at in range(len(model)):
        for flip in (0x01, 0x20, 0x80, 0xFF):
            data = bytearray(model)
            data[at] ^= flip
            agrees(mould, bytes(data))


def test_what_one_ca_issues_is_read_by_one_mould() -> None:
    world = World()
    leaves = [
        world.oem_sub2.issue(f"PVTP{number:013}", dc="OEM").der  # type: ignore[attr-defined]
        for number in range(40)
    ]
    kinds = [moulds.Mould(model_of(leaf)) for leaf in leaves]  # some are rare: take the largest
    taken = max(([leaf for leaf in leaves if agrees(kind, leaf)] for kind in kinds), key=len)
    assert len(taken) > 1
    assert {x509.parse(leaf).names["CN"] for leaf in taken} <= {
        f"PVTP{number:013}" for number in range(40)
    }


@st.composite
def changed(draw: st.DrawFn) -> tuple[bytes, bytes]:
    model = draw(st.sampled_from(MODELS))
    data = bytearray(model)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(data) - 1))
        data[at : at + 1] = bytes([draw(st.integers(0, 255))])
    return model, bytes(data)


@given(changed())
def test_what_a_mould_takes_evcc_takes_and_reads_the_same(pair: tuple[bytes, bytes]) -> None:
    model, data = pair
    agrees(moulds.Mould(model_of(model)), data)


@given(changed())
def test_whatever_was_learnt_reading_says_what_evcc_says(pair: tuple[bytes, bytes]) -> None:
    model, data = pair
    for _ in range(3):
        moulds.read(model)
    assert outcome(moulds.read, data) == outcome(x509.parse, data)


def test_a_kind_is_learnt_when_its_lengths_come_again_and_only_so_many_are_kept() -> None:
    model = MODELS[0]
    moulds.read(model)
    assert moulds._moulds == {model[:8]: []}
    moulds.read(model)
    moulds.read(model)
    assert [len(alike) for alike in moulds._moulds.values()] == [1]


def tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    return bytes([tag, *([0x82, size >> 8] if size > 0x7F else []), size & 0xFF]) + content


def signed(tbs: bytes, r: int, s: int) -> bytes:
    """A certificate with this signature, which nobody has made."""
    halves = [tlv(2, one.to_bytes(one.bit_length() // 8 + 1, "big")) for one in (r, s)]
    algorithm = bytes.fromhex("300a06082a8648ce3d040302")
    return tlv(0x30, tbs + algorithm + tlv(3, b"\0" + tlv(0x30, b"".join(halves))))


@pytest.mark.parametrize("r", [1, 0x7F, 0x80, 1 << 240, (1 << 248) - 1, 1 << 248, 1 << 255])
def test_halves_of_a_signature_have_their_whole_length_again(r: int) -> None:
    data = signed(x509.parse(MODELS[0]).tbs, r, 1 << 254)
    assert agrees(moulds.Mould(model_of(data)), data)


def with_serial(content: bytes) -> bytes:
    model = x509.parse(MODELS[0])
    start, stop = moulds._span(model, "serial")
    begin = moulds._span(model, "tbs")[0] + 4  # bytes of its header
    tbs = (
        model.der[begin : start - 2]
        + tlv(2, content)
        + model.der[stop : begin - 4 + len(model.tbs)]
    )
    return signed(tlv(0x30, tbs), 1 << 254, 1 << 254)


@pytest.mark.parametrize("size", [2, 8, 20])
def test_a_serial_number_fits_its_length_with_a_zero_before_it_or_without(size: int) -> None:
    rest = bytes(size - 2)
    forms = [with_serial(begin + rest) for begin in (b"\0\x80", b"\0\xff", b"\1\0", b"\x7f\xff")]
    for model in forms:
        mould = moulds.Mould(model_of(model))
        assert all(agrees(mould, data) for data in forms)
        for begin in (b"\0\x7f", b"\x80\0", b"\xff\xff", b"\0\0"):
            assert not agrees(mould, with_serial(begin + rest))


def test_a_serial_number_of_20_bytes_has_a_21st_only_for_its_zero() -> None:
    mould = moulds.Mould(model_of(with_serial(b"\0\x80" + bytes(19))))
    assert agrees(mould, with_serial(b"\0\xff" + bytes(19)))
    assert not agrees(mould, with_serial(b"\1" + bytes(20)))


def test_a_half_of_32_bytes_has_a_33rd_only_for_its_zero() -> None:
    model = signed(x509.parse(MODELS[0]).tbs, 1 << 255, 1 << 254)
    zero = model.rindex(b"\2\x21\0\x80") + 2
    longer = model[:zero] + b"\1" + model[zero + 1 :]
    assert not agrees(moulds.Mould(model_of(model)), longer)


def test_only_so_many_kinds_of_one_beginning_are_kept() -> None:
    tbs = x509.parse(MODELS[0]).tbs
    issuer = x509.parse(MODELS[0]).issuer
    for _ in range(2):
        for number in range(moulds.ALIKE + 5):
            named = issuer[:-1] + bytes([0x41 + number])
            moulds.read(signed(tbs.replace(issuer, named, 1), 1 << 254, 1 << 254))
    assert [len(alike) for alike in moulds._moulds.values()] == [moulds.ALIKE]
