"""The test cases for a vehicle: complete, the same again from a seed, and written as files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bundles import opened
from evcc import exi
from plugvault.cases import catalogue, files
from plugvault.cases.case import ACCEPT, EITHER, REFUSE, STAGES, Case
from plugvault.cases.difference import difference
from plugvault.cases.pki import CasePki, point
from plugvault.cases.scene import Scene, body_of
from plugvault.cases.seed import Seed
from plugvault.cli.app import main

NOW = 1_790_000_000
VEHICLE = ec.derive_private_key(0x1234567, ec.SECP256R1())


def scene(pki: CasePki, case: Case, vehicle: bytes) -> Scene:
    return Scene(pki, vehicle, case.id, catalogue.SLOTS[case.id])


@pytest.fixture(scope="module")
def pki() -> CasePki:
    return CasePki(Seed(1), NOW)


def test_a_case_says_all_that_a_reader_needs() -> None:
    assert len(catalogue.BY_ID) == len(catalogue.CASES) == 257  # the documents say so
    for case in catalogue.CASES:
        assert case.group in catalogue.GROUPS
        assert case.must in (ACCEPT, REFUSE, EITHER)
        assert case.title, case.id
        assert case.requirement, case.id
        assert case.because.endswith("."), case.id
        assert (case.must == REFUSE) == bool(case.stage), case.id
        assert case.stage in {*STAGES, ""}, case.id


def test_the_same_seed_gives_the_same_bytes_whatever_was_made_before(pki: CasePki) -> None:
    chosen = [catalogue.BY_ID[ident] for ident in ("EN-001", "PA-011", "SG-008", "KT-080")]
    first = [case.build(scene(pki, case, point(VEHICLE))) for case in chosen]
    again = CasePki(Seed(1), NOW)
    second = [case.build(scene(again, case, point(VEHICLE))) for case in reversed(chosen)]
    assert first == second[::-1]
    assert CasePki(Seed(2), NOW).v2g_root.der != pki.v2g_root.der


def test_a_refused_message_differs_from_its_good_form(pki: CasePki) -> None:
    for case in catalogue.CASES:
        built = case.build(scene(pki, case, point(VEHICLE)))
        if case.must == REFUSE and case.asked and built.unchanged is not None and not built.before:
            is_changed = difference(built.unchanged, built.message) != []
            assert is_changed or case.timing is not None, case.id


def test_an_accepted_envelope_opens_with_another_implementation(pki: CasePki) -> None:
    for case in catalogue.select("EN-00[123]", "KT-00*", "EM-00*", "SG-07*"):
        message = exi.decode(case.build(scene(pki, case, point(VEHICLE))).message)
        body = body_of(message)
        wrapped = body["ContractSignatureEncryptedPrivateKey"]["value"]
        scalar = opened(body["DHpublickey"]["value"], wrapped, VEHICLE)
        key = ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
        leaf = x509.load_der_x509_certificate(body["ContractSignatureCertChain"]["Certificate"])
        assert key.public_key() == leaf.public_key(), case.id


@pytest.fixture
def vehicle_file(tmp_path: Path, pki: CasePki) -> Path:
    leaf = pki.oem_sub2.issue("PVTP0000000000001", dc="OEM", key=VEHICLE)
    file = tmp_path / "vehicle.pem"
    file.write_bytes(leaf.certificate.public_bytes(Encoding.PEM))
    return file


def run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_cases_are_made_for_a_vehicle_without_its_private_key(
    vehicle_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        arguments = (
            "--vehicle",
            vehicle_file,
            "--out",
            folder,
            "--at",
            NOW,
            "--only",
            "KT-0[18]*",
        )
        assert run("cases", "make", *arguments) == 0
    manifest = json.loads((folders[0] / "manifest.json").read_text())
    assert [case["id"] for case in manifest["cases"]] == ["KT-010", "KT-080"]
    question = manifest["cases"][1]
    assert question["must"] == "refuse"
    assert len(question["before"]) == 1
    assert any("EncryptedPrivateKey" in change["element"] for change in question["changed"])
    assert {anchor["kind"] for anchor in manifest["trust"]} == {"V2G", "MO", "OEM"}
    for path in folders[0].rglob("*"):
        if path.is_file():
            other = folders[1] / path.relative_to(folders[0])
            assert path.read_bytes() == other.read_bytes(), path.name
    assert "to refuse" in capsys.readouterr().out


def test_wrong_inputs_of_the_commands_say_what_to_do(
    vehicle_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    used = tmp_path / "used"
    used.mkdir()
    (used / "letter.txt").write_text("mine")
    for arguments, text in (
        (("show", "KT-999"), "plugvault cases list"),
        (("list", "--group", "XX"), "the groups are"),
        (("make", "--vehicle", empty, "--out", tmp_path / "out"), "no certificate"),
        (("make", "--vehicle", tmp_path / "nothing", "--out", tmp_path / "out"), "No such file"),
        (("make", "--vehicle", vehicle_file, "--out", used), "choose a new folder"),
        (
            ("make", "--vehicle", vehicle_file, "--out", used, "--seed", 2**128),
            "value for '--seed'",
        ),
    ):
        assert run("cases", *arguments) == 2
        assert text in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_case_is_shown_with_its_change(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cases", "show", "SG-013", "--json") == 0
    (case,) = json.loads(capsys.readouterr().out)
    assert [change["element"].split("/")[-2:] for change in case["changed"]] == [
        ["eMAID", "value"]
    ]
    assert run("cases", "show", "TI-011") == 0
    assert "seconds 8.0, part 1.0" in capsys.readouterr().out
    assert run("cases", "list", "--group", "KT") == 0
    assert "KT-080" in capsys.readouterr().out


def test_files_names_a_leaf_on_another_curve(pki: CasePki) -> None:
    key = ec.derive_private_key(5, ec.SECP384R1())
    leaf = pki.oem_sub2.issue("PVTP0000000000001", dc="OEM", public_key=key.public_key())
    with pytest.raises(files.CasesError, match="P-256"):
        files.vehicle_of(leaf.der)


@pytest.mark.parametrize(
    ("ident", "chain"),
    [("PA-002", "SAProvisioningCertificateChain"), ("PA-052", "ContractSignatureCertChain")],
)
def test_a_leaf_that_is_not_valid_yet_stays_so_by_a_real_clock(
    pki: CasePki, ident: str, chain: str
) -> None:
    case = catalogue.BY_ID[ident]
    built = case.build(scene(pki, case, point(VEHICLE)))
    der = body_of(exi.decode(built.message))[chain]["Certificate"]
    begins = x509.load_der_x509_certificate(der).not_valid_before_utc.timestamp()
    assert begins - NOW >= 2 * 86_400
