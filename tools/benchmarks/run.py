"""`make bench`: every figure beside its budget. tools/benchmarks/README.md describes a row.

    python tools/benchmarks/run.py [NAME]... [--json]

Exits 1 when a figure is over its budget or a benchmark could not run.
"""

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
Row = dict[str, Any]


def names() -> list[str]:
    return sorted(
        path.stem
        for path in HERE.glob("*.py")
        if path.name != "run.py" and "def bench(" in path.read_text()
    )


def within(row: Row) -> bool:
    """Whether a row's value is within "budget" and "at_least"."""
    return row["value"] <= row.get("budget", row["value"]) and row["value"] >= row.get(
        "at_least", row["value"]
    )


def measure(name: str) -> list[Row]:
    """The rows of one file, each with "file" and "within", whether it is within its budget."""
    rows = importlib.import_module(name).bench()
    return [{"file": name, **row, "within": within(row)} for row in rows]


def in_own_process(name: str) -> list[Row]:
    """As `measure`, in a process of its own, because several files initialise a token library. A
    file that fails gives one row that says so, and the other files are still measured."""
    print(f"{name} ...", file=sys.stderr, flush=True)
    ended = subprocess.run(
        [sys.executable, __file__, name, "--json"], stdout=subprocess.PIPE, check=False
    )
    try:
        rows: list[Row] = json.loads(ended.stdout)
    except ValueError:
        failed = {"name": f"could not run: exit {ended.returncode}", "value": 0.0, "unit": ""}
        rows = [{"file": name, **failed, "at_least": 1, "within": False}]
    return rows


def figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def limit(row: Row) -> str:
    if "budget" in row:
        return f"≤ {figure(row['budget'])}"
    return f"≥ {figure(row['at_least'])}" if "at_least" in row else ""


def table(rows: list[Row]) -> Table:
    grid = Table(box=None, pad_edge=False)
    for heading, side in (
        ("", "left"),
        ("what", "left"),
        ("figure", "right"),
        ("unit", "left"),
        ("budget", "right"),
        ("", "left"),
    ):
        grid.add_column(heading, justify=side)
    last = ""
    for row in rows:
        verdict = ("[green]ok[/]" if row["within"] else "[red]OVER[/]") if limit(row) else ""
        first = row["file"] if row["file"] != last else ""
        last = row["file"]
        name = row["name"] + (f" [dim]({row['note']})[/]" if row.get("note") else "")
        grid.add_row(first, name, figure(row["value"]), row["unit"], limit(row), verdict)
    return grid


def main() -> int:
    parser = argparse.ArgumentParser(description="Speed, size and memory, beside their budgets.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(names()))
    parser.add_argument("--json", action="store_true", help="the rows as data")
    arguments = parser.parse_args()
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    files = arguments.names or names()
    if len(files) == 1:
        rows = measure(files[0])
    else:
        rows = [row for file in files for row in in_own_process(file)]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(table(rows))
    return 0 if rows and all(row["within"] for row in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
