"""Requirements of another release: the right to install it, and the settings for its packages."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

# A namespace of its own: its mounts and processes end with it.
NAMESPACE = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child")
NETWORK = ("/etc/resolv.conf", "/etc/hosts", "/etc/apt/auth.conf")
NPM = (Path.home() / ".npmrc", Path("/etc/npmrc"), Path("/usr/etc/npmrc"))
_PASSED_ON = re.compile(r"PIP_\w+|(http|https|no|all)_proxy|TERM", re.IGNORECASE)
_NPM_FETCHES = re.compile(r"(registry|cafile|proxy|https-proxy|noproxy|//\S*|@\S*)\s*=")
_PATH = re.compile(r"(?:file://)?(/[^\s\"';:]+)")


def missing() -> list[str]:
    """The requirements that this machine lacks, each with the remedy."""
    system = Path("/etc/os-release").read_text(encoding="utf-8")
    requirements = {
        "root: the other systems are made and entered by chroot": os.geteuid() == 0,
        "Debian: another distribution's mirror has not its releases": "\nID=debian\n" in system,
        "a mirror of Debian among apt's sources": mirror(),
        "debootstrap: apt-get install debootstrap": shutil.which("debootstrap"),
        "git: apt-get install git": shutil.which("git"),
        f"the right to mount, as a container may not have it: {' '.join(NAMESPACE)} true": (
            _output(*NAMESPACE, "echo", "yes")
        ),
    }
    return [text for text, is_met in requirements.items() if not is_met]


def own_release() -> str:
    """The codename of this machine's release; "" if unknown."""
    match = re.search(
        r"^VERSION_CODENAME=(\w+)",
        Path("/etc/os-release").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return match[1] if match else ""


def mirror() -> str:
    """The archive that this system comes from, as apt reads its sources; "" for none."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    targets = _output("apt-get", "indextargets", "--format", form, "Created-By: Packages")
    names = {own_release(), "stable", "testing"}
    rows = [row.split() for row in targets.splitlines()]
    return next((row[0] for row in rows if row[1] in names and row[2] == "main"), "")


def environment() -> dict[str, str]:
    """The environment of the commands. CI=1: tests fail, not skip, where a part is missing."""
    passed = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    # PostgreSQL runs as another user, who must reach its programs.
    folders = {"PATH": path, "HOME": "/root", "XDG_CACHE_HOME": "/var/cache"}
    return {**passed, **folders, "LANG": "C.UTF-8", "CI": "1"}


def put_settings(root: Path) -> list[Path]:
    """Write this machine's settings of apt, pip, npm and the network into the system at `root`.
    Returns the folders that they name, which the system has to see too."""
    pip, apt, npm = _pip_settings(), _apt_settings(), _npm_settings()
    (root / "etc/pip.conf").write_text(pip)
    (root / "root").mkdir(exist_ok=True)
    (root / "root/.npmrc").write_text(npm)
    (root / "etc/apt/apt.conf.d/90machine").write_text(apt)
    variables = [value for name, value in os.environ.items() if name.startswith("PIP_")]
    named = {Path(path) for path in _PATH.findall("\n".join([pip, apt, npm, *variables]))}
    for file in (path for path in {*named, *map(Path, NETWORK)} if path.is_file()):
        target = root / file.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy(file, target)
    # An index names files in its parent folder.
    folders = [path for path in named if path.is_dir()]
    return sorted({path.parent if path.name == "simple" else path for path in folders})


def _pip_settings() -> str:
    """All of pip's configuration files as one; of two values for a name the later counts, as in
    pip."""
    sections: dict[str, dict[str, str]] = {}
    for line in _output(sys.executable, "-m", "pip", "config", "list").splitlines():
        place, _, value = line.partition("=")
        section, _, name = place.partition(".")
        if not place.startswith(":"):  # settings from variables
            value = ast.literal_eval(value).strip().replace("\n", "\n    ")
            sections.setdefault(section, {})[name] = value
    return "".join(
        f"[{section}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items())
        for section, names in sections.items()
    )


def _npm_settings() -> str:
    """npm's settings for downloads, of all its configuration files; of two values the later
    counts."""
    lines = [
        line for file in reversed(NPM) if file.is_file() for line in file.read_text().splitlines()
    ]
    return "".join(f"{line}\n" for line in lines if _NPM_FETCHES.match(line))


def _apt_settings() -> str:
    """apt's settings for downloads, without its sources, which differ between releases."""
    lines = _output("apt-config", "dump").splitlines()
    passed_on = re.compile(r"Acquire::(?!IndexTargets|Languages|cdrom)")
    return "".join(f"{line}\n" for line in lines if passed_on.match(line))


def _output(*command: str) -> str:
    """The output of a command; "" when it fails or does not exist."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return "" if ended.returncode else ended.stdout
