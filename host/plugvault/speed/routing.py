"""A shorter way to simple endpoints than FastAPI's own.

FastAPI tries all routes in turn and solves a tree of dependencies for each request, which takes
about as long as a pool needs to answer. An endpoint is simple when it is a coroutine function, its
path has no parameters, and its arguments are dependencies, one JSON body and headers. `add` puts
one Starlette route before all others; it finds simple endpoints by their path and reads their
arguments directly. A request that does not fit, wrong or only unusual, is passed on to FastAPI,
which has the error texts.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, get_args

from fastapi import APIRouter, FastAPI, Request, Response, params
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.datastructures import URLPath
from starlette.requests import HTTPConnection
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Message, Receive, Scope, Send

Read = Callable[[Request], Awaitable[Any]]

_PASSED_ON = "plugvault.speed.routing"  # in the scope of a request that is FastAPI's


class Unusual(Exception):
    """A request or an endpoint that FastAPI must process."""


def add(app: FastAPI, routers: Iterable[APIRouter]) -> None:
    """Let the simple endpoints of these routers, which `app` includes, be found and called
    directly."""
    endpoints: dict[tuple[str, str], SimpleEndpoint] = {}
    for router in routers:
        for route in router.routes:
            if not isinstance(route, APIRoute) or route.param_convertors:
                continue
            with suppress(Unusual):
                endpoint = SimpleEndpoint(route)
                endpoints |= {(method, route.path): endpoint for method in route.methods or ()}
    app.router.routes.insert(0, DirectRoute(app.router, endpoints))


class SimpleEndpoint:
    """An endpoint, and the reader of each of its arguments. Raises Unusual for an endpoint that is
    not simple."""

    def __init__(self, route: APIRoute) -> None:
        if not inspect.iscoroutinefunction(route.endpoint) or route.dependencies:
            raise Unusual
        self._call, self._status = route.endpoint, route.status_code or 200
        self._body: tuple[str, type[BaseModel]] | None = None
        self._readers: dict[str, Read] = {}
        for name, parameter in _parameters(route.endpoint).items():
            kind = parameter.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel) and not self._body:
                self._body = name, kind
            else:
                self._readers[name] = _reader(parameter)

    async def respond(self, request: Request, body: bytes) -> Response:
        """The endpoint's response. Raises the exceptions of the endpoint; Unusual before the
        endpoint is called."""
        headers = request.scope["headers"]
        if len(dict(headers)) < len(headers) or request.scope["query_string"]:
            raise Unusual
        arguments = {}
        if self._body:
            if not request.headers.get("content-type", "").startswith("application/json"):
                raise Unusual
            name, model = self._body
            arguments[name] = _valid(model.model_validate_json, body)
        for name, read in self._readers.items():
            arguments[name] = await read(request)
        result = await self._call(**arguments)
        return result if isinstance(result, Response) else JSONResponse(result, self._status)


class DirectRoute(BaseRoute):
    """One route for all simple endpoints. `endpoints`: by method and path."""

    def __init__(self, router: Any, endpoints: Mapping[tuple[str, str], SimpleEndpoint]) -> None:
        self._router, self._endpoints = router, endpoints

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        key = scope.get("method", ""), scope.get("path", "")
        is_ours = key in self._endpoints and _PASSED_ON not in scope
        return (Match.FULL if is_ours else Match.NONE), {}

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()  # the whole body: see `plugvault.opcp.limits`
        endpoint = self._endpoints[scope["method"], scope["path"]]
        request = Request(scope, _replay(message, receive))
        try:
            response = await endpoint.respond(request, message.get("body", b""))
        except Unusual:
            again = _replay(message, receive)
            await self._router({**scope, _PASSED_ON: True}, again, send)
        else:
            await response(scope, receive, send)


def _replay(first: Message, receive: Receive) -> Receive:
    """A `receive` that gives a message once more, and then the following ones."""
    messages = [first]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay


def _parameters(call: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(call, eval_str=True).parameters


def _reader(parameter: inspect.Parameter) -> Read:
    """How one argument is read. Raises Unusual."""
    if parameter.annotation in (Request, HTTPConnection):
        return _request
    for mark in get_args(parameter.annotation)[1:]:
        if isinstance(mark, params.Depends) and mark.dependency:
            return _dependency(mark.dependency)
        if isinstance(mark, params.Header) and parameter.default is not parameter.empty:
            name = mark.alias or parameter.name.replace("_", "-")
            check = TypeAdapter(parameter.annotation).validate_python
            return partial(_header, name, parameter.default, check)
    raise Unusual


async def _request(request: Request) -> Request:
    return request


def _dependency(call: Callable[..., Any]) -> Read:
    function = call if inspect.isfunction(call) else type(call).__call__
    if not inspect.iscoroutinefunction(function):
        raise Unusual
    readers = {name: _reader(parameter) for name, parameter in _parameters(call).items()}

    async def solve(request: Request) -> Any:
        return await call(**{name: await read(request) for name, read in readers.items()})

    return solve


async def _header(name: str, default: Any, check: Callable[[Any], Any], request: Request) -> Any:
    text = request.headers.get(name)
    return default if text is None else _valid(check, text)


def _valid(check: Callable[[Any], Any], value: Any) -> Any:
    try:
        return check(value)
    except ValidationError as error:
        raise Unusual from error
