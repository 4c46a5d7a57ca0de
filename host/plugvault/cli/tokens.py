"""The options that name a token, for every command [`plugvault.tokens.selection`]."""

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
    typer.Option(help="The token's serial number, if two have one label.", metavar="NUMBER"),
]
Pin = Annotated[str | None, typer.Option(help=f"The PIN's source: {WAYS}.", metavar="SOURCE")]
Conf = Annotated[str | None, typer.Option(help="SoftHSM's configuration file.", metavar="FILE")]
Options = Annotated[
    str | None, typer.Option(help="The text that initialises the library (NSS).", metavar="TEXT")
]
Config = Annotated[
    Path | None,
    typer.Option(
        help="A TOML file that names the token: host/docs/vault.md.",
        envvar="PLUGVAULT_CONFIG",
        metavar="FILE",
    ),
]
Minimum = Annotated[
    str | None,
    typer.Option(help="Refuse a token with less custody.", metavar="L1+|L2|L3"),
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
TokenOptions = tuple[dict[str, Any], Path | None]  # by name, and --config
Command = Callable[..., None]


def names_a_token(command: Command, but: str = "") -> Command:
    """Give a command these options after its own, all `but` one. Its parameter `token_options`
    gets their values, for `selection.choose`."""
    names = [name for name in _OPTIONS if name != but]

    @functools.wraps(command)
    def with_token(**arguments: Any) -> None:
        options = {name: arguments.pop(name) for name in names}
        file = options.pop("config")
        command(token_options=(options, file), **arguments)

    signature = inspect.signature(command, eval_str=True)
    parameters = [
        parameter
        for parameter in signature.parameters.values()
        if parameter.name != "token_options"
    ]
    parameters += [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=option)
        for name, option in _OPTIONS.items()
        if name in names
    ]
    with_token.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=parameters
    )
    with_token.__annotations__ = {each.name: each.annotation for each in parameters}
    return with_token
