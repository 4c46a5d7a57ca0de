"""`plugvault board`: everything that can be done with a flashed board."""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from plugvault.board import ports, simulated
from plugvault.board.bench import BoardBench
from plugvault.board.errors import DeviceError
from plugvault.board.flash import Flash, Wishes
from plugvault.board.folder import Board, Boards, default_folder
from plugvault.board.maker import BoardMaker, ecosystem
from plugvault.board.repl import Repl
from plugvault.cli import table
from plugvault.cli.flash import AsJson, Data, FlashTerminal, LinkPort, reported
from plugvault.cli.folders import stoppable
from plugvault.cli.vehicle.options import Mode
from plugvault.cli.waiting import waiting_user
from plugvault.printable import printable, printable_lines

app = typer.Typer(
    help="Use a board that `plugvault flash` has set up. PORT is the serial port of its prompt or"
    " of its link, or the number of its chip; a single board needs none. --data as for `flash`.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
Port = Annotated[
    str | None,
    typer.Argument(
        help="The board: a port of it, or its chip's number.", show_default="the only board"
    ),
]
_CUSTODY = (
    "The board's keys are in a token on this computer, over the link: a bench, and no car. A"
    " secure element on the board is their place in one."
)
_NO_LINE = (
    "No line came. `plugvault board status` asks the module for an answer; --link PORT names"
    " another link"
)
_STATUS = ("pcid", "certified", "custody", "region", "anchors", "charging", "locked", "revocation")
_FOREVER = 1e7  # seconds
_LOOK = 0.5  # seconds between two looks at the line, while no line of the log comes
_UNREAD = 10_000  # lines that wait for the reader of stdout; later ones are dropped
_Lines = queue.Queue[tuple[str, str]]  # (channel, text)
_CONTRACT = ("emaid", "operator", "not_after", "custody", "active", "lost")


def _board(port: str | None, link: str | None, data: Path | None) -> Board:
    """The board of the options, with the names that its ports have now. A link of the options is
    stored when the module has answered there (`_answering`)."""
    found = ports.find()
    board = Boards(data or default_folder()).find(port, found)
    if not board.maker:
        raise DeviceError(
            "state",
            f"the module is not on the board {board.uid}: the first `plugvault flash` did not come"
            " to its end. The same command again completes it",
        )
    if link is None:
        simulated.require_running(board.data, board.link)
        return board
    device = ports.named(link, found)
    ports.require_two(board.prompt, device.device)
    return replace(board, link=device.device, link_number=device.serial_number)


@contextlib.contextmanager
def _answering(board: Board, link: str | None) -> Iterator[BoardBench]:
    """The bench of a board whose module has answered. link: of the options, which is stored."""
    with contextlib.ExitStack() as stack:
        with waiting_user("answer", f"waiting for the module at {board.link}"):
            bench = stack.enter_context(BoardBench(board))
        if link is not None:
            board.save()
        yield bench


@contextlib.contextmanager
def _bench(
    port: str | None, link: str | None, data: Path | None, as_json: bool
) -> Iterator[BoardBench]:
    with stoppable(), reported(as_json), _answering(_board(port, link, data), link) as bench:
        yield bench


@contextlib.contextmanager
def _maker(
    port: str | None, link: str | None, data: Path | None, as_json: bool
) -> Iterator[BoardMaker]:
    """The board's maker. The ecosystem in the folder runs until the command ends."""
    folder = data or default_folder()
    with stoppable(), reported(as_json):
        board = _board(port, link, data)
        with ecosystem(folder) as world, _answering(board, link) as bench:
            yield BoardMaker(world, board, bench)


def _show(as_json: bool, data: Any, text: str) -> None:
    typer.echo(json.dumps(data, indent=1) if as_json else printable_lines(text))


def _tell_custody(vault: str) -> None:
    """Say that a custody shown before is that of a bench."""
    if vault == "link":
        typer.echo(_CUSTODY)


def _rows(columns: Sequence[str], rows: Sequence[dict[str, Any]], none: str) -> None:
    if not rows:
        typer.echo(none)
        return
    cells = ([printable(_cell(name, row.get(name))) for name in columns] for row in rows)
    table.show(columns, cells)


def _cell(name: str, value: Any) -> str:
    if name in ("not_before", "not_after", "time") and isinstance(value, int):
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value in (None, "") else str(value)


@app.command("list")
def list_(data: Data = None, as_json: AsJson = False) -> None:
    """List the boards that were flashed from here, and the serial ports of this computer.

    JSON: {"boards": [{"uid", "machine", "prompt", "link", "pcid", "here"}], "ports": [{"device",
    "kind", "description", "serial_number"}]}; `here`: its prompt's port is plugged in; "kind":
    "prompt", "bridge" (an adapter), "download" (an ESP without a program) or "other".
    """
    with reported(as_json):
        found = ports.find()
        boards = [board.ports(found) for board in Boards(data or default_folder()).all()]
        rows = [
            {
                **{name: getattr(board, name) for name in ("uid", "machine", "prompt", "link")},
                "pcid": board.pcid,
                "here": Path(board.prompt).exists(),
            }
            for board in boards
        ]
        names = ("device", "kind", "description", "serial_number")
        listed = [{name: getattr(port, name) for name in names} for port in found]
        if as_json:
            typer.echo(json.dumps({"boards": rows, "ports": listed}, indent=1))
            return
        columns = ("uid", "machine", "prompt", "link", "pcid", "here")
        _rows(
            columns,
            rows,
            "No board yet: `plugvault flash` or, without hardware, `plugvault board simulate`",
        )
        _rows(names, listed, "No USB serial port here")


@app.command()
def status(
    port: Port = None, link: LinkPort = None, data: Data = None, as_json: AsJson = False
) -> None:
    """Show the module's identity, contracts and state.

    JSON: {"runtime", "pcid", "certified", "custody", "region", "anchors", "contracts": [{"emaid",
    "operator", "not_before", "not_after", "custody", "active", "lost"}], "charging", "locked",
    "unnamed_keys", "time", "clock": "maker", "clock" or "unknown", "vault", "revocation"}.
    """
    with _bench(port, link, data, as_json) as bench:
        answer = bench.status()
        if as_json:
            typer.echo(json.dumps(answer, indent=1))
            return
        typer.echo(printable(f"{answer['runtime']} on {bench.board.machine}"))
        for name in (*_STATUS, "time", "clock"):
            value = printable(_cell(name, answer.get(name)))
            of_key = ", of the provisioning key" if name == "custody" and value != "-" else ""
            typer.echo(f"{name:<11} {value}{of_key}")
        _rows(_CONTRACT, answer["contracts"], "no contract yet")
        _tell_custody(answer["vault"])


@app.command()
def provision(
    port: Port = None, link: LinkPort = None, data: Data = None, as_json: AsJson = False
) -> None:
    """Make the board a car: a key, a certificate, trust anchors, and its entry in the pool.

    A board that has a certificate keeps it. JSON: {"pcid", "region", "anchors"}.
    """
    with _maker(port, link, data, as_json) as maker:
        made = maker.provision()
        _show(as_json, made, f"It is {made['pcid']}, with {made['anchors']} trust anchors")


@app.command()
def trust(
    port: Port = None,
    region: Annotated[str, typer.Option(help="The sales region: EU or NA.")] = "EU",
    link: LinkPort = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Replace the trust anchors by those of a sales region. JSON: {"region", "anchors"}."""
    with _maker(port, link, data, as_json) as maker:
        made = maker.trust(region)
        _show(as_json, made, f"{made['anchors']} trust anchors of {made['region']}")


@app.command()
def contracts(
    port: Port = None,
    choose: Annotated[
        str | None, typer.Option(help="Pay with this contract from now on.", metavar="EMAID")
    ] = None,
    remove: Annotated[
        str | None, typer.Option(help="Remove this contract and its key.", metavar="EMAID")
    ] = None,
    link: LinkPort = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """List the contracts in the board; choose or remove one first.

    JSON: [{"emaid", "operator", "not_before", "not_after", "custody", "active", "lost", "vault"}];
    "vault": "link" means that the custody is that of the token on this computer.
    """
    with _maker(port, link, data, as_json) as maker:
        if choose:
            maker.choose(choose)
        if remove:
            maker.remove(remove)
        vault = maker.vault()
        rows = [{**vars(contract), "vault": vault} for contract in maker.contracts()]
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
            return
        _rows(_CONTRACT, rows, "no contract yet: `plugvault board install`")
        _tell_custody(vault)


@app.command()
def install(
    port: Port = None,
    at_station: Annotated[
        bool, typer.Option("--at-station", help="In a charging session, not over the air.")
    ] = False,
    link: LinkPort = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a contract for the board and install it, over the air or at a station.

    JSON: {"emaid", "custody", "path", "vault"}; "vault" as for `contracts`.
    """
    with _maker(port, link, data, as_json) as maker:
        made = maker.install_at_station() if at_station else maker.install()
        text = f"{made['emaid']} is installed {made['path']}, custody {made['custody']}"
        _show(as_json, made, text)
        if not as_json:
            _tell_custody(made["vault"])


@app.command()
def authorize(
    port: Port = None,
    emaid: Annotated[
        str | None, typer.Option(help="The contract to pay with. Default: the active one.")
    ] = None,
    charge: Annotated[
        Mode | None,
        typer.Option(help="Charge for a moment after authorization, instead of a stop."),
    ] = None,
    pause: Annotated[
        bool,
        typer.Option("--pause", help="Pause that charge, and go on in a second session."),
    ] = False,
    timeouts: Annotated[
        int,
        typer.Option(
            help="Multiply the board's time-outs, for a computer with other work to do.",
            min=1,
            max=100,
            metavar="FACTOR",
        ),
    ] = 1,
    link: LinkPort = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Plug the board in at a station on this computer, up to authorization, or for a charge.

    JSON: {"event", "emaid", "evse"}, and with --charge "charge": its events in their order.
    """
    if pause and charge is None:
        raise typer.BadParameter("there is no charge to pause: say --charge AC or DC, too")
    with _maker(port, link, data, as_json) as maker:
        made = maker.authorize(emaid, charge and charge.value, pause, timeouts)
        events = "".join(f", {event}" for event in made.get("charge", []))
        _show(as_json, made, f"authorized and billed: {made['emaid']} at {made['evse']}{events}")


@app.command()
def log(
    port: Port = None,
    seconds: Annotated[
        float | None,
        typer.Option(help="End after this time. Default: at Ctrl-C.", min=0, max=_FOREVER),
    ] = None,
    link: LinkPort = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show the module's events and log lines as they come.

    JSON: a line each, {"channel": "event" or "log", "text"}.
    """
    lines: _Lines = queue.Queue(_UNREAD)

    def observe(channel: str, text: str) -> None:
        with contextlib.suppress(queue.Full):  # stdout is not read: the link must not wait for it
            lines.put_nowait((channel, text))

    with stoppable(), reported(as_json):
        board = _board(port, link, data)
        with BoardBench(board, observe, answer=0) as bench:
            is_silent = True
            for channel, text in _until(lines, bench, _FOREVER if seconds is None else seconds):
                is_silent = False
                line = json.dumps({"channel": channel, "text": text})
                typer.echo(line if as_json else f"{channel:<6} {printable(text)}")
        if is_silent:
            typer.echo(_NO_LINE, err=True)


def _until(lines: _Lines, bench: BoardBench, seconds: float) -> Iterator[tuple[str, str]]:
    """The lines as they come, until the time is over. Raises the error of a line that is lost,
    after the last ones."""
    end = time.monotonic() + seconds
    while bench.bench.failure is None and (left := end - time.monotonic()) > 0:
        with contextlib.suppress(queue.Empty):
            yield lines.get(timeout=min(left, _LOOK))
    for _ in range(lines.qsize()):
        yield lines.get()
    if bench.bench.failure is not None:
        raise bench.bench.failure


@app.command()
def reset(
    port: Port = None, link: LinkPort = None, data: Data = None, as_json: AsJson = False
) -> None:
    """Reset the board by its prompt, and wait until the module answers. JSON: its status."""
    with stoppable(), reported(as_json):
        board = _board(port, link, data)
        with board.locked(), Repl(board.prompt, soft_reset=False) as repl:
            repl.reset()
        with _answering(board, link) as bench:
            answer = bench.status()
            _show(as_json, answer, f"{answer['runtime']} answers at {board.link}")


@app.command()
def simulate(
    empty: Annotated[
        bool, typer.Option("--empty", help="Without the module, for `plugvault flash` to try.")
    ] = False,
    new: Annotated[bool, typer.Option("--new", help="With a new flash: nothing on it.")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Run an emulated Pico with the module on it, as two serial ports, until Ctrl-C.

    Its flash is kept in the folder of --data. The other commands find the board there, in another
    terminal. JSON, as soon as it is ready: {"prompt", "link", "uid"}. Ends with an error when the
    emulator ends by itself.
    """
    folder = data or default_folder()
    flash_file = folder / simulated.FLASH
    with stoppable(), reported(as_json), simulated.board(flash_file, new or empty) as emulated:
        ready = {"prompt": emulated.serial_port, "link": emulated.uart}
        if not empty:
            wishes = Wishes(port=ready["prompt"], link=ready["link"])
            report = FlashTerminal(as_json, agrees=True)
            with Flash(Boards(folder), wishes, report) as run:
                run.run()
            ready["uid"] = run.result["uid"]
        if as_json:
            typer.echo(json.dumps(ready))
        else:
            then = f"flash {ready['prompt']} --link {ready['link']}" if empty else "board status"
            option = f" --data {shlex.quote(str(data))}" if data else ""
            typer.echo(f"prompt  {ready['prompt']}\nlink    {ready['link']}")
            typer.echo(f"In another terminal: plugvault {then}{option}. Ctrl-C ends the board.")
        with contextlib.suppress(KeyboardInterrupt):
            emulated.wait_for_end()
