"""host/docs/checklist.md names the code and the tests of each row; both must exist."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHECKLIST = ROOT / "host/docs/checklist.md"
ROWS = 63
NOT_YET = "not yet: "

_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
_LINK = re.compile(r"\]\(([^)#]+)\)")


@cache
def names_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    )


def complaints(text: str, rows: int = ROWS) -> Iterator[str]:
    """The faults of the rows of a checklist, in words."""
    lines = [line.strip("|") for line in text.splitlines() if re.match(r"\| \d+ \|", line)]
    numbered = [[cell.strip() for cell in line.split("|")] for line in lines]
    if [int(row[0]) for row in numbered] != list(range(1, rows + 1)):
        yield f"the rows are not 1 to {rows}, each once and in their order"
    for row in numbered:
        if len(row) != 4:
            yield f"{row[0]}: {len(row)} cells instead of 4"
            continue
        number, _, where, proof = row
        paths, tests = _LINK.findall(where), _TEST.findall(proof)
        yield from (
            f"{number}: no {path}" for path in paths if not (CHECKLIST.parent / path).exists()
        )
        yield from (
            f"{number}: no {file}::{name}"
            for file, name in tests
            if name not in names_in(ROOT / file)
        )
        if not proof.startswith(NOT_YET) and not (paths and tests):
            yield f"{number}: neither a path and a test nor {NOT_YET!r} and a reason"
        if len(tests) != proof.count("::"):
            yield f"{number}: a test that is not written as `tests/…/test_x.py::test_y`"


def test_every_row_has_its_place_and_its_proof():
    assert list(complaints(CHECKLIST.read_text())) == []


GOOD = (
    "| 1 | hold the checklist to it | [this](../../tests/unit/test_checklist.py) "
    "| `tests/unit/test_checklist.py::test_a_good_row_passes` |\n"
)


def test_a_good_row_passes():
    assert list(complaints(f"| # | must do |\n|---|---|\n{GOOD}", 1)) == []
    assert list(complaints("| 1 | nothing | | not yet: a reason |", 1)) == []


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("test_a_good_row_passes", "test_a_god_row_passes", "no tests/unit/"),
        ("test_checklist.py::", "test_chekclist.py::", "no tests/unit/"),
        ("(../../tests/unit/test_checklist.py)", "(../../tests/unit/test_chek.py)", "no ../../"),
        ("| `tests", "| see `tests", None),
        ("`tests/unit/test_checklist.py::test_a_good_row_passes`", "somewhere", "neither"),
        ("[this](../../tests/unit/test_checklist.py)", "somewhere", "neither"),
        ("`tests/unit/test_checklist.py::test_a", "`test_checklist.py::test_a", "not written"),
        ("| 1 |", "| 2 |", "not 1 to 1"),
        ("| hold the", "| to | hold the", "5 cells"),
        ("", GOOD, "not 1 to 1"),
    ],
)
def test_a_wrong_row_is_reported(before: str, after: str, complaint: str | None):
    wrong = " ".join(complaints(GOOD.replace(before, after, 1), 1))
    assert (complaint in wrong) if complaint else not wrong
