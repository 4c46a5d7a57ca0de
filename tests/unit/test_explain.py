"""`plugvault explain`: the step that is wrong, and the mistake of a module."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from evcc.link import v2gtp
from plugvault.cases import catalogue
from plugvault.cases.derivations import WRONG
from plugvault.cases.pki import CasePki, point
from plugvault.cases.scene import Scene
from plugvault.cases.seed import Seed
from plugvault.cli.app import main
from plugvault.explanation import ExplainError, explain_envelope, explain_signature, message_of
from plugvault.explanation.deviation import first_deviation, parse_theirs
from plugvault.explanation.key_transport import key_of, z_of

NOW = 1_790_000_000
VEHICLE = ec.derive_private_key(0xABCDEF, ec.SECP256R1())


@pytest.fixture(scope="module")
def pki() -> CasePki:
    return CasePki(Seed(1), NOW)


def message(pki: CasePki, ident: str) -> bytes:
    case = catalogue.BY_ID[ident]
    return case.build(Scene(pki, point(VEHICLE), ident, catalogue.SLOTS[ident])).message


def faults(pki: CasePki, ident: str) -> list[tuple[str, str]]:
    """(step, note) of each step that is wrong."""
    parts = message_of(message(pki, ident))
    steps = [*explain_signature(parts), *explain_envelope(parts, VEHICLE)]
    return [(step.name, step.note) for step in steps if step.good is False]


@pytest.mark.parametrize("ident", ["EN-001", "KT-003", "KT-005", "SG-070", "SG-072"])
def test_every_step_of_a_good_message_is_right(pki: CasePki, ident: str) -> None:
    assert faults(pki, ident) == []
    steps = explain_envelope(message_of(message(pki, ident)), VEHICLE)
    assert [step.good for step in steps if step.name == "the contract certificate's key"] == [True]


@pytest.mark.parametrize(
    ("ident", "step", "words"),
    [
        ("SG-051", "signed by", "written as DER"),
        ("SG-054", "signed by", "grammar of the whole ISO 15118-2 schema"),
        ("SG-055", "signed by", "hashed twice"),
        ("SG-056", "eMAID, digest signed", "own type"),
        ("SG-052", "signed by", "only the CPS may sign"),
        ("SG-053", "signed by", "another key signed"),
        ("SG-013", "eMAID, digest signed", "changed after it was signed"),
        ("SG-003", "DHpublickey, digest signed", "no reference"),
        ("SG-009", "Signature", "not signed"),
        ("SG-046", "SignatureValue", "63 bytes"),
        ("SG-040", "r", ""),
        ("KT-020", "DHpublickey", "compressed"),
        ("KT-023", "DHpublickey", "not on the curve"),
        ("KT-029", "DHpublickey", "DER"),
        ("KT-063", "ContractSignatureEncryptedPrivateKey", "47 bytes"),
        ("KT-040", "d, the scalar", "d is 0"),
        ("KT-041", "d, the scalar", "not below n"),
        ("KT-045", "the contract certificate's key", "another contract or vehicle"),
        ("KT-058", "the contract certificate's key", "another contract or vehicle"),
    ],
)
def test_the_wrong_step_is_named(pki: CasePki, ident: str, step: str, words: str) -> None:
    found = dict(faults(pki, ident))
    assert words in found[step], found


def test_a_modules_own_value_gives_its_mistake_away(pki: CasePki) -> None:
    parts = message_of(message(pki, "KT-005"))
    body = parts["body"]
    z = z_of(body["DHpublickey"]["value"], VEHICLE)
    wrapped = body["ContractSignatureEncryptedPrivateKey"]["value"]

    def mistake(**theirs: bytes) -> str:
        return first_deviation(parts, VEHICLE, theirs).note

    assert mistake(z=z, k=key_of(z), iv=wrapped[:16]) == "all values are right"
    assert "stripped" in mistake(z=z.lstrip(b"\0"))
    assert "stripped" in mistake(k=key_of(z.lstrip(b"\0")))
    for words, derive in WRONG:
        assert mistake(z=z, k=derive(z)) == words
    assert "end" in mistake(iv=wrapped[-16:])
    assert "no mistake that is known" in mistake(k=hashlib.sha256(b"?").digest()[:16])


def test_a_scalar_gives_the_mistake_of_its_decryption_away(pki: CasePki) -> None:
    parts = message_of(message(pki, "KT-003"))
    steps = {step.name: step.value for step in explain_envelope(parts, VEHICLE)}
    scalar = steps["d, the scalar"]
    assert isinstance(scalar, bytes)
    for value, words in ((scalar[::-1], "reversed"), (scalar.lstrip(b"\0"), "stripped")):
        assert words in first_deviation(parts, VEHICLE, {"scalar": value}).note


def test_theirs_is_read_strictly() -> None:
    assert parse_theirs(["z=00ff"]) == {"z": b"\0\xff"}
    for words in ("z", "q=00", "k=xyz"):
        with pytest.raises(ExplainError) as caught:
            parse_theirs([words])
        assert caught.value.reason == "theirs"


def run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_secrets_are_printed_as_json_on_request_alone(
    pki: CasePki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, key = tmp_path / "message.bin", tmp_path / "key.pem"
    file.write_bytes(v2gtp.encode(message(pki, "EN-001")))
    key.write_bytes(VEHICLE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))

    def values(*more: str) -> dict[str, Any]:
        assert run("explain", file, "--test-key", key, "--json", *more) == 0
        return {step["name"]: step["value"] for step in json.loads(capsys.readouterr().out)}

    assert values()["d, the scalar"] is None
    assert len(values("--secrets")["d, the scalar"]) == 64


def test_wrong_inputs_say_what_is_wrong(
    pki: CasePki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.exi", tmp_path / "bad.exi"
    good.write_bytes(message(pki, "EN-001"))
    bad.write_bytes(message(pki, "EN-024"))
    for arguments, words in (
        ((bad,), "plugvault inspect"),
        ((tmp_path / "nothing",), "No such file"),
        ((good, "--test-key", good), "no private key"),
        ((good, "--theirs", "z=00"), "--test-key"),
    ):
        assert run("explain", *arguments) == 2
        assert words in capsys.readouterr().err
