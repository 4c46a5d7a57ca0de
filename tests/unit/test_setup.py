"""The set-up scripts, in a copy of their folder: their words, and what they leave alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from plugvault import file_lock

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PARTS = ("system", "venv", "wheel", "debian", "debian32", "board", "postgresql")
NO_NETWORK = """\
WARNING: Retrying after 'NewConnectionError("[Errno -3] Temporary failure in name resolution")': /
ERROR: Could not find a version that satisfies the requirement rich (from versions: none)
ERROR: No matching distribution found for rich"""


class Checkout:
    """A copy of tools/setup, and a PATH in whose first folder programs can be replaced."""

    def __init__(self, folder: Path) -> None:
        self.root, self.programs = folder / "checkout", folder / "programs"
        self.cache = folder / "cache"
        self.setup = self.root / "tools/setup"
        shutil.copytree(ROOT / "tools/setup", self.setup, symlinks=True)
        self.programs.mkdir()

    def program(self, name: str, script: str, folder: Path | None = None) -> Path:
        file = (folder or self.programs) / name
        file.unlink(missing_ok=True)  # a link of the copy
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"#!/bin/bash\n{script}\n")
        file.chmod(0o755)
        return file

    def stubs(self) -> None:
        """In place of each part: it writes its name and its purpose."""
        for part in PARTS:
            self.program(part, f'echo "{part} $*"; mkdir -p build/setup', self.setup)
        self.program("system", 'echo "system $*"; echo python >build/setup/python', self.setup)

    def run(self, *command: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        """changes: of the environment; "" removes a variable."""
        path = f"{self.programs}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "XDG_CACHE_HOME": str(self.cache), **changes}
        return subprocess.run(
            command,
            cwd=self.root,
            env={name: value for name, value in environment.items() if value},
            capture_output=True,
            text=True,
            check=False,
        )

    def shell(self, script: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """Commands after the set-up's own functions."""
        return self.run("bash", "-c", f". tools/setup/lib.sh; {script}", **changes)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_without_home_the_cache_is_in_the_home_of_the_systems_list(
    checkout: Checkout, tmp_path: Path
):
    checkout.program("getent", f"echo user:x:1000:1000:User:{tmp_path}/home:/bin/sh")
    ended = checkout.shell('echo "$CACHE"', HOME="", XDG_CACHE_HOME="")
    assert (ended.stdout, ended.stderr) == (f"{tmp_path}/home/.cache/plugvault\n", "")


@pytest.mark.parametrize("home", ["/proc/none", ""])
def test_a_home_that_cannot_be_written_is_named_with_the_remedy(checkout: Checkout, home: str):
    checkout.program("getent", "echo user:x:1000:1000:User:/proc/none:/bin/sh")
    ended = checkout.run(checkout.setup / "all", HOME=home, XDG_CACHE_HOME="")
    assert ended.returncode == 1
    assert "/proc/none/.cache/plugvault cannot be written: set XDG_CACHE_HOME" in ended.stderr
    assert "line " not in ended.stderr


def test_a_read_only_checkout_that_is_set_up_is_used_as_it_is(checkout: Checkout):
    (checkout.root / "build").touch()  # no folder can be made there
    ended = checkout.run(checkout.setup / "all", "demo")
    assert (ended.returncode, "not set up" in ended.stderr) == (1, True)
    checkout.program("plugvault", "", checkout.root / ".venv/bin")
    ended = checkout.run(checkout.setup / "all", "demo")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "it is used as it was set up" in ended.stdout


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        ("user sudo", "    sudo apt-get install softhsm2 libnss3"),
        ("user", "    apt-get install softhsm2 libnss3"),
    ],
)
def test_a_user_gets_one_line_for_all_packages(checkout: Checkout, groups: str, line: str):
    checkout.program("id", f'[ "$1" = -u ] && echo 1000 || echo {groups}')
    checkout.program("sudo", "exit 1")  # it asks for a password
    checkout.program("apt-get", "exit 3")
    ended = checkout.shell("apt_install softhsm2 libnss3")
    assert ended.returncode == 1
    assert [text for text in ended.stdout.splitlines() if "apt-get" in text] == [f"set-up: {line}"]
    assert ("administrator" in ended.stdout) == ("sudo" not in groups)


def test_a_compiler_for_the_emulated_board_is_named_as_optional(checkout: Checkout):
    """In one line with the packages that everything needs; the demo does not ask for it."""
    checkout.program("grep", '[[ "$*" == *ID=debian* ]] || exec /usr/bin/grep "$@"')
    checkout.program("id", '[ "$1" = -u ] && echo 1000 || echo user sudo')
    checkout.program("sudo", "exit 1")
    checkout.program("apt-get", "exit 3")
    system = checkout.setup / "system"
    system.write_text(re.sub(r"command -v (gcc|dpkg-source)", "false", system.read_text()))
    system.write_text(re.sub(r"^nss >/dev/null", "false", system.read_text(), flags=re.MULTILINE))
    ended = checkout.run(system, "development")
    assert "for the emulated board alone, optional: gcc libc6-dev dpkg-dev" in ended.stdout
    line = "sudo apt-get install libnss3 gcc libc6-dev dpkg-dev\n"
    assert (ended.returncode, ended.stdout.count("sudo apt-get"), line in ended.stdout) == (
        0,
        1,
        True,
    )
    assert "gcc" not in checkout.run(system, "demo").stdout


def test_packages_are_named_before_they_are_installed(checkout: Checkout):
    checkout.program("id", "echo 0")
    checkout.program("apt-get", 'echo "apt-get $*" >>calls; cat said >>calls')
    ended = checkout.run(
        "bash", "-c", ". tools/setup/lib.sh; apt_install softhsm2 libnss3 >said; cat said"
    )
    assert ended.stdout == "set-up: installing softhsm2 libnss3 (apt-get)\n"
    call, said = (checkout.root / "calls").read_text().splitlines()
    assert call.endswith("install --no-install-recommends softhsm2 libnss3")
    assert "installing softhsm2 libnss3" in said


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (NO_NETWORK, "Temporary failure in name resolution. Is there a network"),
        ("Err: Could not resolve 'deb.example'\nE: Unable to locate", "Could not resolve"),
        ("npm error code ENOTFOUND", "ENOTFOUND. Is there a network"),
        ("OSError: [Errno 28] No space left on device\nERROR: x", "No space left on device"),
    ],
)
def test_a_cause_far_from_the_end_of_the_log_is_shown(checkout: Checkout, output: str, cause: str):
    output += 9 * "\nmore"
    checkout.program("fetch", f"cat <<'END'\n{output}\nEND\nexit 1")
    ended = checkout.shell("quietly fetch")
    assert ended.returncode == 1
    assert f"set-up: the cause: {cause}" in ended.stderr
    assert "build/setup/bash.log" in ended.stderr


def test_a_failed_part_is_tried_again_after_an_hour_and_by_make(checkout: Checkout):
    checkout.stubs()
    checkout.program("debian", 'echo "debian tried"; exit 1', checkout.setup)
    tried = "debian tried\n"
    ended = checkout.run(checkout.setup / "all", "demo")
    assert (tried in ended.stdout, "missing: debian" in ended.stdout) == (True, True)
    ended = checkout.run(checkout.setup / "all", "demo")
    assert (tried in ended.stdout, "missing: debian" in ended.stdout) == (False, True)
    assert tried in checkout.run(checkout.setup / "all", "--again", "demo").stdout
    marker = checkout.root / "build/setup/debian.failed"
    written = marker.stat().st_mtime
    for age in (-3700, 86_400):  # an hour ago, and by a clock that was ahead
        os.utime(marker, (written + age, written + age))
        assert tried in checkout.run(checkout.setup / "all", "demo").stdout
    checkout.program("debian", "", checkout.setup)
    checkout.run(checkout.setup / "all", "--again", "demo")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("purpose", "parts"),
    [
        ("demo", {"wheel", "debian"}),
        ("development", {"wheel", "debian", "debian32", "board"}),
        ("test", {"wheel", "debian", "debian32", "board", "postgresql"}),
    ],
)
def test_each_purpose_has_its_parts_and_no_others(
    checkout: Checkout, purpose: str, parts: set[str]
):
    checkout.stubs()
    ended = checkout.run(checkout.setup / "all", purpose)
    expected = {f"system {purpose}", f"venv {purpose}", *(f"{part} " for part in parts)}
    assert set(ended.stdout.splitlines()) == expected


@pytest.mark.parametrize(("target", "purpose"), [("demo", "demo"), ("test", "test")])
def test_make_asks_for_the_parts_of_its_purpose_alone(
    checkout: Checkout, target: str, purpose: str
):
    shutil.copy(ROOT / "Makefile", checkout.root)
    ended = checkout.run("make", "--dry-run", target)
    assert f"tools/setup/all {purpose}\n" in ended.stdout
    assert ended.stdout.count("tools/setup/all") == 1


def test_apt_keeps_its_own_user_and_can_reach_its_folders(checkout: Checkout):
    checkout.program("apt-get", 'stat -c %a "${APT_CONFIG%/*}"')
    script = (
        ". tools/setup/private_apt.sh; state=$(apt_folder); : >$state/status;"
        " private_apt $state $state/status amd64; cat $state/apt.conf $LOG; rm -rf $state"
    )
    ended = checkout.shell(script)
    assert ended.returncode == 0, ended.stderr
    assert "Sandbox" not in ended.stdout
    assert ended.stdout.endswith("755\n")


def locked(purpose: str) -> dict[str, list[str]]:
    """The lines of each package of a lock, by its name; the first has the version."""
    text = (ROOT / f"tools/setup/locks/{purpose}.txt").read_text()
    lines = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    entries = re.split(r"\n(?=[a-z0-9])", lines.rstrip())
    return {canonical(re.split("[=[]", entry)[0]): entry.split("\n") for entry in entries}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def names(requirements: list[str]) -> set[str]:
    return {canonical(re.split(r"[^\w.-]", requirement)[0]) for requirement in requirements}


POSTGRESQL = {
    "dpkg": "echo amd64",
    "apt-cache": 'echo "  Depends: postgresql-17"',
    "apt-get": """echo "$*" >>"$CALLS"
case "$*" in
    -s*) printf 'Inst %s (17)\\n' postgresql-17 postgresql-common libpq5 libllvm19 libx-perl ;;
    *download*) shift 2; for name in "$@"; do touch "${name}_17.deb"; done ;;
esac""",
    "dpkg-deb": """[ "$1" = -x ] || { echo 17.1-1; exit; }
programs=$3/usr/lib/postgresql/17/bin
mkdir -p "$programs" "$3/usr/lib/here"
touch "$3/usr/lib/here/libpq.so.5"
printf '#!/bin/sh\\necho "$LD_LIBRARY_PATH" "$@"\\n' >"$programs/postgres"
chmod 700 "$programs/postgres" """,
}


def test_postgresql_is_unpacked_into_the_cache_and_not_installed(
    checkout: Checkout, tmp_path: Path
):
    script, calls = checkout.setup / "postgresql", tmp_path / "calls"
    text = script.read_text().replace("'/usr/lib/postgresql", "'/none")  # the system's own
    script.write_text(text.replace("command -v postgres", "command -v none"))
    for name, program in POSTGRESQL.items():
        checkout.program(name, program)
    ended = checkout.run(script, CALLS=str(calls))
    assert ended.returncode == 0, ended.stderr
    asked = calls.read_text().splitlines()
    assert asked == ["-q update", "-s install postgresql-17", "-q download postgresql-17 libpq5"]
    home = checkout.cache / "plugvault/postgresql/17.1-1"
    assert list(home.parent.iterdir()) == [home]
    server = checkout.run(home / "bin/postgres", "--version")
    assert server.stdout == f"{home}/root/usr/lib/here --version\n"
    calls.unlink()
    assert checkout.run(script, CALLS=str(calls)).returncode == 0
    assert not calls.exists()


def test_a_second_set_up_waits_for_the_interpreter_of_the_first(
    checkout: Checkout, tmp_path: Path
):
    calls, interpreters = tmp_path / "calls", checkout.cache / "plugvault/micropython"
    base = checkout.program("base", "echo cp311")
    script = f'[ "$1" = -c ] && echo {base} && exit; echo "$*" >>{calls}; exit 1'
    checkout.program("python", script, checkout.root / ".venv/bin")
    interpreters.mkdir(parents=True)
    version = re.findall("unix==([0-9.]+)", (checkout.setup / "micropython-wheel.txt").read_text())
    home = interpreters / f"wheel-{version[0]}-cp311"
    environment = {**os.environ, "XDG_CACHE_HOME": str(checkout.cache)}
    with file_lock.locked(interpreters / ".wheel.lock"):
        second = subprocess.Popen(
            [checkout.setup / "wheel"],
            cwd=checkout.root,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        while second.poll() is None and not waits(second.pid):
            time.sleep(0.01)
        checkout.program("micropython", "echo 42", home)
    said, _ = second.communicate()
    assert second.returncode == 0
    assert "another set-up is at work here: waiting for its end" in said
    assert not calls.exists()


def waits(pid: int) -> bool:
    """Whether a process waits in `flock`."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return any(
        Path(f"/proc/{child}/comm").read_text(encoding="utf-8") == "flock\n" for child in children
    )


def test_every_requirement_is_in_its_lock():
    development = PROJECT["optional-dependencies"]["dev"]
    assert names(PROJECT["dependencies"]) <= set(locked("demo"))
    assert names(PROJECT["dependencies"] + development) <= set(locked("development"))


def test_the_demo_has_the_versions_of_the_tests_and_none_of_their_tools():
    demo, development = locked("demo"), locked("development")
    assert {name: lines for name, lines in demo.items() if development.get(name) != lines} == {}
    tools = names(PROJECT["optional-dependencies"]["dev"])
    assert tools & set(demo) == set()


def test_pip_takes_no_package_without_its_hash():
    """But uv, with which a maintainer makes the locks."""
    unchecked: dict[str, list[str]] = {}
    for script in sorted((ROOT / "tools/setup").iterdir()):
        if script.is_dir() or script.suffix == ".md" or script.name == "lock":
            continue
        text = script.read_text(encoding="utf-8").replace("\\\n", " ")
        commands = [line for line in text.splitlines() if re.search(r"pip install|pip\[@\]", line)]
        if commands:
            unchecked[script.name] = [
                line for line in commands if "-r " in line and "--require-hashes" not in line
            ]
            assert any("-r " in line for line in commands), script
    assert unchecked == {name: [] for name in ("board", "peers", "stubs", "venv", "wheel")}


@pytest.mark.parametrize("purpose", ["build", "demo", "development", "peers", "stubs"])
def test_every_package_of_a_lock_has_a_version_and_hashes_and_no_address(purpose: str):
    for name, (first, *rest) in locked(purpose).items():
        assert re.match(rf"(?i){first.split('==')[0]}==[\w.]+", first), name
        assert rest, name
        assert all(re.match(r" +--hash=sha256:[0-9a-f]{64}", line) for line in rest if line), name
    text = (ROOT / f"tools/setup/locks/{purpose}.txt").read_text()
    assert re.search(r"://|--(extra-)?index|--find-links|@ ", text) is None


def test_what_runs_here_is_what_is_locked():
    versions = {}
    for name, (first, *_) in locked("development").items():
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            assert ";" in first, f"{name} is not installed: `make`"
            continue
        assert first.split("==")[1].split()[0].rstrip(";") == versions[name], f"{name}: `make`"
