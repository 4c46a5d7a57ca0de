"""`plugvault inspect FILE...`: explains files, with the result of every check."""

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import typer
from cryptography.utils import CryptographyDeprecationWarning
from rich.console import Console

from evcc.x509 import Certificate
from plugvault.cli import key_file
from plugvault.cli.options import options_from
from plugvault.cli.times import seconds
from plugvault.explanation import ExplainError, KeyAgreement
from plugvault.inspection import inspect as inspect_bytes
from plugvault.inspection import limit_of, read_anchors
from plugvault.inspection.plain import write_plain
from plugvault.inspection.report import Report, Scope, UnreadableError
from plugvault.inspection.sequence import draw
from plugvault.inspection.show import show, show_unreadable

_FAILED = 1
_UNREADABLE = 2


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files to explain; `-` reads standard input."),
    ]
    trust: Annotated[
        list[Path] | None,
        typer.Option(help="File with roots to trust; may be repeated.", metavar="FILE"),
    ] = None
    at: Annotated[
        str | None,
        typer.Option(help="Check validity at this time: 2026-01-31[T12:00:00Z] or Unix seconds."),
    ] = None
    keylog: Annotated[
        list[Path] | None,
        typer.Option(
            help="File with TLS keys (SSLKEYLOGFILE) for a capture; may be repeated. FILE.keys"
            " beside a capture is read without it.",
            metavar="FILE",
        ),
    ] = None
    svg: Annotated[
        Path | None,
        typer.Option(help="Draw the sessions of a capture into this file.", metavar="FILE"),
    ] = None
    plain: Annotated[
        Path | None,
        typer.Option(
            help="Write the messages of a capture into this capture, without TLS.",
            metavar="FILE",
        ),
    ] = None
    key: Annotated[
        Path | None,
        typer.Option(
            help="The provisioning key of a test vehicle, PEM or DER: sealed keys are opened.",
            metavar="FILE",
        ),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per file.")] = (
        False
    )


@options_from(Options)
def inspect(options: Options) -> None:
    """Explain the content of files, with the result of every check.

    It reads EXI and V2GTP messages, certificates and chains (DER, PEM, PKCS#7), certificate
    requests, OCSP, OPCP requests and answers (JSON), and bundles as XML; each also in hexadecimal
    or base64. It reads captures of network traffic (pcap, pcapng), and tells each session in them.

    Exit status: 0 when all files are readable and no check failed, 1 when a check failed, 2 when
    a file is unreadable.
    """
    # A check reports the faults of a certificate; a library's warning would be a second report.
    warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)
    status, captures = _report_each(options.files, _scope(options), options.as_json)
    if options.svg is not None:
        _draw(_only(captures, "--svg"), options.svg)
    if options.plain is not None:
        _write_plain(_only(captures, "--plain"), options.plain)
    raise typer.Exit(status)


def _scope(options: Options) -> Scope:
    keys = (_read_option(file, "--keylog") for file in options.keylog or [])
    return Scope(
        seconds(options.at),
        _anchors(options.trust or []),
        is_now=options.at is None,
        keylog=b"\n".join(keys),
        key=_key(options.key),
    )


class _Read(NamedTuple):
    """A file that was read."""

    file: str
    data: bytes
    scope: Scope
    report: Report


def _report_each(files: list[str], scope: Scope, as_json: bool) -> tuple[int, list[_Read]]:
    """Print the report of each file. Returns the exit status, and the captures among them."""
    console, errors = Console(highlight=False), Console(highlight=False, stderr=True)
    status, captures = 0, list[_Read]()
    for file in files:
        try:
            data, own = _read(file), _with_own_keys(scope, file)
            report = inspect_bytes(data, own)
        except UnreadableError as error:
            status = _UNREADABLE
            if as_json:
                _print_json(file, Report("unreadable", {"error": str(error)}), ok=False)
            else:
                show_unreadable(errors, file, str(error))
            continue
        if not report.ok:
            status = max(status, _FAILED)
        if report.kind == "capture":
            captures.append(_Read(file, data, own, report))
        if as_json:
            _print_json(file, report, ok=report.ok)
        else:
            show(console, file, report)
    return status, captures


def _only(captures: list[_Read], option: str) -> _Read:
    if len(captures) != 1:
        text = f"{len(captures)} readable captures are given; this option takes one"
        raise typer.BadParameter(text, param_hint=option)
    return captures[0]


def _draw(capture: _Read, path: Path) -> None:
    picture = draw(Path(capture.file).name, capture.report.content)
    _write("--svg", path, lambda: path.write_text(picture, encoding="utf-8"))


def _write_plain(capture: _Read, path: Path) -> None:
    _write("--plain", path, lambda: write_plain(capture.data, capture.scope.keylog, path))


def _write(option: str, path: Path, write: Callable[[], object]) -> None:
    """Carry out the writing of a file; its error names the option."""
    try:
        write()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from error


def _print_json(file: str, report: Report, *, ok: bool) -> None:
    document = {
        "file": file,
        "kind": report.kind,
        "content": report.content,
        "checks": [vars(check) for check in report.checks],
        "ok": ok,
    }
    print(json.dumps(document))


def _read(file: str) -> bytes:
    try:
        if file == "-":
            return _limited(sys.stdin.buffer)
        with Path(file).open("rb") as stream:
            return _limited(stream)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error


def _limited(stream: BinaryIO) -> bytes:
    """The bytes of a file, at most one more than `inspect` takes."""
    head = stream.read(4)
    return head + stream.read(limit_of(head) + 1 - len(head))


def _with_own_keys(scope: Scope, file: str) -> Scope:
    """The scope with the keys of FILE.keys, which a capture of this program has beside it."""
    path = Path(f"{file}.keys")
    if file == "-" or not path.is_file():
        return scope
    return replace(scope, keylog=scope.keylog + b"\n" + _read(str(path)))


def _read_option(file: Path, option: str) -> bytes:
    try:
        return _read(str(file))
    except UnreadableError as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint=option) from error


def _key(file: Path | None) -> KeyAgreement | None:
    try:
        return None if file is None else key_file.read(file)
    except ExplainError as error:
        raise typer.BadParameter(error.detail, param_hint="--key") from error
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="--key") from error


def _anchors(files: list[Path]) -> tuple[Certificate, ...]:
    anchors: list[Certificate] = []
    for file in files:
        try:
            anchors += read_anchors(_read(str(file)))
        except UnreadableError as error:
            raise typer.BadParameter(f"{file}: {error}", param_hint="--trust") from error
    return tuple(anchors)
