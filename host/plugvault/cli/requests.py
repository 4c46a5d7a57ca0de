"""`plugvault requests`: carry out files of HTTP requests."""

import json
from pathlib import Path
from typing import Annotated

import typer

from plugvault.printable import printable, printable_lines
from plugvault.requests.run import Outcome, RequestsError, parse, read_values, run
from plugvault.requests.write import ENVIRONMENT


def requests(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="The `.http` files.")],
    env: Annotated[
        Path | None,
        typer.Option(help=f"File of variables. Default: {ENVIRONMENT} beside the first file."),
    ] = None,
    trust: Annotated[
        Path | None, typer.Option(help="File with the roots of an HTTPS server, PEM or DER.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per request.")
    ] = False,
) -> None:
    """Carry out HTTP requests, and compare each status with the expected one.

    `plugvault sandbox --requests DIR` writes a file for each business process, with variables for
    the running sandbox. VS Code's REST Client reads the same files.

    JSON: {"file", "title", "status", "expected", "ok"}; without an answer "status" is 0 and
    "reason" says why.

    Exit status: 0 when every status was as expected, 1 when one was not, 2 when a file cannot be
    carried out.
    """
    unexpected = 0
    try:
        texts = {file: _read(file) for file in files}
        values = read_values(env or files[0].parent / ENVIRONMENT)
        for file, text in texts.items():
            if not as_json:
                typer.secho(file.name, bold=True)
            for outcome in run(text, values, trust):
                unexpected += not outcome.ok
                _print(file, outcome, as_json)
    except RequestsError as error:
        text = printable_lines(f"plugvault requests: {error.detail}")
        typer.secho(text, err=True, fg="red")
        raise typer.Exit(2) from error
    raise typer.Exit(1 if unexpected else 0)


_MAKE = "`plugvault sandbox --requests DIR` writes such files"


def _read(file: Path) -> str:
    """The text of a file with requests. Raises RequestsError."""
    try:
        text = file.read_text(encoding="utf-8")
        parse(text)  # before the first request of any file is sent
        return text
    except RequestsError as error:
        raise RequestsError("file", f"{file}: {error.detail}; {_MAKE}") from error
    except OSError as error:
        raise RequestsError("file", f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise RequestsError("file", f"{file} is no text; {_MAKE}") from error


def _print(file: Path, outcome: Outcome, as_json: bool) -> None:
    request = outcome.request
    if as_json:
        document = {
            "file": file.name,
            "title": request.title,
            "status": outcome.status,
            "expected": request.expect,
            "ok": outcome.ok,
        }
        if not outcome.status:
            document["reason"] = outcome.text
        typer.echo(json.dumps(document))
        return
    mark, colour = ("✓", "green") if outcome.ok else ("✗", "red")
    title = printable(request.title)
    typer.echo(f"  {typer.style(mark, fg=colour)} {outcome.status:3}  {title}")
    if not outcome.ok:
        text = printable_lines(outcome.text[:500])
        typer.echo(f"        expected {request.expect or 'a success'}: {text}")
