"""Refusals in OPCP's form: {"errorMessages": [...], "traceId": uuid}.

The statuses: PoolError by the table `STATUS`; 400 for a body or certificate request that is not
valid; 503 for a key store that does not answer; 500 for every other exception.
"""

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from evcc.vault import VaultError
from plugvault.opcp.fields import Wire
from plugvault.pki.issue import IssueError
from plugvault.pki.request import RequestError
from plugvault.pools.errors import PoolError, WithheldError

log = logging.getLogger("plugvault.opcp")

# Names in the validation's location that the caller does not know.
_PARTS = ("body", "path", "query", "header", "flat", "nested")
STATUS = {
    "invalid": 400,
    "forbidden": 403,
    "not-found": 404,
    "conflict": 409,
    "unavailable": 503,
}


class ErrorBody(Wire):
    """The reasons of a refusal, and the id of its line in the server's log."""

    error_messages: list[str]
    trace_id: uuid.UUID


RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Refused: the messages name the reason"},
    "5XX": {"model": ErrorBody, "description": "Failed: the request may be correct"},
}


def answer(
    status: int,
    messages: Sequence[str],
    headers: dict[str, str] | None = None,
    cause: Exception | None = None,
    members: Mapping[str, str] | None = None,
    note: str = "",
) -> JSONResponse:
    """The error body, with each message once, and a line in the log with its id.

    `status`: of HTTP; `cause`: an exception whose traceback the log gets; `members`: further
    members that another protocol defines; `note`: for the log alone.
    """
    body = {
        **{name: _writable(text) for name, text in (members or {}).items()},
        "errorMessages": list(dict.fromkeys(map(_writable, messages))),
        "traceId": str(uuid.uuid4()),
    }
    level = logging.ERROR if status >= 500 else logging.INFO
    line = "%s %s %r %s"
    log.log(level, line, body["traceId"], status, body["errorMessages"], note, exc_info=cause)
    return JSONResponse(body, status, headers)


def _writable(text: str) -> str:
    """The text, with escapes for halves of surrogate pairs: a request can contain them, and an
    answer cannot."""
    return text.encode("utf-8", "backslashreplace").decode()


def install(app: FastAPI) -> None:
    """Register an answer for every exception of an endpoint, those of this package and all
    others."""

    @app.exception_handler(PoolError)
    async def _pool(_: Request, error: PoolError) -> JSONResponse:
        note = ""
        if isinstance(error, WithheldError):
            note = error.cause
            if error.circumstances:
                note += f" {error.circumstances!r}"
        return answer(STATUS[error.reason], error.detail.splitlines(), note=note)

    @app.exception_handler(RequestError)
    @app.exception_handler(IssueError)
    async def _issue(_: Request, error: RequestError | IssueError) -> JSONResponse:
        return answer(400, [error.detail])

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(400, [sentence(invalid) for invalid in error.errors()])

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_methods(request))
        return answer(error.status_code, [str(error.detail)], headers)

    @app.exception_handler(VaultError)
    async def _vault(_: Request, error: VaultError) -> JSONResponse:
        return answer(503, ["The key store is not available."], cause=error)

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, error: Exception) -> JSONResponse:
        return answer(500, ["Internal error."], cause=error)


def _methods(request: Request) -> list[str]:
    """Every method of the request's path [RFC 9110, 15.5.6]: each route knows its own alone."""
    methods = set[str]()
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] != Match.NONE:
            methods |= route.methods
    return sorted(methods)


def sentence(error: dict[str, Any]) -> str:
    """A validation error of pydantic as a message in OPCP's form: `field : must ...`."""
    where = ".".join(str(part) for part in error["loc"] if part not in _PARTS)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return f'{where} : must match "{context["pattern"]}"'
    if kind == "missing":
        return f"{where or 'body'} : must be given"
    if kind == "json_invalid":
        return "The body is not JSON."
    if not where and kind in ("model_type", "model_attributes_type", "dict_type"):
        return "The body is no JSON object."
    return f"{where or 'body'} : {error['msg']}"
