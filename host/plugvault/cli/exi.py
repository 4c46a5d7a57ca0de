"""`plugvault exi`: EXI to JSON or XML and back, for one message or one message per line.

`plugvault.exi_json` describes the JSON, `plugvault.exi_xml` the XML. A bad message gives one line
on standard error and exit status 1; with `--lines` the answer to a bad line is
`{"error": {"reason": …, "detail": …}}`, and the exit status is 1 after the last line.
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
from plugvault import exi_json, exi_xml

app = typer.Typer(
    help="Convert EXI to JSON or XML, and back.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

_T = TypeVar("_T")
LONGEST = 8 << 20  # octets of a line or a file, far above any message


class Schema(StrEnum):
    ISO2 = "iso2"
    SAP = "sap"
    XMLDSIG = "xmldsig"


File = Annotated[str, typer.Argument(help="A file, or - for standard input.", metavar="FILE")]
InHex = Annotated[bool, typer.Option("--hex", help="Read hexadecimal.")]
InBase64 = Annotated[bool, typer.Option("--base64", help="Read base64.")]
OutHex = Annotated[bool, typer.Option("--hex", help="Write hexadecimal.")]
OutBase64 = Annotated[bool, typer.Option("--base64", help="Write base64.")]
Which = Annotated[
    Schema | None, typer.Option("--schema", help="Schema. Default: the message's own, else iso2.")
]
Lines = Annotated[
    bool, typer.Option("--lines", help="Read a message per line, and write an answer per line.")
]
AsXml = Annotated[bool, typer.Option("--xml", help="Write XML in place of JSON.")]
Element = Annotated[str, typer.Option("--element", help="Name of the element to be signed.")]
Typed = Annotated[
    bool, typer.Option("--typed", help="Encode eMAID in the other form that peers sign.")
]


@app.command()
def decode(
    file: File = "-",
    hex_: InHex = False,
    base64_: InBase64 = False,
    schema: Which = None,
    lines: Lines = False,
    as_xml: AsXml = False,
) -> None:
    """Convert EXI, also in a V2GTP frame, to JSON or XML.

    With --lines each line is a hexadecimal (or --base64) message, and its answer a line of JSON
    (or XML). The answer to a bad message is {"error": {"reason", "detail"}}; the next lines are
    read, and the exit status is 1.
    """

    def convert(data: bytes) -> str:
        data = exi_json.unframed(data)
        name = schema.value if schema else exi_json.detect(data)
        try:
            message = exi.decode(data, name)
        except exi.ExiError as e:
            words = (e.detail, exi_json.name_of_foreign(data))
            raise exi.ExiError(e.reason, "; ".join(filter(None, words))) from None
        if as_xml:
            text = exi_xml.to_xml(message, name, indent=not lines)
            return text.replace("?>\n", "?>", 1) if lines else text
        document = exi_json.to_json(message, name)
        form: Any = {"separators": (",", ":")} if lines else {"indent": 1}
        return json.dumps(document, **form)

    _check_form(hex_, base64_)
    read = _unbase64 if base64_ else _unhex if hex_ or lines else bytes
    if lines:
        _answer(file, lambda line: convert(read(line)))
    else:
        print(_single(file, lambda data: convert(read(data))))


@app.command()
def encode(
    file: File = "-",
    hex_: OutHex = False,
    base64_: OutBase64 = False,
    schema: Which = None,
    lines: Lines = False,
) -> None:
    """Convert JSON or XML, in the forms that `decode` writes, to EXI.

    With --lines each line is a document, and its answer a hexadecimal (or --base64) message.
    The answer to a bad document is {"error": {"reason", "detail"}}; the next lines are read, and
    the exit status is 1.
    """

    def convert(text: bytes) -> bytes:
        if _is_xml(text):
            message, name = exi_xml.from_xml(text, schema and schema.value)
            return exi.encode(message, name)
        document = exi_json.loads(text)
        name = schema.value if schema else exi_json.detect_root(document)
        return exi.encode(exi_json.from_json(document, name), name)

    _write(file, convert, hex_, base64_, lines)


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
    """Convert JSON of a message or an element, or XML of a message, to the EXI fragment that a
    signature digests.

    Signed elements: ContractSignatureCertChain,
    ContractSignatureEncryptedPrivateKey, DHpublickey, eMAID,
    CertificateInstallationReq, CertificateUpdateReq, AuthorizationReq,
    MeteringReceiptReq; and SignedInfo itself, in the schema of xmldsig alone.
    """

    def convert(text: bytes) -> bytes:
        name = schema.value if schema else None
        if _is_xml(text):
            document: Any = exi_json.to_json(*exi_xml.from_xml(text, name))
        else:
            document = exi_json.loads(text)
        index, value, grammar = exi_json.fragment_arguments(document, element, name)
        return exi.fragment(index, value, grammar, typed)

    _write(file, convert, hex_, base64_, lines)


def _is_xml(text: bytes) -> bool:
    return text.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<"


def _write(
    file: str, convert: Callable[[bytes], bytes], hex_: bool, base64_: bool, lines: bool
) -> None:
    def text(data: bytes) -> str:
        return base64.b64encode(data).decode() if base64_ else data.hex()

    _check_form(hex_, base64_)
    if lines:
        _answer(file, lambda line: text(convert(line)))
    elif hex_ or base64_:
        print(text(_single(file, convert)))
    else:
        sys.stdout.buffer.write(_single(file, convert))
        sys.stdout.buffer.flush()


# -- one message ------------------------------------------------------------------------------


def _single(file: str, convert: Callable[[bytes], _T]) -> _T:
    with _open(file) as stream:
        data = _read(file, lambda: stream.read(LONGEST + 1))
    if len(data) > LONGEST:
        _fail(f"{file}: longer than {LONGEST} octets")
    try:
        return convert(data)
    except exi.ExiError as e:
        is_text = e.reason == "header" and data.isascii()
        where = "" if file == "-" else f"{file}: "
        _fail(f"{where}{e}" + ("; text? then say --hex or --base64" if is_text else ""))


def _fail(text: str) -> NoReturn:
    print("plugvault exi: " + " ".join(text.split()), file=sys.stderr)
    raise typer.Exit(1)


def _open(file: str) -> BinaryIO:
    return _read(file, lambda: sys.stdin.buffer if file == "-" else Path(file).open("rb"))


def _read(file: str, read: Callable[[], _T]) -> _T:
    """What `read` returns. Its error ends the command with the file's name."""
    try:
        return read()
    except OSError as e:
        _fail(f"{file}: {e.strerror}")


# -- a message per line -------------------------------------------------------------------------


def _answer(file: str, convert: Callable[[bytes], str]) -> None:
    """Answer each line before the next is read; an empty line is an empty message. After a bad one
    the command ends with exit status 1."""
    bad = False
    with _open(file) as stream:
        for line in _lines(lambda: _read(file, lambda: stream.readline(LONGEST))):
            try:
                if line is None:
                    raise exi.ExiError("length", f"a line longer than {LONGEST} octets")
                answer = convert(line)
            except exi.ExiError as e:
                error = {"reason": e.reason, "detail": e.detail}
                answer, bad = json.dumps({"error": error}, separators=(",", ":")), True
            print(answer, flush=True)
    if bad:
        raise typer.Exit(1)


def _lines(readline: Callable[[], bytes]) -> Iterator[bytes | None]:
    """Lines without their ends; None for a line above `LONGEST`, of which `readline` returns a
    part at a time."""
    while line := readline():
        if len(line) == LONGEST and not line.endswith(b"\n"):
            while not line.endswith(b"\n") and line:
                line = readline()
            yield None
        else:
            yield line.strip()


def _check_form(hex_: bool, base64_: bool) -> None:
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
