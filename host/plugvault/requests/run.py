"""Carry out files of HTTP requests: each request's status must be the one its file expects.

Reads the form that VS Code's REST Client reads, as far as the collection uses it: requests between
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

_VARIABLE = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
_ANSWER = re.compile(r"(\w+)\.response\.(body|headers)\.(?:\$\.)?(.+)")
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_TAG = re.compile(r"(?:#|//)\s*@(\w+)\s+(\S+)")
_LINE = re.compile(r"([A-Z]+)\s+(\S+)(?:\s+HTTP/\S+)?")
TIMEOUT = 30.0  # seconds for one request


class RequestsError(EvccError):
    """A file that cannot be carried out. `detail` says where it is wrong."""

    REASONS = ("file", "variable")


@dataclass(frozen=True)
class HttpRequest:
    """One request, its variables not yet filled in. `expect`: None for any success."""

    title: str
    name: str
    expect: int | None
    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: str


@dataclass(frozen=True)
class Outcome:
    """What came of a request. `status` is 0 where there was no answer."""

    request: HttpRequest
    status: int
    said: str

    @property
    def ok(self) -> bool:
        if self.request.expect is None:
            return 200 <= self.status < 300
        return self.status == self.request.expect


def parse(text: str) -> list[HttpRequest]:
    """The requests of a file. Raises RequestsError("file")."""
    parts = re.split(r"^###[ \t]*(.*)$", text, flags=re.MULTILINE)[1:]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return [_request(title.strip(), part) for title, part in pairs]


def run(text: str, values: Mapping[str, str], trust: Path | None = None) -> Iterator[Outcome]:
    """Carry out a file's requests, one after the other, to the end or a silent server.

    `trust`: a file with the roots of a server that speaks HTTPS.
    """
    answers: dict[str, httpx.Response] = {}
    with httpx.Client(timeout=TIMEOUT, trust_env=False, verify=_trust(trust)) as http:
        for request in parse(text):
            filled = [_fill(part, values, answers) for part in (request.url, request.body)]
            headers = [(name, _fill(value, values, answers)) for name, value in request.headers]
            try:
                answer = http.request(
                    request.method, filled[0], headers=headers, content=filled[1].encode()
                )
            except httpx.HTTPError as error:
                yield Outcome(request, 0, f"{type(error).__name__}: {error}")
                return
            if request.name:
                answers[request.name] = answer
            yield Outcome(request, answer.status_code, answer.text)


def read_values(file: Path) -> dict[str, str]:
    """The variables of an environment file's first environment. Raises RequestsError("file")."""
    try:
        found = json.loads(file.read_text())
        chosen = next(iter(found.values()))
        return {str(name): str(value) for name, value in chosen.items()}
    except (OSError, ValueError, KeyError, StopIteration, AttributeError) as error:
        raise RequestsError("file", f"{file}: no environment to be had ({error})") from error


def _trust(file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise RequestsError("file", f"{file}: no root certificates in it") from error


def _request(title: str, part: str) -> HttpRequest:
    lines = part.strip("\n").split("\n")
    tags = {found[1]: found[2] for line in lines if (found := _TAG.match(line))}
    rest = [line for line in lines if not line.startswith(("#", "//", "@"))]
    while rest and not rest[0].strip():
        rest.pop(0)
    first = _LINE.fullmatch(rest[0].strip()) if rest else None
    expect = tags.get("expect")
    if first is None or (expect and not expect.isdigit()):
        raise RequestsError("file", f"{title or 'a request'}: METHOD and URL are needed")
    end = next((i for i, line in enumerate(rest) if not line.strip()), len(rest))
    headers = [line.partition(":")[::2] for line in rest[1:end]]
    return HttpRequest(
        title,
        tags.get("name", ""),
        int(expect) if expect else None,
        first[1],
        first[2],
        tuple((name.strip(), value.strip()) for name, value in headers),
        "\n".join(rest[end + 1 :]).strip(),
    )


def _fill(text: str, values: Mapping[str, str], answers: Mapping[str, httpx.Response]) -> str:
    def one(found: re.Match[str]) -> str:
        name = found[1]
        if name in values:
            return values[name]
        said = _ANSWER.fullmatch(name)
        if said and said[1] in answers:
            answer = answers[said[1]]
            return answer.headers.get(said[3], "") if said[2] == "headers" else _at(answer, said)
        raise RequestsError("variable", f"{{{{{name}}}}} is not known")

    return _VARIABLE.sub(one, text)


def _at(answer: httpx.Response, said: re.Match[str]) -> str:
    """The member of an answer's JSON that a path such as `a.b[0].c` leads to."""
    try:
        value: Any = answer.json()
        for member, index in _STEP.findall(said[3]):
            value = value[int(index)] if index else value[member]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise RequestsError(
            "variable", f"{{{{{said[0]}}}}}: the answer has no such member: {answer.text[:200]}"
        ) from error
    return value if isinstance(value, str) else json.dumps(value)
