"""`plugvault ecosystem partners`: clients, other ecosystems, provider identifiers."""

import time
from typing import Annotated, Any

import typer

from plugvault.cli.ecosystem.common import done, me, moment, new_group, reading, rows, writing
from plugvault.pools import clients, peers, providers
from plugvault.pools.caller import Caller
from plugvault.pools.records import Client

app = new_group("Clients and their scopes, other ecosystems, identifiers of providers.")
ClientId = Annotated[str, typer.Argument(metavar="CLIENT_ID")]
Several = list[str] | None


@app.command("list")
def listed(context: typer.Context) -> None:
    """Who may ask for access tokens."""
    with reading(context) as records:
        found = [_show(client) for client in records.clients.all()]
    rows(context, found, "name", "roles", "scopes", "active", "client_id", none="no clients")


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
        clients.register(records, new, credentials, me().name, time.time())
    client_id, secret = credentials
    done(
        context,
        f"client_id      {client_id}\nclient_secret  {secret}",
        client_id=client_id,
        client_secret=secret,
    )


@app.command()
def suspend(context: typer.Context, client_id: ClientId) -> None:
    """Lock a client out, with every token it has: within seconds."""
    _activate(context, client_id, False)


@app.command()
def readmit(context: typer.Context, client_id: ClientId) -> None:
    """Let a client in again."""
    _activate(context, client_id, True)


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
    rows(context, found, "name", "url", "state", "since", none="no other ecosystems")


@app.command()
def move(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Of another ecosystem.")],
    state: Annotated[str, typer.Argument(help="audited, active or suspended")],
) -> None:
    """The next step with another ecosystem: applied, audited, active; suspended."""
    with writing(context) as records:
        moved = peers.move(records, name, state, me().name, time.time())
    done(context, f"{name} is {moved.state}", name=name, state=moved.state)


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
    rows(context, found, "provider", "company", "registry", "active", none="no providers")


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
            me(),
            identifier,
            company,
            time.time(),
            registry=registry,
            active=not withdrawn,
        )
    done(context, f"{entry.provider} is {entry.name}'s", provider=entry.provider)


def _activate(context: typer.Context, client_id: str, active: bool) -> None:
    with writing(context) as records:
        client = clients.set_active(records, client_id, active, me().name, time.time())
    done(context, f"{client.name} is {'let in' if active else 'locked out'}", active=active)


def _show(client: Client) -> dict[str, Any]:
    caller = client.caller
    return {
        "client_id": client.client_id,
        "name": client.name,
        "roles": sorted(caller.roles),
        "scopes": sorted(caller.wmis | caller.providers | caller.operators),
        "active": client.active,
    }
