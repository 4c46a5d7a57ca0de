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

import wrong_modules
from evcc.link import v2gtp
from fixtures.tokens import CarToken
from plugvault.cases import catalogue, files
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


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_secrets_are_printed_on_request_alone(
    form: tuple[str, ...], pki: CasePki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, key = tmp_path / "message.exi", tmp_path / "key.pem"
    file.write_bytes(message(pki, "EN-001"))
    key.write_bytes(VEHICLE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    steps = explain_envelope(message_of(message(pki, "EN-001")), VEHICLE)
    secret = [step.value.hex() for step in steps if step.secret and isinstance(step.value, bytes)]
    assert len(secret) == 5
    for more, is_shown in (((), False), (("--secrets",), True)):
        assert run("explain", file, "--test-key", key, *form, *more) == 0
        shown = capsys.readouterr().out
        assert [value in shown for value in secret] == [is_shown] * 5


def test_control_characters_of_a_message_do_not_reach_the_terminal(
    pki: CasePki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, scene = tmp_path / "message.exi", Scene(pki, point(VEHICLE), "EN-001", 1)
    file.write_bytes(scene.message(scene.contract(), emaid="\x1b[31mDEPVT"))
    assert run("explain", file) == 1
    shown = capsys.readouterr().out
    assert ("\x1b" in shown, "\\x1b[31mDEPVT" in shown) == (False, True)


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


# the mistake of a wrong module: words of the explanation of each case that finds it
NAMED = {
    "the ResponseCode is not read": {"RC-010": "negative response"},
    "the session is not compared": {
        "SE-001": "another session's",
        "SE-003": "another session's",
        "SE-004": "no request is open",
        "SE-005": "no request is open",
    },
    "any leaf below a V2G root is a CPS": {"PA-040": "role: ", "PA-043": "role: "},
    "dates are not compared": {"PA-001": "expired", "PA-002": "not-yet-valid"},
    "digests are not computed": {"SG-014": "changed after it was signed"},
    "the signature is not verified": {
        "SG-049": "another key signed",
        "SG-052": "only the CPS may sign",
        "SG-053": "another key signed",
    },
    "the EMAID is that of the certificate": {"EM-010": "the certificate is of"},
    "the opened key is not compared": {"KT-040": "d is 0", "KT-045": "another contract"},
    "the scalar is read as a signed number": {"KT-002": "top bit", "KT-004": "top bit"},
    "leading zeros of Z are lost": {"KT-005": "leading zero bytes, which stay"},
    "leading zeros of the scalar are refused": {"KT-001": "leading zero bytes, which stay"},
    "the key derivation of X9.63": {"KT-006": "X9.63"},
    "replays are taken": {"SE-012": "a replay", "SE-013": "older than the contract"},
    "a DH point may come again": {"KT-080": "a DH point comes once"},
    "a buffer that is too short": {"EN-006": "buffers"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cases that find the wrong modules."""
    made = tmp_path_factory.mktemp("cases")
    vehicle = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM", key=VEHICLE)
    idents = [ident for cases in NAMED.values() for ident in cases]
    files.make(made, vehicle.certificate, catalogue.select(*idents, "EN-001"), 1, NOW)
    (made / "key.pem").write_bytes(
        VEHICLE.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return made


def explained(
    folder: Path, name: str, capsys: pytest.CaptureFixture[str], *more: object
) -> tuple[int, list[dict[str, Any]]]:
    """(exit status, steps) of the command for one message of the cases."""
    file, key = folder / "messages" / name, folder / "key.pem"
    status = run("explain", file, "--test-key", key, "--json", *more)
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("mistake", wrong_modules.MISTAKES)
def test_the_mistake_of_a_wrong_module_is_named(
    mistake: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for ident, words in NAMED[mistake].items():
        more = theirs(folder, ident) if mistake == "the key derivation of X9.63" else []
        status, steps = explained(folder, f"{ident}.exi", capsys, *more)
        matching = [step for step in steps if words in step["note"]]
        assert matching, [step["note"] for step in steps]
        must = catalogue.BY_ID[ident].must
        assert status == (1 if must == "refuse" or more else 0)
        if must == "refuse":
            assert matching[0]["good"] is False
            first = next(step for step in steps if step["good"] is False)
            assert words in first["note"], first  # and no other fault comes before it


def theirs(folder: Path, ident: str) -> list[str]:
    """The K of a module that derives as X9.63 has it."""
    body = message_of((folder / f"messages/{ident}.exi").read_bytes())["body"]
    z = z_of(body["DHpublickey"]["value"], VEHICLE)
    return ["--theirs", f"k={dict(WRONG)['the order of X9.63: Z before the counter'](z).hex()}"]


def test_good_messages_of_a_case_are_right_in_its_circumstances(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("EN-001.exi", "EN-001.twin.exi", "SE-012.1.exi", "SE-012.2.exi"):
        status, steps = explained(folder, name, capsys)
        assert (status, [step for step in steps if step["good"] is False]) == (0, [])
        assert "V2G Root (DC=V2G)" in [step["value"] for step in steps]


def test_roots_and_time_of_the_options_are_judged(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, own = tmp_path / "message.exi", folder / "trust/V2G.der"
    file.write_bytes((folder / "messages/EN-001.exi").read_bytes())
    stranger = tmp_path / "stranger.pem"
    root = CasePki(Seed(77), NOW).v2g_root.certificate
    stranger.write_bytes(b"Bag Attributes: none\n" + root.public_bytes(Encoding.PEM))

    def notes(*options: object) -> list[str]:
        run("explain", file, "--json", *options)
        steps = json.loads(capsys.readouterr().out)
        return [step["note"] for step in steps if step["good"] is False]

    assert notes() == []
    assert notes("--trust", own, "--at", NOW) == []
    assert "CPS Leaf" in notes("--trust", own, "--at", NOW + 10_000 * 86_400)[0]
    (fault,) = notes("--trust", stranger, "--at", NOW)
    assert "wrong-issuer-key" in fault


def test_the_key_may_be_in_a_token(
    each_token: CarToken, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = each_token.open()
    provisioning = vault.generate_provisioning_key()
    vault.close()
    case, pin, file = catalogue.BY_ID["EN-001"], tmp_path / "pin", tmp_path / "message.exi"
    scene = Scene(CasePki(Seed(1), NOW), provisioning, case.id, catalogue.SLOTS[case.id])
    file.write_bytes(case.build(scene).message)
    pin.touch(mode=0o600)
    pin.write_text(each_token.pin)
    uri = f"pkcs11:token={each_token.label}?pin-source=file:{pin}"
    location = each_token.location
    words = ["--module", location.module, "--json"]
    words += ["--conf", location.conf] if location.conf else []
    words += ["--options", location.options] if location.options else []
    status = run("explain", file, "--token", uri, *words)
    captured = capsys.readouterr()
    if status == 2:  # NSS softoken gives out no secret
        assert "keeps Z to itself" in captured.err
        assert each_token.pin not in captured.err
    else:
        steps = {step["name"]: step for step in json.loads(captured.out)}
        assert (status, steps["the contract certificate's key"]["good"]) == (0, True)
    assert run("explain", file, "--token", uri.replace("?", ";object=nothing?"), *words) == 2
    assert run("explain", file, "--token", uri, "--test-key", pin, *words) == 2
