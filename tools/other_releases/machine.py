"""What another release needs of this machine: the rights to make it, and the way to packages."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# A namespace of its own: what is mounted and started in it ends with it.
APART = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/apt/auth.conf")
_PASSED_ON = re.compile(r"PIP_\w+|(http|https|no|all)_proxy|TERM", re.IGNORECASE)
_PATH = re.compile(r"(?:file://)?(/[^\s\"';:]+)")


def lacking() -> list[str]:
    """What this machine has not, each with a word on what to do about it."""
    system = Path("/etc/os-release").read_text()
    here = {
        "root: the other systems are made and entered by chroot": os.geteuid() == 0,
        "Debian: another distribution's mirror has not its releases": "\nID=debian\n" in system,
        "a mirror of Debian among apt's sources": mirror(),
        "debootstrap: apt-get install debootstrap": shutil.which("debootstrap"),
        "git: apt-get install git": shutil.which("git"),
        f"the right to mount, as a container may not have it: {' '.join(APART)} true": (
            _told(*APART, "echo", "yes")
        ),
    }
    return [what for what, is_here in here.items() if not is_here]


def own_release() -> str:
    found = re.search(
        r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE
    )
    return found[1] if found else ""


def mirror() -> str:
    """The archive that this system comes from, as apt reads its sources; "" for none."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    told = _told("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    names = {own_release(), "stable", "testing"}
    rows = [row.split() for row in told.splitlines()]
    return next((row[0] for row in rows if row[1] in names and row[2] == "main"), "")


def environment() -> dict[str, str]:
    """Of the commands in there. CI: what is missing fails, where it would be skipped."""
    passed = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {**passed, "PATH": path, "HOME": "/root", "LANG": "C.UTF-8", "CI": "1"}


def put_settings(root: Path) -> list[Path]:
    """Write this machine's settings of apt, pip and the network into the system at `root`.
    Returns the folders that they name, which have to be seen there too."""
    pip, apt = _pip_settings(), _apt_settings()
    (root / "etc/pip.conf").write_text(pip)
    (root / "etc/apt/apt.conf.d/90machine").write_text(apt)
    variables = [value for name, value in os.environ.items() if name.startswith("PIP_")]
    named = {Path(path) for path in _PATH.findall("\n".join([pip, apt, *variables]))}
    for file in (one for one in {*named, *map(Path, NETWORK)} if one.is_file()):
        target = root / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy(file, target)
    # An index names files that lie beside it.
    return sorted({one.parent if one.name == "simple" else one for one in named if one.is_dir()})


def _pip_settings() -> str:
    """As one file what every file of pip's says here; of two that say the same the later counts,
    as pip has it."""
    sections: dict[str, dict[str, str]] = {}
    for line in _told(sys.executable, "-m", "pip", "config", "list").splitlines():
        place, _, value = line.partition("=")
        section, _, name = place.partition(".")
        if not place.startswith(":"):  # those are variables
            value = ast.literal_eval(value).strip().replace("\n", "\n    ")
            sections.setdefault(section, {})[name] = value
    return "".join(
        f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items())
        for section, names in sections.items()
    )


def _apt_settings() -> str:
    """How apt fetches; not what, which differs between releases."""
    lines = _told("apt-config", "dump").splitlines()
    wanted = re.compile(r"Acquire::(?!IndexTargets|Languages|cdrom)")
    return "".join(f"{line}\n" for line in lines if wanted.match(line))


def _told(*command: str) -> str:
    """What a command says; "" when it fails or is not there."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return "" if ended.returncode else ended.stdout
