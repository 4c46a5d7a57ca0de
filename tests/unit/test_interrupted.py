"""What a test starts can be asked to end, wherever the tests themselves were started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent.parent

STARTS = """
import conftest, subprocess, sys
child = "import signal; print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
subprocess.run([sys.executable, "-c", child], check=True)
"""


def test_a_process_hears_sigint_also_of_tests_that_run_in_the_background() -> None:
    """Where a shell has them ignore it."""
    shell = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-c", STARTS]
    done = subprocess.run(shell, cwd=TESTS, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
