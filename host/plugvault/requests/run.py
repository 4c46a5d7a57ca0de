"""Carry out files of HTTP requests, and compare each status with the expected one.

The format is that of VS Code's REST Client, as far as the collection uses it: requests between
lines of `###`, `# @name`, `{{variable}}`, `{{name.response.body.$.member[0]}}`. A request without
`# @expect` expects any success.
"""

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from evcc.errors import EvccError
from plugvault import json_file, unreachable
from plugvault.pki import trusted
from plugvault.pki.forms import FormError

_VARIABLE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
_ANSWER = re.compile(r"(\w+)\.response\.(body|headers)\.(?:\$\.)?(.+)")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_TAG = re.compile(r"(?:#|//)\s*@(\w+)\s+(\S+)")
_COMMENT = re.compile("#|//|@")  # a tag, a variable or words
_LINE = re.compile(r"([A-Z]+)\s+(\S+)(?:\s+HTTP/\S+)?")
TIMEOUT = 30.0  # seconds for one request


class RequestsError(EvccError):
    """A file that cannot be carried out. `detail`: the place of the mistake."""

    REASONS = ("file", "variable")


@dataclass(frozen=True)
class HttpRequest:
    """One request, before its variables have values. `expect`: a status, None for any success."""

    title: str
    name: str
    expect: int | None
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: str


@dataclass(frozen=True)
class Outcome:
    """The answer to a request. Without an answer `status` is 0 and `text` the error."""

    request: HttpRequest
    status: int
    text: str

    @property
    def ok(self) -> bool:
        """Whether the status is the expected one."""
        if self.request.expect is None:
            return 200 <= self.status < 300
        return self.status == self.request.expect


def parse(text: str) -> list[HttpRequest]:
    """The requests of a file, at least one. Raises RequestsError("file")."""
    before, *parts = re.split(r"^###[ \t]*(.*)$", text, flags=re.MULTILINE)
    if not parts or any(line.strip() and not _COMMENT.match(line) for line in before.split("\n")):
        raise RequestsError("file", "each request begins with a line of ###, the first one too")
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [_request(title.strip(), part) for title, part in pairs]


def run(text: str, values: Mapping[str, str], trust: Path | None = None) -> Iterator[Outcome]:
    """Carry out a file's requests in order, to the end or to the first without an answer.

    `values`: the variables; `trust`: a file with the roots of an HTTPS server. Raises
    RequestsError: "file", "variable".
    """
    answers: dict[str, httpx.Response] = {}
    with httpx.Client(timeout=TIMEOUT, trust_env=False, verify=_trust(trust)) as http:
        for request in parse(text):
            url = _fill(request.url, values, answers)
            body = _fill(request.body, values, answers)
            headers = [(name, _fill(value, values, answers)) for name, value in request.headers]
            try:
                answer = http.request(request.method, url, headers=headers, content=body.encode())
            except (
                httpx.InvalidURL,
                httpx.UnsupportedProtocol,
                httpx.LocalProtocolError,  # a header with a control character
                ValueError,  # a header outside ASCII, or a name that no host can have
            ) as error:
                text = f"{request.title or request.method}: no request of HTTP: {error}"
                raise RequestsError("file", text) from error
            except httpx.RequestError as error:
                server = _server(error.request.url)
                why = unreachable.reason(error, server, unreachable.TRUST_OPTIONS)
                yield Outcome(request, 0, why)
                return
            if request.name:
                answers[request.name] = answer
            yield Outcome(request, answer.status_code, answer.text)


def read_values(file: Path) -> dict[str, str]:
    """The variables of an environment file's first environment. Raises RequestsError("file")."""
    try:
        environments = json_file.read(file)
        environment = next(iter(environments.values()))
        return {str(name): str(value) for name, value in environment.items()}
    except (OSError, ValueError, KeyError, StopIteration, AttributeError) as error:
        text = f"{file} holds no environment; `plugvault sandbox --requests DIR` writes one"
        raise RequestsError("file", text) from error


def _trust(file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context() if file is None else trusted.tls_of(file)
    except FormError as error:
        raise RequestsError("file", f"--trust {error.detail}") from error


def _server(url: httpx.URL) -> str:
    """Scheme, host and port of a URL."""
    return f"{url.scheme}://{url.netloc.decode()}"


def _request(title: str, part: str) -> HttpRequest:
    lines = part.strip("\n").split("\n")
    tags = {match[1]: match[2] for line in lines if (match := _TAG.match(line))}
    lines = [line for line in lines if not _COMMENT.match(line)]
    while lines and not lines[0].strip():
        lines.pop(0)
    first = _LINE.fullmatch(lines[0].strip()) if lines else None
    expect = tags.get("expect")
    if first is None or (expect and not expect.isdigit()):
        raise RequestsError("file", f"{title or 'a request'}: METHOD and URL are needed")
    end = next((i for i, line in enumerate(lines) if not line.strip()), len(lines))
    headers = [line.partition(":")[::2] for line in lines[1:end]]
    return HttpRequest(
        title,
        tags.get("name", ""),
        int(expect) if expect else None,
        first[1],
        first[2],
        tuple((name.strip(), value.strip()) for name, value in headers),
        "\n".join(lines[end + 1 :]).strip(),
    )


def _fill(text: str, values: Mapping[str, str], answers: Mapping[str, httpx.Response]) -> str:
    def value_of(variable: re.Match[str]) -> str:
        name = variable[1]
        if name in values:
            return values[name]
        reference = _ANSWER.fullmatch(name)
        if reference is None or reference[1] not in answers:
            raise RequestsError("variable", f"{{{{{name}}}}} is not known")
        answer = answers[reference[1]]
        if reference[2] == "headers":
            return str(answer.headers.get(reference[3], ""))
        return _member(answer, reference)

    return _VARIABLE.sub(value_of, text)


def _member(answer: httpx.Response, reference: re.Match[str]) -> str:
    """The member of an answer's JSON at a path such as `a.b[0].c`."""
    try:
        value: Any = answer.json()
        for member, index in _STEP.findall(reference[3]):
            value = value[int(index)] if index else value[member]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise RequestsError(
            "variable",
            f"{{{{{reference[0]}}}}}: the answer has no such member: {answer.text[:200]}",
        ) from error
    return value if isinstance(value, str) else json.dumps(value)
