"""A campaign: its verdicts, its reports, and modules with the mistakes of the field."""

from __future__ import annotations

import datetime as dt
import json
import shlex
import sys
from collections.abc import Callable
from importlib.resources import files as files_of
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jsonschema_rs import validator_for

import wrong_modules
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign import vocabulary
from plugvault.campaign.adapters import Module, open_module
from plugvault.campaign.cases import CampaignError
from plugvault.campaign.html import to_html
from plugvault.campaign.junit import to_junit
from plugvault.campaign.known import Known
from plugvault.campaign.result import Result, differences, to_json
from plugvault.campaign.run import run
from plugvault.cases import catalogue, files
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed
from plugvault.cli.app import main
from plugvault.explanation import message_of

NOW = 1_790_000_000
BOTH = Path(__file__).parents[1] / "both"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with the cases of a pattern, for the vehicle of the wrong modules."""
    key = ec.derive_private_key(wrong_modules.PROVISIONING_SCALAR, ec.SECP256R1())
    certificate = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM", key=key)

    def make(pattern: str) -> Path:
        folder = tmp_path_factory.mktemp("cases")
        files.make(folder, certificate.certificate, catalogue.select(pattern), 1, NOW)
        return folder

    return make


def in_process(answer: Callable[[dict[str, Any]], Any]) -> Module:
    """The module of a function, as `py:` has it."""
    sys.modules["module_under_test"] = ModuleType("module_under_test")
    sys.modules["module_under_test"].answer = answer  # type: ignore[attr-defined]
    return open_module("py:module_under_test:answer", 5)


def campaign_with(
    mistake: str, folder: Path, tmp_path: Path, known: dict[str, Known] | None = None
) -> Result:
    with wrong_modules.working(mistake, tmp_path) as answer:
        cases = campaign_cases.read(folder)
        return run(cases, lambda: in_process(answer), known=known, command="plugvault campaign")


@pytest.mark.parametrize("mistake", wrong_modules.MISTAKES)
def test_a_mistake_of_the_field_is_found(
    mistake: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    _, pattern, cases = wrong_modules.MISTAKES[mistake]
    folder = made(pattern)
    result = campaign_with(mistake, folder, tmp_path)
    assert cases <= {case.id for case in result.deviations}, result.sentence
    without_mistake = campaign_with("", folder, tmp_path / "right")
    assert without_mistake.deviations == [], without_mistake.sentence


class SmallStore:
    """Our module behind a store with room for three contracts. full: its answer to a fourth one:
    refuses; replaces the oldest whole; or mixes, so that the oldest signs with the new key."""

    def __init__(self, answer: Callable[[dict[str, Any]], Any], full: str) -> None:
        self._answer, self._full = answer, full
        self._held: list[str] = []
        self.was_full = False

    def __call__(self, request: dict[str, Any]) -> Any:
        if request.get("reset"):
            self._held = []
        if request["op"] == "install":
            return self._install(request)
        if request["op"] != "sign":
            return self._answer(request)
        emaid = request["emaid"]
        if emaid not in self._held and self._full == "replaces":
            return {"error": "no such contract"}
        if emaid not in self._held and self._full == "mixes":
            request = {**request, "emaid": self._held[-1]}
        return self._answer(request)

    def _install(self, request: dict[str, Any]) -> Any:
        emaid = message_of(vocabulary.decoded(request, "message"))["body"]["eMAID"]["value"]
        others = [held for held in self._held if held != emaid]
        if len(others) == 3:
            self.was_full = True
            if self._full == "refuses":
                return {"verdict": "refused", "stage": "admitted", "reason": "full"}
            others.pop(0)
        self._held = [*others, emaid]
        return self._answer(request)


@pytest.mark.parametrize(
    ("full", "failed"),
    [("refuses", []), ("replaces", []), ("mixes", ["ST-013", "ST-014"])],
)
def test_a_full_store_keeps_each_earlier_contract_or_none_of_it(
    full: str, failed: list[str], made: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = made("ST-01[1-4]")
    with wrong_modules.working("", tmp_path) as answer:
        store = SmallStore(answer, full)
        result = run(campaign_cases.read(folder), lambda: in_process(store))
    assert store.was_full
    assert [case.id for case in result.deviations] == failed, result.deviations
    assert all("signs with a wrong key" in case.why for case in result.deviations)


def test_the_forms_of_a_result_say_the_same(made: Callable[[str], Path], tmp_path: Path) -> None:
    result = campaign_with("the EMAID is that of the certificate", made("EM-01*"), tmp_path)
    failed = {case.id for case in result.deviations}
    document = json.loads(json.dumps(to_json(result)))
    assert {case["id"] for case in document["cases"] if case["deviation"]} == failed
    suites = ET.fromstring(to_junit(result))
    assert [suite.get("name", "")[:3] for suite in suites] == ["EM:"]
    requirements = {case.facts["requirement"] for case in result.cases}
    assert {test.get("classname") for test in suites.iter("testcase")} == requirements
    assert {test.get("name", "")[:6] for test in suites.iter("testcase") if len(test)} == failed
    assert document["oracle"]["sentence"] == result.oracle.sentence
    page = to_html(result)
    for case in result.deviations:
        assert f'id="{case.id}"' in page
    assert "<mark>" in page
    assert "<script" not in page
    assert result.sentence in page
    other = campaign_with("", made("EM-01*"), tmp_path / "right")
    changes = differences(document, json.loads(json.dumps(to_json(other))))
    assert {change[0] for change in changes} == failed


def test_a_report_escapes_all_that_a_module_says(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    def hostile(request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "hello":
            return {"v": 1, "module": "<script>alert(1)</script>", "can": []}
        return {"verdict": "refused", "reason": "</td><script>\x00 & \ud800"}

    result = run(campaign_cases.read(made("EN-001")), lambda: in_process(hostile))
    assert "<script" not in to_html(result)
    ET.fromstring(to_junit(result))


def test_an_inconclusive_case_is_an_error_in_junit(made: Callable[[str], Path]) -> None:
    def refuses(request: dict[str, Any]) -> dict[str, Any]:
        return {"v": 1} if request["op"] == "hello" else {"verdict": "refused"}

    result = run(campaign_cases.read(made("EN-00[12]")), lambda: in_process(refuses))
    (suite,) = ET.fromstring(to_junit(result))
    counts = [suite.get(name) for name in ("tests", "errors", "failures", "skipped")]
    assert counts == ["2", "2", "0", "0"]
    assert [[member.tag for member in test] for test in suite] == [["error"], ["error"]]
    assert "takes no good message" in result.sentence


def test_a_failure_is_explained_with_the_key_of_a_test_vehicle(
    made: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report, key = made("KT-041"), tmp_path / "report.html", tmp_path / "vehicle.key"
    private = ec.derive_private_key(wrong_modules.PROVISIONING_SCALAR, ec.SECP256R1())
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    places = ("--html", report, "--json", tmp_path / "new.json")
    takes_all = ("--module", "exec:/bin/true {message}", "--timeout", "9")
    assert command("campaign", folder, *takes_all, "--test-key", key, *places) == 1
    page = report.read_text()
    assert "d is not below n" in page
    assert f"campaign {folder} --module &#x27;exec:/bin/true {{message}}&#x27;" in page
    assert f"--timeout 9 --test-key {key} --only KT-041</pre>" in page
    (case,) = json.loads((tmp_path / "new.json").read_text())["cases"]
    secret = [step for step in case["explanation"] if step["name"].startswith("d, the scalar")]
    assert [(step["value"], step["bytes"]) for step in secret] == [(None, 32)]
    missing = tmp_path / "missing" / "report.html"
    assert command("campaign", folder, *takes_all, "--html", missing) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_an_installed_contract_that_cannot_be_read_is_explained(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, report, key = made("PA-076"), tmp_path / "new.json", tmp_path / "vehicle.key"
    private = ec.derive_private_key(wrong_modules.PROVISIONING_SCALAR, ec.SECP256R1())
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    takes_all = ("--module", "exec:/bin/true {message}")
    assert command("campaign", folder, *takes_all, "--test-key", key, "--json", report) == 1
    (case,) = json.loads(report.read_text())["cases"]
    (last,) = [step for step in case["explanation"] if "certificate's key" in step["name"]]
    assert (last["good"], "the certificate cannot be read" in last["note"]) == (False, True)
    message = folder / "messages/PA-076.exi"
    assert command("explain", message, "--test-key", key) == 1
    assert command("inspect", message, "--key", key) == 1


def test_a_campaign_as_expected_ends_with_0(made: Callable[[str], Path], tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    module = ("--module", "exec:/bin/true {message} {store}")
    assert command("campaign", made("EN-001"), *module, "--junit", junit) == 0
    assert ET.parse(junit).getroot().find("testsuite/testcase/failure") is None


def test_a_known_failure_is_no_deviation_until_its_end(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    folder, mistake = made("EM-01*"), "the EMAID is that of the certificate"
    failed = {case.id for case in campaign_with(mistake, folder, tmp_path / "a").deviations}
    until = dt.date(2999, 12, 31)
    entries = {ident: Known(ident, "a reason", "T-1", until) for ident in failed}
    assert campaign_with(mistake, folder, tmp_path / "b", entries).deviations == []
    ended = {ident: Known(ident, "a reason", "", dt.date(2020, 1, 1)) for ident in failed}
    late = campaign_with(mistake, folder, tmp_path / "c", ended).deviations
    assert {case.id for case in late} == failed
    repaired = campaign_with("", folder, tmp_path / "d", entries).deviations
    assert {case.id for case in repaired} == failed
    assert all("unexpected pass" in case.deviation for case in repaired)


def test_an_acceptance_without_a_signature_is_a_weak_pass(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    with wrong_modules.working("", tmp_path) as answer:

        def silent(request: dict[str, Any]) -> dict[str, Any]:
            reply = answer(request)
            return {**reply, "can": ["reset", "trust"]} if request["op"] == "hello" else reply

        result = run(campaign_cases.read(made("EN-001")), lambda: in_process(silent))
    assert [case.verdict for case in result.cases] == ["weak pass"]
    assert "no signature proves the key" in to_html(result)


CRASHING = """import sys
for line in sys.stdin:
    if '"install"' in line:
        sys.exit(3)
    print('{"v": 1}' if '"hello"' in line else "{}", flush=True)
"""
SILENT = CRASHING.replace("sys.exit(3)", "continue")


@pytest.mark.parametrize(("program", "words"), [(CRASHING, "crash"), (SILENT, "timeout")])
def test_a_module_that_ends_or_says_nothing_is_opened_anew(
    program: str, words: str, made: Callable[[str], Path], tmp_path: Path
) -> None:
    file = tmp_path / "module.py"
    file.write_text(program)
    adapter = f"lines:{shlex.join([sys.executable, str(file)])}"
    result = run(campaign_cases.read(made("EN-00[12]")), lambda: open_module(adapter, 1.0))
    assert [case.verdict for case in result.cases] == ["inconclusive"] * 2
    assert all(words in case.why for case in result.cases)


def test_the_command_ends_with_the_status_of_its_result(
    made: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made("EN-01[01]")
    status = {"accepts": 0, "refuses": 1, "crashes": 3}
    for name, code in status.items():
        script = tmp_path / name
        script.write_text(f"#!/bin/sh\ntest -s $1 || exit 1\nexit {code}\n")
        script.chmod(0o755)
    report = tmp_path / "report.html"
    for name, ended in (("accepts", 1), ("refuses", 1), ("crashes", 1)):
        adapter = f"exec:{tmp_path / name} {{message}}"
        assert command("campaign", folder, "--module", adapter, "--html", report) == ended, name
    assert command("campaign", folder, "--module", "radio:1") == 2
    assert "no way to a module" in capsys.readouterr().err
    assert command("campaign", tmp_path, "--module", "py:json:loads") == 2
    assert "cases make" in capsys.readouterr().err
    assert "deviations" in report.read_text()


def command(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_a_message_that_was_changed_on_the_disk_ends_the_campaign(
    made: Callable[[str], Path],
) -> None:
    folder = made("EN-001")
    file = folder / "messages/EN-001.exi"
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(CampaignError, match="not the message"):
        campaign_cases.read(folder)


def test_our_modules_lines_follow_the_published_schema(
    made: Callable[[str], Path], tmp_path: Path
) -> None:
    text = files_of("plugvault.campaign").joinpath("schema.json").read_text()
    definitions = json.loads(text)["$defs"]
    validators = {
        name: validator_for({"$defs": definitions, "$ref": f"#/$defs/{name}"})
        for name in ("request", "answer")
    }
    tried: set[str] = set()
    with wrong_modules.working("", tmp_path) as answer:

        def validated(request: dict[str, Any]) -> dict[str, Any]:
            validators["request"].validate(request)
            reply: dict[str, Any] = answer(request)
            validators["answer"].validate(reply)
            tried.add(request["op"])
            return reply

        result = run(campaign_cases.read(made("KT-08*")), lambda: in_process(validated))
    assert result.deviations == []
    assert tried == {"hello", "begin", "install", "sign", "state"}
    assert not validators["request"].is_valid({"op": "install", "message": "", "more": 1})
    assert not validators["answer"].is_valid({"verdict": "perhaps"})
