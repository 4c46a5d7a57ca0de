"""`plugvault explain MESSAGE`: the computation behind an installation, step by step."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
)

from plugvault.explanation import (
    ExplainError,
    Step,
    explain_envelope,
    explain_signature,
    message_of,
)
from plugvault.explanation.deviation import first_deviation, parse_theirs

_MOST = 96  # bytes of a value on one line


def explain(
    message: Annotated[
        Path,
        typer.Argument(metavar="MESSAGE", help="A CertificateInstallationRes: EXI or V2GTP."),
    ],
    test_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The vehicle's provisioning key, PEM or DER: for a key that is no secret.",
        ),
    ] = None,
    theirs: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=HEX",
            help="A value of your module: z, k, iv or scalar; may be repeated. The first one that "
            "is wrong is named, with the mistake that gives it.",
        ),
    ] = None,
    secrets: Annotated[
        bool, typer.Option(help="With --json: print Z, K and the scalar too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Explain a contract message: every digest, the signature, the key agreement.

    Exit status: 0 when every step is right, 1 when one is not, 2 when the message or the key
    cannot be read.
    """
    try:
        parts = message_of(message.read_bytes())
        key = None if test_key is None else _private_key(test_key.read_bytes())
        values = parse_theirs(theirs or [])
        if values and key is None:
            raise ExplainError("theirs", "--theirs needs --test-key")
        steps = [*explain_signature(parts), *explain_envelope(parts, key)]
        if values and key is not None:
            steps.append(first_deviation(parts, key, values))
    except ExplainError as error:
        _fail(error.detail)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}")
    if as_json:
        print(json.dumps([_document(step, secrets) for step in steps], indent=1))
    else:
        for step in steps:
            _print(step)
    raise typer.Exit(1 if any(step.good is False for step in steps) else 0)


def _private_key(data: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        load = load_pem_private_key if b"-----BEGIN" in data else load_der_private_key
        key = load(data, None)
    except (ValueError, TypeError) as error:
        raise ExplainError("key", f"no private key without a password: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise ExplainError("key", "the test key is not on P-256")
    return key


def _document(step: Step, secrets: bool) -> dict[str, Any]:
    value = step.value.hex() if isinstance(step.value, bytes) else step.value
    return {
        "name": step.name,
        "value": None if step.secret and not secrets else value,
        "bytes": len(step.value) if isinstance(step.value, bytes) else None,
        "good": step.good,
        "note": step.note,
    }


def _print(step: Step) -> None:
    sign = {True: "✓", False: "✗", None: "·"}[step.good]
    length = f"  ({len(step.value)} bytes)" if isinstance(step.value, bytes) else ""
    print(f"{sign} {step.name}{length}")
    text = step.value.hex() if isinstance(step.value, bytes) else step.value
    if text:
        print(f"    {text if len(text) <= 2 * _MOST else text[: 2 * _MOST] + '…'}")
    if step.note:
        print(f"    {step.note}")


def _fail(text: str) -> NoReturn:
    print(f"plugvault explain: {text}", file=sys.stderr)
    raise typer.Exit(2)
