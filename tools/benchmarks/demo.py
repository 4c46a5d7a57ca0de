"""The whole of `plugvault demo`, as a person waits for it, imports included."""

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
    told = json.loads(ended.stdout)
    name = f"the whole demo, {told['runtime']}, {told['link']} link"
    return [
        {"name": name, "value": seconds, "unit": "s", "budget": BUDGET},
        {"name": "  its nine steps", "value": told["seconds"], "unit": "s"},
    ]
