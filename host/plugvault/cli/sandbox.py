"""`plugvault sandbox`: the whole ecosystem on one port, ready to be talked to."""

import errno
import ipaddress
import json
import signal
import socket
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
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
from plugvault.cli.folders import memory, stoppable
from plugvault.cli.tokens import Config
from plugvault.ecosystem import server
from plugvault.ecosystem.companies import CALLERS
from plugvault.ecosystem.sandbox import Plan, Sandbox
from plugvault.opcp.open import WARNING
from plugvault.opcp.services import Settings
from plugvault.processes import ProcessError
from plugvault.tokens.selection import choose_roles

PORT = 8080
POOL = "Example Pool"
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where everybody may call, so may we
_PLAIN: dict[str, Any] = {"box": box.SIMPLE_HEAD, "show_edge": False, "pad_edge": False}
# What begins the identifiers a role may act for: PCIDs (WMI), EMAIDs, EVSEIDs.
_SCOPES = {
    role: ", ".join(sorted(caller.wmis | caller.providers | caller.operators))
    for caller in CALLERS
    for role in caller.roles
}
_PORT = (errno.EADDRINUSE, errno.EACCES)  # another port may do
_CAR = ("pcid", "vin", "plate", "document", "emaid")


def sandbox(
    port: Annotated[int, typer.Option(help="0: one that is free.", min=0, max=65535)] = PORT,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    url: Annotated[
        str | None,
        typer.Option(
            help="The address clients use, where that is not http://HOST:PORT. Requests by other"
            " names than this one's, --host's and the loopback's are refused."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="What to call it with, as one line of JSON.")
    ] = False,
    open_mode: Annotated[
        bool, typer.Option("--open", help="Anyone may play any role without a token.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps keys, credentials and database for the next time."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            help="postgresql://USER@HOST/NAME in place of a file.", envvar="PLUGVAULT_DATABASE"
        ),
    ] = None,
    processes: Annotated[int, typer.Option(help="Processes that answer.", min=1, max=64)] = 1,
    workers: Annotated[
        int, typer.Option(help="Processes that deliver events.", min=1, max=64)
    ] = 1,
    providers: Annotated[
        str | None,
        typer.Option(help="Several ecosystems that are partners: hubject,irdeto,gireve"),
    ] = None,
    requests: Annotated[
        Path | None,
        typer.Option(
            help="Write HTTP requests for each business process here; they hold secrets."
        ),
    ] = None,
    tls: Annotated[
        bool, typer.Option("--tls", help="HTTPS, under the ecosystem's own V2G root.")
    ] = False,
    dual_control: Annotated[
        bool, typer.Option("--dual-control", help="Two administrators to change a root.")
    ] = False,
    keep_events: Annotated[
        float, typer.Option(help="Days an event stays after it was delivered.", min=1)
    ] = 30,
    allow_network: Annotated[
        list[str] | None,
        typer.Option(
            help="Network that webhooks may reach although it is not public.", metavar="CIDR"
        ),
    ] = None,
    config: Config = None,
) -> None:
    """Run the whole Plug & Charge ecosystem on one port, with nothing to set up.

    Roles, credentials and sample vehicles are ready and printed once; Ctrl-C ends it. The page at
    / says what to do first. With --json one line comes when it answers:
    {"url", "token_url", "roles": {"OEM": {"client_id", "client_secret", "audience"}, "CPO",
    "MO_EXTERNAL_PKI", "MO_HUBJECT_PKI", "CPS", "ADMIN"}, "vehicles": [{"pcid", "vin", "plate",
    "document", "emaid"}]}, with --providers also {"providers": {NAME: {the same}}}.

    Without --data everything is thrown away at the end. A folder of an earlier run is taken up
    again, with its keys and credentials.

    On more than one machine: give each a copy of one --data folder (it holds the keys and
    client secrets: copy it as you would a password), the same --database postgresql://... and
    the same --url, the one of what shares the load among them. The folder must have been filled
    by one start before it is copied.

    With --tls the root to trust is certificates/v2g-root.pem of the --data folder, or of each
    provider's folder in it. A charging station may renew its certificate with the one it has
    (EST simplereenroll).

    With --providers each has a port of its own, from --port on, and a database of its own:
    --database then holds the word {provider}.

    A --config file with a table [role.v2g] (oem, mo, cps, cpo, auth) has that role's keys in the
    token that it names, wherever that is; the others are made in the folder.
    """
    names = _names(providers)
    console = Console(stderr=as_json, highlight=False)
    _known_as(url)
    settings = Settings(
        open=open_mode,
        dual_control=dual_control,
        hosts=(host,),
        networks=_networks(allow_network or []),
        keep_events=keep_events * 86_400,
    )
    with ExitStack() as stack:
        stack.enter_context(stoppable())
        folder = data
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="plugvault-", dir=memory())
            folder = Path(stack.enter_context(temporary))
        plans = [
            _plan(stack, name, index, folder, host, port, url, database, tls)
            for index, name in enumerate(names)
        ]
        try:
            plans = _with_tokens(plans, config)
            if requests:
                requests.mkdir(mode=0o700, parents=True, exist_ok=True)
            with console.status("Starting") as status:
                run = stack.enter_context(
                    Sandbox(
                        plans,
                        settings,
                        {"answer": processes, "deliver": workers},
                        requests,
                        tls,
                        on_step=status.update,
                    )
                )
        except (EvccError, ProcessError, OSError, ValueError) as error:
            console.print(f"The sandbox did not start: {_why(error)}", style="red")
            raise typer.Exit(1) from error
        if as_json:
            print(json.dumps(run.report), flush=True)
        else:
            _show(console, run.report, settings, _hints(plans, requests, tls))
        signal.pause()


def _with_tokens(plans: list[Plan], config: Path | None) -> list[Plan]:
    roles = choose_roles(config)
    if roles and len(plans) > 1:
        raise VaultError("refused", "tokens of your own are for one ecosystem: no --providers")
    return [replace(plan, role_tokens=roles) for plan in plans]


def _why(error: Exception) -> str:
    if isinstance(error, EvccError):
        return error.detail or error.reason
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _names(providers: str | None) -> list[str]:
    if providers is None:
        return [POOL]
    names = [name.strip() for name in providers.split(",")]
    if not all(name.isalnum() and len(name) <= 20 for name in names):
        raise typer.BadParameter("names of letters and digits, joined by commas")
    if len(set(names)) != len(names) or not 2 <= len(names) <= 9:
        raise typer.BadParameter("two to nine names, each once")
    return names


def _networks(given: list[str]) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_network(one)) for one in given)
    except ValueError as error:
        raise typer.BadParameter(f"{error}", param_hint="--allow-network") from error


def _known_as(url: str | None) -> None:
    at = urlsplit(url or "http://here")
    if at.scheme not in ("http", "https") or not at.hostname or at.query or at.fragment:
        raise typer.BadParameter("http://... or https://...", param_hint="--url")


def _plan(
    stack: ExitStack,
    name: str,
    index: int,
    folder: Path,
    host: str,
    port: int,
    url: str | None,
    database: str | None,
    tls: bool,
) -> Plan:
    wanted = port + index if port else 0
    try:
        listener = stack.enter_context(server.listen(host, wanted))
    except OSError as error:
        way_out = "; --port 0 takes one that is free" if error.errno in _PORT else ""
        raise typer.BadParameter(f"{host}:{wanted}: {error.strerror or error}{way_out}") from error
    several = name != POOL
    if several:
        folder = folder / name
    if several and (url or (database and "{provider}" not in database)):
        raise typer.BadParameter("with --providers: no --url, and {provider} in --database")
    at = listener.getsockname()[1]
    scheme = "https" if tls else "http"
    known_as = socket.gethostname() if host in _HERE else host
    return Plan(
        name=name,
        folder=folder,
        listener=listener,
        local=f"{scheme}://{_shown(_HERE.get(host, host))}:{at}",
        url=(url or f"{scheme}://{_shown(known_as)}:{at}").rstrip("/"),
        database=(database or f"sqlite:///{folder / 'ecosystem.sqlite'}").replace(
            "{provider}", name
        ),
    )


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _hints(plans: Sequence[Plan], requests: Path | None, tls: bool) -> dict[str, dict[str, str]]:
    """What more there is to know, by the ecosystem's name."""
    hints: dict[str, dict[str, str]] = {plan.name: {} for plan in plans}
    trust = ""
    for plan in reversed(plans) if tls else ():
        root = plan.folder / "certificates" / "v2g-root.pem"
        hints[plan.name]["to trust"] = str(root)
        trust = f"--trust {root} "
    if requests:  # they are for the first
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
    for name, one in report.get("providers", {"": report}).items():
        console.print(f"\n[bold]{name or 'The ecosystem'}[/] is up; Ctrl-C ends it")
        addresses = {
            "start here": f"{one['url']}/",
            "every call": f"{one['url']}/docs",
            "tokens": one["token_url"],
            "audience": one["url"],
        }
        for what, said in {**addresses, **hints.get(name or POOL, {})}.items():
            console.print(f"  {what:<11} [cyan]{said}[/]", soft_wrap=True)
        roles = Table("role", "acts for", "client_id, client_secret", **_PLAIN)
        for role, given in one["roles"].items():
            # One below the other: a secret that a narrow terminal cuts is none.
            pair = f"{given['client_id']}\n{given['client_secret']}"
            roles.add_row(role, _SCOPES.get(role, ""), pair)
        cars = Table("PCID", "VIN", "plate", "document", "contract", **_PLAIN)
        for car in one["vehicles"]:
            cars.add_row(*(car.get(key, "-") for key in _CAR))
        console.print()
        console.print(roles)
        console.print()
        console.print(cars)
