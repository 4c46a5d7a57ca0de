"""The test cases for a vehicle: complete, the same again from a seed, and passed by our module."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bundles import opened
from evcc import exi
from evcc.contracts import Contracts
from evcc.iso15118_2.installation import InstallationRequest, RejectedError, install
from evcc.ports.files import Files
from evcc.trust import Trust
from evcc.vault import PROVISIONING
from plugvault.cases import catalogue, files
from plugvault.cases.case import ACCEPT, EITHER, REFUSE, STAGES, Case
from plugvault.cases.difference import difference
from plugvault.cases.pki import CasePki, point
from plugvault.cases.scene import EMAID, Scene, body_of
from plugvault.cases.seed import Seed
from plugvault.cli.app import main

NOW = 1_790_000_000
VEHICLE = ec.derive_private_key(0x1234567, ec.SECP256R1())
STAGE_OF = {  # the reasons of our module
    "message": "decode",
    "response-code": "response-code",
    "unsolicited": "session",
    "session": "session",
    "cps-path": "cps-path",
    "signature": "signature",
    "contract-path": "contract-path",
    "emaid": "emaid",
    "not-admitted": "admitted",
    "dh-point": "key-transport",
    "wrapped-length": "key-transport",
    "envelope": "key-transport",
    "vault": "key",
}


def scene(pki: CasePki, case: Case, vehicle: bytes) -> Scene:
    return Scene(pki, vehicle, case.id, catalogue.SLOTS[case.id])


@pytest.fixture(scope="module")
def pki() -> CasePki:
    return CasePki(Seed(1), NOW)


def test_a_case_says_all_that_a_reader_needs() -> None:
    assert len(catalogue.BY_ID) == len(catalogue.CASES) == 256  # the documents say so
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


class Module:
    """Our module with a real token, reset before each case."""

    def __init__(self, token: Any, folder: Path, pki: CasePki) -> None:
        self._vault, self._folder, self._pki = token.open(), folder, pki
        self.vehicle = self._vault.generate_provisioning_key()
        self._number = 0

    def reset(self) -> None:
        for key, _ in list(self._vault.keys()):
            if key != PROVISIONING:
                self._vault.delete(key)
        self._number += 1
        stores = Files(str(self._folder / f"store{self._number}"))
        self._trust = Trust(stores, self._vault.verify)
        self._trust.install("EU", self._pki.anchors, NOW)
        self._contracts = Contracts(stores)

    def install(self, message: bytes, session: bytes | None, emaid: str | None) -> str:
        """ "" after an installation, else the stage that refused."""
        request = None if session is None else InstallationRequest(session, emaid)
        try:
            install(message, request, self._trust, self._contracts, self._vault, NOW)
        except RejectedError as error:
            return STAGE_OF[error.reason]
        return ""

    def close(self) -> None:
        self._vault.close()


@pytest.fixture
def module(car_token: Any, tmp_path: Path, pki: CasePki) -> Iterator[Module]:
    opened_module = Module(car_token, tmp_path, pki)
    yield opened_module
    opened_module.close()


@pytest.mark.parametrize("group", [group for group in catalogue.GROUPS if group != "TI"])
def test_our_module_passes_every_case(
    group: str, module: Module, pki: CasePki, record_property: Callable[[str, object], None]
) -> None:
    cases = catalogue.select(f"{group}-*")
    for case in cases:
        case_scene = scene(pki, case, module.vehicle)
        built = case.build(case_scene)
        emaid = EMAID if case.announced else None
        module.reset()
        for message in built.before:
            assert module.install(message, case_scene.session, emaid) == "", case.id
        session = case_scene.session if case.asked else None
        stage = module.install(built.message, session, emaid)
        if case.must != EITHER:
            assert stage == case.stage, f"{case.id}: {case.title}"
    record_property("cases", len(cases))


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
