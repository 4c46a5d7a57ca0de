"""The link: how long a real response takes on a serial line, clean and noisy, and size it costs.

Times on the line are on a simulated clock, 115,200 bits a second each way, so they are the same on
every machine. Noise is one byte in a hundred changed, dropped or repeated.
"""

import statistics
import subprocess
import sys
from pathlib import Path

from plugvault import runtimes

BOTH = Path(__file__).parents[2] / "tests/both"
sys.path.append(str(BOTH))

from evcc.link.mux import SESSION, Mux  # noqa: E402
from noise import Line  # noqa: E402

RESPONSE = 4416 + 8  # bytes, with its V2GTP header
RUNS = 20

# Both ends in one process, through a line without limits: size the computing alone takes.
BOTH_ENDS = f"""
import time
from noise import Line
from evcc.link.mux import Mux
now = getattr(time, "ticks_us", None) or (lambda: time.perf_counter_ns() // 1000)
line = Line(Mux(1), Mux(2), rate=100000)
line.ends[0].send(1, b"x")
line.run()
data = bytes(range(256)) * 18
best = 10**9
for _ in range({RUNS}):
    line.ends[0].send(1, data[:{RESPONSE}])
    start = now()
    line.run()
    best = min(best, now() - start)
print(best)
"""


def on_the_line(per_thousand: int) -> float:
    """Milliseconds for a response, the median over several noises; the handshake included."""
    took = []
    for seed in range(RUNS):
        line = Line(Mux(1), Mux(2), seed, per_thousand)
        line.ends[0].send(SESSION, bytes(RESPONSE))
        took.append(line.run())
    return statistics.median(took)


def bench() -> list[dict[str, object]]:
    size = f"{RESPONSE:,} bytes at 115,200 bit/s"
    rows: list[dict[str, object]] = [
        {"name": f"{size}, clean", "value": on_the_line(0), "unit": "ms", "budget": 600},
        {
            "name": f"{size}, 1 byte in 100 spoiled",
            "value": on_the_line(10),
            "unit": "ms",
            "budget": 5000,
            "note": "the installation's timer",
        },
    ]
    for runtime in runtimes.find():
        done = subprocess.run(
            [*runtime.argv, "-c", BOTH_ENDS],
            env=runtime.env(BOTH),
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        name = f"  computing, both ends, {runtime.name}"
        rows.append({"name": name, "value": int(done.stdout) / 1000, "unit": "ms"})
    return rows
