"""The picture of a campaign's report in the README: host/docs/report.png.

    .venv/bin/python tools/report_picture.py

It makes a test vehicle and some cases, tries them with the example module in shell, which keeps
no state, and takes a screenshot of the report with the browser that `tools/setup/examples`
installs.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "host/docs/report.png"
EXAMPLE = ROOT / "host/examples/validate"
MODULE = "exec:./install.sh vehicle.key {elements} {trust} {store} {at} {session} {emaid}"
PATTERNS = ("EN-001", "RC-010", "SG-040", "KT-04[01]", "KT-080")
SIZE = "760,1500"
SMALLER = "--force-device-scale-factor=0.85"
BROWSERS = ("chromium-headless-shell", "chromium")
VEHICLE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 400 "
    "-keyout vehicle.key -out vehicle.pem -subj /CN=PVTP0000000000001/DC=OEM"
)


def main() -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit("no Chromium here: run tools/setup/examples")
    with tempfile.TemporaryDirectory(prefix="plugvault-") as name:
        folder = Path(name)
        for file in ("install.sh", "members"):
            shutil.copy(EXAMPLE / file, folder)
        only = [word for pattern in PATTERNS for word in ("--only", pattern)]
        run(folder, *VEHICLE.split())
        run(
            folder,
            "plugvault",
            "cases",
            "make",
            "--vehicle",
            "vehicle.pem",
            "--out",
            "cases",
            *only,
        )
        reports = ("--test-key", "vehicle.key", "--html", "report.html", "--timeout", "30")
        run(folder, "plugvault", "campaign", "cases", "--module", MODULE, *reports)
        picture = (f"--screenshot={folder / 'report.png'}", f"--window-size={SIZE}")
        run(folder, browser, "--headless", "--no-sandbox", "--hide-scrollbars", *picture, SMALLER,
            (folder / "report.html").as_uri())  # fmt: skip
        shutil.copy(folder / "report.png", PICTURE)
    print(f"{PICTURE.relative_to(ROOT)}: {PICTURE.stat().st_size:,} bytes")


def run(folder: Path, program: str, *arguments: str) -> None:
    own = Path(sys.executable).parent / program
    command = [str(own if own.exists() else program), *arguments]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode not in (0, 1):  # 1: the campaign has deviations
        sys.exit(f"{program} {arguments[0]}: {ended.stderr.strip()}")


if __name__ == "__main__":
    main()
