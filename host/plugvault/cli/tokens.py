"""The options that name a token, the same for every command [`plugvault.tokens.selection`]."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from plugvault.tokens.pin import WAYS

Module = Annotated[
    str | None, typer.Option(help="The PKCS#11 library. Default: SoftHSM's.", metavar="PATH")
]
Token = Annotated[
    str | None, typer.Option(help="The token's label, or a pkcs11: URI.", metavar="LABEL|URI")
]
Serial = Annotated[
    str | None,
    typer.Option(help="Its serial number, where two have one label.", metavar="NUMBER"),
]
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
_OPTIONS = {
    "module": Module,
    "token": Token,
    "serial": Serial,
    "pin": Pin,
    "conf": Conf,
    "options": Options,
    "config": Config,
    "minimum_custody": Minimum,
}
Said = tuple[dict[str, Any], Path | None]
Command = Callable[..., None]


def names_a_token(command: Command, but: str = "") -> Command:
    """The command with these options after its own, all `but` one. Its parameter `said` gets what
    was said of them, for `selection.choose`."""
    names = [name for name in _OPTIONS if name != but]

    @functools.wraps(command)
    def called(**given: Any) -> None:
        said = {name: given.pop(name) for name in names}
        file = said.pop("config")
        command(said=(said, file), **given)

    signature = inspect.signature(command, eval_str=True)
    own = [one for one in signature.parameters.values() if one.name != "said"]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _OPTIONS.items()
        if name in names
    ]
    called.__signature__ = signature.replace(parameters=own + more)  # type: ignore[attr-defined]
    called.__annotations__ = {one.name: one.annotation for one in own + more}
    return called
