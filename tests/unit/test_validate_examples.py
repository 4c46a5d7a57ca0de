"""The example adapters: each is short, and a campaign with its module ends as the README says."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fixtures.ecog import LITTLE_CPU, Ecog
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign import elements
from plugvault.campaign.adapters import open_module
from plugvault.campaign.cases import CampaignError
from plugvault.campaign.result import Result
from plugvault.campaign.run import run
from plugvault.campaign.verdicts import NOT_APPLICABLE, WEAK
from plugvault.cases import catalogue, files
from plugvault.cases.case import Case
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed

EXAMPLES = Path(__file__).parents[2] / "host/examples/validate"
ADAPTERS = ("c/adapter.c", "install.sh", "python_module.py", "ecog_evcc.py")
NOW = 1_790_000_000
WORDS = "{elements} {trust} {store} {at} {session} {emaid}"
SECONDS = 180.0  # for one answer, on a machine full of work
Some = Callable[[Sequence[Any], int], list[Any]]


class Vehicle:
    """A test vehicle: its key in a file, and cases for it."""

    def __init__(self, folder: Path, public: ec.EllipticCurvePublicKey | None = None) -> None:
        self.folder = folder
        key = ec.generate_private_key(ec.SECP256R1())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.key = folder / "vehicle.key"
        self.key.write_bytes(pem)
        issuer = CasePki(Seed(9), NOW).oem_sub2
        name, public_key = "PVTP0000000000001", public or key.public_key()
        self.certificate = issuer.issue(name, dc="OEM", public_key=public_key).certificate

    def campaign(self, module: str, cases: Sequence[Case], at: int = NOW) -> Result:
        made = self.folder / "cases"
        files.make(made, self.certificate, cases, 1, at)
        read = campaign_cases.read(made)
        return run(read, lambda: open_module(module, SECONDS))


def deviations(result: Result) -> set[str]:
    return {case.id for case in result.deviations}


@pytest.fixture(scope="module")
def installer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module in C. Without compiler and headers the test is skipped."""
    program = tmp_path_factory.mktemp("c") / "install"
    sources = [EXAMPLES / "c/adapter.c", EXAMPLES / "c/module.c"]
    command = ["cc", "-Wall", "-Wextra", "-Werror", "-o", program, *sources, "-lcrypto"]
    try:
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        problem = built.stderr if built.returncode else ""
    except FileNotFoundError:
        problem = "no C compiler"
    if problem and ("No such file" in problem or "compiler" in problem):
        pytest.skip("no C compiler or no OpenSSL headers here: `apt-get install gcc libssl-dev`")
    assert problem == ""
    return program


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_adapter_has_less_than_forty_lines(name: str) -> None:
    assert len((EXAMPLES / name).read_text().splitlines()) < 40


def test_the_module_in_c_does_as_it_must_in_every_case(
    installer: Path, tmp_path: Path, some: Some
) -> None:
    vehicle = Vehicle(tmp_path)
    memory = catalogue.select("SE-01*", "KT-080", "EN-012", "SG-03*", "PA-062")
    cases = list(dict.fromkeys([*memory, *some(catalogue.CASES, 12)]))
    result = vehicle.campaign(f"exec:{installer} {vehicle.key} {WORDS}", cases)
    assert [(case.id, case.why) for case in result.deviations] == []
    assert {case.id for case in result.cases if case.verdict == NOT_APPLICABLE} >= {"EN-012"}
    accepted = [case for case in result.cases if case.facts["must"] == "accept"]
    assert {case.verdict for case in accepted} <= {WEAK, NOT_APPLICABLE}
    assert set(result.can) == {"clock", "reset", "state", "trust"}


def test_the_module_in_c_takes_no_point_that_it_cannot_remember(
    installer: Path, tmp_path: Path
) -> None:
    vehicle, folder, store = Vehicle(tmp_path), tmp_path / "cases", tmp_path / "store"
    manifest = files.make(folder, vehicle.certificate, catalogue.select("EN-001"), 1, NOW)
    message = manifest["cases"][0]["message"]
    elements.write(tmp_path / "elements", (folder / message["file"]).read_bytes())
    store.mkdir()
    places = (vehicle.key, tmp_path / "elements", folder / "trust", store)
    install = [installer, *places, str(NOW), message["session"], ""]

    def installed(points: int) -> tuple[int, str, int]:
        (store / ".points").write_bytes(bytes(32 * points))
        ended = subprocess.run(install, capture_output=True, text=True, check=False)
        return ended.returncode, ended.stderr, (store / ".points").stat().st_size // 32

    assert installed(511) == (1, "store: it has no room for a DH point\n", 511)
    assert installed(510) == (0, "", 511)
    ended = subprocess.run(install, capture_output=True, text=True, check=False)
    assert (ended.returncode, "has come before" in ended.stderr) == (1, True)


def test_the_module_in_shell_fails_only_where_a_memory_is_needed(
    tmp_path: Path, whole: bool
) -> None:
    vehicle = Vehicle(tmp_path)
    cases = catalogue.select() if whole else catalogue.select("KT-080", "KT-045")
    missing = [name for name in ("openssl", "xxd") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {missing[0]} here: `apt-get install openssl xxd`")
    module = f"exec:{EXAMPLES / 'install.sh'} {vehicle.key} {WORDS}"
    expected = {"KT-080", "SE-012", "SE-013"} if whole else {"KT-080"}
    assert deviations(vehicle.campaign(module, cases)) == expected


def test_the_module_in_python_does_as_it_must(car_token: Any, tmp_path: Path, some: Some) -> None:
    vault = car_token.open()
    point = vault.generate_provisioning_key()
    vault.close()
    pin = tmp_path / "pin"
    pin.write_text(car_token.pin)
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    words = (EXAMPLES / "python_module.py", car_token.module, car_token.label, pin)
    command = shlex.join([sys.executable, *map(str, words), str(tmp_path / "store")])
    cases = some([case for case in catalogue.CASES if case.group != "ST"], 12)
    result = Vehicle(tmp_path, public).campaign(f"lines:{command}", cases)
    assert [(case.id, case.why) for case in result.deviations] == []


def test_ecog_s_car_takes_contracts_of_any_operator(
    ecog_stack: Ecog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "iso15118_2/private_keys"
    keys.mkdir(parents=True)
    (tmp_path / "iso15118_2/certs").mkdir()
    vehicle = Vehicle(tmp_path)
    shutil.copy(vehicle.key, keys / "oemLeaf.key")
    (keys / "oemLeafPassword.txt").touch()
    monkeypatch.setenv("PKI_PATH", str(tmp_path))
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", LITTLE_CPU)
    module = f"lines:{ecog_stack.python} {EXAMPLES / 'ecog_evcc.py'}"
    cases = catalogue.select("SE-001", "PA-051", "KT-045")
    result = vehicle.campaign(module, cases, at=int(time.time()))  # EcoG has no other clock
    assert deviations(result) == {"PA-051", "KT-045"}


def test_a_message_s_elements_are_files(tmp_path: Path) -> None:
    vehicle = Vehicle(tmp_path)
    files.make(tmp_path / "cases", vehicle.certificate, catalogue.select("EN-001"), 1, NOW)
    message = (tmp_path / "cases/messages/EN-001.exi").read_bytes()
    folder = tmp_path / "elements"
    elements.write(folder, message)
    chain = x509.load_pem_x509_certificates((folder / "contract-subs.pem").read_bytes())
    assert len(chain) == 2
    assert (folder / "members").read_text() == (EXAMPLES / "members").read_text()
    checked = ["sha256sum", "--check", "--status", "references"]
    subprocess.run(checked, cwd=folder, check=True)
    (folder / "dh.bin").write_bytes(b"")
    with pytest.raises(elements.ElementsError, match="has no elements"):
        elements.write(folder, message[:40])


def test_the_members_in_c_and_in_the_file_are_the_same() -> None:
    source = (EXAMPLES / "c/module.c").read_text()
    text = source.partition("MEMBERS[] =")[2].partition("static")[0]
    written = "".join(re.findall(r'"(.*)\\n"', text))
    assert written == (EXAMPLES / "members").read_text().replace("\n", "")


def test_a_command_without_a_message_is_refused() -> None:
    with pytest.raises(CampaignError, match=r"has no \{message\}"):
        open_module("exec:./install", 1)
