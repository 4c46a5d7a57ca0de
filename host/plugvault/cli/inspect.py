"""`plugvault inspect FILE...`: it explains files, with the result of every check."""

import json
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography.utils import CryptographyDeprecationWarning
from rich.console import Console

from evcc.x509 import Certificate
from plugvault.inspection import LIMIT, read_anchors
from plugvault.inspection import inspect as inspect_bytes
from plugvault.inspection.report import Report, Scope, UnreadableError
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
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per file.")
    ] = False,
) -> None:
    """Explain the content of files, with the result of every check.

    It reads EXI and V2GTP messages, certificates and chains (DER, PEM, PKCS#7), certificate
    requests, OPCP requests and answers (JSON), and bundles as XML; each also in hexadecimal or
    base64.

    Exit status: 0 when all files are readable and no check failed, 1 when a check failed, 2 when
    a file is unreadable.
    """
    # A check reports the faults of a certificate; a library's warning would be a second report.
    warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)
    scope = Scope(_seconds(at), _anchors(trust or []))
    console, errors = Console(highlight=False), Console(highlight=False, stderr=True)
    status = 0
    for file in files:
        try:
            report = inspect_bytes(_read(file), scope)
        except UnreadableError as error:
            status = _UNREADABLE
            if as_json:
                _print_json(file, Report("unreadable", {"error": str(error)}), ok=False)
            else:
                show_unreadable(errors, file, str(error))
            continue
        if not report.ok:
            status = max(status, _FAILED)
        if as_json:
            _print_json(file, report, ok=report.ok)
        else:
            show(console, file, report)
    raise typer.Exit(status)


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
            return sys.stdin.buffer.read(LIMIT + 1)
        with Path(file).open("rb") as stream:
            return stream.read(LIMIT + 1)
    except OSError as error:
        raise UnreadableError(error.strerror or str(error)) from error


def _anchors(files: list[Path]) -> tuple[Certificate, ...]:
    anchors: list[Certificate] = []
    for file in files:
        try:
            anchors += read_anchors(_read(str(file)))
        except UnreadableError as error:
            raise typer.BadParameter(f"{file}: {error}", param_hint="--trust") from error
    return tuple(anchors)


def _seconds(text: str | None) -> int:
    """Unix seconds of a time; a time without a zone is UTC."""
    if text is None:
        return int(time.time())
    if text.isdigit() and len(text) > 8:
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not a time: {error}", param_hint="--at") from error
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
