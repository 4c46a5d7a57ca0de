"""The help of every command and sub-command."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from plugvault.cli.app import COMMANDS

_FIRST_EMOJI = "\N{MAHJONG TILE EAST WIND}"


def application(name: str) -> typer.Typer:
    module, attribute, _ = COMMANDS[name]
    command = getattr(importlib.import_module(module), attribute)
    if isinstance(command, typer.Typer):
        return command
    app = typer.Typer(rich_markup_mode="markdown")
    app.command()(command)
    return app


def below(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from below(child, (*path, name))


@pytest.mark.parametrize("name", COMMANDS)
def test_help_describes_every_command_argument_and_option(name: str) -> None:
    for path, command in below(typer.main.get_command(application(name))):
        assert command.help, path
        assert [p.name for p in command.params if not getattr(p, "help", "")] == [], path


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_a_word_between_colons_as_it_is_typed(name: str) -> None:
    app = application(name)
    for path, _ in below(typer.main.get_command(app)):
        ended = CliRunner().invoke(app, [*path, "--help"])
        assert ended.exit_code == 0, path
        assert max(ended.stdout) < _FIRST_EMOJI, path
