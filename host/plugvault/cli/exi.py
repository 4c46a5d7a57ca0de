"""`plugvault exi`: EXI to JSON and back, one message or a line each.

JSON as `plugvault.exi_json` describes it. A bad message is one line on standard error and exit
status 1; with `--lines` a bad line is answered `{"error": {"reason": …, "detail": …}}`.
"""

import base64
import binascii
import json
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, NoReturn, TypeVar

import typer

from evcc import exi
from plugvault import exi_json

app = typer.Typer(
    help="EXI to JSON and back.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

_T = TypeVar("_T")
LONGEST = 8 << 20  # octets of a line, or of a file: far above any message


class Schema(StrEnum):
    ISO2 = "iso2"
    SAP = "sap"
    XMLDSIG = "xmldsig"


File = Annotated[str, typer.Argument(help="a file, or - for standard input", metavar="FILE")]
InHex = Annotated[bool, typer.Option("--hex", help="the input is hexadecimal")]
InBase64 = Annotated[bool, typer.Option("--base64", help="the input is base64")]
OutHex = Annotated[bool, typer.Option("--hex", help="write hexadecimal")]
OutBase64 = Annotated[bool, typer.Option("--base64", help="write base64")]
Which = Annotated[Schema | None, typer.Option("--schema", help="default: found out, else iso2")]
Lines = Annotated[bool, typer.Option("--lines", help="a message a line, an answer a line")]
Element = Annotated[str, typer.Option("--element", help="name of the element to be signed")]
Typed = Annotated[bool, typer.Option("--typed", help="eMAID in the other form that peers sign")]


@app.command()
def decode(
    file: File = "-",
    hex_: InHex = False,
    base64_: InBase64 = False,
    schema: Which = None,
    lines: Lines = False,
) -> None:
    """EXI to JSON.

    With --lines: a hexadecimal (or --base64) message a line, answered with a
    JSON document a line; a bad one is answered {"error": {"reason", "detail"}}
    and the rest go on.
    """

    def one(data: bytes) -> dict[str, Any]:
        name = schema.value if schema else exi_json.detect(data)
        return exi_json.to_json(exi.decode(data, name), name)

    _one_form(hex_, base64_)
    read = _unbase64 if base64_ else _unhex if hex_ or lines else bytes
    if lines:
        _answer(file, lambda line: json.dumps(one(read(line)), separators=(",", ":")))
    else:
        print(json.dumps(_single(file, lambda data: one(read(data))), indent=1))


@app.command()
def encode(
    file: File = "-",
    hex_: OutHex = False,
    base64_: OutBase64 = False,
    schema: Which = None,
    lines: Lines = False,
) -> None:
    """JSON, in the form that `decode` writes, to EXI.

    With --lines: a JSON document a line, answered with a hexadecimal (or
    --base64) message a line; a bad one is answered
    {"error": {"reason", "detail"}} and the rest go on.
    """

    def one(text: bytes) -> bytes:
        document = exi_json.loads(text)
        name = schema.value if schema else exi_json.detect_root(document)
        return exi.encode(exi_json.from_json(document, name), name)

    _write(file, one, hex_, base64_, lines)


@app.command()
def fragment(
    element: Element,
    file: File = "-",
    hex_: OutHex = False,
    base64_: OutBase64 = False,
    schema: Which = None,
    lines: Lines = False,
    typed: Typed = False,
) -> None:
    """JSON of a message, or of one element, to the EXI fragment a signature digests.

    Elements that are signed: ContractSignatureCertChain,
    ContractSignatureEncryptedPrivateKey, DHpublickey, eMAID,
    CertificateInstallationReq, CertificateUpdateReq, AuthorizationReq,
    MeteringReceiptReq; and SignedInfo itself, in the schema of xmldsig alone.
    """

    def one(text: bytes) -> bytes:
        name = schema.value if schema else None
        document = exi_json.loads(text)
        index, value, found = exi_json.fragment_arguments(document, element, name)
        return exi.fragment(index, value, found, typed)

    _write(file, one, hex_, base64_, lines)


def _write(
    file: str, one: Callable[[bytes], bytes], hex_: bool, base64_: bool, lines: bool
) -> None:
    def text(data: bytes) -> str:
        return base64.b64encode(data).decode() if base64_ else data.hex()

    _one_form(hex_, base64_)
    if lines:
        _answer(file, lambda line: text(one(line)))
    elif hex_ or base64_:
        print(text(_single(file, one)))
    else:
        sys.stdout.buffer.write(_single(file, one))
        sys.stdout.buffer.flush()


# -- one message ------------------------------------------------------------------------------


def _single(file: str, one: Callable[[bytes], _T]) -> _T:
    with _open(file) as stream:
        data = stream.read(LONGEST + 1)
    if len(data) > LONGEST:
        _fail(f"{file}: longer than {LONGEST} octets")
    try:
        return one(data)
    except exi.ExiError as e:
        text = e.reason == "header" and data.isascii()
        _fail(f"{e}; text? then say --hex or --base64" if text else str(e))


def _fail(text: str) -> NoReturn:
    print("plugvault exi: " + " ".join(text.split()), file=sys.stderr)
    raise typer.Exit(1)


def _open(file: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if file == "-" else Path(file).open("rb")
    except OSError as e:
        _fail(f"{file}: {e.strerror}")


# -- a message a line -------------------------------------------------------------------------


def _answer(file: str, one: Callable[[bytes], str]) -> None:
    """Answer each line at once; an empty line is an empty message."""
    with _open(file) as stream:
        for line in _lines(stream):
            try:
                if line is None:
                    raise exi.ExiError("length", f"a line longer than {LONGEST} octets")
                answer = one(line)
            except exi.ExiError as e:
                error = {"reason": e.reason, "detail": e.detail}
                answer = json.dumps({"error": error}, separators=(",", ":"))
            print(answer, flush=True)


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Lines without their ends; None for one too long to hold."""
    while line := stream.readline(LONGEST):
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while not line.endswith(b"\n") and line:
                line = stream.readline(LONGEST)
            yield None
        else:
            yield line.strip()


def _one_form(hex_: bool, base64_: bool) -> None:
    if hex_ and base64_:
        raise typer.BadParameter("--hex or --base64, not both")


# -- text forms -------------------------------------------------------------------------------


def _unhex(text: bytes) -> bytes:
    try:
        return bytes.fromhex(text.decode("ascii"))
    except ValueError:
        raise exi.ExiError("value", "not hexadecimal") from None


def _unbase64(text: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(text.split()), validate=True)
    except binascii.Error:
        raise exi.ExiError("value", "not base64") from None
