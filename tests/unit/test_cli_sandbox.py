"""The text output of a sandbox: every value can be copied from an ordinary terminal."""

from __future__ import annotations

import io

from rich.console import Console

from plugvault.cli.sandbox import _show
from plugvault.ecosystem.companies import CALLERS
from plugvault.opcp.services import Settings
from plugvault.pools import clients

CAR = {
    "pcid": "PVTPSAMPLE0000101",
    "vin": "PVTZZZ9PZRA000101",
    "plate": "B-PV 101E",
    "document": "7F17A21758",
    "emaid": "DEPVACDCHYI9Z02",
}


def test_nothing_is_cut_in_80_columns():
    roles = {}
    for role in (role for caller in CALLERS for role in caller.roles):
        client_id, secret = clients.new_credentials()
        roles[role] = {"client_id": client_id, "client_secret": secret}
    url = "http://127.0.0.1:8080"
    report = {"url": url, "token_url": f"{url}/oauth/token", "roles": roles, "vehicles": [CAR]}
    console = Console(file=io.StringIO(), width=80, highlight=False)
    _show(console, report, Settings(open=True), {})
    words = console.file.getvalue().replace("B-PV 101E", "plate").split()  # type: ignore[attr-defined]
    for credentials in roles.values():
        assert set(credentials.values()) <= set(words)
    assert {CAR[name] for name in ("pcid", "vin", "document", "emaid")} <= set(words)
    assert "plate" in words
