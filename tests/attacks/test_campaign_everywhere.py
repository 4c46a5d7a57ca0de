"""Our own module in a campaign, on every interpreter and with every kind of token: no failures."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign.adapters import open_module
from plugvault.campaign.result import Result
from plugvault.campaign.run import run
from plugvault.campaign.verdicts import PASSED
from plugvault.cases import catalogue, files
from plugvault.cases.case import Case
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed
from plugvault.pytest_plugin.tokens import module_of
from plugvault.tokens.providers import PROVIDERS

NOW = 1_790_000_000
BOTH = Path(__file__).parents[1] / "both"
CASES = [case for case in catalogue.CASES if case.timing is None]  # the others need a station
MISMATCHES = 4  # a service locks itself after the fifth key that is not its certificate's
PATIENCE = 60.0  # seconds for one answer, on a machine full of work

# interpreter, its way to the token, the token's provider, cases in a plain run
WAYS = [
    ("debian", "pkcs11", "softhsm", 60),
    ("debian", "pkcs11", "nss", 20),
    ("debian", "service", "softhsm", 12),
    ("debian32", "service", "softhsm", 12),
    ("debian32", "service", "nss", 8),
    ("cpython", "service", "softhsm", 12),
    ("cpython", "service", "nss", 12),
    ("wheel", "service", "softhsm", 12),
    ("wheel", "service", "nss", 8),
]


def chosen(some: Callable[[Any, int], list[Any]], way: int, number: int) -> list[Case]:
    """Other cases for each way, from all groups; all of them in a soak."""
    turned = [*CASES[way:], *CASES[:way]]
    cases: list[Case] = some(turned, number)
    if WAYS[way][1] == "service":
        beyond = [case for case in cases if case.stage == "key"][MISMATCHES:]
        cases = [case for case in cases if case not in beyond]
    return cases


@pytest.mark.parametrize("way", range(len(WAYS)), ids=["-".join(way[:3]) for way in WAYS])
def test_our_module_passes_the_campaign(
    way: int,
    short_dir: Path,
    some: Callable[[Any, int], list[Any]],
    record_property: Callable[[str, object], None],
) -> None:
    """In its own process, with a real token; a weak pass is a failure too."""
    name, kind, provider, number = WAYS[way]
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"no interpreter {name!r} here; make says why")
    module_of(PROVIDERS[provider])
    token = CarToken(short_dir, PROVIDERS[provider])
    folder = short_dir / "cases"
    make_cases(folder, token, chosen(some, way, number))
    if kind == "pkcs11":
        where = [str(token.module), token.label, token.options]
        result = campaign_of(folder, command(runtime, token, kind, *where))
    else:
        with token.service() as service:
            line = command(runtime, token, kind, str(service.socket_path))
            result = campaign_of(folder, line)
    assert [(case.id, case.verdict, case.why) for case in result.deviations] == []
    assert [(case.id, case.why) for case in result.cases if case.verdict != PASSED] == []
    record_property(f"evcc {name}", len(result.cases))


def make_cases(folder: Path, token: CarToken, cases: list[Case]) -> None:
    """The cases for the vehicle whose provisioning key is made in the token here."""
    vault = token.open()
    point = vault.generate_provisioning_key()
    vault.close()
    vehicle = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM", public_key=point)
    files.make(folder, vehicle.certificate, cases, 1, NOW)


def command(runtime: runtimes.Runtime, token: CarToken, kind: str, *where: str) -> list[str]:
    """The command line of the module under test."""
    pin = token.folder / "pin"
    pin.touch(mode=0o600)
    pin.write_text(token.pin)
    environment = {**runtime.env(BOTH), **token.env()}
    module = [*runtime.argv, *runtime.heap("4M"), str(BOTH / "campaign_run.py"), str(pin)]
    variables = [f"{name}={value}" for name, value in environment.items()]
    return ["env", *variables, *module, str(token.folder / "store"), kind, *where]


def campaign_of(folder: Path, line: list[str]) -> Result:
    adapter = f"lines:{shlex.join(line)}"
    return run(campaign_cases.read(folder), lambda: open_module(adapter, PATIENCE))
