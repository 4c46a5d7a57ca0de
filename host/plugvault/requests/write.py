"""Write the collection and the values of its variables into a folder."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from plugvault.requests import PARTNERS, collection

ENVIRONMENT = "http-client.env.json"


def write(folder: Path, values: Mapping[str, str]) -> None:
    """Write the files, and the variables twice: as the environment file that JetBrains' and other
    clients read, and as VS Code's settings. They hold client secrets: mode 0600."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file in collection():
        if file.name != PARTNERS or "partner_pcid" in values:
            (folder / file.name).write_bytes(file.read_bytes())
    (folder / ".vscode").mkdir(mode=0o700, exist_ok=True)
    _private(folder / ENVIRONMENT, {"sandbox": dict(values)})
    settings = {"rest-client.environmentVariables": {"$shared": dict(values)}}
    _private(folder / ".vscode" / "settings.json", settings)


def _private(file: Path, content: object) -> None:
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)
        json.dump(content, stream, indent=1)
