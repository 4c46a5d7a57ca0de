"""The documents: their links, the tests they name, the parts of the package."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from plugvault.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "host/README.md")),
    *sorted((ROOT / "host/docs").glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("firmware", "softhsm", "tests", "tools")),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_file_and_test_a_document_names_exists(document: Path):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)\)", text) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []
    named = re.findall(r"(tests/[\w/]*test_\w+\.py)(?:::(\w+))?", text)
    assert [file for file, _ in named if not (ROOT / file).exists()] == []
    assert [name for file, name in named if name and name not in functions(ROOT / file)] == []


def functions(file: Path) -> set[str]:
    tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_every_part_of_the_package_is_on_the_map():
    text = (ROOT / "host/README.md").read_text()
    parts = {
        f"{file.name}/" if file.is_dir() else file.name
        for file in (ROOT / "host/plugvault").iterdir()
        if file.name[0] not in "_."
    }
    assert {part for part in parts if f"`{part}`" not in text} == set()
    listed = set(re.findall(r"^\| `(\w+/)` \|", text, re.M))
    assert listed <= parts


def test_every_command_is_in_the_readme():
    text = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"plugvault {name}" not in text] == []


def hardware_commands() -> list[str]:
    """The commands in the list for real hardware, without the program's name."""
    text = (ROOT / "host/docs/board.md").read_text().partition("## Checklist for real hardware")[2]
    return re.findall(r"`plugvault ([^`]+)`", text)


@pytest.mark.parametrize("line", hardware_commands())
def test_command_line_of_the_list_for_real_hardware_is_accepted(line: str):
    """The parser takes it; nothing is carried out."""
    name, *arguments = line.split()
    module, attribute, _ = COMMANDS[name]
    app = getattr(importlib.import_module(module), attribute)
    if not isinstance(app, typer.Typer):
        alone = typer.Typer()
        alone.command()(app)
        app = alone
    command: Any = typer.main.get_command(app)
    context = command.make_context(name, arguments)
    if hasattr(command, "commands"):
        name, command, arguments = command.resolve_command(context, arguments)
        command.make_context(name, arguments)


def test_readme_says_where_to_look_within_its_first_fifty_lines():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert lines.index("## Where to look") < 50


@pytest.mark.parametrize(
    "row",
    ["a check of the car", "the rights of an endpoint", "a new kind of token"],
)
def test_contributing_has_a_row_for_each_common_change(row: str):
    assert re.search(rf"^\| {row}", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
