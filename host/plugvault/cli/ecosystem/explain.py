"""`plugvault ecosystem explain-request FILE`: why a vehicle gets its contract, or gets nothing."""

import base64
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from evcc.link import v2gtp
from plugvault.cli import times
from plugvault.cli.ecosystem import common
from plugvault.pools import explanation
from plugvault.pools.explanation import Explanation
from plugvault.printable import printable

LIMIT = 65_536  # bytes of a file: as much as CCP takes
_FRAME = v2gtp.encode(b"")[:4]
_REFUSED = 1


def explain_request(
    context: typer.Context,
    file: Annotated[
        str, typer.Argument(help="CertificateInstallationReq; `-` reads standard input.")
    ],
    at: Annotated[
        str | None,
        typer.Option(
            help="Check at this time: 2026-01-31[T12:00:00Z] or Unix seconds. Default: now.",
            metavar="TIME",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say why CCP gives a vehicle its contract, or what has to be done before it does.

    The file has the request as EXI, in hexadecimal or base64, as a V2GTP frame, or as the JSON
    that a station's operator sends. Exit status: 0 with a contract, 1 without one.
    """
    raw = _exi(_read(file))
    with common.reading(context) as records:
        result = explanation.explain(records, raw, times.seconds(at))
    if as_json or context.obj.as_json:
        typer.echo(json.dumps({**asdict(result), "provided": result.emaid is not None}, indent=1))
    else:
        _show(context, result)
    raise typer.Exit(0 if result.emaid else _REFUSED)


def _show(context: typer.Context, result: Explanation) -> None:
    rows = [vars(check) for check in result.checks]
    common.print_rows(context, rows, "check", "verdict", "detail")
    typer.echo("")
    if result.emaid:
        tolerated = f", tolerated: {', '.join(result.tolerances)}" if result.tolerances else ""
        typer.echo(printable(f"{result.pcid} gets {result.emaid}{tolerated}"))
    else:
        text = f"{result.pcid or 'The vehicle'} gets nothing: {result.cause}"
        typer.echo(printable(text))
        typer.echo(f"{result.meaning} {result.remedy}")


def _read(file: str) -> bytes:
    try:
        if file == "-":
            data = sys.stdin.buffer.read(LIMIT + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(LIMIT + 1)
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from error
    if not 0 < len(data) <= LIMIT:
        raise typer.BadParameter(f"{file}: empty, or over {LIMIT} bytes", param_hint="FILE")
    return data


def _exi(data: bytes) -> bytes:
    """The EXI in a file. Text that is neither hexadecimal, base64 nor such JSON is left as it is:
    the check of the message says so."""
    text = data.strip()
    try:
        if text.startswith(b"{"):
            text = json.loads(text)["certificateInstallationReq"].encode()
        if text.isascii():
            joined = b"".join(text.split()).decode()
            data = _unhex(joined) or base64.b64decode(joined, validate=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return data
    return data[v2gtp.HEADER_BYTES :] if data.startswith(_FRAME) else data


def _unhex(text: str) -> bytes:
    try:
        return bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        return b""
