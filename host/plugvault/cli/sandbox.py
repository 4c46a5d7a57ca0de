"""`plugvault sandbox`: the whole ecosystem on one port, without set-up."""

import errno
import ipaddress
import json
import logging
import queue
import socket
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer
from rich import box
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from evcc.errors import EvccError
from evcc.vault import VaultError
from plugvault.cli import streams, words
from plugvault.cli.folders import stoppable
from plugvault.cli.options import options_from
from plugvault.cli.table import literal
from plugvault.cli.tokens import Config
from plugvault.ecosystem import server
from plugvault.ecosystem.companies import CALLERS
from plugvault.ecosystem.sandbox import Plan, Sandbox
from plugvault.opcp.open import WARNING
from plugvault.opcp.services import Settings
from plugvault.processes import ProcessError
from plugvault.temporary import temporary_folder
from plugvault.tokens.selection import choose_roles

PORT = 8080
POOL = "Example Pool"
# The loopback address of a server that listens on every address.
log = logging.getLogger("plugvault.cli.sandbox")

_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - the user asked for it
_PLAIN: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False}
# The prefixes of the identifiers that a role may act for: PCIDs (WMI), EMAIDs, EVSEIDs.
_SCOPES = {
    role: ", ".join(sorted(caller.wmis | caller.providers | caller.operators))
    for caller in CALLERS
    for role in caller.roles
}
_PORT_UNUSABLE = (errno.EADDRINUSE, errno.EACCES)  # another port may be usable
_EVENTS = 1000  # events of processes that wait for stdout
_CAR = ("pcid", "vin", "plate", "document", "emaid")


@dataclass(frozen=True)
class Options:
    """The options of the command."""

    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = PORT
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1"
    url: Annotated[
        str | None,
        typer.Option(
            help="The address that clients use, if it is not http://HOST:PORT. Requests are"
            " refused unless they name this host, --host or the loopback."
        ),
    ] = None
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the addresses and credentials as a line of JSON.")
    ] = False
    open_mode: Annotated[
        bool, typer.Option("--open", help="Let every caller play every role without a token.")
    ] = False
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps keys, credentials and database for the next start.",
            file_okay=False,
        ),
    ] = None
    database: Annotated[
        str | None,
        typer.Option(
            help="Database in place of a file: postgresql://USER@HOST/NAME.",
            envvar="PLUGVAULT_DATABASE",
        ),
    ] = None
    processes: Annotated[
        int, typer.Option(help="Number of processes that answer.", min=1, max=64)
    ] = 1
    workers: Annotated[
        int, typer.Option(help="Number of processes that deliver events.", min=1, max=64)
    ] = 1
    providers: Annotated[
        str | None,
        typer.Option(help="Run several ecosystems that are partners: hubject,irdeto,gireve"),
    ] = None
    requests: Annotated[
        Path | None,
        typer.Option(
            help="Write HTTP requests for each business process into this folder. They hold"
            " client secrets.",
            file_okay=False,
        ),
    ] = None
    tls: Annotated[
        bool, typer.Option("--tls", help="Serve HTTPS under the ecosystem's own V2G root.")
    ] = False
    dual_control: Annotated[
        bool, typer.Option("--dual-control", help="Require two administrators to change a root.")
    ] = False
    keep_events: Annotated[
        float, typer.Option(help="Days to keep an event after its delivery.", min=1, max=36_500)
    ] = 30
    allow_network: Annotated[
        list[str] | None,
        typer.Option(
            help="Let webhooks reach this network although it is not public.", metavar="CIDR"
        ),
    ] = None
    config: Config = None

    @property
    def ecosystems(self) -> list[str]:
        """The ecosystems' names."""
        if self.providers is None:
            return [POOL]
        names = [name.strip() for name in self.providers.split(",")]
        if not all(name.isalnum() and len(name) <= 20 for name in names):
            raise typer.BadParameter("names of letters and digits, joined by commas")
        if len(set(names)) != len(names) or not 2 <= len(names) <= 9:
            raise typer.BadParameter("two to nine names, each once")
        return names

    @property
    def settings(self) -> Settings:
        """The settings of the ecosystems. Raises typer.BadParameter."""
        try:
            networks = [str(ipaddress.ip_network(text)) for text in self.allow_network or []]
        except ValueError as error:
            raise typer.BadParameter(f"{error}", param_hint="--allow-network") from error
        return Settings(
            open=self.open_mode,
            dual_control=self.dual_control,
            hosts=(self.host,),
            networks=tuple(networks),
            keep_events=self.keep_events * 86_400,
        )


@options_from(Options)
def sandbox(options: Options) -> None:
    """Run the whole Plug & Charge ecosystem on one port, without set-up.

    Roles, credentials and sample vehicles are ready and printed once; Ctrl-C ends the sandbox. Its
    page at / shows the first steps. With --json one line is printed as soon as it answers:
    {"url", "token_url", "roles": {"OEM": {"client_id", "client_secret", "audience"}, "CPO",
    "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPS", "ADMIN"}, "vehicles": [{"pcid", "vin", "plate",
    "document", "emaid"}]}, with --providers also {"providers": {NAME: {the same}}}.

    Later lines are events of its processes: {"event": "ended" | "again" | "does not start" |
    "failing" | "works", "ecosystem", "work": "answer" | "deliver", "pid", "restarts", "loop",
    "text"}. The last two events are of a loop of the process, which goes on meanwhile.

    Without --data everything is deleted at the end. With --data the next start uses the same keys,
    credentials and database.

    To use several machines, give each machine a copy of one --data folder, the same --database
    postgresql://... and the same --url, the one of the load balancer. The folder holds keys and
    client secrets: protect a copy like a password. Start once before the folder is copied.

    With --tls, clients trust certificates/v2g-root.pem of the --data folder, or of each provider's
    folder in it. A charging station can renew its certificate with its current one (EST
    simplereenroll).

    With --providers each ecosystem has its own port, from --port on, and its own database:
    --database then holds the word {provider}.

    A --config file with a table [role.v2g] (oem, mo, cps, cpo, auth) puts that role's keys into
    the token that the table names. The other roles' tokens are made in the folder.
    """
    console = Console(stderr=options.as_json, highlight=False)
    names, settings = options.ecosystems, options.settings
    _check_url(options.url)
    with ExitStack() as stack:
        stack.enter_context(stoppable())
        events: queue.Queue[dict[str, Any]] = queue.Queue(_EVENTS)
        folder = options.data
        if folder is None:
            folder = stack.enter_context(temporary_folder())
        listeners = [_listen(stack, options, index) for index in range(len(names))]
        try:
            plans = _plans(options, names, listeners, folder)
            report = _start(stack, options, plans, settings, console, events)
        except (EvccError, ProcessError, OSError, ValueError) as error:
            console.print(f"The sandbox did not start: {literal(words.of(error))}", style="red")
            raise typer.Exit(1) from error
        if options.as_json:
            print(json.dumps(report), flush=True)
        else:
            _show(console, report, settings, _hints(plans, options.requests, options.tls))
        while True:
            event = events.get()
            if options.as_json:
                _print(event)


def _print(event: dict[str, Any]) -> None:
    """Print an event, while stdout takes it: a script may have closed it after the first line."""
    try:
        print(json.dumps(event), flush=True)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            log.warning("no further events: stdout takes none: %s", error.strerror)
        streams.discard_output()


def _start(
    stack: ExitStack,
    options: Options,
    plans: list[Plan],
    settings: Settings,
    console: Console,
    events: queue.Queue[dict[str, Any]],
) -> dict[str, Any]:
    """Start the ecosystems, which run until `stack` ends. The report for their clients. `events`:
    gets the events of the processes, as long as it has room."""

    def observe(event: dict[str, Any]) -> None:
        try:
            events.put_nowait(event)
        except queue.Full:  # processes must not wait for a reader of stdout
            log.warning("stdout is not read, and does not get this event: %s", event)

    if options.requests:
        options.requests.mkdir(mode=0o700, parents=True, exist_ok=True)
    with console.status("Starting") as status:
        running = Sandbox(
            plans,
            settings,
            {"answer": options.processes, "deliver": options.workers},
            options.requests,
            options.tls,
            on_step=status.update,
            observe=observe,
        )
        return stack.enter_context(running).report


def _check_url(url: str | None) -> None:
    try:
        parts = urlsplit(url or "http://localhost")
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_url = False
    if not is_url or parts.query or parts.fragment:
        raise typer.BadParameter("http://... or https://...", param_hint="--url")


def _listen(stack: ExitStack, options: Options, index: int) -> socket.socket:
    """The listening socket of an ecosystem, open until `stack` ends."""
    port = options.port + index if options.port else 0
    try:
        return stack.enter_context(server.listen(options.host, port))
    except OverflowError as error:
        text = f"{options.host}:{port}: the last port is 65535; name a lower first --port"
        raise typer.BadParameter(text) from error
    except OSError as error:
        advice = "; --port 0 takes one that is free" if error.errno in _PORT_UNUSABLE else ""
        text = f"{options.host}:{port}: {error.strerror or error}{advice}"
        raise typer.BadParameter(text) from error


def _plans(
    options: Options, names: list[str], listeners: list[socket.socket], folder: Path
) -> list[Plan]:
    """The ecosystems to run. Raises VaultError."""
    database = options.database
    if options.providers and (options.url or (database and "{provider}" not in database)):
        raise typer.BadParameter("with --providers: no --url, and {provider} in --database")
    role_tokens = choose_roles(options.config)
    if role_tokens and options.providers:
        raise VaultError("refused", "tokens of your own are for one ecosystem: no --providers")
    scheme = "https" if options.tls else "http"
    local_host = _LOOPBACK.get(options.host, options.host)
    host = socket.gethostname() if options.host in _LOOPBACK else options.host
    plans = []
    for name, listener in zip(names, listeners, strict=True):
        port = listener.getsockname()[1]
        place = folder / name if options.providers else folder
        plans.append(
            Plan(
                name=name,
                folder=place,
                listener=listener,
                local_url=f"{scheme}://{_in_url(local_host)}:{port}",
                url=(options.url or f"{scheme}://{_in_url(host)}:{port}").rstrip("/"),
                database=(database or f"sqlite:///{place / 'ecosystem.sqlite'}").replace(
                    "{provider}", name
                ),
                role_tokens=role_tokens,
            )
        )
    return plans


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _hints(plans: Sequence[Plan], requests: Path | None, tls: bool) -> dict[str, dict[str, str]]:
    """Further lines to show, by the ecosystem's name."""
    hints: dict[str, dict[str, str]] = {plan.name: {} for plan in plans}
    trust = ""
    for plan in reversed(plans) if tls else ():
        root = plan.folder / "certificates" / "v2g-root.pem"
        hints[plan.name]["to trust"] = str(root)
        trust = f"--trust {root} "
    if requests:  # the requests are for the first ecosystem
        hints[plans[0].name]["requests"] = f"plugvault requests {trust}{requests}/*.http"
    return hints


def _show(
    console: Console,
    report: dict[str, Any],
    settings: Settings,
    hints: Mapping[str, Mapping[str, str]],
) -> None:
    if settings.open:
        console.print(Panel(WARNING, style="bold white on red"))
    for name, ecosystem in report.get("providers", {"": report}).items():
        console.print(f"\n[bold]{name or 'The ecosystem'}[/] is up; Ctrl-C ends it")
        lines = {
            "start here": f"{ecosystem['url']}/",
            "every call": f"{ecosystem['url']}/docs",
            "tokens": ecosystem["token_url"],
            "audience": ecosystem["url"],
            **hints.get(name or POOL, {}),
        }
        for label, value in lines.items():
            console.print(f"  {label:<11} [cyan]{value}[/]", soft_wrap=True)
        roles = Table("role", "acts for", "client_id, client_secret", **_PLAIN)
        for role, credentials in ecosystem["roles"].items():
            # On two lines, so that a narrow terminal does not cut the secret.
            pair = f"{credentials['client_id']}\n{credentials['client_secret']}"
            roles.add_row(role, _SCOPES.get(role, ""), pair)
        cars = Table("PCID", "VIN", "plate", "document", "contract", **_PLAIN)
        for car in ecosystem["vehicles"]:
            cars.add_row(*(car.get(key, "-") for key in _CAR))
        console.print()
        console.print(roles)
        console.print()
        console.print(cars)
