"""The options of a command as one value."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from typing import Any, TypeVar, get_type_hints

Options = TypeVar("Options")


def options_from(
    options: type[Options],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make each field of a dataclass an option of the command, which gets an instance of it first.

    The fields' types are `Annotated` with `typer.Option`, their defaults those of the options.
    Other parameters of the command stay as they are, for another decorator.
    """
    hints = get_type_hints(options, include_extras=True)
    parameters = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(options)  # type: ignore[arg-type]
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        others = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        every = [*parameters, *(it.replace(kind=inspect.Parameter.KEYWORD_ONLY) for it in others)]

        @functools.wraps(command)
        def with_options(**values: Any) -> None:
            rest = {other.name: values.pop(other.name) for other in others}
            command(options(**values), **rest)

        with_options.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in every}
        return with_options

    return decorate
