"""`plugvault demo`: the story, told live, or as data."""

from __future__ import annotations

import json
import tempfile
import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from evcc.errors import EvccError
from plugvault.cli.folders import memory, stoppable
from plugvault.cli.tokens import Said, names_a_token
from plugvault.demo import show
from plugvault.demo.record import DemoError, DemoRecord
from plugvault.demo.walkthrough import Walkthrough, choose_runtime
from plugvault.tokens.selection import choose


class RuntimeName(StrEnum):
    cpython = "cpython"
    micropython = "micropython"


class LinkName(StrEnum):
    tcp = "tcp"
    serial = "serial"


@names_a_token
def demo(
    said: Said,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run as data.")] = False,
    runtime: Annotated[
        RuntimeName | None,
        typer.Option(help="What the car's module runs on; MicroPython where there is one."),
    ] = None,
    link: Annotated[LinkName, typer.Option(help="How the car is wired to the host.")] = (
        LinkName.serial
    ),
    keep: Annotated[
        Path | None,
        typer.Option(help="A new folder that keeps tokens, database and captured messages."),
    ] = None,
) -> None:
    """A car is born, gets two contracts in the two ways the industry uses, and charges with each.

    Exit 0 only when every step was verified, 1 when one was not.

    With --token the car's keys are in a token of yours, which must hold no car's keys and is
    given back without.
    """
    if keep:
        keep = _new_folder(keep)
    console = Console(stderr=as_json)
    record = DemoRecord(None if as_json else show.Terminal(console))
    error = None
    try:
        chosen = choose_runtime(runtime.value if runtime else None)
        with (
            stoppable(),
            tempfile.TemporaryDirectory(prefix="plugvault-", dir=memory()) as temporary,
        ):
            folder = keep or Path(temporary)
            Walkthrough(record, chosen, link.value, folder, keep is not None, choose(*said)).tell()
    except Exception as e:  # noqa: BLE001 - whatever it was, `--json` answers with data
        error = str(e) if isinstance(e, DemoError) else f"{type(e).__name__}: {e}"
        if not isinstance(e, DemoError | EvccError | OSError):
            traceback.print_exc()
    data = record.as_data()
    if keep:
        data["kept"] = str(keep)
    if error:
        data["ok"] = False
        data["error"] = error
    if as_json:
        print(json.dumps(data, indent=1))
    elif error:
        for line in data.get("log", [])[-5:]:
            console.print(f"the car says: {line}", style="dim", highlight=False)
        console.print(error, style="red", highlight=False)
        console.print("If something is missing on this machine, `plugvault doctor` names it.")
    else:
        show.summary(console, data)
    raise typer.Exit(0 if data["ok"] else 1)


def _new_folder(folder: Path) -> Path:
    """`--keep` never mixes two runs, nor writes into what is somebody's."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise typer.BadParameter(
                f"{folder} is not empty: name a new folder", param_hint="--keep"
            )
    except OSError as e:
        raise typer.BadParameter(
            f"{folder}: {e.strerror}: name a new folder", param_hint="--keep"
        ) from e
    return folder.resolve()
