"""Rule 1 of the architecture, read from the imports: one direction, and effects in one place.

`evcc` imports nothing of `plugvault`. Inside it only `ports`, `vault` and `tls` touch hardware,
sockets, files, time, randomness or `ffi`; the rest imports what is listed here as pure, and opens
nothing.
Inside `plugvault` an area imports only areas that stand below it.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EVCC = ROOT / "firmware/evcc"
PLUGVAULT = ROOT / "host/plugvault"

EFFECTS_ALLOWED = ("ports", "vault", "tls")
PURE = {
    "array", "binascii", "collections", "errno", "evcc", "gc", "hashlib", "json", "micropython",
    "struct", "sys", "typing",
}  # fmt: skip
# Pure modules in an effectful package.
PLAIN = (
    "evcc.vault.schemes", "evcc.vault.levels", "evcc.vault.possession", "evcc.vault.uri",
    "evcc.tls.ocsp", "evcc.tls.peer", "evcc.tls.openssl",
)  # fmt: skip
EFFECTFUL_CALLS = {"open", "input", "print", "exec", "eval", "__import__"}

# The areas that each area of plugvault may import, besides itself. All may use `evcc`.
BELOW = {
    "backoff": set(),
    "bounded": set(),
    "unreachable": set(),
    "failing": set(),
    "json_file": set(),
    "toml_file": set(),
    "printable": set(),
    "contract": {"exi_xml", "pki"},
    "pki": set(),
    "runtimes": set(),
    "contexts": set(),
    "temporary": set(),
    "file_lock": set(),
    "guardian": set(),
    "seldom": set(),
    "processes": {"failing"},
    "serial_port": set(),
    "token_bucket": set(),
    "interfaces": set(),
    "net": {"unreachable"},
    "speed": set(),
    "exi_json": {"json_file"},
    "exi_names": set(),
    "exi_xml": {"exi_json", "exi_names"},
    "openssl_errors": set(),
    "cryptoki": {"contexts", "openssl_errors"},
    "tokens": {"cryptoki", "runtimes", "file_lock", "pki", "toml_file"},
    "vault_service": {
        "cryptoki",
        "file_lock",
        "processes",
        "runtimes",
        "seldom",
        "token_bucket",
        "tokens",
    },
    "store": {
        "pools",
        "contract",
        "pki",
    },  # the SQL side implements the interface that the pools state
    "pools": {"contract", "pki", "net", "printable"},
    "foreign_revocation": {
        "net",
        "pki",
        "pools",
        "seldom",
    },
    "delivery": {"backoff", "failing", "pools", "net"},
    "roles": {
        "backoff",
        "bounded",
        "contexts",
        "contract",
        "failing",
        "file_lock",
        "json_file",
        "pki",
        "net",
        "telematics",
        "unreachable",
    },
    "capture": {"json_file"},
    "cases": {"file_lock", "pki"},
    "campaign": {
        "cases",
        "explanation",
        "guardian",
        "interfaces",
        "json_file",
        "printable",
        "serial_port",
        "station",
        "temporary",
        "tls",
        "toml_file",
        "unreachable",
    },
    "explanation": {"cases", "pki"},
    "inspection": {
        "capture",
        "contract",
        "pki",
        "exi_json",
        "explanation",
        "pools",
        "printable",
    },  # the pools' checks
    "opcp": {
        "backoff",
        "bounded",
        "failing",
        "token_bucket",
        "pools",
        "roles",
        "contract",
        "pki",
        "net",
        "speed",
    },
    "station": {
        "bounded",
        "capture",
        "contract",
        "interfaces",
        "pki",
        "pools",
        "roles",
        "seldom",
        "tls",
        "token_bucket",
    },
    "tls": {"contexts", "pki"},
    "telematics": {"pki"},
    "link": {"bounded", "pki", "serial_port", "telematics"},
    "car": {
        "contexts",
        "cryptoki",
        "link",
        "runtimes",
        "telematics",
        "temporary",
        "tokens",
        "vault_service",
    },
    "emulated_board": {"contexts", "pty_line", "temporary"},
    "pty_line": {"contexts"},
    "board": {
        "contexts",
        "cryptoki",
        "ecosystem",
        "emulated_board",
        "file_lock",
        "json_file",
        "link",
        "roles",
        "serial_port",
        "runtimes",
        "station",
        "telematics",
        "temporary",
        "tokens",
        "vault_service",
    },
    "federation": {
        "contract",
        "pki",
        "pools",
        "roles",
        "seldom",
    },
    "requests": {"json_file", "roles", "pki", "cryptoki", "tokens", "unreachable"},
    "ecosystem": {
        "backoff",
        "contexts",
        "contract",
        "cryptoki",
        "delivery",
        "failing",
        "federation",
        "file_lock",
        "foreign_revocation",
        "json_file",
        "net",
        "opcp",
        "pki",
        "pools",
        "processes",
        "requests",
        "roles",
        "seldom",
        "store",
        "tls",
        "tokens",
    },
}
TOP = {"cli", "pytest_plugin", "demo"}  # these put the world together; nothing below imports them


def imports(tree: ast.Module, package: str) -> list[tuple[int, str]]:
    """(line, absolute dotted name) of every import in `tree`, wherever in the file it stands.

    `package`: the dotted package the file is in, for relative imports. `from a import b` gives
    "a.b": b may be a module.
    """
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            names += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return names


def calls(tree: ast.Module) -> list[tuple[int, str]]:
    """(line, name) of every call of a plain name."""
    return [
        (node.lineno, node.func.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]


def reaches_an_effect(name: str) -> bool:
    """Whether importing `name` hands a pure module of evcc a way to an effect."""
    parts = name.split(".")
    if parts[0] not in PURE:
        return True
    if name.startswith(PLAIN) or parts[0] != "evcc" or len(parts) < 3:
        return False
    # Errors and constants that an effectful package states are plain values; its drivers are not.
    return parts[1] in EFFECTS_ALLOWED and not (len(parts) == 3 and parts[2][0].isupper())


def evcc_violations(path: Path, source: str) -> list[str]:
    """`path`: relative to the evcc package."""
    tree = ast.parse(source)
    imported = imports(tree, ".".join(["evcc", *path.parent.parts]))
    module = ".".join(["evcc", *path.with_suffix("").parts])
    if path.parts[0] in EFFECTS_ALLOWED and module not in PLAIN:
        return [
            f"{path}:{line} imports {name}" for line, name in imported if top(name) == "plugvault"
        ]
    return [
        f"{path}:{line} imports {name}" for line, name in imported if reaches_an_effect(name)
    ] + [f"{path}:{line} calls {name}" for line, name in calls(tree) if name in EFFECTFUL_CALLS]


def host_violations(path: Path, source: str) -> list[str]:
    """`path`: relative to the plugvault package."""
    area = path.parts[0].removesuffix(".py")
    if area in TOP or area == "__init__":
        return []
    package = ".".join(["plugvault", *path.parent.parts])
    allowed = BELOW.get(area)
    if allowed is None:
        return [f"{path}: the area {area} has no place in the order; give it one in BELOW"]
    wrong = []
    for line, name in imports(ast.parse(source), package):
        first, _, dotted = name.partition(".")
        target = dotted.split(".")[0]
        if first == "plugvault" and target not in allowed | {area, "__version__"}:
            wrong.append(f"{path}:{line} imports {name}")
    return wrong


def top(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def sources(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*.py"))


def test_evcc_is_pure_outside_ports_and_vault() -> None:
    wrong = [w for path in sources(EVCC) for w in evcc_violations(path, (EVCC / path).read_text())]
    assert wrong == []


def test_plugvault_imports_downwards_only() -> None:
    wrong = [
        w
        for path in sources(PLUGVAULT)
        for w in host_violations(path, (PLUGVAULT / path).read_text())
    ]
    assert wrong == []


NAMELESS = {
    "TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "SpooledTemporaryFile", "mkdtemp",
    "mkstemp",
}  # fmt: skip


def makes_temporary_files(source: str) -> list[str]:
    """The calls and imports with which a source makes temporary files by itself."""
    nodes = list(ast.walk(ast.parse(source)))
    names = [node.attr for node in nodes if isinstance(node, ast.Attribute)]
    names += [
        alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    return sorted(NAMELESS.intersection(names))


def test_temporary_folders_come_from_the_one_place_that_removes_those_of_killed_processes():
    makers = {
        str(path)
        for path in sources(PLUGVAULT)
        if makes_temporary_files((PLUGVAULT / path).read_text())
    }
    assert makers == {"temporary.py"}
    assert makes_temporary_files("from tempfile import mkdtemp") == ["mkdtemp"]


def test_order_of_areas_has_no_circle() -> None:
    above: set[str] = set()
    remaining = dict(BELOW)
    while remaining:
        ready = [area for area, below in remaining.items() if below <= above]
        assert ready, f"a circle among {sorted(remaining)}"
        above.update(ready)
        for area in ready:
            del remaining[area]


@pytest.mark.parametrize(
    "path, source",
    [
        ("x509.py", "import plugvault"),
        ("vault/service.py", "from plugvault.tokens import Hsm"),
        ("x509.py", "import os"),
        ("telematics.py", "def f():\n    import time"),
        ("exi/walker.py", "from socket import AF_INET"),
        ("exi/walker.py", "from ..ports import files"),
        ("trust.py", "from evcc.ports.files import Files"),
        ("trust.py", "open('anchors')"),
        ("telematics.py", "from evcc.vault import pkcs11"),
        ("vault/schemes.py", "import os"),
        ("tls/peer.py", "import ssl"),
        ("module.py", "from evcc.tls import libssl"),
    ],
)  # fmt: skip
def test_violation_in_evcc_is_caught(path: str, source: str) -> None:
    assert evcc_violations(Path(path), source)


@pytest.mark.parametrize(
    "path, source",
    [
        ("ports/clock.py", "import time"),
        ("vault/pkcs11.py", "import ffi"),
        ("contracts.py", "from .vault import PROVISIONING, VaultError, schemes"),
        ("exi/walker.py", "from ..errors import EvccError"),
    ],
)  # fmt: skip
def test_right_import_in_evcc_passes(path: str, source: str) -> None:
    assert evcc_violations(Path(path), source) == []


@pytest.mark.parametrize(
    "path, source",
    [
        ("pools/pcp.py", "from plugvault.opcp import app"),
        ("pools/pcp.py", "from plugvault.store import sql"),
        ("contract/data.py", "from ..pools import ccp"),
        ("pki/issue.py", "from plugvault import tokens"),
        ("cryptoki/token.py", "import plugvault.cli.app"),
        ("weather/rain.py", ""),
    ],
)  # fmt: skip
def test_violation_in_plugvault_is_caught(path: str, source: str) -> None:
    assert host_violations(Path(path), source)
