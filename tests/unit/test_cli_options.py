"""The fields of a dataclass as the options of a command."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from plugvault.cli.options import options_from


@dataclass(frozen=True)
class Options:
    name: Annotated[str, typer.Option(help="A name.")]
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    count: Annotated[int, typer.Option(min=1, max=3)] = 2


@options_from(Options)
def command(options: Options) -> None:
    """Print the options."""
    typer.echo(f"{options.name} {options.as_json} {options.count}")


def run(*arguments: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout


def test_options_become_the_fields() -> None:
    assert run("--name", "a", "--json", "--count", "3") == (0, "a True 3\n")


def test_missing_options_have_the_fields_defaults() -> None:
    assert run("--name", "a") == (0, "a False 2\n")


def test_option_without_a_default_is_required() -> None:
    assert run()[0] == 2


def test_values_outside_the_bounds_are_refused() -> None:
    assert run("--name", "a", "--count", "4")[0] == 2


def test_help_has_the_docstring_and_the_options_texts() -> None:
    status, text = run("--help")
    assert status == 0
    assert all(words in text for words in ("Print the options.", "A name.", "Print JSON."))


def test_another_parameter_is_left_to_another_decorator(
    capsys: pytest.CaptureFixture[str],
) -> None:
    @options_from(Options)
    def both(options: Options, extra: int) -> None:
        typer.echo(f"{options.name} {extra}")

    assert list(inspect.signature(both).parameters) == ["name", "as_json", "count", "extra"]
    both(name="a", as_json=False, count=1, extra=7)
    assert capsys.readouterr().out == "a 7\n"
