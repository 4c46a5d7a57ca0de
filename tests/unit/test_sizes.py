"""The list of the files that a board needs, and the budget of their bytecode."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from unit.test_import_rule import EVCC, ROOT, imports

FIRMWARE = ROOT / "firmware"
# No board can use these, or needs to; they are imported where they are used.
LINUX_ONLY = (
    "evcc.iso15118_2.update",
    "evcc.vault.pkcs11",
    "evcc.vault.uri",
    "evcc.ports.unix",
    "evcc.ports.exclusive",
    "evcc.ports.serial",
    "evcc.ports.network",
    "evcc.ports.trace",
    "evcc.network",
    "evcc.network.settings",
    "evcc.network.module",
)


def listed() -> list[str]:
    """The files in `package.json`."""
    urls: list[list[str]] = json.loads((FIRMWARE / "package.json").read_text())["urls"]
    assert all(target == source for target, source in urls)
    return [source for _, source in urls]


def dotted(path: Path) -> str:
    """The name under which a file of `firmware` is imported."""
    return ".".join(path.relative_to(FIRMWARE).with_suffix("").parts).removesuffix(".__init__")


def reachable(starts: list[Path]) -> set[str]:
    """The files of `evcc` that these import, directly or not, but for the ones of Linux only."""
    modules = {dotted(path): path for path in EVCC.rglob("*.py")}
    files, waiting = set(), list(starts)
    while waiting:
        path = waiting.pop()
        files.add(str(path.relative_to(FIRMWARE)))
        package = ".".join(path.relative_to(FIRMWARE).parts[:-1])
        for _, name in imports(ast.parse(path.read_text()), package):
            parts = name.split(".")
            for length in range(1, len(parts) + 1):
                module = ".".join(parts[:length])
                if module in LINUX_ONLY or module not in modules:
                    continue
                if str(modules[module].relative_to(FIRMWARE)) not in files:
                    waiting.append(modules[module])
    return {name for name in files if name.startswith("evcc/")}


def test_package_json_lists_what_a_board_can_import_and_nothing_else() -> None:
    assert listed() == sorted(reachable([FIRMWARE / "main.py", FIRMWARE / "boot.py"]))


def test_manifest_freezes_the_files_of_package_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIRMWARE)
    frozen: list[str] = []

    def package(name: str, files: list[str], opt: int) -> None:
        assert opt == 3
        frozen.extend(f"{name}/{file}" for file in files)

    words: dict[str, Any] = {"metadata": lambda **_: None, "package": package}
    exec((FIRMWARE / "manifest.py").read_text(), words)
    assert frozen == listed()


def sizes(tool: Path) -> tuple[int, dict[str, Any]]:
    """Exit status and figures of the tool."""
    ended = subprocess.run(
        [sys.executable, str(tool), "--json"], capture_output=True, text=True, check=False
    )
    return ended.returncode, json.loads(ended.stdout)


def test_bytecode_of_a_board_is_within_its_budget() -> None:
    status, figures = sizes(ROOT / "tools/sizes.py")
    assert sorted(figures["files"]) == listed()
    assert figures["total"] == sum(figures["files"].values()) <= figures["budget"]
    assert status == 0


def test_bytecode_over_its_budget_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools/sizes.py").write_text((ROOT / "tools/sizes.py").read_text())
    (tmp_path / "firmware").mkdir()
    (tmp_path / "firmware/evcc").symlink_to(EVCC)
    (tmp_path / "firmware/package.json").write_text((FIRMWARE / "package.json").read_text())
    (tmp_path / "firmware/budgets.json").write_text(json.dumps({"bytecode": 40000}))
    status, figures = sizes(tmp_path / "tools/sizes.py")
    assert (status, figures["budget"]) == (1, 40000)
    assert figures["total"] > 40000


def test_make_size_shows_every_budget_beside_its_figure_or_with_a_command() -> None:
    command = [sys.executable, str(ROOT / "tools/sizes.py"), "--long"]
    long = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    memory = (ROOT / "tools/benchmarks/memory.py").read_text()
    budgets: dict[str, int] = json.loads((FIRMWARE / "budgets.json").read_text())
    with_command = {name for name, most in budgets.items() if f"{most:>7}  budget: " in long}
    measured = {name for name in budgets if f'budget["{name}"]' in memory}
    assert with_command | measured == set(budgets)
    assert len(long.splitlines()) == 2 * len(with_command)
    makefile = (ROOT / "Makefile").read_text()
    assert all(part in makefile for part in ("run.py memory", "sizes.py --long"))


def test_pyright_checks_what_a_board_runs() -> None:
    code = "import pyright_ports; print(*pyright_ports.files('rp2'))"
    command = [sys.executable, "-c", code]
    files = subprocess.run(
        command, cwd=ROOT / "tools", capture_output=True, text=True, check=True
    ).stdout.split()
    own = {file.name for file in FIRMWARE.glob("*.py")} - {"manifest.py"}
    assert set(files) == own | set(listed())
