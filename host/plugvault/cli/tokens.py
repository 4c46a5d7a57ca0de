"""The options that name a token, the same for every command [`plugvault.hsm.selection`]."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from plugvault.hsm.pin import WAYS

Module = Annotated[
    str | None, typer.Option(help="The PKCS#11 library. Default: SoftHSM's.", metavar="PATH")
]
Token = Annotated[str | None, typer.Option(help="The token's label.", metavar="LABEL")]
Pin = Annotated[str | None, typer.Option(help=f"Where the PIN is: {WAYS}.", metavar="SOURCE")]
Conf = Annotated[str | None, typer.Option(help="SoftHSM's configuration file.", metavar="FILE")]
Options = Annotated[
    str | None, typer.Option(help="What the library is initialised with (NSS).", metavar="TEXT")
]
Config = Annotated[
    Path | None,
    typer.Option(help="A file that says all of these.", envvar="PLUGVAULT_CONFIG", metavar="FILE"),
]
Minimum = Annotated[
    str | None,
    typer.Option(help="Refuse a token that gives less custody.", metavar="L1+|L2|L3"),
]
_NAMES = ("module", "token", "pin", "conf", "options", "minimum_custody")


def selected(said: Mapping[str, Any]) -> tuple[dict[str, Any], Path | None]:
    """What a command was given, for `selection.choose`."""
    return {name: said.get(name) for name in _NAMES}, said.get("config")
