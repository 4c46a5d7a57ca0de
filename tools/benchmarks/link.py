"""The link: the duration of a real response on a serial line, clean and noisy, the throughput of
such a line by its delay and its noise, and the computing time.

Times on the line are on a simulated clock, 115,200 bits a second each way, so they are the same on
every machine. A spoiled byte is changed, dropped or repeated.
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
MESSAGE = 4000
RUNS = 20

# Both ends in one process, through a line without limits: the computing time alone.
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


def bytes_a_second(delay_ms: int, per_thousand: int, seconds: int) -> float:
    """The throughput of messages of 4,000 bytes, one after the other, in bytes a second.

    delay_ms: there and back; the link has measured it before. per_thousand: spoiled bytes.
    seconds: of the line's time.
    """
    line = Line(Mux(1), Mux(2), 5, per_thousand, delay_ms=delay_ms // 2)
    line.ends[0].send(SESSION, b"first")
    line.run()
    line.got[1] = []
    for _ in range(seconds * 1000):
        while line.ends[0].room(SESSION) >= MESSAGE:
            line.ends[0].send(SESSION, bytes(MESSAGE))
        line.tick()
    return sum(len(message) for _, message in line.got[1]) / seconds


def throughput() -> list[dict[str, object]]:
    """The rows of the throughput of a line of 115,200 bit/s, by its delay and its noise."""
    return [
        {
            "name": f"long messages, {name}",
            "value": bytes_a_second(delay_ms, per_thousand, seconds),
            "unit": "B/s",
            "at_least": at_least,
        }
        for name, delay_ms, per_thousand, seconds, at_least in (
            ("clean", 0, 0, 20, 10_000),
            ("0.3 s there and back", 300, 0, 20, 9_000),
            ("1 s there and back", 1000, 0, 30, 5_000),
            ("3 s there and back", 3000, 0, 60, 1_000),
            ("1 byte in 100 spoiled", 0, 10, 20, 3_000),
            ("3 bytes in 100 spoiled", 0, 30, 40, 500),
            ("5 bytes in 100 spoiled", 0, 50, 120, 50),
        )
    ]


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
    rows += throughput()
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
