"""Run `make demo` and `make test` in the other releases of Debian, each in a system of its own.

    .venv/bin/python tools/other_releases [RELEASE]... [--run COMMAND]... [--fresh]

debootstrap installs a release once, into the cache; every run brings it up to date. It gets a
clone of the committed tree, and the commands run there as root. Packages come from where this
machine's own settings of apt and pip say. The status is 1 when a command failed, and 2 when this
machine lacks a requirement.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import machine

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "plugvault/releases"
LOGS = ROOT / "build/releases"
RELEASES = ("bookworm", "trixie", "forky")
PACKAGES = ("ca-certificates", "git", "make", "python3")
CONTAINER = (
    "python3 tools/other_releases/recipe.py host/examples/own-tests/Containerfile PLUGVAULT=$PWD"
)
COMMANDS = ("make", "make demo", "make test", CONTAINER)
WORK = "/work"  # inside; it holds the clone, and `shared` if this checkout has one beside it
_SCRIPTS = Path("/usr/share/debootstrap/scripts")
_APT = "apt-get -q -y -o DPkg::Options::=--force-confold"
# An interrupted run may have left packages unconfigured.
_UP_TO_DATE = f"dpkg --configure -a && {_APT} update && {_APT} dist-upgrade && {_APT} clean"

# Its arguments: the root, pairs of folders, "--", a command. Needs `machine.NAMESPACE` before it.
_ENTER = """
set -e
root=$1; shift
mount --bind "$root" "$root"  # `ip netns` changes the mount at /
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
while [ "$1" != -- ]; do
    mkdir -p "$root$2"
    mount --bind -o ro "$1" "$root$2"
    shift 2
done
shift
exec chroot "$root" "$@"
"""


def say(text: str) -> None:
    print(f"releases: {text}", flush=True)


class Release:
    """An installed system, and the log of the commands in it."""

    def __init__(self, name: str, is_fresh: bool) -> None:
        self.name = name
        self.root = CACHE / name
        self.log = LOGS / f"{name}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.log.write_text("")
        if is_fresh:
            shutil.rmtree(self.root, ignore_errors=True)

    def install(self) -> bool:
        """Install into a temporary folder and rename it: a partial installation is never used."""
        if self.root.is_dir():
            return True
        new = CACHE / f".new-{self.name}"
        shutil.rmtree(new, ignore_errors=True)
        CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)  # settings may contain passwords
        new.mkdir()
        script = _SCRIPTS / self.name
        if not script.exists():
            script = _SCRIPTS / "sid"  # for a release newer than this machine's debootstrap
        options = ["--variant=minbase", f"--include={','.join(PACKAGES)}"]
        is_made = self._logged(
            "debootstrap", ["debootstrap", *options, self.name, new, machine.mirror(), script]
        )
        if is_made:
            new.rename(self.root)
        return is_made

    def clone(self) -> bool:
        """Clone the committed tree, in place of an earlier clone."""
        place = self.root / WORK[1:] / "plugvault"
        shutil.rmtree(place, ignore_errors=True)
        place.parent.mkdir(exist_ok=True)
        return self._logged("clone", ["git", "clone", "-q", "--no-hardlinks", ROOT, place])

    def run(self, command: str, folder: str = f"{WORK}/plugvault", name: str = "") -> bool:
        """Run a shell command in the release. name: for the log. Returns whether it succeeded."""
        folders = {str(path): str(path) for path in machine.put_settings(self.root)}
        if (ROOT.parent / "shared").is_dir():
            folders[str(ROOT.parent / "shared")] = f"{WORK}/shared"
        variables = [f"{name}={value}" for name, value in machine.environment().items()]
        inside = ["env", "-i", *variables, "sh", "-c", f"cd {folder} && {command}"]
        pairs = [path for pair in folders.items() for path in pair]
        arguments = ["sh", "-c", _ENTER, "sh", str(self.root), *pairs, "--", *inside]
        return self._logged(name or command, [*machine.NAMESPACE, *arguments])

    def _logged(self, name: str, command: list[str | Path]) -> bool:
        say(f"{self.name}: {name} …")
        start = time.monotonic()
        with self.log.open("a") as log:
            ended = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        last = self.log.read_text(errors="replace").rstrip().splitlines()[-1:]
        word = "FAILED" if ended.returncode else "done"
        say(f"{self.name}: {name}: {word}, {time.monotonic() - start:.0f} s  {' '.join(last)}")
        return not ended.returncode


def failures(name: str, commands: list[str], is_fresh: bool) -> list[str]:
    """The steps and commands that failed in a release."""
    release = Release(name, is_fresh)
    for description, step in (
        ("installing", release.install),
        ("packages", lambda: release.run(_UP_TO_DATE, "/", "bring up to date")),
        ("clone", release.clone),
    ):
        if not step():
            return [f"{name}: {description}, see {release.log}"]
    return [
        f"{name}: {command}, see {release.log}" for command in commands if not release.run(command)
    ]


def main() -> int:
    releases = [name for name in RELEASES if name != machine.own_release()]
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="other_releases", description=__doc__, formatter_class=form
    )
    parser.add_argument(
        "release",
        nargs="*",
        default=releases,
        help=f"a release's name; default: {' '.join(releases)}",
    )
    parser.add_argument(
        "--run", action="append", metavar="COMMAND", help=f"default: {', '.join(COMMANDS)}"
    )
    parser.add_argument("--fresh", action="store_true", help="install the release anew")
    arguments = parser.parse_args()
    missing = machine.missing()
    for requirement in missing:
        say(f"this machine lacks {requirement}")
    if missing:
        say(f"NOT tried: {' '.join(arguments.release)}")
        return 2
    if subprocess.run(["git", "-C", ROOT, "diff", "--quiet", "HEAD"], check=False).returncode:
        say("the clones do not contain uncommitted changes")
    failed: list[str] = []
    for name in arguments.release:
        failed += failures(name, arguments.run or list(COMMANDS), arguments.fresh)
    for failure in failed:
        say(f"failed: {failure}")
    say("some steps failed" if failed else f"passed: {' '.join(arguments.release)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
