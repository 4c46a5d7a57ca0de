"""The options that `plugvault station` and `plugvault vehicle` share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from plugvault.pki import trusted
from plugvault.pki.forms import FormError
from plugvault.roles.client import Credentials, OpcpClient

SandboxTrust = Annotated[
    Path | None,
    typer.Option(
        help="Certificates (PEM or DER) to trust for an HTTPS --sandbox.", metavar="FILE"
    ),
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
    url: str, trust: Path | None, option: str, variables: str = "PLUGVAULT_CLIENT"
) -> tuple[OpcpClient, Credentials | None]:
    """A client of the ecosystem at --sandbox, and its credentials.

    They are in the environment, as variables_ID and variables_SECRET; None for open mode.
    option: the name of the one for `trust`. Raises typer.BadParameter when it has no roots.
    """
    url = url.rstrip("/")
    name, secret = (os.environ.get(f"{variables}_{end}", "") for end in ("ID", "SECRET"))
    credentials = Credentials(name, secret, url) if name else None
    try:
        context = trusted.tls_of(trust) if trust else None
    except FormError as error:
        raise typer.BadParameter(error.detail, param_hint=option) from error
    return OpcpClient(url, credentials, context), credentials
