"""The time of all test cases: making them, and a campaign with them."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "tests"))

from cryptography.hazmat.primitives.asymmetric import ec

import wrong_modules
from attacks import test_campaign_everywhere as everywhere
from fixtures.tokens import CarToken
from plugvault import runtimes
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign.adapters import of_function
from plugvault.campaign.result import Result
from plugvault.campaign.run import run
from plugvault.cases import catalogue, files
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed
from plugvault.pytest_plugin.tokens import short_folder

MAKE, IN_PROCESS, WITH_TOKEN = 5, 10, 60  # s, the budgets
RUNTIME = "debian"  # it has ffi, so the module drives the token by itself

Row = dict[str, object]


def bench() -> list[Row]:
    with short_folder() as folder:  # in memory: the flushes of a disk are not to be measured
        key = ec.derive_private_key(wrong_modules.PROVISIONING_SCALAR, ec.SECP256R1())
        pki = CasePki(Seed(9), everywhere.NOW)
        vehicle = pki.oem_sub2.issue("PVTP0000000000001", dc="OEM", key=key).certificate
        cases = folder / "cases"
        made = _timed(lambda: files.make(cases, vehicle, catalogue.CASES, 1, everywhere.NOW))
        with wrong_modules.working("", folder / "module") as answer:
            campaign = campaign_cases.read(cases)
            in_process = _timed(lambda: _expected(run(campaign, lambda: of_function(answer))))
    rows: list[Row] = [
        {"name": f"{len(catalogue.CASES)} cases made", "value": made, "unit": "s", "budget": MAKE},
        {
            "name": "a campaign with a module in this process",
            "value": in_process,
            "unit": "s",
            "budget": IN_PROCESS,
        },
    ]
    return rows + _with_token()


def _with_token() -> list[Row]:
    runtime = runtimes.get(RUNTIME)
    if runtime is None:
        return []
    with short_folder() as folder:
        token = CarToken(folder)
        everywhere.make_cases(folder / "cases", token, everywhere.CASES)
        where = [str(token.module), token.label, token.options]
        line = everywhere.command(runtime, token, "pkcs11", *where)
        seconds = _timed(lambda: _expected(everywhere.campaign_of(folder / "cases", line)))
    name = "a campaign with our module on MicroPython and SoftHSM"
    return [{"name": name, "value": seconds, "unit": "s", "budget": WITH_TOKEN}]


def _expected(result: Result) -> None:
    """Check that the campaign has no deviation: one that ended early would give a wrong figure.

    Raises: RuntimeError."""
    if result.deviations:
        raise RuntimeError(result.sentence)


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
