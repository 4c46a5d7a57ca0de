"""The files of a release, of the last commit: `make dist`.

    .venv/bin/python tools/release.py [OUT]

    plugvault-VERSION-py3-none-any.whl    for pip
    plugvault-VERSION.tar.gz              the sources
    plugvault-VERSION-case-vectors.zip    the test cases of a public test vehicle, for use without
                                          this project: case_vectors.json, schema.json, check.py
    SHA256SUMS                            of the three

The same commit gives the same bytes. OUT is made, by default dist/; files of an earlier version in
it are left alone. The vectors are in the release only when `check.py` opens them.
"""

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # of a ZIP archive: it needs one, and the files have none
VECTORS = "case_vectors.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, nargs="?", default=ROOT / "dist", help="default: dist/")
    out: Path = parser.parse_args().out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if changed := run(ROOT, "git", "status", "--porcelain", "--untracked-files=no"):
        print(f"left out, as no commit has them:\n{changed.decode()}", end="", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="plugvault-") as made:
        tree, new = Path(made, "tree"), Path(made, "new")
        tree.mkdir()
        run(ROOT, "git", "archive", "--output", f"{made}/tree.tar", "HEAD")
        run(tree, "tar", "--extract", "--file", f"{made}/tree.tar")
        build(tree, new)
        for file in sorted(new.iterdir()):
            shutil.copyfile(file, out / file.name)
            print(f"{file.stat().st_size:>10,} bytes  {out / file.name}")


def build(tree: Path, new: Path) -> None:
    """Write all files of the release of `tree` into `new`."""
    run(tree, sys.executable, "-m", "hatchling", "build", "--directory", str(new))
    version = tomllib.loads((tree / "pyproject.toml").read_text())["project"]["version"]
    write_vectors(tree, new / f"plugvault-{version}-case-vectors.zip")
    digests = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
        for file in sorted(new.iterdir())
    ]
    (new / "SHA256SUMS").write_text("".join(digests))


def write_vectors(tree: Path, archive: Path) -> None:
    """The vectors of the tree's own catalogue, with their schema and their check."""
    tool, vectors = tree / "tools/case_vectors", tree / VECTORS
    run(tree, sys.executable, str(tool), str(vectors))
    run(tree, sys.executable, str(tool / "check.py"), str(vectors))
    files = [vectors, tool / "schema.json", tool / "check.py", tree / "LICENSE"]
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in files:
            entry = zipfile.ZipInfo(f"{archive.stem}/{file.name}", FIRST_TIME)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            packed.writestr(entry, file.read_bytes())


def run(folder: Path, *command: str) -> bytes:
    """The standard output of a command, which imports the packages of `folder`. Exits if it
    fails."""
    packages = os.pathsep.join(str(folder / name) for name in ("host", "firmware"))
    environment = {**os.environ, "PYTHONPATH": packages}
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)
    if ended.returncode:
        print((ended.stdout + ended.stderr).decode(errors="replace"), file=sys.stderr)
        sys.exit(f"{' '.join(command[:3])} failed; no file of the release is written")
    return ended.stdout


if __name__ == "__main__":
    main()
