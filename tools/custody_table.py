"""Write the table of `host/docs/vault.md` anew: what a token of each provider reaches here.

    .venv/bin/python tools/custody_table.py

From `plugvault.tokens.selftest`'s reports on throw-away tokens. `tests/unit/test_vault_doc.py`
holds the document to what the tokens of the machine it runs on say; rows of library versions that
are not here stay as they are.
"""

import re
import secrets
import tempfile
from pathlib import Path

from plugvault.tokens import Hsm, selftest
from plugvault.tokens.providers import PROVIDERS, Provider

DOCUMENT = Path(__file__).parents[1] / "host/docs/vault.md"
HEAD = "| library | scheme | reaches | why no more |\n|---|---|---|---|\n"
_BLOCK = re.compile(r"(?<=<!-- reports -->\n).*?(?=<!-- /reports -->)", re.DOTALL)


def reported(provider: Provider, folder: Path) -> list[str]:
    """The rows of a provider's tokens. Raises: VaultError("module-missing")."""
    pin = secrets.token_hex(8)
    location = provider.make(folder / provider.name, "self-test", pin)
    with Hsm(location.module, location.conf, location.options) as hsm:
        version = hsm.version
    schemes = selftest.report(location, pin)["schemes"]
    name = {"softhsm": "SoftHSM", "nss": "NSS softoken"}[provider.name]
    return [
        f"| {name} {version} | {scheme} | {found['level'] or 'nothing'} | {found['why']} |"
        for scheme, found in schemes.items()
    ]


def written() -> list[str]:
    """The rows of the document."""
    found = _BLOCK.search(DOCUMENT.read_text())
    return found[0].removeprefix(HEAD).splitlines() if found else []


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for each in PROVIDERS.values() for row in reported(each, Path(folder))]
    known = {_key(row): row for row in [*written(), *rows]}
    table = HEAD + "".join(f"{row}\n" for row in sorted(known.values()))
    DOCUMENT.write_text(_BLOCK.sub(lambda _: table, DOCUMENT.read_text()))


def _key(row: str) -> str:
    return row.rpartition(" | ")[0].rpartition(" | ")[0]


if __name__ == "__main__":
    main()
