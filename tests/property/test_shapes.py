"""EXI by arithmetic is the codec's EXI: same bytes, same message, same refusal."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evcc import exi, signature
from evcc.iso15118_2 import messages
from plugvault.contract import shapes
from plugvault.contract.iso15118_2 import xml
from plugvault.contract.iso15118_2.bundle import bundle
from plugvault.contract.issue import ContractData

CORPUS = json.loads((Path(__file__).parents[1] / "vectors/exi_corpus.json").read_text())["vectors"]
DOCUMENTS = [
    bytes.fromhex(row["exi"])
    for row in CORPUS
    if row["form"] == "document" and row["schema"] == "iso2"
]
REQUEST = exi.encode(
    messages.envelope(
        b"12345678",
        "CertificateInstallationReq",
        {
            "Id": "id1",
            "OEMProvisioningCert": bytes(range(256)) * 2,
            "ListOfRootCertificateIDs": {
                "RootCertificateID": [{"X509IssuerName": "CN=Root", "X509SerialNumber": 7}]
            },
        },
        signature.sign(
            [("id4", "eMAID", {"Id": "id4", "value": "DEPVAC12345678"})], lambda _: bytes(64)
        ),
    )
)


@pytest.fixture(autouse=True)
def _nothing_learnt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_codings", shapes.Known())
    monkeypatch.setattr(shapes, "_forms", {})
    monkeypatch.setattr(shapes, "_uris", shapes.Known())
    monkeypatch.setattr(xml, "_known", shapes.Known())


def outcome(work: Callable[[Any], Any], given: Any) -> Any:
    try:
        return work(given)
    except (exi.ExiError, signature.SignatureError) as error:
        return error.reason, str(error)


def contract(leaf: bytes, emaid: str, wrapped: bytes = bytes(48)) -> ContractData:
    return ContractData(emaid, leaf, (b"sub2", b"sub1"), wrapped, b"\x04" * 65)


def bundled(leaf: bytes, emaid: str, digits: bytes = bytes(64)) -> Any:
    return bundle(contract(leaf, emaid), b"cps", [b"its sub"], lambda _: digits)


@pytest.mark.parametrize("raw", DOCUMENTS)
def test_every_kind_of_message_is_read_and_written_as_by_the_codec(raw: bytes) -> None:
    for _ in range(4):  # unknown, seen once, learnt, used
        message = shapes.decode(raw)
        assert message == exi.decode(raw)
        assert shapes.encode(message) == exi.encode(message)


@settings(max_examples=60)
@given(st.binary(min_size=1, max_size=90), st.from_regex("[A-Z0-9]{14,15}", fullmatch=True))
def test_a_bundle_is_written_as_by_the_codec(leaf: bytes, emaid: str) -> None:
    for digits in (bytes(64), b"\xff" * 64, leaf[:1] * 64):
        message = bundled(leaf, emaid, digits)
        assert shapes.encode(message) == exi.encode(message)
        assert xml.read(xml.write(message)) == message
        body = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
        for name in ("ContractSignatureCertChain", "eMAID", "DHpublickey"):
            assert shapes.fragment(name, body[name]) == exi.fragment(name, body[name])
        info = message["V2G_Message"]["Header"]["Signature"]["SignedInfo"]
        made = shapes.fragment("SignedInfo", info, "xmldsig")
        assert made == exi.fragment("SignedInfo", info, "xmldsig")


def test_a_bundle_knows_its_shape() -> None:
    message = bundled(b"leaf", "DEPVAC12345678")
    assert isinstance(message, shapes.Shaped)
    whole = shapes.look(deepcopy(message))
    assert whole is not None
    assert list(whole[1]) == list(message.said)
    body = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
    for name, part in body.items():
        if isinstance(part, shapes.Shaped):
            seen = shapes.look(dict(part))
            assert seen is not None, name
            assert list(seen[1]) == list(part.said)


def test_a_bundle_stays_as_it_is() -> None:
    message = bundled(b"leaf", "DEPVAC12345678")
    body = message["V2G_Message"]["Body"]["CertificateInstallationRes"]
    with pytest.raises(TypeError):
        body["ResponseCode"] = "FAILED"
    with pytest.raises(TypeError):
        body["eMAID"].update(value="DEPVAC87654321")
    copy = deepcopy(message)
    copy["V2G_Message"]["Body"]["CertificateInstallationRes"]["eMAID"]["value"] = "other"
    assert shapes.encode(message) == exi.encode(message) != shapes.encode(copy)


def test_xml_that_was_learnt_is_the_xml_that_was_written_before() -> None:
    first, other = bundled(b"one", "DEPVAC12345678"), bundled(b"two", "DEPVAC87654321")
    for _ in range(3):
        for message in (first, other):
            content = dict(message["V2G_Message"])
            content["Header"] = {"Signature": content["Header"]["Signature"]}
            assert xml.write(message) == xml._document(content)
    assert len(xml._known._learnt) == 1


@settings(max_examples=400)
@given(st.lists(st.tuples(st.integers(0, 8 * len(REQUEST) - 1)), min_size=1, max_size=3))
def test_any_bit_of_a_known_message_may_be_another(flips: list[tuple[int]]) -> None:
    for _ in range(3):
        shapes.decode(REQUEST)
    assert shapes._forms
    bits = int.from_bytes(REQUEST, "big")
    for (at,) in flips:
        bits ^= 1 << at
    raw = bits.to_bytes(len(REQUEST), "big")
    assert outcome(shapes.decode, raw) == outcome(exi.decode, raw)


@settings(max_examples=400)
@given(
    st.lists(st.integers(0, 8 * len(REQUEST) - 1), max_size=3), st.binary(min_size=1, max_size=40)
)
def test_what_a_signature_names_is_what_evcc_says(flips: list[int], digest: bytes) -> None:
    message = exi.decode(REQUEST)
    info = message["V2G_Message"]["Header"]["Signature"]["SignedInfo"]
    info["Reference"][0]["DigestValue"] = digest
    raw = exi.encode(message)
    bits = int.from_bytes(raw, "big")
    for at in flips:
        bits ^= 1 << at % (8 * len(raw))
    for _ in range(4):  # strictly, and then as learnt
        for one in (raw, bits.to_bytes(len(raw), "big")):
            try:
                said = shapes.decode(one)["V2G_Message"]["Header"]["Signature"]["SignedInfo"]
            except (exi.ExiError, KeyError):
                continue
            assert outcome(shapes.references, said) == outcome(signature.referenced, dict(said))


def test_what_a_signature_names_is_not_learnt_of_one_that_says_something_else() -> None:
    info = exi.decode(REQUEST)["V2G_Message"]["Header"]["Signature"]["SignedInfo"]
    for _ in range(3):
        marked = shapes.Shaped(info, "wrongly marked", [bytes(32)])
        assert shapes.references(marked) == signature.referenced(info)


def test_values_are_taken_in_the_order_in_which_they_are_given() -> None:
    bits = shapes._Bits(0xA0 << 20, 5, [(0, 1), (10, 1), (19, 0)], [])
    whole = bits.put([b"a", b"b", b""])
    assert int.from_bytes(whole, "big") == 0xA0 << 20 | ord("b") << 10 | ord("a")
    assert bits.take(whole) == [b"a", b"b", b""]


def test_values_that_share_an_octet_are_the_codecs() -> None:
    with pytest.raises(ValueError, match="share"):
        shapes._Bits(0, 3, [(12, 1), (4, 1)], [])


def test_what_was_read_is_nobody_elses() -> None:
    for _ in range(3):
        shapes.decode(REQUEST)
    one = shapes.decode(REQUEST)
    one["V2G_Message"]["Header"]["Signature"].clear()
    assert shapes.decode(REQUEST) == exi.decode(REQUEST)


@pytest.mark.parametrize(
    "wrong",
    [
        {"eMAID": {"Id": "id4", "value": "D\xc4"}},
        {"eMAID": {"Id": "id4", "value": None}},
        {"eMAID": {"Id": "id4", "value": b"bytes"}},
        {"eMAID": ["a list"]},
        {"ResponseCode": "NotOne"},
        {"DHpublickey": {"Id": "id3", "value": bytearray(b"its point")}},
        {"DHpublickey": {"Id": "id3", "value": "text"}},
        {"more": True},
        {7: b"a number's name"},
    ],
)
def test_what_the_codec_refuses_is_refused_however_often_it_comes(wrong: dict[Any, Any]) -> None:
    message = deepcopy(bundled(b"leaf", "DEPVAC12345678"))
    message["V2G_Message"]["Body"]["CertificateInstallationRes"] |= wrong
    for _ in range(4):
        assert outcome(shapes.encode, message) == outcome(exi.encode, message)


@pytest.mark.parametrize(
    ("one", "two"),
    [(1, True), (0, False), (b"", ""), ({}, []), (3, b"abc"), ("3", b"abc"), (3, "abc")],
)
def test_values_that_are_alike_have_shapes_of_their_own(one: Any, two: Any) -> None:
    assert shapes.look({"member": one}) != shapes.look({"member": two})


def test_no_more_shapes_are_kept_than_said() -> None:
    for size in range(1, shapes.MOST + 40):
        message = exi.decode(REQUEST)
        message["V2G_Message"]["Body"]["CertificateInstallationReq"]["Id"] = f"id{size}"
        raw = exi.encode(message)
        for _ in range(3):
            shapes.decode(raw)
    assert len(shapes._codings._learnt) == shapes.MOST
    assert len(shapes._codings._once) <= shapes.MOST
    assert all(len(forms) <= shapes.ALIKE for forms in shapes._forms.values())


def test_a_shape_that_comes_once_costs_nothing_but_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = []
    monkeypatch.setattr(shapes, "_learn", lambda *given: learnt.append(given))
    for size in range(1, 20):
        shapes.encode(bundled(bytes(size), "DEPVAC12345678"))
    # The parts of a bundle are alike; each whole message is another.
    assert not [given for given in learnt if "V2G_Message" in given[0]]
