"""Real tokens for any project's pytest. The package installs the plugin; it needs no switch.

    softhsm_token    an empty token of SoftHSM     [`tokens.ThrowAway`]
    nss_token        an empty token of NSS
    vault            the key store of a car, as `evcc.vault` has it, in a process of its own
    plug_and_charge  an ecosystem and a car that is made, certified and plugged in  [`world`]
    installation_case  a case of `--plugvault-cases DIR`, for a vehicle of yours  [`cases`]

Each test has its own token, which is removed after it. No port, folder or label is fixed, so tests
may run in parallel (xdist). With a configured token [`plugvault.tokens.selection`], `vault` is on
that one: it must be empty, one test at a time has it, and each test destroys its keys at its end.

A test is skipped where its library is missing; with CI in the environment it fails, because there
a skipped test goes unnoticed.

pytest imports this file in every run on a machine with the package. So it imports only pytest, and
the rest when a fixture is used. `-p no:plugvault` disables it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from evcc.vault.service import ServiceVault
    from plugvault.pytest_plugin.cases import InstallationCase
    from plugvault.pytest_plugin.tokens import ThrowAway
    from plugvault.pytest_plugin.world import PlugAndCharge
    from plugvault.tokens.selection import Selection


_CASES = "plugvault_cases"
_CASE = "installation_case"


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "the folder that `plugvault cases make` wrote, for the fixture installation_case"
    parser.getgroup("plugvault").addoption("--plugvault-cases", metavar="DIR", help=text)
    parser.addini(_CASES, text, default="")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the fixture `installation_case` runs once for each case."""
    if _CASE not in metafunc.fixturenames:
        return
    folder = metafunc.config.getoption("--plugvault-cases") or metafunc.config.getini(_CASES)
    if not folder:
        metafunc.parametrize(_CASE, [None], ids=["no cases"], indirect=True)
        return
    from plugvault.pytest_plugin import cases

    chosen = cases.read(folder)
    metafunc.parametrize(_CASE, chosen, ids=[case.id for case in chosen], indirect=True)


@pytest.fixture
def installation_case(request: pytest.FixtureRequest) -> InstallationCase:
    """A case of `--plugvault-cases DIR`: messages, `trust`, `at`. `check(accepted)` fails the test
    of a vehicle that did otherwise; `run(module)` carries out the whole case."""
    case: InstallationCase | None = request.param
    if case is None:
        text = "no cases: --plugvault-cases DIR names the folder that `plugvault cases make` wrote"
        if os.environ.get("CI"):
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    return case


@pytest.fixture
def softhsm_token() -> Iterator[ThrowAway]:
    """An empty SoftHSM token: `module`, `label`, `pin`, `conf`, `env()`; `open()` is its vault.
    SOFTHSM2_CONF names its store while the test runs."""
    from plugvault.pytest_plugin import tokens

    with tokens.throw_away("softhsm") as token:
        yield token


@pytest.fixture
def nss_token() -> Iterator[ThrowAway]:
    """An empty token of NSS softoken: `module`, `label`, `pin`, `options`; `open()` is its
    vault."""
    from plugvault.pytest_plugin import tokens

    with tokens.throw_away("nss") as token:
        yield token


@pytest.fixture(scope="session")
def _plugvault_selection() -> Selection:
    """The configured token. Read once, because its PIN may be readable only once."""
    from plugvault.tokens import selection

    return selection.choose()


@pytest.fixture
def vault(_plugvault_selection: Selection) -> Iterator[ServiceVault]:
    """A car's key store, without a key, on the configured token or on a temporary SoftHSM
    token."""
    from plugvault.pytest_plugin import tokens

    with tokens.vault(_plugvault_selection) as opened:
        yield opened


@pytest.fixture
def plug_and_charge() -> Iterator[PlugAndCharge]:
    """An ecosystem, and a car of it: `contract()`, `charge()`, and all their parts."""
    from plugvault.pytest_plugin import tokens, world

    with tokens.throw_away("softhsm") as token, world.PlugAndCharge(token) as world_of_test:
        yield world_of_test
