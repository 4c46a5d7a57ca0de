"""`plugvault cases`: list, show and make test cases for a vehicle's installation of contracts."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from evcc.errors import EvccError
from plugvault.cases import catalogue, files
from plugvault.cases.case import STAGES, Case
from plugvault.cases.difference import difference
from plugvault.cases.pki import CasePki, point
from plugvault.cases.scene import Scene
from plugvault.cases.seed import Seed
from plugvault.cli import case_pki, table, words
from plugvault.cli.times import seconds

app = typer.Typer(
    help="Test cases for a vehicle: messages that it must accept or refuse.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Only = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Only these ids, such as 'KT-*'; may be repeated."),
]


@app.command("list")
def list_cases(
    group: Annotated[
        str | None,
        typer.Option(help=f"Only this group: {', '.join(catalogue.GROUPS)}."),
    ] = None,
    edition: Annotated[str, typer.Option(help="The edition of ISO 15118.")] = "2",
    only: _Only = None,
    as_json: _Json = False,
) -> None:
    """List the cases: id, what a module must do, the requirement, and why."""
    patterns = [*(only or []), *([] if group is None else [f"{group}-*"])]
    cases = [case for case in catalogue.select(*patterns) if edition in case.editions]
    if not cases:
        _fail(f"no case matches; the groups are {', '.join(catalogue.GROUPS)}")
    if as_json:
        print(json.dumps([files.described(case) for case in cases], indent=1))
        return
    rows = [(case.id, case.must, case.requirement, case.title, case.because) for case in cases]
    table.show(("id", "must", "requirement", "message", "because"), rows)


@app.command()
def show(
    ids: Annotated[
        list[str], typer.Argument(metavar="ID...", help="Ids of cases, as `list` has.")
    ],
    as_json: _Json = False,
) -> None:
    """Explain cases: the change, the reason, and what an attacker would gain."""
    unknown = [ident for ident in ids if ident not in catalogue.BY_ID]
    if unknown:
        _fail(f"no case {', '.join(unknown)}; `plugvault cases list` has all ids")
    cases = [catalogue.BY_ID[ident] for ident in ids]
    if as_json:
        print(json.dumps([_explained(case) for case in cases], indent=1))
        return
    print("\n\n".join("\n".join(_lines(case)) for case in cases))


@app.command()
def make(
    vehicle: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="The vehicle's provisioning certificate or its chain, PEM or DER, leaf first. "
            "No private key is needed.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="The folder for the cases.", file_okay=False)
    ],
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**128 - 1,
            help="All keys come from it: the same seed, the same bytes.",
        ),
    ] = 1,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="The time of the cases: 2026-01-31[T12:00:00Z] or Unix seconds; today 00:00 UTC.",
        ),
    ] = None,
    pki: case_pki.Pki = case_pki.NEW,
    only: _Only = None,
    as_json: _Json = False,
) -> None:
    """Make messages, trust anchors and a manifest for a vehicle."""
    cases = catalogue.select(*(only or []))
    if not cases:
        _fail("no case matches; `plugvault cases list` has all ids")
    try:
        certificate = files.vehicle_of(vehicle.read_bytes())
        with case_pki.given(pki) as given:
            moment = case_pki.today(given) if at is None else int(seconds(at))
            manifest = files.make(out, certificate, cases, seed, moment, given)
    except (EvccError, OSError) as error:
        _fail(words.of(error))
    print(json.dumps(manifest, indent=1) if as_json else _summary(manifest, out))


def _summary(manifest: dict[str, Any], out: Path) -> str:
    rows, left_out = manifest["cases"], manifest["left_out"]
    counts = {must: sum(row["must"] == must for row in rows) for must in ("accept", "refuse")}
    text = (
        f"{len(rows)} cases in {out}: {counts['accept']} to accept, "
        f"{counts['refuse']} to refuse.\n"
        f"The vehicle must trust the roots in {out / 'trust'}, and no others; its clock is at "
        f"{manifest['at']}.\n"
        f"{out / 'manifest.json'} says for each message what the module must do."
    )
    if left_out:
        causes = ", ".join(sorted({row["why"] for row in left_out}))
        text += f"\n{len(left_out)} cases are left out: {causes}."
    return text


def _explained(case: Case) -> dict[str, Any]:
    changed = [change._asdict() for change in _difference(case)]
    return {**files.described(case), "changed": changed}


def _difference(case: Case) -> list[Any]:
    """The change of a case, for an example vehicle from the seed."""
    seed = Seed(1)
    pki = CasePki(seed, 1_767_225_600)
    vehicle = point(seed.key("vehicle"))
    built = case.build(Scene(pki, vehicle, case.id, catalogue.SLOTS[case.id]))
    if built.unchanged is None:
        return []
    return list(difference(built.unchanged, built.message))


def _lines(case: Case) -> list[str]:
    lines = [
        f"{case.id}  {case.title}",
        f"  must         {case.must}",
        f"  requirement  {case.requirement}",
        f"  because      {case.because}",
    ]
    if case.gain:
        lines.append(f"  otherwise    {case.gain}")
    if case.stage:
        lines.append(f"  stage        {case.stage}: {STAGES[case.stage]}")
    if case.timing is not None:
        times = asdict(case.timing).items()
        lines.append("  timing       " + ", ".join(f"{name} {value}" for name, value in times))
    for change in _difference(case):
        lines.append(f"  changed      {change.element}")
        lines += [
            f"    {word:<9}  {_short(text)}"
            for word, text in zip(("good", "changed"), (change.good, change.changed), strict=True)
        ]
    return lines


def _short(text: str) -> str:
    if not text:
        return "(nothing)"
    return text if len(text) <= 140 else f"{text[:96]}… ({len(text) // 2} bytes)"


def _fail(text: str) -> NoReturn:
    print(f"plugvault cases: {text}", file=sys.stderr)
    raise typer.Exit(2)
