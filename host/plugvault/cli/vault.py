"""`plugvault vault`: which tokens are here, what one of them can do, and what keys it holds.

A command that opens a token does so in a subprocess [`plugvault.tokens.subprocess_probe`]. The
reported custody is measured, with throw-away keys.
"""

from __future__ import annotations

import json
import secrets
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from evcc.vault import VaultError, uri
from evcc.vault.custody import at_least
from evcc.vault.levels import LEVELS
from evcc.vault.pin import tries_left
from plugvault.cli import table
from plugvault.cli.folders import memory
from plugvault.cli.tokens import Conf, Module, Options, Said, names_a_token
from plugvault.tokens import adoption, modules, pin, probes, subprocess_probe
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.providers import PROVIDERS, ProviderName
from plugvault.tokens.selection import TokenConfiguration, checked_level, choose
from plugvault.vault_service.envelopes import unlock as unlock_records

app = typer.Typer(
    help="Tokens: which are here, what each can do, what keys it holds.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
_COLUMNS = ("label", "serial", "model", "slot", "state", "module")
_INITIALIZED, _HAS_PIN = 0x400, 0x8


AsJson = Annotated[bool, typer.Option("--json", help="JSON for scripts.")]


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except VaultError as error:
        way_out = _WAYS_OUT.get(error.reason, "")
        said = f"{error.detail or error.reason}{'; ' if way_out else ''}{way_out}"
        typer.secho(f"plugvault vault: {said}", err=True, fg="red")
        raise typer.Exit(1) from error


_WAYS_OUT = {
    "token-missing": "`plugvault vault list` shows those that are there",
    "module-missing": "`plugvault doctor` says what to install",
    "pin": "look at where it comes from (--pin); a wrong one is tried once",
    "pin-locked": "its security officer can set a new PIN",
    "unavailable": "`plugvault vault list` says which libraries answer",
    "exists": "a token or key is never made over one that is there: take another label or folder",
    "custody": "`plugvault vault test` says what this token lacks",
}


@app.command("list")
def list_(
    module: Module = None, conf: Conf = None, options: Options = None, as_json: AsJson = False
) -> None:
    """The tokens of every PKCS#11 library that is known here, or of one.

    Known are SoftHSM's and those that p11-kit's configuration names. JSON: [{"module", "slot",
    "label", "serial", "manufacturer", "model", "flags"}], the flags those of CK_TOKEN_INFO; a
    library that does not answer is {"module", "error"}. Exit 1 where there is no token.

        plugvault vault list --json
    """
    found: list[dict[str, Any]] = []
    with _explained():
        for name in [module] if module else modules.known():
            try:
                found += subprocess_probe.run(
                    probes.list_tokens, module=name, conf=conf, options=options or ""
                )
            except VaultError as error:
                found.append({"module": name, "error": str(error)})
    shown = [{**one, "state": _state(one)} for one in found]
    _rows(as_json, found, shown, _COLUMNS, "none: `plugvault doctor` says what to install")
    if not any("label" in one for one in found):
        raise typer.Exit(1)


def _state(token: Mapping[str, Any]) -> str:
    if "error" in token:
        return str(token["error"])
    flags = token["flags"]
    if not flags & _INITIALIZED:
        return "empty: `plugvault vault init`"
    return tries_left(flags) or ("ready" if flags & _HAS_PIN else "has no PIN yet")


@app.command("test")
@names_a_token
def self_test(
    said: Said,
    provider: Annotated[
        ProviderName | None,
        typer.Option(help="Make a throw-away token of this kind first."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What a token can do: the best custody it gives, and what is missing for more.

    For each scheme, by doing it, with keys that are thrown away; what is in the token stays as it
    is. JSON: {"module", "token", "schemes": {"iso2": {"level", "why"}}}. Exit 1 where a scheme has
    no level, or one below --minimum-custody.

        plugvault vault test --provider softhsm
    """
    with _explained(), _at_hand(provider, said) as (location, secret, minimum):
        report = subprocess_probe.run(probes.report, location=location, pin=secret)
    schemes = report["schemes"]
    found = [{"scheme": name, **one} for name, one in schemes.items()]
    _rows(as_json, report, found, ("scheme", "level", "why"))
    weak = [
        name for name, one in schemes.items() if not at_least(one["level"], minimum or LEVELS[0])
    ]
    if weak:
        typer.secho(f"below {minimum or 'any level'}: {', '.join(weak)}", err=True, fg="red")
        raise typer.Exit(1)


def _chosen(said: Said, more: str = "") -> TokenConfiguration:
    chosen = choose(*said).vault
    if chosen is None:
        raise VaultError("refused", f"which token? --token LABEL{more}")
    return chosen


@contextmanager
def _at_hand(
    provider: ProviderName | None, said: Said
) -> Iterator[tuple[TokenLocation, str, str]]:
    """A token's location, its PIN, and the custody it must give."""
    if provider is None:
        chosen = _chosen(said, ", or --provider softhsm|nss")
        yield chosen.location, chosen.pin, chosen.minimum_custody
        return
    minimum = checked_level(said[0]["minimum_custody"] or "")
    with tempfile.TemporaryDirectory(prefix="plugvault-", dir=memory()) as folder:
        secret = secrets.token_hex(8)
        location = PROVIDERS[provider].make(Path(folder) / "token", "self-test", secret)
        yield location, secret, minimum


@app.command()
@partial(names_a_token, but="minimum_custody")
def status(said: Said, as_json: AsJson = False) -> None:
    """The vault's keys in a token, and the custody of each: what of it was outside.

    A key of which half is missing has none: nothing signs with it, and the car removes it. What
    the token attests is told, and what a label says beyond it is not: "imported" is a key that was
    written into it, "extractable" one that can leave it, "unattested" one of a library that
    attests nothing. The car's own status compares that with what it wrote down.

    JSON: [{"key", "custody", "owner", "point"}], the point as 0x04, X, Y in hexadecimal digits,
    the owner as the car's random id, "" for keys without.

        plugvault vault status --token "car 17" --pin file:/run/secrets/pin --json
    """
    with _explained():
        chosen = _chosen(said)
        found = subprocess_probe.run(
            probes.list_keys,
            location=chosen.location,
            pin=chosen.pin,
            provisioning=chosen.provisioning,
        )
    _rows(as_json, found, found, ("key", "custody", "owner"), "no keys of a car in this token")


_Store = Annotated[
    Path | None,
    typer.Option(help="The car's store (`store` of its configuration), to keep it in."),
]


@app.command()
@names_a_token
def adopt(
    said: Said,
    key: Annotated[
        str,
        typer.Option("--object", help="Which key pair.", metavar="LABEL|ID|URI"),
    ],
    certificate: Annotated[
        Path | None,
        typer.Option(help="Its provisioning certificate and sub-CAs, PEM.", metavar="FILE"),
    ] = None,
    store: _Store = None,
    as_json: AsJson = False,
) -> None:
    """Make a key pair that is in a token a car's provisioning key. It is not copied.

    It must be on P-256, whole, the only one that is named, and able to sign and derive, which is
    tried. Prints the line that names it, for --config and for "vault" in the car's configuration.
    With --certificate the chain must be for this key; with --store too, the car has its name and
    certificate from now on.

    JSON: {"provisioning", "custody", "point", "pcid"}.

        plugvault vault adopt --token "car 17" --pin prompt --object factory-key
    """
    with _explained():
        if store and not certificate:
            raise VaultError("refused", "--store is for a certificate: say --certificate too")
        chosen = _chosen(said)
        found = subprocess_probe.run(
            probes.adopt,
            location=chosen.location,
            pin=chosen.pin,
            key=key,
            minimum_custody=chosen.minimum_custody,
            certificate=certificate and str(certificate.absolute()),
            store=store and str(store.absolute()),
        )
    _say_adopted(found, as_json)


@app.command("import")
@names_a_token
def import_(
    said: Said,
    file: Annotated[
        Path,
        typer.Option("--key", help="A private key on P-256, PEM, mode 0600.", metavar="FILE"),
    ],
    label: Annotated[
        str | None, typer.Option("--object", help="The key's new label.", metavar="LABEL")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a private key from a file into a token, as a car's provisioning key.

    Its custody is "imported" for ever: whoever had the file may have the key still. So it asks
    before, and any minimum_custody refuses such a key. The file stays: destroy it yourself.
    Prints the line that names the key, as `adopt` does.

    JSON: {"provisioning", "custody", "point", "pcid"}.

        plugvault vault import --token "car 17" --pin prompt --key key.pem
    """
    with _explained():
        if not yes:
            _ask_before(file)
        chosen = _chosen(said)
        if chosen.minimum_custody:
            raise VaultError("custody", f"an imported key is not {chosen.minimum_custody}")
        scalar, point = adoption.read_key(file)
        try:
            name = label or f"imported {secrets.token_hex(4)}"
            vault = chosen.location.open(chosen.pin)
            try:
                found = adoption.adopt(vault, adoption.bring(vault, scalar, point, name))
            finally:
                vault.close()
        finally:
            adoption.wipe(scalar)
    _say_adopted(found, as_json)


def _ask_before(file: Path) -> None:
    if not sys.stdin.isatty():
        raise VaultError("refused", "nobody to ask whether it may be imported: say --yes")
    words = f"{file} was outside of a token: its key is told as imported for ever. Import it?"
    typer.confirm(words, abort=True, err=True)


def _say_adopted(found: dict[str, str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"provisioning = {json.dumps(found['provisioning'])}")
    of_car = f" It is {found['pcid']}." if found["pcid"] else ""
    words = (
        "Custody: {}.{} With this line in the file of --config, and `provisioning` in the car's"
    )
    typer.echo(words.format(found["custody"], of_car) + " configuration, it is its key.", err=True)


@app.command()
def init(
    token: Annotated[str, typer.Option(help="The new token's label.", metavar="LABEL")],
    pin_: Annotated[
        str, typer.Option("--pin", help=f"Where its PIN is: {pin.WAYS}.", metavar="SOURCE")
    ] = "prompt",
    so_pin: Annotated[
        str,
        typer.Option(help="Where its security officer's PIN is, for --module.", metavar="SOURCE"),
    ] = "prompt",
    provider: Annotated[
        ProviderName | None,
        typer.Option(help="Make a token of this kind in --folder."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Where the token and its configuration are to be.")
    ] = None,
    module: Module = None,
    conf: Conf = None,
    as_json: AsJson = False,
) -> None:
    """Make a token, never over one that is there.

    In a folder of its own (--provider, --folder), or in a free slot of a library (--module).
    Prints the configuration that opens it, for --config.

        plugvault vault init --token "car 17" --provider softhsm --folder tokens --pin prompt
    """
    with _explained():
        if (provider is None) == (module is None) or (provider is None) != (folder is None):
            raise VaultError("refused", "say --provider and --folder, or --module")
        if uri.is_uri(token) or not token.strip(" "):
            raise VaultError("refused", "a new token has a label, which is no URI")
        user = pin.read(_twice if pin_ == "prompt" else pin_, token)
        if provider and folder:
            location = PROVIDERS[provider].make(folder.absolute(), token, user)
        else:
            officer = pin.read(_twice if so_pin == "prompt" else so_pin, token)
            location = modules.new_token(str(module), conf, token, user, officer)
    keys = {
        "module": str(location.module),
        "token": location.label,
        "conf": str(location.conf or ""),
        "options": location.options,
        "pin": "prompt" if pin_.startswith("env:") else pin_,
    }
    said = {key: value for key, value in keys.items() if value}
    if as_json:
        typer.echo(json.dumps(said))
    else:
        typer.echo("\n".join(f"{key} = {json.dumps(value)}" for key, value in said.items()))
        typer.echo("Made. With these lines in a file, --config FILE opens it.", err=True)


@app.command()
def service(
    socket: Annotated[Path, typer.Option(help="Where it listens.", metavar="PATH")],
    as_json: AsJson = False,
) -> None:
    """What a running vault service allows its own user, and what it remembers of envelopes.

    JSON: {"client", "rights", "rate", "openings_per_hour": null for any number, "state": the
    folder of the records, "owners": {owner: {"envelopes", "mismatches", "locked"} or {"error"}},
    "more": owners that are not listed}.
    """
    from plugvault.vault_service.service import status_of

    with _explained():
        found = status_of(socket)
    owners = found.pop("owners")
    if as_json:
        typer.echo(json.dumps({**found, "owners": owners}, indent=1))
        return
    for name in ("rights", "rate", "openings_per_hour", "state"):
        value = ", ".join(found[name]) if name == "rights" else found[name]
        typer.echo(f"{name}: {'any number' if value is None else table.printable(value)}")
    rows = [{"owner": owner or "none", **one} for owner, one in owners.items()]
    _rows(False, rows, rows, ("owner", "envelopes", "mismatches", "locked", "error"))


@app.command()
@partial(names_a_token, but="minimum_custody")
def unlock(
    said: Said,
    state: Annotated[
        Path | None, typer.Option(help="The service's state=, if it has one.", metavar="DIR")
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="Of this owner only: 16 digits, or ''.", metavar="HEX")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lift the lock after too many envelopes whose key was not their certificate's.

    What was seen stays seen. A service that runs knows at once. JSON: [{"owner", "mismatches"}],
    as many as were counted before.
    """
    with _explained(), _at_hand(None, said) as (location, secret, _):
        found = subprocess_probe.run(
            unlock_records,
            location=location,
            pin=secret,
            state=state and str(state.absolute()),
            owner=owner,
        )
    shown = [{**one, "owner": one["owner"] or "none"} for one in found]
    _rows(as_json, found, shown, ("owner", "mismatches"), "no envelopes were opened here")


def _twice() -> str:
    """A PIN that was mistyped would make a token that nobody can open."""
    first, again = (pin.read("prompt", word) for word in ("the new token", "it again"))
    if first != again:
        raise VaultError("pin", "the two are not the same")
    return first


def _rows(
    as_json: bool,
    data: Any,
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    none: str = "none",
) -> None:
    if as_json:
        typer.echo(json.dumps(data, indent=1))
        return
    if not rows:
        typer.echo(none)
        return
    shown = ([table.printable(row.get(name, "")) or "-" for name in columns] for row in rows)
    table.show(columns, shown)
