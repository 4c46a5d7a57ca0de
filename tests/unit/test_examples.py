"""The example project: its workflow and its container install and run what they promise."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "host/examples/own-tests"
CONTAINERFILE = EXAMPLE / "Containerfile"
WORKFLOW = EXAMPLE / ".github/workflows/tests.yml"
RECIPE = ROOT / "tools/other_releases/recipe.py"


def workflow_commands() -> list[str]:
    steps = yaml.safe_load(WORKFLOW.read_text())["jobs"]["tests"]["steps"]
    return [step["run"] for step in steps if "run" in step]


def container_commands() -> list[str]:
    text = CONTAINERFILE.read_text().replace("\\\n", "")
    return re.findall(r"^RUN (.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("commands", [workflow_commands(), container_commands()])
def test_a_recipe_is_valid_shell_and_installs_both_tokens(commands: list[str]):
    for command in commands:
        subprocess.run(["sh", "-n", "-c", command], check=True)
    script = " ".join(commands)
    assert {"softhsm2", "libnss3"} <= set(re.findall(r"[\w-]+", script))
    assert re.search(r'pip install [^&]*"\$PLUGVAULT"', script)


def test_a_recipe_installs_the_imports_of_the_project_s_tests():
    for commands in (workflow_commands(), container_commands()):
        (install,) = [command for command in commands if "pip install" in command]
        assert {"httpx", "pytest", "pytest-xdist"} <= set(install.split())


def test_a_container_recipe_is_carried_out_in_order(tmp_path: Path):
    (tmp_path / "data.txt").write_text("data")
    folder = tmp_path / "inside"
    (tmp_path / "Containerfile").write_text(
        "# a comment\n"
        "FROM scratch\n"
        "ARG WORD=default\n"
        f"RUN mkdir {folder} \\\n    && echo $WORD > {folder}/word\n"
        f"WORKDIR {folder}\n"
        "COPY . .\n"
        'CMD ["sh", "-c", "cat word data.txt; exit 7"]\n'
    )
    for settings, word in (([], "default"), (["WORD=given"], "given")):
        ended = subprocess.run(
            [sys.executable, RECIPE, tmp_path / "Containerfile", *settings],
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 7, ended.stderr
        assert ended.stdout.endswith(f"{word}\ndata")
        subprocess.run(["rm", "-r", folder], check=True)


def test_a_failing_step_ends_a_container_recipe(tmp_path: Path):
    recipe = tmp_path / "Containerfile"
    recipe.write_text('FROM scratch\nRUN false\nCMD ["true"]\n')
    ended = subprocess.run([sys.executable, RECIPE, recipe], capture_output=True, check=False)
    assert ended.returncode != 0
