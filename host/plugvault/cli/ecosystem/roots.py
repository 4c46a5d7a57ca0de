"""`plugvault ecosystem roots`: the roots in RCP, and changes that wait for approval."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from plugvault.cli.ecosystem import common
from plugvault.pki import forms, path
from plugvault.pki.names import distinguished_name
from plugvault.pools import changes, rcp
from plugvault.pools.errors import PoolError
from plugvault.pools.records import Root, RootChange
from plugvault.pools.repositories import Records

app = common.new_group("List and change the roots in RCP, alone or with a second administrator.")
Ask = Annotated[bool, typer.Option("--ask", help="Let another administrator approve the change.")]
_KINDS = ("V2G", "OEM", "MO", "PE")
Change = Annotated[
    str, typer.Argument(metavar="CHANGE", help="Id of a change, as `roots changes` lists it.")
]
RootId = Annotated[
    str, typer.Argument(metavar="ROOT_ID", help="Id of a root, as `roots list` lists it.")
]


@app.command("list")
def list_roots(
    context: typer.Context,
    kind: Annotated[str | None, typer.Option(help="Kind of root: V2G, OEM, MO or PE.")] = None,
) -> None:
    """List all roots, or those of one kind."""
    if kind is not None:
        _check_kind(kind)
    with common.reading(context) as records:
        roots = records.roots.all(kind.upper() if kind else None)
    common.print_rows(
        context,
        [_show(root) for root in roots],
        *("kind", "name", "curve", "valid_until", "from", "root_id"),
        none="no roots",
    )


@app.command()
def show(context: typer.Context, root_id: RootId) -> None:
    """Show a root."""
    with common.reading(context) as records:
        root = _find(records, root_id)
    common.print_members(context, {**_show(root), "fingerprint": root.fingerprint})


@app.command()
def add(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="File with one root, PEM or DER.")],
    kind: Annotated[str, typer.Option(help="Kind of root: V2G, OEM, MO or PE.")],
    ask: Ask = False,
) -> None:
    """Trust a root. Compare its fingerprint with the one from its owner first."""
    _check_kind(kind)
    root, user, now = _read(file), common.local_user(), time.time()
    with common.writing(context) as records:
        if ask:
            change = changes.ask_add(records, user, root, kind.upper(), now)
        else:
            added = rcp.put(records, root, kind.upper(), now, who=user.name)
    if ask:
        common.print_done(
            context,
            f"change {change.change_id} waits for another administrator",
            change=change.change_id,
        )
    else:
        common.print_done(context, f"root {added.root_id} is trusted", root_id=added.root_id)


@app.command()
def remove(context: typer.Context, root_id: RootId, ask: Ask = False) -> None:
    """Stop trusting a root. Records under it stay, and are refused when they are read."""
    user, now = common.local_user(), time.time()
    with common.writing(context) as records:
        _find(records, root_id)
        if ask:
            change = changes.ask_delete(records, user, root_id.lower(), now)
        else:
            rcp.delete(records, root_id.lower(), now, who=user.name)
    if ask:
        common.print_done(
            context,
            f"change {change.change_id} waits for another administrator",
            change=change.change_id,
        )
    else:
        common.print_done(context, f"root {root_id} deleted", root_id=root_id)


@app.command("changes")
def waiting(context: typer.Context) -> None:
    """List the requested changes with their states."""
    with common.reading(context) as records:
        rows = [
            {
                "change_id": change.change_id,
                "action": change.action,
                "kind": change.kind,
                "state": change.state,
                "asked_by": change.asked_by,
                "asked": common.moment(change.asked),
                "fingerprint": path.fingerprint(change.certificate),
            }
            for change in records.changes.all()
        ]
    common.print_rows(
        context,
        rows,
        *("state", "action", "kind", "asked_by", "asked", "change_id"),
        none="no changes",
    )


@app.command()
def approve(
    context: typer.Context,
    change_id: Change,
    fingerprint: Annotated[
        str, typer.Option(help="SHA-256 of the root, from its owner and not from this list.")
    ],
) -> None:
    """Approve another administrator's change."""
    with common.writing(context) as records, common.listed_by("roots changes"):
        changes.approve(records, common.local_user(), change_id, fingerprint, time.time())
    common.print_done(context, f"change {change_id} is done", change=change_id)


@app.command()
def refuse(context: typer.Context, change_id: Change) -> None:
    """Refuse a change. RCP stays as it is."""
    with common.writing(context) as records, common.listed_by("roots changes"):
        changes.refuse(records, common.local_user(), change_id, time.time())
    common.print_done(context, f"change {change_id} is refused", change=change_id)


def _waiting(change: RootChange) -> str:
    return f"change {change.change_id} waits for another administrator"


def _check_kind(kind: str) -> None:
    if kind.upper() not in _KINDS:
        raise typer.BadParameter(f"{kind} is none of {', '.join(_KINDS)}", param_hint="--kind")


def _find(records: Records, root_id: str) -> Root:
    try:
        return rcp.get(records, root_id.lower())
    except PoolError:
        text = f"there is no root {root_id}; `plugvault ecosystem roots list` shows the root ids"
        raise PoolError("not-found", text) from None


def _read(file: Path) -> bytes:
    """The one certificate in a file, DER. RCP checks whether it is a root."""
    try:
        return forms.certificate(file.read_bytes())
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from error
    except forms.FormError as error:
        text = f"{file}: {error.detail}; give a file with one root, PEM or DER"
        raise typer.BadParameter(text, param_hint="FILE") from error


def _show(root: Root) -> dict[str, Any]:
    certificate = path.read_any(root.certificate)
    return {
        "root_id": root.root_id,
        "kind": root.kind,
        "name": distinguished_name(certificate.names),
        "valid_until": common.moment(certificate.not_after),
        "curve": path.curve(certificate),
        "from": root.origin or None,
    }
