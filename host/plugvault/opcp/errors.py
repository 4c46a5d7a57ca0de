"""Every refusal in OPCP's one shape: {"errorMessages": [...], "traceId": uuid}."""

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from evcc.vault import VaultError
from plugvault.opcp.fields import Wire
from plugvault.pki.issue import IssueError
from plugvault.pki.request import RequestError
from plugvault.pools.errors import PoolError

log = logging.getLogger("plugvault.opcp")

# Of a request, and forms of one member, as the validation names them and no caller does.
_PARTS = ("body", "path", "query", "header", "flat", "nested")
STATUS = {
    "invalid": 400,
    "forbidden": 403,
    "not-found": 404,
    "conflict": 409,
    "unavailable": 503,
}


class ErrorBody(Wire):
    """Why a call was refused, in words, and an id to find it by in the server's log."""

    error_messages: list[str]
    trace_id: uuid.UUID


RESPONSES: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "Refused: the messages say what to change"},
    "5XX": {"model": ErrorBody, "description": "Not the caller's fault"},
}


def answer(
    status: int,
    messages: Sequence[str],
    headers: dict[str, str] | None = None,
    cause: Exception | None = None,
    members: Mapping[str, str] | None = None,
) -> JSONResponse:
    """The error body, with each message once, and a line in the log that has its id. `members`:
    what another protocol's refusal says beside them."""
    body = {
        **(members or {}),
        "errorMessages": list(dict.fromkeys(messages)),
        "traceId": str(uuid.uuid4()),
    }
    level = logging.ERROR if status >= 500 else logging.INFO
    log.log(level, "%s %s %r", body["traceId"], status, body["errorMessages"], exc_info=cause)
    return JSONResponse(body, status, headers)


def install(app: FastAPI) -> None:
    """Give every exception that can reach the face its answer."""

    @app.exception_handler(PoolError)
    async def _pool(_: Request, error: PoolError) -> JSONResponse:
        return answer(STATUS[error.reason], error.detail.splitlines())

    @app.exception_handler(RequestError)
    @app.exception_handler(IssueError)
    async def _issue(_: Request, error: RequestError | IssueError) -> JSONResponse:
        return answer(400, [error.detail])

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(400, [sentence(found) for found in error.errors()])

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, [str(error.detail)], dict(error.headers or {}))

    @app.exception_handler(VaultError)
    async def _vault(_: Request, error: VaultError) -> JSONResponse:
        return answer(503, ["The key store is not available."], cause=error)

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, error: Exception) -> JSONResponse:
        return answer(500, ["Internal error."], cause=error)


def sentence(error: dict[str, Any]) -> str:
    """One complaint of the validation as OPCP writes it: `field : must ...`."""
    where = ".".join(str(part) for part in error["loc"] if part not in _PARTS)
    kind, context = error["type"], error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return f'{where} : must match "{context["pattern"]}"'
    if kind == "missing":
        return f"{where or 'body'} : must be given"
    if kind == "json_invalid":
        return "The body is not JSON."
    return f"{where} : {error['msg']}"
