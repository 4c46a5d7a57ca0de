"""The options that `plugvault station` and `plugvault vehicle` share."""

import os
import ssl
from pathlib import Path
from typing import Annotated

import typer

from plugvault.roles.client import Credentials, OpcpClient

SandboxTrust = Annotated[
    Path | None,
    typer.Option(help="Certificates (PEM) to trust for an HTTPS --sandbox.", metavar="FILE"),
]
Pcap = Annotated[
    Path | None,
    typer.Option(
        help="Write a capture (pcapng) and, beside it, the TLS keys (FILE.keys).", metavar="FILE"
    ),
]
EventLines = Annotated[bool, typer.Option("--json", help="Print each event as a line of JSON.")]

INSECURE = "INSECURE: contracts without TLS; anyone on the line reads and changes them"


def client_of(
    url: str, trust: Path | None, variables: str = "PLUGVAULT_CLIENT"
) -> tuple[OpcpClient, Credentials | None]:
    """A client of the ecosystem at --sandbox, and its credentials.

    They are in the environment, as variables_ID and variables_SECRET; None for open mode. Raises
    OSError when `trust` is unreadable or no PEM.
    """
    url = url.rstrip("/")
    name, secret = (os.environ.get(f"{variables}_{end}", "") for end in ("ID", "SECRET"))
    credentials = Credentials(name, secret, url) if name else None
    context = ssl.create_default_context(cafile=trust) if trust else None
    return OpcpClient(url, credentials, context), credentials
