"""host/docs/vault.md documents the custody of tokens and their names: it must agree with the
reports of the installed tokens and with the code."""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
from typer.main import get_command

from evcc.vault.levels import LEVELS
from plugvault import pytest_plugin
from plugvault.cli import vault as command
from plugvault.pytest_plugin.tokens import module_of
from plugvault.tokens import pin, selection
from plugvault.tokens.providers import PROVIDERS
from plugvault.vault_service.callers import OPENINGS, RATE, RIGHTS
from plugvault.vault_service.service import VaultService

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "host/docs/vault.md").read_text()


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("table", ROOT / "tools/custody_table.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def known(tool: ModuleType, name: str, folder: Path) -> list[str]:
    """The rows that a provider's token here gives, where the document has rows of its version; it
    has one of every version that CI has met."""
    module_of(PROVIDERS[name])
    rows: list[str] = tool.rows_of(PROVIDERS[name], folder)
    assert rows
    if not {tool._key(row) for row in rows} <= {tool._key(row) for row in tool.document_rows()}:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing(f"no row for this version: tools/custody_table.py adds it: {rows}")
    return rows


@pytest.mark.parametrize("name", PROVIDERS)
def test_table_equals_the_report_of_the_installed_token(
    name: str, tool: ModuleType, short_dir: Path
) -> None:
    assert set(known(tool, name, short_dir)) <= set(tool.document_rows()), "tools/custody_table.py"


def test_tool_replaces_rows_of_installed_tokens_and_keeps_the_others(
    tool: ModuleType, tmp_path: Path, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = tmp_path / "vault.md"
    other_row = "| SoftHSM 9.9 | iso2 | L3 | nothing is missing |\n"
    stale = TEXT
    for row in [row for name in PROVIDERS for row in known(tool, name, short_dir)]:
        assert f"{row}\n" in stale
        stale = stale.replace(f"{row}\n", f"{tool._key(row)} | L1 | stale |\n")
    document.write_text(stale.replace("<!-- /reports -->", other_row + "<!-- /reports -->"))
    monkeypatch.setattr(tool, "DOCUMENT", document)
    tool.main()
    assert document.read_text().replace(other_row, "") == TEXT


def test_every_level_has_its_row_against_every_attacker() -> None:
    attacks = TEXT.partition("## What an attacker can do")[2].partition("\n## ")[0]
    rows = {row.split(" | ")[0].strip("| "): row for row in re.findall(r"^\| .*$", attacks, re.M)}
    assert set(LEVELS) <= set(rows)
    assert {rows[level].count(" | ") for level in LEVELS} == {4}


def test_configuration_of_the_document_is_one(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", TEXT, re.DOTALL)
    file = tmp_path / "plugvault.toml"
    file.write_text(text)
    assert selection._read(file, {}) == tomllib.loads(text)
    named = set(re.findall(r"PLUGVAULT_\w+", TEXT))
    assert named == {*selection._VARIABLES.values(), selection.CONFIG}


def test_every_command_way_and_fixture_is_in_it() -> None:
    commands = get_command(command.app).commands  # type: ignore[attr-defined]
    assert [name for name in commands if f"plugvault vault {name}" not in TEXT] == []
    assert [way for way in pin._READERS if f"`{way}" not in TEXT] == []
    fixtures = ("softhsm_token", "nss_token", "vault", "plug_and_charge")
    assert [name for name in fixtures if f"`{name}`" not in TEXT] == []
    assert [name for name in fixtures if not hasattr(pytest_plugin, name)] == []


def test_rights_and_settings_of_a_service_are_those_of_the_code() -> None:
    chapter = TEXT.partition("**Rights**")[2].partition("**Records of envelopes.**")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", chapter, re.MULTILINE))
    settings = {"rate": RATE, "openings_per_hour": OPENINGS}
    assert set(rows) == {*RIGHTS, *settings}
    for name, default in settings.items():
        assert rows[name].startswith(f" {default:g} | ")
        assert inspect.signature(VaultService).parameters[name].default == default
    assert "`openings_per_hour`" in rows["make"]
