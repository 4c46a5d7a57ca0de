"""`plugvault ecosystem partners`: clients, other ecosystems, provider identifiers."""

import ssl
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from plugvault.cli.ecosystem import common
from plugvault.ecosystem.links import Links
from plugvault.federation.clients import Link
from plugvault.federation.peers import NO_BROADCAST
from plugvault.pki import trusted
from plugvault.pki.forms import FormError
from plugvault.pools import audit, clients, peers, providers
from plugvault.pools.caller import PEER, Caller
from plugvault.pools.records import Client
from plugvault.roles.client import OpcpError

app = common.new_group("List and change clients, other ecosystems and provider identifiers.")
ClientId = Annotated[
    str, typer.Argument(metavar="CLIENT_ID", help="Client id, as `partners list` lists it.")
]
Several = list[str] | None
_CREDENTIAL = "a text in ASCII is wanted, as the other operator's `partners apply` prints it"


@app.command("list")
def list_clients(context: typer.Context) -> None:
    """List the clients that may request access tokens."""
    with common.reading(context) as records:
        rows = [_show(client) for client in records.clients.all()]
    common.print_rows(
        context, rows, "name", "roles", "scopes", "active", "client_id", none="no clients"
    )


@app.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the company.")],
    role: Annotated[list[str], typer.Option(help="Role: OEM, CPO, MO_EXTERNAL_PKI, …")],
    wmi: Annotated[Several, typer.Option(help="WMI of a maker, such as PVT.")] = None,
    provider: Annotated[
        Several, typer.Option(help="Provider identifier of an operator, such as DEPVA.")
    ] = None,
    operator: Annotated[
        Several, typer.Option(help="Identifier of a charge point operator, such as DEPVC.")
    ] = None,
) -> None:
    """Register a client. Its secret is printed once, and not stored.

    A provider identifier must belong to the company already: see `partners provider`.
    """
    credentials = clients.new_credentials()
    new = Caller(
        name,
        frozenset(role),
        frozenset(wmi or ()),
        frozenset(text.replace("-", "").upper() for text in provider or ()),
        frozenset(operator or ()),
    )
    with common.writing(context) as records:
        clients.register(records, new, credentials, common.local_user().name, time.time())
    _print_secret(context, credentials)


@app.command()
def suspend(context: typer.Context, client_id: ClientId) -> None:
    """Suspend a client and its access tokens, within seconds."""
    _activate(context, client_id, False)


@app.command()
def readmit(context: typer.Context, client_id: ClientId) -> None:
    """Readmit a suspended client."""
    _activate(context, client_id, True)


@app.command()
def apply(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the other ecosystem here.")],
    url: Annotated[str, typer.Argument(help="Address that its clients use.")],
) -> None:
    """Register another ecosystem. Its secret is printed once, and not stored.

    Give client id and secret to its operators. They are valid after `move NAME audited` and
    `move NAME active`. Use the ones that you get from them for `link`.
    """
    credentials = clients.new_credentials()
    user, now = common.local_user().name, time.time()
    with common.writing(context) as records:
        clients.register(records, Caller(name, frozenset({PEER})), credentials, user, now)
        peer = peers.apply(records, name, url, credentials[0], user, now)
    _print_secret(context, credentials, state=peer.state)


@app.command()
def link(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of another ecosystem.")],
    client_id: Annotated[
        str, typer.Option(help="Client id that the other ecosystem gave to this one.")
    ],
    trust: Annotated[
        Path | None,
        typer.Option(help="File with the root of its HTTPS, PEM or DER, if that is not public."),
    ] = None,
) -> None:
    """Store the credentials for another ecosystem. The client_secret is asked for, or read from
    standard input. The link is used from the next request on. Each machine needs it."""
    links, roots = _links(context), _pem(trust) if trust else None
    secret = (
        typer.prompt("client_secret", hide_input=True)
        if sys.stdin.isatty()
        else sys.stdin.readline().strip()
    )
    for option, value in (("--client-id", client_id), ("client_secret", secret)):
        if not (value and value.isascii() and value.isprintable()):
            raise typer.BadParameter(_CREDENTIAL, param_hint=option)
    with common.writing(context) as records, common.listed_by("partners ecosystems"):
        peer = peers.get(records, name)
        new = Link(client_id, secret, peer.url, roots)
        new.open().close()  # raises for an unreadable root
        audit.note(
            records, common.local_user().name, "partner linked", name, peer.url, time.time()
        )
        links.save({name: new})
    common.print_done(context, f"{name} is called at {peer.url}", name=name, url=peer.url)


@app.command()
def check(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of another ecosystem.")],
) -> None:
    """Ask another ecosystem for its roots, to test the link to it."""
    with common.reading(context) as records, common.listed_by("partners ecosystems"):
        state = peers.get(records, name).state
    with common.refusing():
        link = _links(context).get(name)
    if link is None:
        raise typer.BadParameter(f"{name} has no link yet: `partners link`")
    with common.refusing(f"{name}: "), link.open() as client:
        answer = client.call("GET", "/v1/root/rootCerts", headers=NO_BROADCAST)
        try:
            count = len(answer["RootCertificateCollection"]["rootCertificates"])
        except (KeyError, TypeError) as error:
            text = f"{link.audience} answers, and not with roots: is it an ecosystem?"
            raise OpcpError("answer", text) from error
    text = f"{name} answers and has {count} roots; here it is {state}"
    common.print_done(context, text, name=name, roots=count, state=state)


@app.command()
def ecosystems(context: typer.Context) -> None:
    """List other ecosystems with their states."""
    with common.reading(context) as records:
        rows = [
            {
                "name": peer.name,
                "url": peer.url,
                "state": peer.state,
                "since": common.moment(peer.since),
                "client_id": peer.client_id,
            }
            for peer in records.peers.all()
        ]
    common.print_rows(context, rows, "name", "url", "state", "since", none="no other ecosystems")


@app.command()
def move(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of another ecosystem.")],
    state: Annotated[str, typer.Argument(help="New state: audited, active or suspended.")],
) -> None:
    """Change the state of another ecosystem: applied, audited, active, suspended."""
    with common.writing(context) as records, common.listed_by("partners ecosystems"):
        moved = peers.move(records, name, state, common.local_user().name, time.time())
    common.print_done(context, f"{name} is {moved.state}", name=name, state=moved.state)


@app.command("providers")
def identifiers(context: typer.Context) -> None:
    """List the provider identifiers with their companies."""
    with common.reading(context) as records:
        rows = [
            {
                "provider": entry.provider,
                "company": entry.name,
                "registry": entry.registry,
                "active": entry.active,
            }
            for entry in providers.listed(records)
        ]
    common.print_rows(
        context, rows, "provider", "company", "registry", "active", none="no providers"
    )


@app.command()
def provider(
    context: typer.Context,
    identifier: Annotated[str, typer.Argument(help="Provider identifier, such as GB-OCT.")],
    company: Annotated[str, typer.Argument(help="Name of the company.")],
    registry: Annotated[
        str | None, typer.Option(help="Registry that issued it. Default: the country's.")
    ] = None,
    withdrawn: Annotated[
        bool, typer.Option("--withdrawn", help="Mark it as no longer in use.")
    ] = False,
) -> None:
    """Add a provider identifier, or change its entry."""
    with common.writing(context) as records:
        entry = providers.enter(
            records,
            common.local_user(),
            identifier,
            company,
            time.time(),
            registry=registry,
            active=not withdrawn,
        )
    common.print_done(context, f"{entry.provider} is {entry.name}'s", provider=entry.provider)


def _activate(context: typer.Context, client_id: str, active: bool) -> None:
    with common.writing(context) as records, common.listed_by("partners list"):
        client = clients.set_active(
            records, client_id, active, common.local_user().name, time.time()
        )
    common.print_done(
        context, f"{client.name} is {'active' if active else 'suspended'}", active=active
    )


def _print_secret(context: typer.Context, credentials: tuple[str, str], **members: Any) -> None:
    client_id, secret = credentials
    text = f"client_id      {client_id}\nclient_secret  {secret}"
    common.print_done(context, text, client_id=client_id, client_secret=secret, **members)


def _pem(file: Path) -> str:
    """The certificates of --trust. Raises typer.BadParameter."""
    try:
        trusted.tls_of(file)  # none of them is damaged
        return "".join(map(ssl.DER_cert_to_PEM_cert, trusted.read(file)))
    except FormError as error:
        raise typer.BadParameter(error.detail, param_hint="--trust") from error


def _links(context: typer.Context) -> Links:
    folder = context.obj.folder
    if folder is None or not folder.is_dir():
        raise typer.BadParameter("--data is needed: the credentials for partners are there")
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
