"""`plugvault pki import`: a test PKI of another program, into the folder of an ecosystem."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from evcc.errors import EvccError
from plugvault.cli import table, words
from plugvault.cli.folders import stoppable
from plugvault.ecosystem import imported
from plugvault.ecosystem.folder import Folder, sandbox_lock
from plugvault.pki import collection, layout
from plugvault.pki.collection import Collection
from plugvault.pki.layout import SLOTS, Layout, Member
from plugvault.printable import printable

app = typer.Typer(
    help="Work with a test PKI of your own.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _group() -> None:
    """Work with a test PKI of your own."""


@app.command("import")
def import_(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER|FILE",
            help="A folder with all below it, or one file: PEM, DER, PKCS#7, PKCS#12, JKS.",
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="The folder of an ecosystem, as `sandbox --data` has it; made when missing."
            " Without it nothing is written.",
            file_okay=False,
        ),
    ] = None,
    password_file: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A file with the password of keys or key stores, in its first line; may be"
            " repeated. Files called *password* or *passphrase* beside the keys are read anyway.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Take over an existing test PKI: of EcoG, EVerest, RISE-V2G, or your own.

    Each certificate gets its place by its path and its role, whatever its file is called. With
    --data the private keys go into the tokens of that folder and the certificates beside them;
    `plugvault sandbox --data DIR` and `plugvault station --data DIR` then work with this PKI, and
    make what it lacks.

    Exit status: 0 when something has a place (and was taken over), 1 when nothing has or can be,
    2 when the folder or file cannot be read.
    """
    try:
        passwords = [_first_line(file) for file in password_file or []]
        found = collection.read(place, passwords)
    except (EvccError, OSError) as error:
        _fail(2, words.of(error))
    arranged = layout.arranged(found, time.time())
    report = None if data is None else _store(data, arranged)
    if as_json:
        print(json.dumps(_document(found, arranged, report), indent=1))
    else:
        _show(place, found, arranged)
        _show_next(data, report)
    raise typer.Exit(0 if _places(arranged) else 1)


def _store(data: Path, arranged: Layout) -> imported.Imported:
    try:
        with stoppable(), sandbox_lock(data):
            return imported.store(Folder(data), arranged)
    except (EvccError, OSError) as error:
        _fail(1, words.of(error))


def _first_line(file: Path) -> str:
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[0].rstrip("\r") if lines else ""


def _places(arranged: Layout) -> list[tuple[str, str, Member]]:
    """(slot, its meaning, member) of everything that has a place."""
    slots = [(slot, SLOTS[slot], arranged.slots[slot]) for slot in SLOTS if slot in arranged.slots]
    vehicles = [("vehicle", "vehicle (OEM provisioning)", m) for m in arranged.vehicles.values()]
    contracts = [("contract", "contract", member) for member in arranged.contracts.values()]
    return [*slots, *vehicles, *contracts]


def _show(place: Path, found: Collection, arranged: Layout) -> None:
    keys = sum(key is not None for key in found.certificates.values())
    count = len(found.certificates)
    print(f"{printable(place)}: {count} certificates, {keys} with their private keys")
    rows = [
        (slot, what, member.name, "private key" if member.key else "no key", member.source)
        for slot, what, member in _places(arranged)
    ]
    table.show(("place", "meaning", "subject", "key", "file"), rows)
    for member, reason in arranged.others:
        print(printable(f"not placed  {member.source}: {reason}"))
    for file in found.lost_keys:
        print(printable(f"not placed  {file}: a private key without its certificate"))
    for problem in found.problems:
        print(printable(f"not read    {problem}"))
    for lacking in arranged.missing:
        print(printable(f"missing     {lacking}"))


def _show_next(data: Path | None, report: imported.Imported | None) -> None:
    if report is None:
        print("\nNothing is written: name the folder of an ecosystem with --data DIR.")
        return
    for name, reason in report.left.items():
        print(printable(f"not used    {name}: {reason}"))
    count = len(report.used) + len(report.leaves)
    roots = sum(slot.endswith("-root") for slot in (*report.used, *report.trusted))
    print(
        f"\n{count} private keys are in the tokens of {data}, {roots} roots are"
        f" trusted there.\nNext: plugvault sandbox --data {data}, or"
        f" plugvault cases make --pki {data}"
    )


def _document(
    found: Collection, arranged: Layout, report: imported.Imported | None
) -> dict[str, Any]:
    return {
        "certificates": [
            {
                "place": slot,
                "subject": member.name,
                "key": member.key is not None,
                "file": member.source,
            }
            for slot, _, member in _places(arranged)
        ],
        "others": [{"file": m.source, "reason": reason} for m, reason in arranged.others],
        "lostKeys": found.lost_keys,
        "problems": found.problems,
        "missing": arranged.missing,
        "imported": None if report is None else vars(report),
    }


def _fail(status: int, text: str) -> NoReturn:
    print(f"plugvault pki: {printable(text)}", file=sys.stderr)
    raise typer.Exit(status)
