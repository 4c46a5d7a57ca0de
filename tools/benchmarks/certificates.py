"""Certificates in pure Python: verify P-256, parse one, validate a path, on every runtime.

The first figure matters for a board: an installation without a token's help takes seven
verifications. The vectors are those of the tests.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from plugvault import runtimes

HERE = Path(__file__).parent
VECTORS = HERE.parent.parent / "tests" / "vectors"
TASKS = (
    ("verifying P-256", 20, "ms", 1e3),
    ("reading a certificate", 200, "µs", 1),
    ("validating a path of four, its signatures left out", 200, "µs", 1),
)


def bench() -> list[dict[str, Any]]:
    rows = []
    for runtime in runtimes.find():
        ended = subprocess.run(
            [
                *runtime.argv,
                HERE / "certificates_board.py",
                VECTORS,
                *(str(n) for _, n, _, _ in TASKS),
            ],
            env=runtime.env(),
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        for (task, _, unit, scale), figure in zip(TASKS, ended.stdout.split(), strict=True):
            rows.append(
                {"name": f"{task}, {runtime.name}", "value": float(figure) / scale, "unit": unit}
            )
    return rows


if __name__ == "__main__":
    sys.exit(print(*bench(), sep="\n"))
