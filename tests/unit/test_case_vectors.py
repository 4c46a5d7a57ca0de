"""The test cases as one file for other projects, checked without this project's code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from jsonschema_rs import validator_for

TOOL = Path(__file__).parents[2] / "tools/case_vectors"


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("vectors") / "vectors.json"
    subprocess.run([sys.executable, TOOL, file], check=True, capture_output=True)
    return file


def checked(file: Path) -> subprocess.CompletedProcess[str]:
    """The checker's run, in an interpreter that cannot import this project."""
    barrier = (
        "import runpy, sys\n"
        "sys.modules['evcc'] = sys.modules['plugvault'] = None\n"
        f"sys.argv = ['check.py', {str(file)!r}]\n"
        f"runpy.run_path({str(TOOL / 'check.py')!r}, run_name='__main__')\n"
    )
    return subprocess.run(
        [sys.executable, "-I", "-c", barrier], capture_output=True, text=True, check=False
    )


def test_the_vectors_open_with_another_implementation(vectors: Path) -> None:
    ended = checked(vectors)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    decided = int(ended.stdout.split()[0])
    assert decided >= 111, ended.stdout  # the valid ones, signatures and key transport


def test_the_vectors_follow_their_schema(vectors: Path) -> None:
    schema = json.loads((TOOL / "schema.json").read_text())
    document = json.loads(vectors.read_text(encoding="utf-8"))
    validator = validator_for(schema)
    validator.validate(document)
    tests = [test for group in document["testGroups"] for test in group["tests"]]
    assert document["numberOfTests"] == len(tests) == len({test["tcId"] for test in tests})
    assert {flag for test in tests for flag in test["flags"]} <= set(document["notes"])
    del document["vehicle"]["privateKey"]
    assert not validator.is_valid(document)


def change(document: dict[str, Any], case: str, **changes: str) -> None:
    for group in document["testGroups"]:
        for test in group["tests"]:
            if test["case"] == case:
                test.update(changes)


def test_a_wrong_result_is_found_by_the_checker(vectors: Path, tmp_path: Path) -> None:
    document = json.loads(vectors.read_text(encoding="utf-8"))
    change(document, "KT-045", result="valid")
    change(document, "SG-053", result="valid")
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(document))
    ended = checked(changed)
    assert ended.returncode == 1
    assert "KT-045: valid, and does not open" in ended.stdout
    assert "SG-053: valid, and its signature fails" in ended.stdout
    assert ended.stdout.count(": ") == 2
