"""Carry out a container's recipe in this system, without a container.

    python3 tools/other_releases/recipe.py CONTAINERFILE [NAME=VALUE]...

The recipe's own folder is its context. NAME=VALUE sets an ARG. The base image (FROM) is this
system, so run it as root in a system that may be changed, such as one of debootstrap's. Ends with
the status of the recipe's CMD.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


class Recipe:
    """The state while a recipe is carried out. arguments: values of its ARGs, by name."""

    def __init__(self, file: Path, arguments: dict[str, str]) -> None:
        self.context, self.arguments = file.resolve().parent, arguments
        self.environment = dict(os.environ)
        self.folder = Path("/")
        self.command: list[str] = []

    def from_(self, image: str) -> None:
        print(f"recipe: this system stands in for {image}", flush=True)

    def arg(self, text: str) -> None:
        name, _, default = text.partition("=")
        self.environment[name] = self.arguments.get(name, default)

    def run(self, script: str) -> None:
        print(f"recipe: {script}", flush=True)
        subprocess.run(
            ["/bin/sh", "-c", script], cwd=self.folder, env=self.environment, check=True
        )

    def workdir(self, folder: str) -> None:
        self.folder = self.folder / folder
        self.folder.mkdir(parents=True, exist_ok=True)

    def copy(self, text: str) -> None:
        source, target = text.split()
        shutil.copytree(self.context / source, self.folder / target, dirs_exist_ok=True)

    def cmd(self, text: str) -> None:
        self.command = json.loads(text)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """(instruction, the rest of its line), comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            instruction, _, rest = line.strip().partition(" ")
            yield instruction, rest.strip()


def main(file: str, *settings: str) -> int:
    recipe = Recipe(Path(file), dict(setting.split("=", 1) for setting in settings))
    carry_out = {
        "FROM": recipe.from_,
        "ARG": recipe.arg,
        "RUN": recipe.run,
        "WORKDIR": recipe.workdir,
        "COPY": recipe.copy,
        "CMD": recipe.cmd,
    }
    for instruction, rest in instructions(Path(file).read_text(encoding="utf-8")):
        carry_out[instruction](rest)
    ended = subprocess.run(recipe.command, cwd=recipe.folder, env=recipe.environment, check=False)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
