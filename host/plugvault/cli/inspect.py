"""`plugvault inspect FILE...`: it explains files, with the result of every check."""

import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from cryptography.utils import CryptographyDeprecationWarning
from rich.console import Console

from evcc.x509 import Certificate
from plugvault.cli.times import seconds
from plugvault.inspection import inspect as inspect_bytes
from plugvault.inspection import limit_of, read_anchors
from plugvault.inspection.report import Report, Scope, UnreadableError
from plugvault.inspection.sequence import draw
from plugvault.inspection.show import show, show_unreadable

_FAILED = 1
_UNREADABLE = 2


def inspect(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Files to explain; `-` reads standard input."),
    ],
    trust: Annotated[
        list[Path] | None,
        typer.Option(help="File with roots to trust; may be repeated.", metavar="FILE"),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(help="Check validity at this time: 2026-01-31[T12:00:00Z] or Unix seconds."),
    ] = None,
    keylog: Annotated[
        list[Path] | None,
        typer.Option(
            help="File with TLS keys (SSLKEYLOGFILE) for a capture; may be repeated. FILE.keys"
            " beside a capture is read without it.",
            metavar="FILE",
        ),
    ] = None,
    svg: Annotated[
        Path | None,
        typer.Option(help="Draw the sessions of a capture into this file.", metavar="FILE"),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per file.")
    ] = False,
) -> None:
    """Explain the content of files, with the result of every check.

    It reads EXI and V2GTP messages, certificates and chains (DER, PEM, PKCS#7), certificate
    requests, OPCP requests and answers (JSON), and bundles as XML; each also in hexadecimal or
    base64. It reads captures of network traffic (pcap, pcapng), and tells each session in them.

    Exit status: 0 when all files are readable and no check failed, 1 when a check failed, 2 when
    a file is unreadable.
    """
    # A check reports the faults of a certificate; a library's warning would be a second report.
    warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)
    keys = b"\n".join(_read_option(file, "--keylog") for file in keylog or [])
    scope = Scope(seconds(at), _anchors(trust or []), is_now=at is None, keylog=keys)
    console, errors = Console(highlight=False), Console(highlight=False, stderr=True)
    status = 0
    captures: list[tuple[str, Report]] = []
    for file in files:
        try:
            report = inspect_bytes(_read(file), _with_own_keys(scope, file))
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
            captures.append((file, report))
        if as_json:
            _print_json(file, report, ok=report.ok)
        else:
            show(console, file, report)
    if svg is not None:
        _draw(svg, captures)
    raise typer.Exit(status)


def _draw(svg: Path, captures: list[tuple[str, Report]]) -> None:
    if len(captures) != 1:
        raise typer.BadParameter(f"{len(captures)} captures are given; a picture has one")
    ((file, report),) = captures
    try:
        svg.write_text(draw(Path(file).name, report.content), encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{svg}: {error.strerror}", param_hint="--svg") from error


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
    """With the keys of FILE.keys, which a capture of ours has beside it."""
    path = Path(f"{file}.keys")
    if file == "-" or not path.is_file():
        return scope
    return replace(scope, keylog=scope.keylog + b"\n" + _read(str(path)))


def _read_option(file: Path, option: str) -> bytes:
    try:
        return _read(str(file))
    except UnreadableError as error:
        raise typer.BadParameter(f"{file}: {error}", param_hint=option) from error


def _anchors(files: list[Path]) -> tuple[Certificate, ...]:
    anchors: list[Certificate] = []
    for file in files:
        try:
            anchors += read_anchors(_read(str(file)))
        except UnreadableError as error:
            raise typer.BadParameter(f"{file}: {error}", param_hint="--trust") from error
    return tuple(anchors)
