"""The duration of `plugvault demo`, imports included."""

import json
import subprocess
import sys
import time

BUDGET = 30  # s


def bench() -> list[dict[str, object]]:
    started = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-m", "plugvault.cli.app", "demo", "--json"],
        stdout=subprocess.PIPE,
        check=True,
    )
    seconds = time.perf_counter() - started
    report = json.loads(ended.stdout)
    name = f"the demo, {report['runtime']}, {report['link']} link"
    return [
        {"name": name, "value": seconds, "unit": "s", "budget": BUDGET},
        {"name": "  its nine steps", "value": report["seconds"], "unit": "s"},
    ]
