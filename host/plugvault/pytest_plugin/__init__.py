"""Real tokens for anybody's pytest: installed with the package, there is nothing to switch on.

    softhsm_token    an empty token of SoftHSM     [`tokens.ThrowAway`]
    nss_token        an empty token of NSS
    vault            the key store of a car, as `evcc.vault` has it, in a process of its own
    plug_and_charge  an ecosystem and a car that is made, certified and plugged in  [`world`]

Each test has its own, and nothing is left of it. No port, folder or label is fixed, so tests may
run in parallel (xdist). Who has a token of his own says so [`plugvault.tokens.selection`], and
`vault` is on it: empty it must be, one test at a time has it, and each takes its keys away again.

Where a library is missing a test is skipped; with CI in the environment it fails, for there
nobody reads what was skipped.

pytest imports this file for every run on a machine that has the package: so it imports nothing
but pytest itself, and the rest when a fixture is asked for. `-p no:plugvault` keeps it out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from evcc.vault.service import ServiceVault
    from plugvault.pytest_plugin.tokens import ThrowAway
    from plugvault.pytest_plugin.world import PlugAndCharge
    from plugvault.tokens.selection import Selection


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
    """The token that this machine's owner chose: read once, as its PIN may be readable once."""
    from plugvault.tokens import selection

    return selection.choose()


@pytest.fixture
def vault(_plugvault_selection: Selection) -> Iterator[ServiceVault]:
    """A car's key store, without a key, on the chosen token or on a throw-away one of SoftHSM."""
    from plugvault.pytest_plugin import tokens

    with tokens.vault(_plugvault_selection) as opened:
        yield opened


@pytest.fixture
def plug_and_charge() -> Iterator[PlugAndCharge]:
    """An ecosystem of its own, and a car of it: `contract()`, `charge()`, and all their parts."""
    from plugvault.pytest_plugin import tokens, world

    with tokens.throw_away("softhsm") as token, world.PlugAndCharge(token) as made:
        yield made
