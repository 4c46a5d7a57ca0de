"""`plugvault station`: a charging station that any vehicle can talk to.

options.py   the options of the command, and their checks
supply.py    certificates, roots and contracts: of a sandbox, a folder or a file
view.py      the display: a live table, or a line of JSON for each event
run.py       SDP and the servers, until the end
"""

import asyncio
import sys
from contextlib import ExitStack

import typer
from rich.console import Console

from evcc.errors import EvccError
from plugvault.capture import Capture
from plugvault.cli import words
from plugvault.cli.folders import stoppable
from plugvault.cli.options import options_from
from plugvault.cli.station import supply
from plugvault.cli.station.options import Options
from plugvault.cli.station.run import Run
from plugvault.cli.station.view import JsonView, LiveView, View
from plugvault.cli.table import literal
from plugvault.interfaces import wait

__all__ = ["station"]


@options_from(Options)
def station(options: Options) -> None:
    """Run a charging station (SECC) of ISO 15118-2 on a network interface.

    A vehicle finds it by SDP, connects over TLS 1.2, and goes through its session. Its contract
    comes from the pool of an ecosystem: of a running sandbox (--sandbox), of the folder of one
    (--data), or of a new one that ends with this command. --serve sends a file in its place.

    The key of the station's certificate stays in the CPO's token. Vehicles must trust the V2G root
    that is shown first.

    Without TLS a vehicle gets no payment by contract and no contract, unless --insecure-contract.

    Faults, each as often as you like: `--delay Authorization=1.5`, `--drop PaymentDetails`,
    `--answer Authorization=FAILED`, and `--bandwidth`, `--no-certificate-service`,
    `--large-bundle`. A message is named with or without Req or Res.

    With --json each event is a line: {"event": "ready" | "search" | "connected" | "tls" |
    "message" | "authorized" | "charging" | "charged" | "paused" | "ended" | "turned-away" |
    "over", …}.

    Exits 0 when every session was authorized and ended by the vehicle's SessionStop; 1 when one
    was not, or the station cannot start; 2 for wrong options. Ctrl-C ends it.
    """
    faults = options.faults
    console = Console(stderr=options.as_json, highlight=False)
    view: View = JsonView(sys.stdout) if options.as_json else LiveView(console, options.warning)
    with ExitStack() as stack:
        stack.enter_context(stoppable())
        try:
            local = wait(options.interface)
            capture = stack.enter_context(Capture(options.pcap)) if options.pcap else None
            with console.status("Starting"):
                supplied = supply.find(stack, options)
            run = Run(options, faults, local, supplied, view, capture)
            stack.enter_context(view)
            asyncio.run(run.until_the_end())
        except BrokenPipeError:
            raise  # stdout has no reader any more, and `app.main` ends silently
        except (EvccError, OSError, ValueError) as error:
            text = f"The station does not run: {literal(words.of(error))}"
            console.print(text, style="red", soft_wrap=True)
            raise typer.Exit(1) from error
    raise typer.Exit(0 if view.all_authorized else 1)
