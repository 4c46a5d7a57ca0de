"""The pytest plugin, in processes of pytest that know nothing of this repository's tests."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

import wrong_modules
from plugvault.cases import catalogue, files
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed
from plugvault.tokens import probes, subprocess_probe
from plugvault.tokens.providers import NSS

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "host/examples/own-tests"
FIXTURES = ("softhsm_token", "nss_token", "vault", "plug_and_charge", "installation_case")


# Hypothesis and Schemathesis would take most of the time of a run that needs neither.
PLUGINS = ("-p", "plugvault.pytest_plugin", "-p", "xdist.plugin")


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in `folder` with the environment of another project, and the two plugins that
    the tests here need."""
    return run_with_all_plugins(
        folder, *PLUGINS, *arguments, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **environ
    )


def run_with_all_plugins(
    folder: Path, *arguments: str, **environ: str
) -> subprocess.CompletedProcess[str]:
    """Likewise, with each plugin that is installed, as pytest finds it."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTEST", "PLUGVAULT", "SOFTHSM2", "CI"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONDONTWRITEBYTECODE": "1", **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def passed(ended: subprocess.CompletedProcess[str], count: int) -> None:
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert re.search(rf"\b{count} passed in ", ended.stdout), ended.stdout


def project(folder: Path, tests: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_own.py").write_text(tests)
    return folder


def test_it_is_installed_with_the_package() -> None:
    (entry_point,) = [
        candidate for candidate in entry_points(group="pytest11") if candidate.name == "plugvault"
    ]
    assert entry_point.value == "plugvault.pytest_plugin"


def test_the_example_project_s_tests_pass(softhsm: Path, tmp_path: Path) -> None:
    ended = run_with_all_plugins(EXAMPLE, "--basetemp", str(tmp_path / "t"), "-n", "2", CI="1")
    passed(ended, 5)


def test_the_example_tests_pass_with_the_files_of_the_wheel(softhsm: Path, tmp_path: Path) -> None:
    """A copy laid out as `pyproject.toml` says, in front of the checkout."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    wheel = wheel["targets"]["wheel"]
    site = tmp_path / "site"
    for package in wheel["packages"]:
        folder = ROOT / package
        shutil.copytree(folder, site / folder.name, ignore=shutil.ignore_patterns("__pycache__"))
    for source, target in wheel["force-include"].items():
        (site / target).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / source, site / target)
    folder = project(tmp_path / "own", FROM_THE_WHEEL)
    passed(run(folder, PYTHONPATH=str(site), SITE=str(site)), 1)


LEAVES_IT_OPEN = """
import pytest

@pytest.mark.parametrize("name", {names})
@pytest.mark.parametrize("fails", [True, True, False])
def test_token(request, name, fails):
    token = request.getfixturevalue(name)
    {opens}
    assert not fails
"""


def test_test_that_fails_with_its_token_open_does_not_fail_the_next(
    softhsm: Path, tmp_path: Path
) -> None:
    """By the plugin's fixtures, and by those of this repository's tests, which open more."""
    names = ["softhsm_token", "nss_token"]
    folder = project(tmp_path / "own", LEAVES_IT_OPEN.format(names=names, opens="token.open()"))
    ended = run(folder)
    assert re.search(r"\b4 failed, 2 passed in ", ended.stdout), ended.stdout
    own = {"names": ["car_token", "nss_car"], "opens": "token.open(); token.open()"}
    folder = project(tmp_path / "ours", LEAVES_IT_OPEN.format(**own))
    ended = run(folder, "-p", "fixtures.tokens", PYTHONPATH=str(ROOT / "tests"))
    assert re.search(r"\b4 failed, 2 passed in ", ended.stdout), ended.stdout


FROM_THE_WHEEL = """
import os, sys

def test_a_car_charges(plug_and_charge):
    emaid = plug_and_charge.contract()
    assert plug_and_charge.charge() == emaid
    for name in ("plugvault", "evcc"):
        assert sys.modules[name].__file__.startswith(os.environ["SITE"])
    assert not plug_and_charge.car.stderr
"""

ISOLATED = """
import json, os, pathlib, pkcs11, pytest

@pytest.mark.parametrize("n", range(3))
@pytest.mark.parametrize("kind", ["softhsm_token", "nss_token"])
def test_every_test_has_a_token_of_its_own(kind, n, request):
    token = request.getfixturevalue(kind)
    with open(os.environ["SEEN"], "a") as file:
        file.write(json.dumps([str(token.folder), token.pin, token.location.env()]) + "\\n")
    vault = token.open()
    assert vault.keys() == []
    vault.generate_provisioning_key()
    vault.close()

@pytest.mark.parametrize("n", range(2))
def test_own_use_of_the_library_sees_the_token_of_this_test(softhsm_token, n):
    token = pkcs11.lib(str(softhsm_token.module)).get_token(token_label=softhsm_token.label)
    with token.open(rw=True, user_pin=softhsm_token.pin) as session:
        assert list(session.get_objects()) == []
        session.generate_key(pkcs11.KeyType.AES, 128, store=True)

def test_what_was_there_before_is_there_after():
    assert os.environ.get("SOFTHSM2_CONF") == "/somewhere"

def test_several_at_once(vault, softhsm_token, nss_token):
    opened = [vault, softhsm_token.open(), nss_token.open()]
    assert len({one.generate_provisioning_key() for one in opened}) == 3
    for one in opened[1:]:
        one.close()
"""


def test_every_test_has_its_own_and_leaves_nothing(softhsm: Path, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    folder = project(tmp_path / "own", ISOLATED)
    passed(run(folder, "-n", "2", SEEN=str(seen), SOFTHSM2_CONF="/somewhere"), 10)
    rows = [json.loads(line) for line in seen.read_text().splitlines()]
    assert len({folder for folder, _, _ in rows}) == 6
    assert len({pin for _, pin, _ in rows}) == 6
    assert [folder for folder, _, _ in rows if Path(folder).exists()] == []


BESIDE = """
import ctypes, os, pkcs11, pytest

def objects(path, token, pin=None):
    found = pkcs11.lib(path).get_token(token_label=token.label)
    with found.open(rw=True, user_pin=pin) as session:
        return len(list(session.get_objects()))

@pytest.mark.parametrize("n", range(2))
def test_open_and_left_open(softhsm_token, n):
    softhsm_token.open().generate_provisioning_key()

@pytest.mark.parametrize("path", [str, os.path.realpath])
def test_own_library_first(softhsm_token, path):
    own = path(softhsm_token.module)
    assert objects(own, softhsm_token, softhsm_token.pin) == 0
    vault = softhsm_token.open()
    vault.generate_provisioning_key()
    assert objects(own, softhsm_token) == 2

def test_own_library_afterwards(softhsm_token):
    vault = softhsm_token.open()
    vault.generate_provisioning_key()
    assert objects(str(softhsm_token.module), softhsm_token) == 2
    assert vault.keys()

def test_library_that_is_initialised_by_hand(softhsm_token):
    assert ctypes.CDLL(str(softhsm_token.module)).C_Initialize(None) == 0
    with pytest.raises(Exception, match="refused: .*service"):
        softhsm_token.open()
    with softhsm_token.service() as service:
        client = service.client()
        client.generate_provisioning_key()
        client.close()

def test_the_next_has_a_token_again(softhsm_token, nss_token):
    for token in (softhsm_token, nss_token):
        token.open().generate_provisioning_key()
"""


def test_a_test_s_own_use_of_the_library_ends_with_the_test(softhsm: Path, tmp_path: Path) -> None:
    passed(run(project(tmp_path / "own", BESIDE)), 7)


NAMED = """
import pytest

@pytest.mark.parametrize("n", range(3))
def test_on_a_token_of_our_own(vault, n):
    assert vault.keys() == []
    vault.generate_provisioning_key()
    assert vault.custody(b"provisioning") == "L3"
"""


def test_vault_is_on_the_named_token_and_leaves_it_empty(short_dir: Path, tmp_path: Path) -> None:
    pin = secrets.token_hex(8)
    location = NSS.make(short_dir / "nss", "ours", pin)
    config = short_dir / "plugvault.toml"
    lines = {"module": str(location.module), "token": "ours", "pin": "env:OUR_PIN"}
    lines |= {"options": location.options, "minimum_custody": "L3"}
    config.write_text("\n".join(f"{name} = {json.dumps(value)}" for name, value in lines.items()))
    named = {"PLUGVAULT_CONFIG": str(config), "OUR_PIN": pin}
    passed(run(project(tmp_path / "own", NAMED), "-n", "2", **named), 3)
    assert subprocess_probe.run(probes.list_keys, location=location, pin=pin) == []
    vault = location.open(pin)
    vault.generate_provisioning_key()
    vault_keys = vault.keys()
    vault.close()
    ended = run(tmp_path / "own", **named)
    assert ended.returncode == 1
    assert "name a token without" in ended.stdout
    assert pin not in ended.stdout
    vault = location.open(pin)
    assert vault.keys() == vault_keys
    vault.close()


def test_vault_is_refused_on_a_token_that_gives_less(softhsm: Path, tmp_path: Path) -> None:
    named = {"PLUGVAULT_MINIMUM_CUSTODY": "L3"}
    ended = run(project(tmp_path / "own", NAMED), **named)
    assert ended.returncode == 1
    assert "VaultError: custody" in ended.stdout


def test_without_a_library_tests_are_skipped_but_fail_in_ci(
    tmp_path: Path,
) -> None:
    tests = "def test_one(softhsm_token): pass\n"
    missing = {"PLUGVAULT_PKCS11_MODULE": str(tmp_path / "none.so")}
    folder = project(tmp_path / "own", tests)
    ended = run(folder, **missing)
    assert ended.returncode == 0
    assert "1 skipped" in ended.stdout
    assert "none.so does not exist" in ended.stdout
    ended = run(folder, CI="1", **missing)
    assert ended.returncode == 1
    assert "none.so does not exist" in ended.stdout


LAZY = """
import sys

def test_nothing_is_loaded_that_was_not_asked_for():
    ours = {name for name in sys.modules if name.split(".")[0] in ("plugvault", "evcc")}
    assert ours == {"plugvault", "plugvault.pytest_plugin"}
    assert not {"pkcs11", "cryptography", "fastapi", "sqlalchemy", "typer"} & set(sys.modules)
"""


def test_other_pytest_runs_load_nothing_of_it(tmp_path: Path) -> None:
    folder = project(tmp_path / "own", LAZY)
    passed(run(folder), 1)
    ended = run_with_all_plugins(folder, "-p", "no:plugvault", "--fixtures")
    assert ended.returncode == 0
    assert not [name for name in FIXTURES if re.search(rf"^{name}\b", ended.stdout, re.M)]


CASES = """
import sys

sys.path.insert(0, {tests!r})
import wrong_modules

def test_by_hand(installation_case):
    assert len(installation_case.trust) == 3
    assert all(message.session for message in installation_case.good)
    installation_case.check(is_accepted=installation_case.must == "accept")

def test_whole(installation_case, tmp_path):
    with wrong_modules.working({mistake!r}, tmp_path) as answer:
        installation_case.run(answer)
"""


def test_each_case_of_a_folder_is_a_test_with_its_id(tmp_path: Path) -> None:
    key = ec.derive_private_key(wrong_modules.PROVISIONING_SCALAR, ec.SECP256R1())
    pki = CasePki(Seed(9), 1_790_000_000)
    vehicle = pki.oem_sub2.issue("PVTP0000000000001", dc="OEM", key=key).certificate
    chosen = catalogue.select("EM-010", "KT-00[12]")
    files.make(tmp_path / "cases", vehicle, chosen, 1, pki.now)
    arguments = ("--plugvault-cases", str(tmp_path / "cases"), "-v")
    tests = str(ROOT / "tests")
    folder = project(tmp_path / "own", CASES.format(tests=tests, mistake=""))
    ended = run(folder, *arguments)
    passed(ended, 6)
    assert "test_whole[EM-010] PASSED" in ended.stdout
    mistake = "the EMAID is that of the certificate"
    ended = run(project(folder, CASES.format(tests=tests, mistake=mistake)), *arguments)
    assert "1 failed, 5 passed" in ended.stdout, ended.stdout
    assert "EM-010 another EMAID in the message than in the certificate: fail" in ended.stdout


def test_a_case_that_was_taken_otherwise_says_why(tmp_path: Path) -> None:
    pki = CasePki(Seed(9), 1_790_000_000)
    vehicle = pki.oem_sub2.issue("PVTP0000000000001", dc="OEM").certificate
    files.make(tmp_path / "cases", vehicle, catalogue.select("EM-00[13]", "EM-010"), 1, pki.now)
    tests = "def test_all_taken(installation_case): installation_case.check(True)\n"
    folder = project(tmp_path / "own", tests)
    (folder / "pytest.ini").write_text(f"[pytest]\nplugvault_cases = {tmp_path / 'cases'}\n")
    ended = run(folder)
    assert "1 failed, 2 passed" in ended.stdout, ended.stdout
    assert catalogue.BY_ID["EM-010"].gain in ended.stdout


def test_without_a_folder_the_cases_are_skipped_but_fail_in_ci(tmp_path: Path) -> None:
    folder = project(tmp_path / "own", "def test_one(installation_case): pass\n")
    ended = run(folder)
    assert "1 skipped" in ended.stdout
    assert "cases make" in ended.stdout
    assert run(folder, CI="1").returncode == 1
    ended = run(folder, "--plugvault-cases", str(tmp_path / "nothing"))
    assert ended.returncode == 2  # no test was collected
    assert "cases make" in ended.stdout


def test_its_fixtures_have_descriptions(tmp_path: Path) -> None:
    output = run(project(tmp_path / "own", LAZY), "--fixtures").stdout
    assert [
        name for name in FIXTURES if not re.search(rf"^{name} -- .*plugin", output, re.M)
    ] == []
