"""`plugvault doctor`: the requirements of this project on this machine, and remedies.

It examines and tries, and changes nothing. Only requirements of the demo and the sandbox decide
the verdict; the others are reported. The remedies are those of the installation that runs: `make`
in a checkout, pip and apt for an installed package.
"""

import importlib.metadata
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import typer

OLDEST_PYTHON = (3, 11)
SERVERS = Path("/usr/lib/postgresql")  # a folder for each version
DISK_NEEDED = 5  # MB: a demo, with its tokens and databases, runs in 2 and not in 1
_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Finding:
    """One requirement. `needed`: the demo and the sandbox cannot run without it.

    The field names are those of `--json`.
    """

    what: str
    good: bool
    found: str
    mend: str = ""
    needed: bool = True


def _is_checkout() -> bool:
    return (_ROOT / "tools/setup/all").exists()


def _pip(*names: str) -> str:
    """The remedy for missing packages of Python."""
    return "`make`" if _is_checkout() else f"{sys.executable} -m pip install {' '.join(names)}"


def _apt(package: str) -> str:
    """The remedy for a missing package of the system."""
    command = f"sudo apt-get install {package}"
    return f"`make` as root, or {command}" if _is_checkout() else command


def python() -> Iterator[Finding]:
    """Python's version."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        "Python",
        sys.version_info >= OLDEST_PYTHON,
        f"{version}, {sys.executable}",
        "install Python 3.11 or later, then "
        + ("`make`" if _is_checkout() else "plugvault with that Python's pip"),
    )


def packages() -> Iterator[Finding]:
    """The package's dependencies."""
    try:
        needs = importlib.metadata.requires("plugvault") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", False, "plugvault itself is not installed", _pip("plugvault"))
        return
    names = [re.split(r"[^\w.-]", need)[0] for need in needs if "extra ==" not in need]
    versions = {name: _version(name) for name in names}
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        text = f"not installed: {', '.join(missing)}"
        yield Finding("packages", False, text, _pip(*missing))
    else:
        installed = ", ".join(f"{name} {version}" for name, version in versions.items())
        yield Finding("packages", True, installed)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def token() -> Iterator[Finding]:
    """The token library, tried with a temporary token."""
    remedy = _apt("softhsm2")
    if os.environ.get("PLUGVAULT_PKCS11_MODULE"):
        remedy = "PLUGVAULT_PKCS11_MODULE names that library: unset it, or name another"
    try:
        from plugvault.temporary import temporary_folder
        from plugvault.tokens import TokenStore, VaultError, find_module
    except ImportError as e:
        yield Finding("token library", False, f"not tried: {e}", _pip("python-pkcs11"))
        return
    try:
        module = find_module()
    except VaultError as e:
        yield Finding("token library", False, str(e), remedy)
        return
    with temporary_folder() as folder:
        try:
            store = TokenStore(folder)
            store.init_token("doctor", secrets.token_hex(8), secrets.token_hex(8))
            os.environ.update(store.env())
            library = _library(module)
        except Exception as e:  # noqa: BLE001 - any error is the finding
            yield Finding("token library", False, f"{module}: {e or type(e).__name__}", remedy)
            return
    yield Finding("token library", True, f"{library}, {module}; made and opened a token")


def _library(module: Path) -> str:
    """Manufacturer and version of the library at `module`."""
    import pkcs11

    library = pkcs11.lib(str(module))
    if not any(slot.get_token().label == "doctor" for slot in library.get_slots(True)):
        raise LookupError("it does not list the new token")
    version = ".".join(map(str, library.library_version))
    return f"{library.manufacturer_id.strip()} {version}"


def strong_token() -> Iterator[Finding]:
    """The library whose tokens give custody L3."""
    try:
        from plugvault.tokens import VaultError, nss
    except ImportError:  # `token` reports it
        return
    try:
        yield Finding("NSS softoken", True, str(nss.find_module()), needed=False)
    except VaultError as e:
        yield Finding("NSS softoken", False, e.detail, _apt("libnss3"), needed=False)


def interpreters() -> Iterator[Finding]:
    """The MicroPythons that can run the module."""
    from plugvault import runtimes

    remedy = "`make`; when it cannot, it says why"
    if not _is_checkout():
        remedy = "sudo apt-get install micropython, in Debian 13 or later; or `make` in a checkout"
    for name in runtimes.NAMES[1:]:
        runtime = runtimes.get(name)
        if runtime is None:
            yield Finding(f"MicroPython {name}", False, "not here", remedy, needed=False)
            continue
        features = ["opens a token itself (ffi)" if runtime.has_ffi else "uses the vault service"]
        features += ["has AES"] if runtime.has_cryptolib else []
        text = f"{runtime.version}, {runtime.bits} bits; {', '.join(features)}; {runtime.argv[0]}"
        yield Finding(f"MicroPython {name}", True, text, needed=False)


def of_postgresql(program: str) -> str | None:
    """A program of PostgreSQL's server: of the newest version that Debian has installed, off the
    PATH; of the one that `make test` has unpacked into the cache; or of the PATH."""
    from plugvault import runtimes

    for servers in (SERVERS, runtimes.cache() / "postgresql"):
        versions = [file.parts[-3] for file in servers.glob(f"[0-9]*/bin/{program}")]
        if versions:
            newest = max(versions, key=lambda version: [*map(int, re.findall(r"\d+", version))])
            return str(servers / newest / "bin" / program)
    return shutil.which(program)


def postgresql() -> Iterator[Finding]:
    """The server's program, for the pools on PostgreSQL."""
    server = of_postgresql("postgres")
    if server is None:
        text = "no server here: the pools keep their records in SQLite"
        remedy = "`make test` unpacks one for its tests" if _is_checkout() else _apt("postgresql")
        yield Finding("PostgreSQL", False, text, remedy, needed=False)
        return
    process = subprocess.run([server, "--version"], capture_output=True, text=True, check=False)
    version = (process.stdout or process.stderr).strip()
    yield Finding("PostgreSQL", process.returncode == 0, f"{version}, {server}", needed=False)


def serial_ports() -> Iterator[Finding]:
    """The serial ports of this machine, and the right to open them."""
    try:
        from serial.tools import list_ports
    except ImportError as e:
        yield Finding("serial ports", False, str(e), _pip("pyserial"), needed=False)
        return
    ports = [f"{port.device} ({port.description})" for port in list_ports.comports()]
    denied = [port.device for port in list_ports.comports() if not os.access(port.device, os.W_OK)]
    text = ", ".join(ports) or "none: a board is not plugged in; the demo makes its own line"
    if denied:
        text += f"; not allowed to open {', '.join(denied)}"
    remedy = "ask an administrator for: usermod -aG dialout " + (os.environ.get("USER") or "YOU")
    yield Finding("serial ports", not denied, text, remedy, needed=False)


def networks() -> Iterator[Finding]:
    """The interfaces that `station` and `vehicle` can use."""
    from plugvault import interfaces

    usable = [local.scoped for local in interfaces.all_usable()]
    text = ", ".join(usable) or "none: no interface has a cable and a link-local address"
    remedy = "plugvault doctor --interface IF says what to do for one"
    yield Finding("network interfaces", bool(usable), text, remedy, needed=False)


def interface(name: str) -> Finding:
    """Whether `station` can work on this interface."""
    from plugvault import interfaces
    from plugvault.station import discovery

    what = f"interface {name}"
    try:
        local = interfaces.wait(name)
    except interfaces.InterfaceError as error:
        return Finding(what, False, error.found, error.remedy)
    try:
        discovery.listen(local).close()
    except OSError as error:
        text = f"{local.scoped}, but port 15118 for SDP: {error.strerror}"
        return Finding(what, False, text, "end the other station on this machine")
    return Finding(what, True, f"{local.scoped}, multicast, SDP can be answered")


def disk() -> Iterator[Finding]:
    """The folder of temporary files, and the cache, which demo and sandbox can do without."""
    from plugvault import runtimes
    from plugvault.temporary import memory

    try:
        folder = memory() or Path(tempfile.gettempdir())
    except FileNotFoundError as error:  # no folder can be written
        yield Finding("temporary files", False, str(error), "set TMPDIR to a folder of yours")
    else:
        yield _room("temporary files", folder, "TMPDIR")
    yield replace(_room("cache", runtimes.cache(), "XDG_CACHE_HOME"), needed=False)


def _room(purpose: str, folder: Path, variable: str) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free // 2**20
    writable = os.access(existing, os.W_OK)
    text = f"{folder}, {free} MB free" + ("" if writable else ", not writable")
    remedy = f"free {DISK_NEEDED} MB there, or set {variable} to another folder"
    return Finding(purpose, writable and free >= DISK_NEEDED, text, remedy)


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    packages,
    token,
    strong_token,
    interpreters,
    postgresql,
    serial_ports,
    networks,
    disk,
)


def examine() -> list[Finding]:
    """All findings, in order."""
    return [finding for check in CHECKS for finding in check()]


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    interface_name: Annotated[
        str | None,
        typer.Option("--interface", help="Check this interface for `station`.", metavar="IF"),
    ] = None,
) -> None:
    """Show what this machine has, what is missing, and the command that installs it.

    Exits 0 when the demo and the sandbox can run, and with --interface a station there, too.
    """
    findings = examine()
    if interface_name is not None:
        findings.append(interface(interface_name))
    well = all(finding.good for finding in findings if finding.needed)
    if as_json:
        rows = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"well": well, "findings": rows}, indent=2))
    else:
        for finding in findings:
            _show(finding)
        parts = "The demo and the sandbox"
        if interface_name is not None:
            parts = f"The demo, the sandbox and a station at {interface_name}"
        typer.echo(f"{parts} can run." if well else f"{parts} cannot run yet.")
    raise typer.Exit(0 if well else 1)


def _show(finding: Finding) -> None:
    mark, colour = (
        ("ok", "green")
        if finding.good
        else ("MISSING", "red")
        if finding.needed
        else ("-", "yellow")
    )
    typer.secho(f"{mark:>8}", fg=colour, bold=True, nl=False)
    typer.echo(f"  {finding.what:<20} {finding.found}")
    if not finding.good and finding.mend:
        typer.echo(f"{'':>10}{'remedy:':<20} {finding.mend}")
