"""`plugvault vault`: the tokens of this machine, their custody, and their keys.

A command that opens a token does so in a subprocess [`plugvault.tokens.subprocess_probe`]. The
reported custody is measured, with temporary keys.
"""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from evcc.vault import VaultError, uri
from evcc.vault.cryptoki import tries_left
from evcc.vault.custody import at_least
from evcc.vault.levels import LEVELS
from plugvault.cli import table
from plugvault.cli.tokens import Conf, Module, Options, TokenOptions, names_a_token
from plugvault.printable import printable, printable_lines
from plugvault.temporary import temporary_folder
from plugvault.tokens import adoption, modules, pin, probes, subprocess_probe
from plugvault.tokens.location import TokenLocation
from plugvault.tokens.providers import PROVIDERS, ProviderName
from plugvault.tokens.selection import TokenConfiguration, checked_level, choose
from plugvault.vault_service.envelopes import unlock as unlock_records

app = typer.Typer(
    help="Show tokens, their custody and their keys; make and change them.",
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
        text = "; ".join(filter(None, (error.detail or error.reason, _REMEDIES.get(error.reason))))
        typer.secho(printable_lines(f"plugvault vault: {text}"), err=True, fg="red")
        raise typer.Exit(1) from error


_REMEDIES = {
    "token-missing": "`plugvault vault list` shows those that are there",
    "module-missing": "`plugvault doctor` says what to install",
    "pin": "check its source (--pin); a wrong one is tried once",
    "pin-locked": "its security officer can set a new PIN",
    "unavailable": "`plugvault vault list` says which libraries answer",
    "exists": "a token or key is never made over one that is there: take another label or folder",
    "custody": "`plugvault vault test` says what this token lacks",
}


@app.command("list")
def list_(
    module: Module = None, conf: Conf = None, options: Options = None, as_json: AsJson = False
) -> None:
    """List the tokens of every known PKCS#11 library, or of one.

    The known libraries are SoftHSM's and those of p11-kit's configuration. JSON: [{"module",
    "slot", "label", "serial", "manufacturer", "model", "flags"}], the flags those of
    CK_TOKEN_INFO; a library that does not answer is {"module", "error"}. Exit 1 if there is no
    token.

        plugvault vault list --json
    """
    tokens: list[dict[str, Any]] = []
    with _explained():
        for name in [module] if module else modules.known():
            try:
                tokens += subprocess_probe.run(
                    probes.list_tokens, module=name, conf=conf, options=options or ""
                )
            except VaultError as error:
                tokens.append({"module": name, "error": str(error)})
    rows = [{**token, "state": _state(token)} for token in tokens]
    _rows(as_json, tokens, rows, _COLUMNS, "none: `plugvault doctor` says what to install")
    if not any("label" in token for token in tokens):
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
    token_options: TokenOptions,
    provider: Annotated[
        ProviderName | None,
        typer.Option(help="Make a throw-away token of this kind first."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Test the custody that a token gives, and what is missing for more.

    Tries each scheme with temporary keys; the token's other objects stay as they are. JSON:
    {"module", "token", "schemes": {"iso2": {"level", "why"}}}. Exit 1 if a scheme has no level, or
    one below --minimum-custody.

        plugvault vault test --provider softhsm
    """
    with _explained(), _token(provider, token_options) as (location, secret, minimum):
        report = subprocess_probe.run(probes.report, location=location, pin=secret)
    schemes = report["schemes"]
    rows = [{"scheme": name, **custody} for name, custody in schemes.items()]
    _rows(as_json, report, rows, ("scheme", "level", "why"))
    weak = [
        name
        for name, custody in schemes.items()
        if not at_least(custody["level"], minimum or LEVELS[0])
    ]
    if weak:
        typer.secho(f"below {minimum or 'any level'}: {', '.join(weak)}", err=True, fg="red")
        raise typer.Exit(1)


def _configured(token_options: TokenOptions, alternative: str = "") -> TokenConfiguration:
    conf = token_options[0]["conf"]
    if conf and not Path(conf).is_file():
        raise VaultError("refused", f"--conf is SoftHSM's configuration: there is no file {conf}")
    token = choose(*token_options).vault
    if token is None:
        text = f"which token? --token LABEL{alternative}: `plugvault vault list` shows the labels"
        raise VaultError("refused", text)
    return token


@contextmanager
def _token(
    provider: ProviderName | None, token_options: TokenOptions
) -> Iterator[tuple[TokenLocation, str, str]]:
    """A token's location, its PIN, and the custody it must give."""
    if provider is None:
        token = _configured(token_options, ", or --provider softhsm|nss")
        yield token.location, token.pin, token.minimum_custody
        return
    minimum = checked_level(token_options[0]["minimum_custody"] or "")
    with temporary_folder() as folder:
        secret = secrets.token_hex(8)
        location = PROVIDERS[provider].make(folder / "token", "self-test", secret)
        yield location, secret, minimum


@app.command()
@partial(names_a_token, but="minimum_custody")
def status(token_options: TokenOptions, as_json: AsJson = False) -> None:
    """Show the cars' keys in a token, and the custody of each.

    An incomplete key has no custody: it cannot sign, and the car removes it. The custody is what
    the token attests, and never more: "imported" is a key that was written into the token,
    "extractable" one that can leave it, "unattested" one of a library that attests nothing. The
    car's own status compares this with the car's record.

    JSON: [{"key", "custody", "owner", "point"}], the point as 0x04, X, Y in hexadecimal digits,
    the owner as the car's random id, "" for keys without.

        plugvault vault status --token "car 17" --pin file:/run/secrets/pin --json
    """
    with _explained():
        token = _configured(token_options)
        keys = subprocess_probe.run(
            probes.list_keys,
            location=token.location,
            pin=token.pin,
            provisioning=token.provisioning,
        )
    _rows(as_json, keys, keys, ("key", "custody", "owner"), "no keys of a car in this token")


_Store = Annotated[
    Path | None,
    typer.Option(help="The car's store for it (`store` of its configuration)."),
]


@app.command()
@names_a_token
def adopt(
    token_options: TokenOptions,
    key: Annotated[
        str,
        typer.Option("--object", help="The key pair.", metavar="LABEL|ID|URI"),
    ],
    certificate: Annotated[
        Path | None,
        typer.Option(help="Its provisioning certificate and sub-CAs, PEM.", metavar="FILE"),
    ] = None,
    store: _Store = None,
    as_json: AsJson = False,
) -> None:
    """Make a key pair in a token a car's provisioning key. The key is not copied.

    The key must be on P-256, complete, the only one of that name, and able to sign and derive,
    which is tried. Prints the line that names it, for --config and for "vault" in the car's
    configuration. With --certificate the chain must be for this key; with --store too, the car has
    its name and certificate from now on.

    JSON: {"provisioning", "custody", "point", "pcid"}.

        plugvault vault adopt --token "car 17" --pin prompt --object factory-key
    """
    with _explained():
        if store and not certificate:
            raise VaultError("refused", "--store is for a certificate: say --certificate too")
        token = _configured(token_options)
        adopted = subprocess_probe.run(
            probes.adopt,
            location=token.location,
            pin=token.pin,
            key=key,
            minimum_custody=token.minimum_custody,
            certificate=certificate and str(certificate.absolute()),
            store=store and str(store.absolute()),
        )
    _print_adopted(adopted, as_json)


@app.command("import")
@names_a_token
def import_(
    token_options: TokenOptions,
    file: Annotated[
        Path,
        typer.Option("--key", help="A private key on P-256, PEM, mode 0600.", metavar="FILE"),
    ],
    label: Annotated[
        str | None, typer.Option("--object", help="The key's new label.", metavar="LABEL")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Import without a question.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write a private key from a file into a token, as a car's provisioning key.

    The key's custody is "imported" for ever, because earlier holders of the file may still have
    it. So the command asks first, and any minimum_custody refuses the key. The file stays: destroy
    it yourself. Prints the line that names the key, as `adopt` does.

    JSON: {"provisioning", "custody", "point", "pcid"}.

        plugvault vault import --token "car 17" --pin prompt --key key.pem
    """
    with _explained():
        if not yes:
            _confirm(file)
        token = _configured(token_options)
        if token.minimum_custody:
            raise VaultError("custody", f"an imported key is not {token.minimum_custody}")
        scalar, point = adoption.read_key(file)
        try:
            name = label or f"imported {secrets.token_hex(4)}"
            vault = token.location.open(token.pin)
            try:
                adopted = adoption.adopt(vault, adoption.bring(vault, scalar, point, name))
            finally:
                vault.close()
        finally:
            adoption.wipe(scalar)
    _print_adopted(adopted, as_json)


def _confirm(file: Path) -> None:
    if not sys.stdin.isatty():
        raise VaultError("refused", "no terminal to ask whether it may be imported: say --yes")
    question = f'{file} was outside of a token: its key is "imported" for ever. Import it?'
    typer.confirm(question, abort=True, err=True)


def _print_adopted(adopted: dict[str, str], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(adopted))
        return
    typer.echo(f"provisioning = {json.dumps(adopted['provisioning'])}")
    of_car = f" It is {adopted['pcid']}." if adopted["pcid"] else ""
    typer.echo(
        f"Custody: {adopted['custody']}.{of_car} With this line in the file of --config, and "
        "`provisioning` in the car's configuration, it is the car's key.",
        err=True,
    )


@app.command()
def init(
    token: Annotated[str, typer.Option(help="The new token's label.", metavar="LABEL")],
    pin_: Annotated[
        str, typer.Option("--pin", help=f"The source of its PIN: {pin.WAYS}.", metavar="SOURCE")
    ] = "prompt",
    so_pin: Annotated[
        str,
        typer.Option(
            help="The source of its security officer's PIN, for --module.", metavar="SOURCE"
        ),
    ] = "prompt",
    provider: Annotated[
        ProviderName | None,
        typer.Option(help="Make a token of this kind in --folder."),
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The folder for the token and its configuration.")
    ] = None,
    module: Module = None,
    conf: Conf = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. An existing one is never replaced.

    The token is in a new folder (--provider, --folder), or in a free slot of a library (--module).
    Prints the configuration that opens it, for --config.

        plugvault vault init --token "car 17" --provider softhsm --folder tokens --pin prompt
    """
    with _explained():
        if (provider is None) == (module is None) or (provider is None) != (folder is None):
            raise VaultError("refused", "say --provider and --folder, or --module")
        if uri.is_uri(token) or not token.strip(" "):
            raise VaultError("refused", "a new token has a label, which is no URI")
        user_pin = pin.read(_new_pin if pin_ == "prompt" else pin_, token)
        if provider and folder:
            location = PROVIDERS[provider].make(folder.absolute(), token, user_pin)
        else:
            officers_pin = pin.read(_new_pin if so_pin == "prompt" else so_pin, token)
            location = modules.new_token(str(module), conf, token, user_pin, officers_pin)
    _print_configuration(location, pin_, as_json)


def _print_configuration(location: TokenLocation, pin_source: str, as_json: bool) -> None:
    settings = {
        "module": str(location.module),
        "token": location.label,
        "conf": str(location.conf or ""),
        "options": location.options,
        "pin": "prompt" if pin_source.startswith("env:") else pin_source,
    }
    settings = {key: value for key, value in settings.items() if value}
    if as_json:
        typer.echo(json.dumps(settings))
    else:
        typer.echo("\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items()))
        typer.echo("Made. With these lines in a file, --config FILE opens it.", err=True)


@app.command()
def service(
    socket: Annotated[Path, typer.Option(help="The service's socket.", metavar="PATH")],
    as_json: AsJson = False,
) -> None:
    """Show a running vault service's limits for its own user, and its records of envelopes.

    JSON: {"client", "rights", "rate", "openings_per_hour" and "provisioning_keys_left": null
    for any number, "state": the folder of the records, "owners": {owner: {"envelopes",
    "mismatches", "locked"} or {"error"}}, "more": owners that are not listed}.
    """
    from plugvault.vault_service.service import status_of

    with _explained():
        try:
            status = status_of(socket)
        except VaultError as error:
            if error.reason != "unavailable":
                raise
            text = f"no vault service answers at {socket}: give its `VaultService` this path"
            raise VaultError("refused", text) from error
    owners = status.pop("owners")
    if as_json:
        typer.echo(json.dumps({**status, "owners": owners}, indent=1))
        return
    for name in ("rights", "rate", "openings_per_hour", "provisioning_keys_left", "state"):
        value = ", ".join(status[name]) if name == "rights" else status[name]
        typer.echo(f"{name}: {'any number' if value is None else printable(value)}")
    rows = [{"owner": owner or "none", **record} for owner, record in owners.items()]
    _rows(False, rows, rows, ("owner", "envelopes", "mismatches", "locked", "error"))


@app.command()
@partial(names_a_token, but="minimum_custody")
def unlock(
    token_options: TokenOptions,
    state: Annotated[
        Path | None, typer.Option(help="The service's state=, if it is set.", metavar="DIR")
    ] = None,
    owner: Annotated[
        str | None, typer.Option(help="This owner only: 16 digits, or ''.", metavar="HEX")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Lift the lock after too many envelopes whose key did not match their certificate.

    Seen envelopes stay seen. A running service uses the new state at once. JSON: [{"owner",
    "mismatches"}], with the number counted before.
    """
    with _explained(), _token(None, token_options) as (location, secret, _):
        records = subprocess_probe.run(
            unlock_records,
            location=location,
            pin=secret,
            state=state and str(state.absolute()),
            owner=owner,
        )
    rows = [{**record, "owner": record["owner"] or "none"} for record in records]
    _rows(as_json, records, rows, ("owner", "mismatches"), "no envelopes were opened here")


def _new_pin() -> str:
    """A PIN from two equal inputs: a mistyped PIN would make a token that cannot be opened."""
    first, second = (pin.read("prompt", name) for name in ("the new token", "it again"))
    if first != second:
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
    cells = ([printable(row.get(name, "")) or "-" for name in columns] for row in rows)
    table.show(columns, cells)
