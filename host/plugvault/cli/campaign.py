"""`plugvault campaign`: a vehicle's module gets every test case; each answer becomes a verdict."""

import contextlib
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from typer.core import TyperGroup

from evcc.errors import EvccError
from plugvault.campaign import cases, known, result
from plugvault.campaign.adapters import open_module
from plugvault.campaign.explained import with_explanations
from plugvault.campaign.html import to_html
from plugvault.campaign.junit import to_junit
from plugvault.campaign.result import CaseResult, Result
from plugvault.campaign.run import run
from plugvault.campaign.vocabulary import ModuleError, clean
from plugvault.cases import catalogue, files
from plugvault.cli import key_file, table

_DEVIATIONS, _FAILED = 1, 2
_DAY = 86_400
_TIMEOUT = 5.0
_ESCAPED = "backslashreplace"  # a lone surrogate in another's text: it is valid in JSON so
_SEED = 1  # of cases that are made for one campaign


class _RunByDefault(TyperGroup):
    """`campaign DIR …` is `campaign run DIR …`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    help="Give a vehicle's module every test case, and report each verdict.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.command("run")
def run_campaign(
    module: Annotated[
        str,
        typer.Option(
            metavar="ADAPTER",
            help="The way to the module: exec:COMMAND with {message} or {elements}, "
            "lines:COMMAND, "
            "tcp:HOST:PORT, serial:DEVICE, http:URL, py:PACKAGE:FUNCTION, or "
            "station:IF[:COMMAND]: a charging station for the vehicle itself, which COMMAND plugs "
            "in; DIR/trust must be in the vehicle.",
        ),
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Cases that `cases make` wrote.")
    ] = None,
    vehicle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Or make the cases now, for this provisioning certificate."
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only these ids, such as 'KT-*'; may be repeated."),
    ] = None,
    known_failures: Annotated[
        Path | None,
        typer.Option("--known", metavar="FILE", help="Known failures: TOML, each with an end."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds for one answer.")] = _TIMEOUT,
    test_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The vehicle's provisioning key, of a test vehicle: the report then explains "
            "each failure. The module does not get it.",
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="The report to read.")] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="JUnit XML.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="All of it, as JSON.")
    ] = None,
) -> None:
    """Run a campaign.

    Exit status: 0 as expected, 1 deviations, 2 the campaign failed.
    """
    if vehicle is not None and module.startswith("station:"):
        _fail(
            "station: wants the cases in DIR: the vehicle must have the roots in DIR/trust first"
        )
    try:
        expected = known.read(known_failures) if known_failures else {}
        key = None if test_key is None else key_file.read(test_key)
        _check_places(html, junit, json_file)
        with (
            _cases(folder, vehicle, tuple(only or ())) as campaign,
            _progress(len(campaign.cases)) as report,
        ):
            known.check(expected, campaign)
            ended = run(
                campaign,
                lambda: open_module(module, timeout, campaign),
                known=expected,
                command=clean(shlex.join(["plugvault", *sys.argv[1:]])),
                report=report,
            )
            ended = replace(ended, again=clean(_again(module, timeout, folder, vehicle, campaign)))
            if key is not None:
                ended = with_explanations(ended, campaign, key)
        _write(ended, html, junit, json_file)
    except ModuleError as error:
        _fail(f"the module does not say hello: {error.reason}: {error.detail}")
    except EvccError as error:
        _fail(error.detail or str(error))
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    print(table.printable(ended.sentence))
    raise typer.Exit(_DEVIATIONS if ended.deviations else 0)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(metavar="OLD.json", help="An earlier result.")],
    new: Annotated[Path, typer.Argument(metavar="NEW.json", help="A later one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare two results: the cases with another verdict.

    Exit status: 0 for the same verdicts, 1 for others, 2 for a file that is no result.
    """
    changes = result.differences(*(_result(path) for path in (old, new)))
    if as_json:
        rows = [{"case": ident, "old": before, "new": after} for ident, before, after in changes]
        print(json.dumps(rows, indent=1))
    elif changes:
        table.show(("case", "old", "new"), [map(table.printable, change) for change in changes])
    else:
        print("The same verdict in every case.")
    raise typer.Exit(_DEVIATIONS if changes else 0)


@contextlib.contextmanager
def _progress(number: int) -> Iterator[Callable[[CaseResult], None]]:
    """A bar on standard error, and a line for each deviation."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("cases", total=number)

        def report(case: CaseResult) -> None:
            progress.update(task, advance=1, description=case.id)
            if case.deviation:
                text = table.printable(f"{case.id}  {case.deviation}")
                progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

        yield report


def _result(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        if document["format"] != result.FORMAT:
            raise KeyError("format")
        result.verdicts_of(document)
    except (OSError, ValueError, KeyError, TypeError):
        _fail(f"{path} is no result of `plugvault campaign run --json`")
    return document


@contextlib.contextmanager
def _cases(
    folder: Path | None, vehicle: Path | None, patterns: tuple[str, ...]
) -> Iterator[cases.Campaign]:
    """The cases of a folder, or made now for a vehicle."""
    if (folder is None) == (vehicle is None):
        _fail("either a folder that `plugvault cases make` wrote, or --vehicle FILE")
    if folder is not None:
        yield cases.read(folder, patterns)
        return
    with tempfile.TemporaryDirectory(prefix="plugvault-") as made:
        chosen = catalogue.select(*patterns)
        certificate = files.vehicle_of(Path(str(vehicle)).read_bytes())
        files.make(Path(made), certificate, chosen, _SEED, int(time.time()) // _DAY * _DAY)
        yield cases.read(Path(made), patterns)


def _again(
    module: str,
    timeout: float,
    folder: Path | None,
    vehicle: Path | None,
    campaign: cases.Campaign,
) -> str:
    """The line that carries out this campaign again, but for --only."""
    line = ["plugvault", "campaign", str(folder or "cases"), "--module", module]
    if timeout != _TIMEOUT:
        line += ["--timeout", f"{timeout:g}"]
    if folder is not None:
        return shlex.join(line)
    make = ["plugvault", "cases", "make", "--vehicle", str(vehicle), "--out", "cases"]
    make += ["--seed", str(campaign.seed), "--at", str(campaign.at)]
    return f"{shlex.join(make)} && {shlex.join(line)}"


def _check_places(*places: Path | None) -> None:
    """Refuse a place for a report before the campaign, not after it."""
    for place in places:
        if place is not None and (place.is_dir() or not os.access(place.parent, os.W_OK)):
            _fail(f"{place} cannot be written: name a file in a folder that is there")


def _write(ended: Result, html: Path | None, junit: Path | None, json_file: Path | None) -> None:
    if html is not None:
        html.write_text(to_html(ended), encoding="utf-8", errors=_ESCAPED)
    if junit is not None:
        junit.write_bytes(to_junit(ended))
    if json_file is not None:
        document = json.dumps(result.to_json(ended), indent=1, ensure_ascii=False)
        json_file.write_text(document + "\n", encoding="utf-8", errors=_ESCAPED)


def _fail(text: str) -> NoReturn:
    print(f"plugvault campaign: {text}", file=sys.stderr)
    raise typer.Exit(_FAILED)
