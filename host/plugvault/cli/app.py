"""`plugvault`: it imports only the file of the sub-command.

A new command needs a row in `COMMANDS`. A command whose libraries are missing says so when it is
called, and the other commands work.
"""

import difflib
import importlib
import io
import sys
from collections.abc import Sequence
from typing import Any

import plugvault
from plugvault.cli import streams, words
from plugvault.printable import printable

# name: (module, attribute, help). A Typer is a group of commands; a function is one command.
COMMANDS = {
    "board": ("plugvault.cli.board", "app", "use a board: contracts, sessions, its log"),
    "campaign": ("plugvault.cli.campaign", "app", "test a vehicle of your own, and report"),
    "cases": ("plugvault.cli.cases", "app", "make test cases for a vehicle of your own"),
    "customer": ("plugvault.cli.customer", "customer", "show a vehicle's contracts"),
    "demo": ("plugvault.cli.demo", "demo", "show Plug & Charge, every key in a token"),
    "doctor": ("plugvault.cli.doctor", "doctor", "check this machine, and give advice"),
    "ecosystem": ("plugvault.cli.ecosystem", "app", "examine and change an ecosystem"),
    "exi": ("plugvault.cli.exi", "app", "convert EXI to JSON or XML, and back"),
    "explain": (
        "plugvault.cli.explain",
        "explain",
        "explain a contract message, step by step",
    ),
    "flash": ("plugvault.cli.flash", "flash", "put the module on a board"),
    "inspect": ("plugvault.cli.inspect", "inspect", "explain files, and check them"),
    "pki": ("plugvault.cli.pki", "app", "take over a test PKI of your own"),
    "requests": ("plugvault.cli.requests", "requests", "carry out files of HTTP requests"),
    "sandbox": ("plugvault.cli.sandbox", "sandbox", "run the whole ecosystem on one port"),
    "station": ("plugvault.cli.station", "station", "run a charging station for any vehicle"),
    "vault": ("plugvault.cli.vault", "app", "list, test and prepare tokens"),
    "vehicle": ("plugvault.cli.vehicle", "vehicle", "plug a vehicle into a charging station"),
}


def usage() -> str:
    """The help text of `plugvault` without a command."""
    rows = "\n".join(f"  {name:<9} {text}" for name, (_, _, text) in COMMANDS.items())
    return (
        "Usage: plugvault COMMAND [ARGS]...\n\n"
        "Plug & Charge from the car's side, its keys in an HSM, and the ecosystem around it.\n\n"
        f"Commands:\n{rows}\n\n"
        "  plugvault COMMAND --help   describes a command\n"
        "  plugvault --version        prints the version"
    )


def refuse(text: str) -> int:
    """Print an error on stderr. Returns exit status 2."""
    print(f"plugvault: {text}", file=sys.stderr)
    return 2


def _unknown(name: str) -> int:
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(COMMANDS)}."
    return refuse(f"no command is called `{name}`; {hint}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name). The exit status is returned, or raised as
    SystemExit."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    streams.open_missing()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # some terminals cannot show every character
            stream.reconfigure(errors="replace")
    try:
        try:
            return _dispatch(arguments)
        finally:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except OSError as e:
        streams.discard_output()  # a write to it has failed, or would fail at the exit
        if not isinstance(e, BrokenPipeError):
            print(printable(f"plugvault: {words.of(e)}"), file=sys.stderr)
        return 1


def _dispatch(arguments: list[str]) -> int:
    first = arguments[0] if arguments else "--help"
    if first in ("-h", "--help", "help"):
        print(usage())
        return 0
    if first in ("-V", "--version"):
        print(f"plugvault {plugvault.__version__}")
        return 0
    if first not in COMMANDS:
        return _unknown(first)
    return run(first, arguments[1:])


def run(name: str, arguments: list[str]) -> int:
    """Run a command with its arguments. Returns exit status 2 for a command whose libraries are
    missing; raises SystemExit for every other end."""
    module, attribute, _ = COMMANDS[name]
    try:
        import typer

        command_error = _error_of_a_line(typer.BadParameter)
        command: Any = getattr(importlib.import_module(module), attribute)
    except ImportError as e:
        return refuse(f"`{name}` cannot start: {e}. `make` installs what is missing.")
    app = command
    if not isinstance(command, typer.Typer):
        app = typer.Typer(
            add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
        )
        app.command()(command)
    try:
        status = app(args=arguments, prog_name=f"plugvault {name}", standalone_mode=False)
    except command_error as error:
        status = _refuse_command(name, error)
    except typer.Abort:
        status = refuse("ended: the question was not answered with yes")
    raise SystemExit(status if isinstance(status, int) else 0)


def _error_of_a_line(error: type[Any]) -> type[Any]:
    """The base of all errors of a command line: the most general one that makes a message. Newer
    versions of typer have it in a private module."""
    return next(base for base in reversed(error.__mro__) if "format_message" in vars(base))


def _refuse_command(name: str, error: Any) -> int:
    """Print one line for a wrong command line, with the next step. Without any argument the help
    has been printed already."""
    text = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    if text:
        path = context.command_path if context is not None else f"plugvault {name}"
        more = f"{text.rstrip('.')}; `{path} --help` says more"
        print(f"plugvault {name}: {more}", file=sys.stderr)
    return int(error.exit_code)


if __name__ == "__main__":
    raise SystemExit(main())
