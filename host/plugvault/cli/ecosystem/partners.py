"""`plugvault ecosystem partners`: clients, other ecosystems, provider identifiers."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from plugvault.cli.ecosystem.common import (
    local_user,
    moment,
    new_group,
    print_done,
    print_rows,
    reading,
    writing,
)
from plugvault.ecosystem.links import Links
from plugvault.federation.peers import ONLY_YOURS, Link
from plugvault.pools import audit, clients, peers, providers
from plugvault.pools.caller import PEER, Caller
from plugvault.pools.records import Client
from plugvault.roles.client import OpcpError

app = new_group("Clients and their scopes, other ecosystems, identifiers of providers.")
ClientId = Annotated[str, typer.Argument(metavar="CLIENT_ID")]
Several = list[str] | None


@app.command("list")
def listed(context: typer.Context) -> None:
    """Who may ask for access tokens."""
    with reading(context) as records:
        found = [_show(client) for client in records.clients.all()]
    print_rows(context, found, "name", "roles", "scopes", "active", "client_id", none="no clients")


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The company.")],
    role: Annotated[list[str], typer.Option(help="OEM, CPO, MO_EXTERNAL_PKI, …")],
    wmi: Annotated[Several, typer.Option(help="Of a maker, as in PVT.")] = None,
    provider: Annotated[Several, typer.Option(help="Of an operator, as in DEPVA.")] = None,
    operator: Annotated[Several, typer.Option(help="Of charge points, as in DEPVC.")] = None,
) -> None:
    """Let a client in. Its secret is said once and kept nowhere.

    A provider identifier must be the company's already: `partners provider`.
    """
    credentials = clients.new_credentials()
    new = Caller(
        name,
        frozenset(role),
        frozenset(wmi or ()),
        frozenset(one.replace("-", "").upper() for one in provider or ()),
        frozenset(operator or ()),
    )
    with writing(context) as records:
        clients.register(records, new, credentials, local_user().name, time.time())
    _say_once(context, credentials)


@app.command()
def suspend(context: typer.Context, client_id: ClientId) -> None:
    """Lock a client out, with every token it has: within seconds."""
    _activate(context, client_id, False)


@app.command()
def readmit(context: typer.Context, client_id: ClientId) -> None:
    """Let a client in again."""
    _activate(context, client_id, True)


@app.command()
def apply(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What it is called here.")],
    url: Annotated[str, typer.Argument(help="Its address, as its clients know it.")],
) -> None:
    """Take another ecosystem's application. Its secret is said once and kept nowhere.

    Give both to the people who run it; they are good for nothing before `move NAME audited` and
    `move NAME active`. What they give you in return is for `link`.
    """
    credentials = clients.new_credentials()
    who, now = local_user().name, time.time()
    with writing(context) as records:
        clients.register(records, Caller(name, frozenset({PEER})), credentials, who, now)
        peer = peers.apply(records, name, url, credentials[0], who, now)
    _say_once(context, credentials, state=peer.state)


@app.command()
def link(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of another ecosystem.")],
    client_id: Annotated[str, typer.Option(help="That it gave to this one.")],
    trust: Annotated[
        Path | None,
        typer.Option(help="PEM of the root its HTTPS stands under, where it is not public."),
    ] = None,
) -> None:
    """Keep what another ecosystem is called with; its client_secret is asked for, or read from
    stdin. In use at once. On several machines: once on each."""
    links = _links(context)
    secret = (
        typer.prompt("client_secret", hide_input=True)
        if sys.stdin.isatty()
        else sys.stdin.readline().strip()
    )
    with writing(context) as records:
        peer = peers.get(records, name)
        root = trust.read_text() if trust else None
        new = Link(client_id, secret, peer.url, root)
        new.open().close()  # a root that cannot be read is told here
        audit.note(records, local_user().name, "partner linked", name, peer.url, time.time())
        links.save({name: new})
    print_done(context, f"{name} is called at {peer.url}", name=name, url=peer.url)


@app.command()
def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of another ecosystem.")],
) -> None:
    """Ask another ecosystem for its roots: whether the link holds and it lets us in."""
    with reading(context) as records:
        state = peers.get(records, name).state
    links = _links(context)
    if name not in links:
        raise typer.BadParameter(f"{name} has no link yet: `partners link`")
    try:
        with links[name].open() as there:
            found = there.call("GET", "/v1/root/rootCerts", headers=ONLY_YOURS)
    except OpcpError as error:
        typer.secho(f"plugvault ecosystem: {name}: {error.detail}", err=True, fg="red")
        raise typer.Exit(1) from error
    count = len(found["RootCertificateCollection"]["rootCertificates"])
    said = f"{name} answers and has {count} roots; here it is {state}"
    print_done(context, said, name=name, roots=count, state=state)


@app.command()
def ecosystems(context: typer.Context) -> None:
    """Other ecosystems, and how far they are trusted."""
    with reading(context) as records:
        found = [
            {
                "name": peer.name,
                "url": peer.url,
                "state": peer.state,
                "since": moment(peer.since),
                "client_id": peer.client_id,
            }
            for peer in records.peers.all()
        ]
    print_rows(context, found, "name", "url", "state", "since", none="no other ecosystems")


@app.command()
def move(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of another ecosystem.")],
    state: Annotated[str, typer.Argument(help="audited, active or suspended")],
) -> None:
    """The next step with another ecosystem: applied, audited, active; suspended."""
    with writing(context) as records:
        moved = peers.move(records, name, state, local_user().name, time.time())
    print_done(context, f"{name} is {moved.state}", name=name, state=moved.state)


@app.command("providers")
def identifiers(context: typer.Context) -> None:
    """Which company which provider identifier was given to."""
    with reading(context) as records:
        found = [
            {
                "provider": entry.provider,
                "company": entry.name,
                "registry": entry.registry,
                "active": entry.active,
            }
            for entry in providers.listed(records)
        ]
    print_rows(context, found, "provider", "company", "registry", "active", none="no providers")


@app.command()
def provider(
    context: typer.Context,
    identifier: Annotated[str, typer.Argument(help="As in GB-OCT.")],
    company: Annotated[str, typer.Argument()],
    registry: Annotated[
        str | None, typer.Option(help="Who gave it out; default: the country's registry.")
    ] = None,
    withdrawn: Annotated[bool, typer.Option("--withdrawn", help="It is in use no more.")] = False,
) -> None:
    """Enter a provider identifier, or change its entry."""
    with writing(context) as records:
        entry = providers.enter(
            records,
            local_user(),
            identifier,
            company,
            time.time(),
            registry=registry,
            active=not withdrawn,
        )
    print_done(context, f"{entry.provider} is {entry.name}'s", provider=entry.provider)


def _activate(context: typer.Context, client_id: str, active: bool) -> None:
    with writing(context) as records:
        client = clients.set_active(records, client_id, active, local_user().name, time.time())
    print_done(context, f"{client.name} is {'let in' if active else 'locked out'}", active=active)


def _say_once(context: typer.Context, credentials: tuple[str, str], **members: Any) -> None:
    client_id, secret = credentials
    said = f"client_id      {client_id}\nclient_secret  {secret}"
    print_done(context, said, client_id=client_id, client_secret=secret, **members)


def _links(context: typer.Context) -> Links:
    folder = context.obj.folder
    if folder is None or not folder.is_dir():
        raise typer.BadParameter("the folder keeps what partners are called with: say --data")
    return Links(folder)


def _show(client: Client) -> dict[str, Any]:
    caller = client.caller
    return {
        "client_id": client.client_id,
        "name": client.name,
        "roles": sorted(caller.roles),
        "scopes": sorted(caller.wmis | caller.providers | caller.operators),
        "active": client.active,
    }
