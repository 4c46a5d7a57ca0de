"""The inputs of a campaign: its folder, known failures, results; the example for pytest."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import wrong_modules
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign import known, vocabulary
from plugvault.campaign.adapters import of_function
from plugvault.campaign.cases import CampaignError
from plugvault.campaign.known import Known
from plugvault.campaign.run import run
from plugvault.cases import catalogue, files
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed
from plugvault.cli.app import main
from plugvault.cli.campaign import Options
from plugvault.cli.campaign import _again as again_of
from plugvault.pytest_plugin import cases as plugin_cases

NOW = 1_790_000_000
DOCUMENT = Path(__file__).parents[2] / "host/docs/cases.md"
ACCEPTS = "exec:/bin/true {message}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cases of an EMAID that the request names, and a good message."""
    key = ec.derive_private_key(wrong_modules.PROVISIONING_SCALAR, ec.SECP256R1())
    certificate = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM", key=key)
    made = tmp_path_factory.mktemp("cases")
    named = [case for case in catalogue.CASES if case.announced][:2]
    files.make(made, certificate.certificate, [*catalogue.select("EN-001"), *named], 1, NOW)
    return made


def command(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


# -- the folder --


def change(manifest: dict[str, Any], name: str, value: str) -> None:
    if name == "kind":
        manifest["trust"][0]["kind"] = value
    elif name == "root":
        manifest["trust"][0]["file"] = value
    elif name == "station":
        manifest["station"] = value
    else:
        manifest["cases"][0]["message"]["file"] = value


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("kind", "../../outside", "is no kind of root"),
        ("root", "../outside.der", "is not below"),
        ("station", "/etc/hostname", "is not below"),
        ("message", "link", "is not below"),
    ],
)
def test_a_manifest_names_only_what_is_in_its_folder(
    name: str, value: str, words: str, folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "cases"
    shutil.copytree(folder, copy)
    (tmp_path / "outside.der").write_bytes((copy / "trust/V2G.der").read_bytes())
    (copy / "link").symlink_to(folder / "messages/EN-001.exi")
    manifest = json.loads((copy / "manifest.json").read_text())
    change(manifest, name, value)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CampaignError, match=words):
        campaign_cases.read(copy)


def test_a_case_without_what_its_report_needs_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cases"
    shutil.copytree(folder, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    del manifest["cases"][0]["gain"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CampaignError, match="has no gain"):
        campaign_cases.read(copy)


# -- known failures --


def test_a_case_that_cannot_be_tried_is_no_unexpected_pass(folder: Path) -> None:
    def of_another_edition(request: dict[str, Any]) -> dict[str, Any]:
        return {"v": 1, "editions": ["20"]}

    entry = Known("EN-001", "a reason", "", dt.date(2999, 1, 1))
    result = run(
        campaign_cases.read(folder, ("EN-001",)),
        lambda: of_function(of_another_edition),
        known={"EN-001": entry},
    )
    assert [case.verdict for case in result.cases] == ["not applicable"]
    assert result.deviations == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[[known]]\ncase = "KT-999"\nreason = "x"\nuntil = 2999-01-01\n', "no case KT-999"),
        (b'[[known]]\ncase = ["x"]\nreason = "x"\nuntil = 2999-01-01\n', "are texts"),
        (b'[[known]]\ncase = "KT-043"\nreason = "\xff"\nuntil = 2999-01-01\n', "no text in UTF-8"),
    ],
)
def test_a_wrong_file_of_known_failures_is_a_clear_error(
    content: bytes,
    words: str,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "known.toml"
    file.write_bytes(content)
    line = ("campaign", folder, "--module", ACCEPTS, "--only", "EN-001", "--known", file)
    assert command(*line) == 2
    assert words in capsys.readouterr().err


def test_a_known_failure_outside_only_is_no_error(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "known.toml"
    file.write_text('[[known]]\ncase = "KT-043"\nreason = "x"\nuntil = 2999-01-01\n')
    known.check(known.read(file), campaign_cases.read(folder, ("EN-001",)))


# -- reports --


def test_texts_that_utf_8_cannot_hold_lose_no_report(folder: Path, tmp_path: Path) -> None:
    copy, page, result = tmp_path / "cases", tmp_path / "r.html", tmp_path / "r.json"
    shutil.copytree(folder, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    for case in manifest["cases"]:
        case["title"] = "\ud800\x02"
    (copy / "manifest.json").write_text(json.dumps(manifest))
    places = ("--html", page, "--json", result, "--junit", tmp_path / "r.xml")
    assert command("campaign", copy, "--module", ACCEPTS, "--only", "EN-001", *places) == 0
    (case,) = json.loads(result.read_bytes())["cases"]
    assert case["facts"]["title"] == "\ud800\x02"
    assert r"\ud800" in page.read_text()


@pytest.mark.parametrize("cases", [None, 5, [{"id": "EN-001"}]])
def test_a_result_without_cases_is_refused(
    cases: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"format": "plugvault-campaign", "cases": cases}))
    assert command("campaign", "diff", file, file) == 2
    assert "is no result" in capsys.readouterr().err


# -- the example for pytest --


def example() -> Callable[[Any, type], None]:
    """The test function of the document, for a class of cars."""
    (text,) = re.findall(r"```python\n(def test_contract.*?)```", DOCUMENT.read_text(), re.S)

    def call(case: Any, car: type) -> None:
        names: dict[str, Any] = {"MyCar": car}
        exec(text, names)
        names["test_contract"](case)

    return call


@contextlib.contextmanager
def right_car(store: Path) -> Any:
    with wrong_modules.working("", store) as answer:

        class MyCar:
            def __init__(self, trust: Any, at: int) -> None:
                self.trust, self.at = trust, at

            def install(self, exi: bytes, session: bytes | None, emaid: str | None) -> bool:
                begin = vocabulary.Begin("", False, self.at, self.trust, session, emaid)
                answer(vocabulary.begin_request(begin))
                said = answer(vocabulary.install_request(exi))
                return bool(said["verdict"] == vocabulary.ACCEPTED)

        yield MyCar


def test_the_example_for_pytest_passes_with_a_right_car(folder: Path, tmp_path: Path) -> None:
    cases = [case for case in plugin_cases.read(str(folder)) if case.emaid or case.id == "EN-001"]
    assert len(cases) > 1
    for case in cases:
        with right_car(tmp_path / case.id) as car:
            example()(case, car)


# -- the line that tries a case again --


def test_the_line_that_tries_a_case_again_has_all_that_decides(folder: Path) -> None:
    campaign = campaign_cases.read(folder)
    options = Options("exec:m {message}", folder, known=Path("k.toml"), test_key=Path("v.key"))
    again = f"plugvault campaign {folder} --module 'exec:m {{message}}'"
    again += " --known k.toml --test-key v.key"
    assert again_of(options, campaign) == again
    made = Options("py:a:b", vehicle=Path("v.pem"), pki="own", timeout=1)
    assert again_of(made, campaign) == (
        f"plugvault cases make --vehicle v.pem --out cases --seed 1 --at {NOW} --pki own"
        " && plugvault campaign cases --module py:a:b --timeout 1"
    )


def test_a_pki_beside_a_folder_of_cases_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("campaign", folder, "--module", ACCEPTS, "--pki", folder) == 2
    assert "the cases in DIR have theirs" in capsys.readouterr().err
