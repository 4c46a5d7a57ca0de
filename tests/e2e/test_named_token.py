"""A contract, from order to charging, with the car's keys in the token that the owner named.

    PLUGVAULT_CONFIG=FILE .venv/bin/pytest tests/e2e/test_named_token.py

For a token that is neither SoftHSM's nor NSS's. Without one there is nothing to do here: the other
tests make theirs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

import envelopes
from evcc.vault import VaultError
from evcc.vault.custody import at_least
from evcc.vault.service import ServiceVault
from plugvault import runtimes
from plugvault.demo.record import DemoRecord
from plugvault.demo.walkthrough import Walkthrough
from plugvault.tokens.selection import Selection


@pytest.fixture
def named(_plugvault_selection: Selection) -> Selection:
    if _plugvault_selection.vault is None:
        pytest.skip("no token was named: PLUGVAULT_CONFIG, or PLUGVAULT_TOKEN and PLUGVAULT_PIN")
    return _plugvault_selection


@pytest.mark.parametrize("name", ["cpython", "debian"])
def test_the_demo_passes_with_the_named_token(name: str, named: Selection, tmp_path: Path) -> None:
    runtime = runtimes.get(name)
    if runtime is None:
        pytest.skip(f"no interpreter {name!r} here; make says why")
    record = DemoRecord()
    Walkthrough(record, runtime, "tcp", tmp_path, selection=named).run()
    data = record.as_data()
    assert data["ok"]
    assert len(data["contracts"]) == 2
    lowest = named.minimum_custody or "L1"
    assert all(at_least(contract["custody"], lowest) for contract in data["contracts"])


def test_a_key_signs_is_removed_and_signs_no_more(named: Selection, vault: ServiceVault) -> None:
    case = envelopes.envelope(vault.generate_provisioning_key(), envelopes.KNOWN_KEY)
    key, digest = vault.open_contract_key(*case.values()), bytes(range(32))
    assert vault.verify(case["public"], digest, vault.sign(key, digest))
    vault.delete(key)
    with pytest.raises(VaultError, match="not-found"):
        vault.sign(key, digest)
