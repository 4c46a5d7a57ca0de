"""Write the custody table of `host/docs/vault.md`: a row for each provider on this machine.

    .venv/bin/python tools/custody_table.py

The rows are `plugvault.tokens.selftest`'s reports on throw-away tokens. Rows of library versions
that this machine does not have stay. `tests/unit/test_vault_doc.py` compares the document with the
tokens of the machine it runs on.
"""

import re
import secrets
import tempfile
from pathlib import Path

from plugvault.tokens import Hsm, selftest
from plugvault.tokens.providers import PROVIDERS, TokenProvider

DOCUMENT = Path(__file__).parents[1] / "host/docs/vault.md"
HEAD = "| library | scheme | reaches | why no more |\n|---|---|---|---|\n"
_BLOCK = re.compile(r"(?<=<!-- reports -->\n).*?(?=<!-- /reports -->)", re.DOTALL)


def rows_of(provider: TokenProvider, folder: Path) -> list[str]:
    """The rows of a provider's tokens. Raises: VaultError("module-missing")."""
    pin = secrets.token_hex(8)
    location = provider.make(folder / provider.name, "self-test", pin)
    with Hsm(location.module, location.conf, location.options) as hsm:
        library = f"{provider.title} {hsm.version}"
    schemes = selftest.report(location, pin)["schemes"]
    return [
        f"| {library} | {scheme} | {custody['level'] or 'nothing'} | {custody['why']} |"
        for scheme, custody in schemes.items()
    ]


def document_rows() -> list[str]:
    """The rows of the document."""
    match = _BLOCK.search(DOCUMENT.read_text())
    return match[0].removeprefix(HEAD).splitlines() if match else []


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for provider in PROVIDERS.values() for row in rows_of(provider, Path(folder))]
    rows_by_scheme = {_key(row): row for row in [*document_rows(), *rows]}
    table = HEAD + "".join(f"{row}\n" for row in sorted(rows_by_scheme.values()))
    DOCUMENT.write_text(_BLOCK.sub(lambda _: table, DOCUMENT.read_text()))


def _key(row: str) -> str:
    """Library and scheme of a row."""
    return row.rpartition(" | ")[0].rpartition(" | ")[0]


if __name__ == "__main__":
    main()
