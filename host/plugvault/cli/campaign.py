"""`plugvault campaign`: a vehicle's module gets every test case; each answer becomes a verdict."""

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import Progress
from typer.core import TyperGroup

from evcc.errors import EvccError
from plugvault import json_file
from plugvault.campaign import cases, known, result
from plugvault.campaign.adapters import open_module
from plugvault.campaign.explained import with_explanations
from plugvault.campaign.html import to_html
from plugvault.campaign.junit import to_junit
from plugvault.campaign.result import CaseResult, Result
from plugvault.campaign.run import run
from plugvault.campaign.vocabulary import ModuleError, clean
from plugvault.cases import catalogue, files
from plugvault.cli import case_pki, key_file, table, words
from plugvault.cli.options import options_from
from plugvault.printable import printable
from plugvault.temporary import temporary_folder

_DEVIATIONS, _FAILED, _STOPPED = 1, 2, 130
_TIMEOUT = 5.0
_ESCAPED = "backslashreplace"  # escaped, a lone surrogate in a module's text is valid JSON
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


@dataclass(frozen=True)
class Options:
    """The options of `run`."""

    module: Annotated[
        str,
        typer.Option(
            metavar="ADAPTER",
            help="The way to the module: exec:COMMAND with {message} or {elements}, "
            "lines:COMMAND, "
            "tcp:HOST:PORT, serial:DEVICE, http:URL, py:PACKAGE_NAME:FUNCTION, or "
            "station:IF[:COMMAND]: a charging station for the vehicle itself, which COMMAND plugs "
            "in; DIR/trust must be in the vehicle.",
        ),
    ]
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Cases that `cases make` wrote.")
    ] = None
    vehicle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Or make the cases now, for this provisioning certificate."
        ),
    ] = None
    pki: case_pki.Pki = case_pki.NEW
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Only these ids, such as 'KT-*'; may be repeated."),
    ] = None
    known: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Known failures: TOML, each with an end."),
    ] = None
    timeout: Annotated[
        float, typer.Option(min=0.1, max=86_400, help="Seconds for one answer.")
    ] = _TIMEOUT
    test_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The vehicle's provisioning key, of a test vehicle: the report then explains "
            "each failure. The module does not get it.",
        ),
    ] = None
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="The report to read.")] = None
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="JUnit XML.")] = None
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="All of it, as JSON.")] = None
    secrets: Annotated[
        bool,
        typer.Option(
            help="Write a module's Z, K and scalar too, which give the contract key away."
        ),
    ] = False


@app.command("run")
@options_from(Options)
def run_campaign(options: Options) -> None:
    """Run a campaign.

    After Ctrl-C the reports have what has been tried; a second one ends at once.

    Exit status: 0 as expected, 1 deviations, 2 the campaign failed, 130 after Ctrl-C.
    """
    _check(options)
    try:
        ended = _ended(options)
        _write(ended, options)
    except ModuleError as error:
        _fail(f"the module does not say hello: {error.reason}: {error.detail}")
    except (EvccError, OSError) as error:
        _fail(words.of(error))
    print(printable(ended.sentence))
    raise typer.Exit(_STOPPED if ended.not_tried else _DEVIATIONS if ended.deviations else 0)


def _check(options: Options) -> None:
    """Refuse options that do not fit together, and places for reports that cannot be written."""
    if (options.folder is None) == (options.vehicle is None):
        _fail("either a folder that `plugvault cases make` wrote, or --vehicle FILE")
    if options.vehicle is not None and options.module.startswith("station:"):
        _fail(
            "station: wants the cases in DIR: the vehicle must have the roots in DIR/trust first"
        )
    if options.folder is not None and options.pki != case_pki.NEW:
        _fail("--pki is for --vehicle: the cases in DIR have theirs")
    for place in (options.html, options.junit, options.json):
        if place is not None and (place.is_dir() or not os.access(place.parent, os.W_OK)):
            _fail(f"{place} cannot be written: name a file in a folder that is there")


def _ended(options: Options) -> Result:
    """The result of the campaign. Raises EvccError, OSError."""
    expected = known.read(options.known) if options.known else {}
    key = None if options.test_key is None else key_file.read(options.test_key)
    with _cases(options) as campaign:
        known.check(expected, campaign)
        with _progress(len(campaign.cases)) as report:
            ended = run(
                campaign,
                lambda: open_module(options.module, options.timeout, campaign),
                known=expected,
                command=clean(shlex.join(["plugvault", *sys.argv[1:]])),
                report=report,
            )
        if ended.not_tried:
            print("stopped: what has been tried is written now", file=sys.stderr)
        ended = replace(ended, again=clean(_again(options, campaign)))
        return ended if key is None else with_explanations(ended, campaign, key)


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
        table.show(("case", "old", "new"), [map(printable, change) for change in changes])
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
                text = printable(f"{case.id}  {case.deviation}")
                progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

        yield report


def _result(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json_file.read(path)
        if document["format"] != result.FORMAT:
            raise KeyError("format")
        result.verdicts_of(document)
    except (OSError, ValueError, KeyError, TypeError):
        _fail(f"{path} is no result of `plugvault campaign run --json`")
    return document


@contextlib.contextmanager
def _cases(options: Options) -> Iterator[cases.Campaign]:
    """The cases of a folder, or made now for a vehicle."""
    patterns = tuple(options.only or ())
    if options.vehicle is None:
        yield cases.read(Path(str(options.folder)), patterns)
        return
    with (
        temporary_folder() as temporary,
        case_pki.given(options.pki) as given,
    ):
        chosen = catalogue.select(*patterns)
        certificate = files.vehicle_of(options.vehicle.read_bytes())
        made = temporary / "cases"
        files.make(made, certificate, chosen, _SEED, case_pki.today(given), given)
        yield cases.read(made, patterns)


def _again(options: Options, campaign: cases.Campaign) -> str:
    """The line that carries out this campaign again, but for --only and the reports."""
    line = ["plugvault", "campaign", str(options.folder or "cases"), "--module", options.module]
    if options.timeout != _TIMEOUT:
        line += ["--timeout", f"{options.timeout:g}"]
    for name, file in (("--known", options.known), ("--test-key", options.test_key)):
        line += [name, str(file)] if file is not None else []
    if options.vehicle is None:
        return shlex.join(line)
    make = ["plugvault", "cases", "make", "--vehicle", str(options.vehicle), "--out", "cases"]
    make += ["--seed", str(campaign.seed), "--at", str(campaign.at)]
    make += ["--pki", options.pki] if options.pki != case_pki.NEW else []
    return f"{shlex.join(make)} && {shlex.join(line)}"


def _write(ended: Result, options: Options) -> None:
    if options.html is not None:
        options.html.write_text(to_html(ended), encoding="utf-8", errors=_ESCAPED)
    if options.junit is not None:
        options.junit.write_bytes(to_junit(ended))
    if options.json is not None:
        document = result.to_json(ended, options.secrets)
        text = json.dumps(document, indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8", errors=_ESCAPED)


def _fail(text: str) -> NoReturn:
    print(f"plugvault campaign: {text}", file=sys.stderr)
    raise typer.Exit(_FAILED)
