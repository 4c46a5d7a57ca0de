"""New tokens in a library, made by the script `initialise` in a process of its own.

The PINs go to its stdin, never to a command line, and a library that this process already uses is
not disturbed.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from evcc.vault import VaultError

_SCRIPT = Path(__file__).with_name("initialise.py")


@dataclass(frozen=True)
class NewToken:
    """A token to make. label: 1 to 32 bytes of UTF-8; so_pin: the security officer's PIN, "" where
    there is none."""

    label: str
    user_pin: str
    so_pin: str = ""


def create_tokens(
    module: Path | str,
    tokens: Sequence[NewToken],
    env: Mapping[str, str] = {},
    options: str = "",
    keep: bool = False,
) -> None:
    """Make tokens in a library.

    env: added to the environment of the process; options: the text for C_Initialize; keep: leave
    an existing token as it is. Raises: VaultError("exists" | "pin" | "full" | "refused" |
    "module-missing" | "unavailable").
    """
    request = {
        "module": str(module),
        "options": options,
        "tokens": [asdict(token) for token in tokens],
        "keep": keep,
    }
    process = subprocess.run(
        [sys.executable, "-I", str(_SCRIPT)],
        input=json.dumps(request).encode(),
        env={**os.environ, **env},
        capture_output=True,
        timeout=60,
        check=False,
    )
    if process.returncode:
        reason, _, detail = process.stdout.decode().partition(": ")
        if reason not in VaultError.REASONS:
            reason, detail = "unavailable", f"the token library ended with {process.returncode}"
        raise VaultError(reason, detail)
