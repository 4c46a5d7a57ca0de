"""Every refusal in OPCP's one shape: {"errorMessages": [...], "traceId": uuid}."""

import logging
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from evcc.vault import VaultError
from plugvault.pki.issue import IssueError
from plugvault.pki.request import RequestError
from plugvault.pools.errors import PoolError

log = logging.getLogger("plugvault.opcp")

_PARTS = ("body", "path", "query", "header")  # of a request, as the validation names them
STATUS = {"invalid": 400, "forbidden": 403, "not-found": 404, "unavailable": 503}


def body(messages: Sequence[str]) -> dict[str, Any]:
    """The error body; messages are unique."""
    return {"errorMessages": list(dict.fromkeys(messages)), "traceId": str(uuid.uuid4())}


def answer(
    status: int, messages: Sequence[str], headers: dict[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(body(messages), status, headers)


def install(app: FastAPI) -> None:
    """Give every exception that can reach the face its answer."""

    @app.exception_handler(PoolError)
    async def _pool(_: Request, error: PoolError) -> JSONResponse:
        return answer(STATUS[error.reason], [error.detail])

    @app.exception_handler(RequestError)
    @app.exception_handler(IssueError)
    async def _issue(_: Request, error: RequestError | IssueError) -> JSONResponse:
        return answer(400, [error.detail])

    @app.exception_handler(RequestValidationError)
    async def _validation(_: Request, error: RequestValidationError) -> JSONResponse:
        return answer(400, [_sentence(found) for found in error.errors()])

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        return answer(error.status_code, [str(error.detail)], dict(error.headers or {}))

    @app.exception_handler(VaultError)
    async def _vault(_: Request, error: VaultError) -> JSONResponse:
        log.error("token unavailable: %s", error.reason)
        return answer(503, ["The key store is not available."])

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, error: Exception) -> JSONResponse:
        found = answer(500, ["Internal error."])
        log.error("unexpected %s", type(error).__name__, exc_info=error)
        return found


def _sentence(error: dict[str, Any]) -> str:
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
