"""`plugvault explain MESSAGE`: the computation behind an installation, step by step."""

import json
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from evcc import x509
from evcc.errors import EvccError
from plugvault.campaign import cases
from plugvault.campaign.explained import circumstances_of, document_of
from plugvault.cli import key_file, words
from plugvault.cli.options import options_from
from plugvault.cli.times import seconds
from plugvault.cli.tokens import TokenOptions, names_a_token
from plugvault.explanation import (
    UNKNOWN,
    Circumstances,
    ExplainError,
    KeyAgreement,
    Step,
    message_of,
)
from plugvault.explanation import explain as steps_of
from plugvault.explanation.deviation import first_deviation, parse_theirs
from plugvault.pki import trusted
from plugvault.pki.forms import FormError
from plugvault.pki.layout import word_of
from plugvault.printable import printable
from plugvault.tokens import VaultError, agreement
from plugvault.tokens.selection import choose

_MOST = 96  # bytes of a value on one line
_KINDS = {"oem": "OEM", "mo": "MO"}  # of a root by the word in its subject; any other: V2G


@dataclass(frozen=True)
class Options:
    """The options of the command, but those that name a token."""

    message: Annotated[
        Path,
        typer.Argument(metavar="MESSAGE", help="A CertificateInstallationRes: EXI or V2GTP."),
    ]
    test_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The vehicle's provisioning key, PEM or DER: for a key that is no secret.",
        ),
    ] = None
    trust: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="A root that the vehicle trusts, in any form of `inspect`; may be repeated.",
        ),
    ] = None
    at: Annotated[
        str | None,
        typer.Option(help="The vehicle's clock: 2026-01-31[T12:00:00Z] or Unix seconds."),
    ] = None
    theirs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=HEX",
            help="A value of your module: z, k, iv or scalar; may be repeated. The first one that "
            "is wrong is named, with the mistake that gives it.",
        ),
    ] = None
    secrets: Annotated[
        bool,
        typer.Option(help="Print Z, K and the scalar too, which give the contract key away."),
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False


@names_a_token
@options_from(Options)
def explain(options: Options, token_options: TokenOptions) -> None:
    """Explain a contract message: paths, every digest, the signature, the key agreement.

    With --token the provisioning key is one in a token: a pkcs11: URI names both, as in
    "pkcs11:token=car;object=key?pin-source=file:/run/pin". The token must give out the secret Z of
    the agreement, as SoftHSM does.

    A message of `plugvault cases make`, in its folder, brings the roots, the clock, the open
    request and the earlier messages of its case.

    Exit status: 0 when every step is right, 1 when one is not, 2 when the message, a root or the
    key cannot be read.
    """
    try:
        steps = _steps(options, token_options)
    except EvccError as error:
        is_message = error.reason == "message"
        _fail((f"{options.message}: " if is_message else "") + words.of(error))
    except OSError as error:
        _fail(words.of(error))
    _show(steps, options)
    raise typer.Exit(1 if any(step.good is False for step in steps) else 0)


def _steps(options: Options, token_options: TokenOptions) -> list[Step]:
    """The steps of the message, the last one the comparison with --theirs. Raises EvccError,
    OSError."""
    data = options.message.read_bytes()
    with ExitStack() as stack:
        key = _key(stack, options.test_key, token_options)
        values = parse_theirs(options.theirs or [])
        if values and key is None:
            raise ExplainError("theirs", "--theirs needs --test-key or --token")
        steps = steps_of(data, _circumstances(options), key)
        if values and key is not None:
            steps.append(_deviation(data, steps, key, values))
    return steps


def _deviation(
    data: bytes, steps: list[Step], key: KeyAgreement, theirs: dict[str, bytes]
) -> Step:
    formed = {step.name: step.good for step in steps}
    for name in ("DHpublickey", "ContractSignatureEncryptedPrivateKey"):
        if formed[name] is False:
            raise ExplainError("theirs", f"no value can be compared: {name} is wrong itself")
    return first_deviation(message_of(data), key, theirs)


def _key(stack: ExitStack, file: Path | None, token_options: TokenOptions) -> KeyAgreement | None:
    """The provisioning key of --test-key or --token. Raises ExplainError, VaultError, OSError."""
    options, config = token_options
    if not options.get("token"):
        return None if file is None else key_file.read(file)
    if file is not None:
        raise ExplainError("key", "--test-key or --token, not both")
    token, key = agreement.split(options["token"])
    selection = choose({**options, "token": token}, config)
    if selection.vault is None:
        raise VaultError("refused", "--token names no token")
    vault, opened = agreement.open_agreement(selection.vault, key)
    stack.callback(vault.close)
    return opened


def _circumstances(options: Options) -> Circumstances:
    """The circumstances of the message's case, if it is one, with the roots and the time of the
    options."""
    circumstances = _of_case(options.message)
    if options.trust:
        anchors = tuple(anchor for file in options.trust for anchor in _anchors(file))
        circumstances = replace(circumstances, anchors=anchors)
    if options.at is not None or (options.trust and circumstances.at is None):
        circumstances = replace(circumstances, at=seconds(options.at))
    return circumstances


def _anchors(file: Path) -> list[tuple[str, x509.Certificate]]:
    try:
        roots = [x509.parse(der) for der in trusted.read(file)]
    except FormError as error:
        raise ExplainError("trust", f"--trust {error.detail}") from error
    except x509.CertificateError as error:
        raise ExplainError("trust", f"--trust {file}: {error.detail or error}") from error
    return [(_KINDS.get(word_of(root) or "", "V2G"), root) for root in roots]


def _of_case(file: Path) -> Circumstances:
    """The circumstances of a message in a folder of `cases make`; unknown ones for any other."""
    folder = file.absolute().parent.parent
    if file.absolute().parent.name != "messages" or not (folder / "manifest.json").is_file():
        return UNKNOWN
    campaign = cases.read(folder, (file.name.partition(".")[0],))
    case = campaign.cases[0]
    names = [Path(entry.name).name for entry in (case.twin, *case.before, case.message)]
    number = names.index(file.name) if file.name in names else len(names) - 1
    return circumstances_of(campaign, case, number)


def _show(steps: list[Step], options: Options) -> None:
    if options.as_json:
        print(json.dumps([document_of(step, options.secrets) for step in steps], indent=1))
        return
    for step in steps:
        _print(step, options.secrets)


def _print(step: Step, secrets: bool) -> None:
    sign = {True: "✓", False: "✗", None: "·"}[step.good]
    length = f"  ({len(step.value)} bytes)" if isinstance(step.value, bytes) else ""
    print(f"{sign} {printable(step.name)}{length}")
    text = step.value.hex() if isinstance(step.value, bytes) else printable(step.value)
    if step.secret and not secrets:
        text = "not shown without --secrets"
    if text:
        print(f"    {text if len(text) <= 2 * _MOST else text[: 2 * _MOST] + '…'}")
    if step.note:
        print(f"    {printable(step.note)}")


def _fail(text: str) -> NoReturn:
    print(f"plugvault explain: {printable(text)}", file=sys.stderr)
    raise typer.Exit(2)
