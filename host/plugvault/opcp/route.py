"""The short way to an endpoint, for requests in which nothing is out of the ordinary.

FastAPI's general way (a search through all routes, a tree of dependencies solved anew, a thread
by way of anyio) takes several times as long as a pool needs to answer. An endpoint of this route
class is still an ordinary FastAPI endpoint: documented, validated and refused as any other. But
where its signature is of the plain kind (the caller, the services, one JSON body, scalars of path
and headers) and a request fits it at once, the arguments are made right here and the endpoint is
called: on the event loop, for handing it to a thread would cost more than most answers, and in a
thread when something would have to wait (`plugvault.patience`), or everything would, for the store
is not at hand. `ShortWay` finds endpoints by their whole path before FastAPI looks for them.
Whatever does not fit, wrong or only unusual, goes the general way, which has the words for it.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar, get_args

from fastapi import Request, Response, params
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from plugvault.opcp.services import services
from plugvault.patience import WouldWait, at_once
from plugvault.pools.repositories import Store

THREADS = 40  # endpoints at once in a process; they wait for the database, the token, or peers

Headers = Mapping[bytes, bytes]
Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Read = Callable[[Request, Headers], Any]
Check = Callable[[Any], Any]

# A dependency, and what gives the same at once from a request, or None where it cannot.
SHORT: dict[Callable[..., Any], Read] = {services: lambda request, _: services(request)}

_threads = ThreadPoolExecutor(THREADS, "plugvault-endpoint")


class Json(JSONResponse):
    """Written by the library that reads requests; the standard one takes three times as long."""

    def __init__(self, content: Any, status_code: int = 200) -> None:
        self.status_code, self.background, self.body = status_code, None, to_json(content)
        self.raw_headers = [
            (b"content-length", b"%d" % len(self.body)),
            (b"content-type", b"application/json"),
        ]


class _Unusual(Exception):
    """The request is for the general way."""


class _Short:
    """The short way to one endpoint. `status`: of an answer that is not a Response."""

    def __init__(
        self,
        endpoint: Callable[..., Any],
        status: int,
        arguments: Mapping[str, Read],
        body: tuple[str, type[BaseModel]] | None,
    ) -> None:
        self._endpoint, self._status = endpoint, status
        self._arguments, self._body = arguments, body

    def fit(self, request: Request, body: bytes) -> Callable[[], Any]:
        """The endpoint with its arguments. Raises _Unusual."""
        given = request.scope["headers"]
        headers = dict(given)
        if len(headers) < len(given):
            raise _Unusual
        try:
            values = {name: read(request, headers) for name, read in self._arguments.items()}
            if self._body:
                if not headers.get(b"content-type", b"").startswith(b"application/json"):
                    raise _Unusual
                name, model = self._body
                values[name] = model.model_validate_json(body)
        except ValidationError:
            raise _Unusual from None
        return partial(self._endpoint, **values)

    async def go(self, request: Request, work: Callable[[], Any]) -> Response:
        try:
            answer = await _here(services(request).store, work)
        except WouldWait:
            answer = await asyncio.get_running_loop().run_in_executor(_threads, work)
        if isinstance(answer, Response):
            return answer
        return Json(answer, self._status)


async def _here(store: Store, work: Callable[[], Any]) -> Any:
    """What it gives on this event loop. Raises WouldWait, with nothing done."""
    if not store.at_hand:
        raise WouldWait
    try:
        with at_once():
            return work()
    finally:  # before a refusal, too: it may be for what is not kept
        kept = store.kept()
        if not (kept if isinstance(kept, bool) else await kept):
            raise WouldWait


class PlainRoute(APIRoute):
    """See the module: `APIRouter(route_class=PlainRoute)`. `whole`: the short ways to endpoints
    whose path has no parameters, by method and path."""

    whole: ClassVar[dict[tuple[str, str], _Short]] = {}

    def get_route_handler(self) -> Handler:
        general = super().get_route_handler()
        found = None if self.dependencies else _arguments(self.endpoint)
        if found is None:
            return general
        short = _Short(self.endpoint, self.status_code or 200, *found)
        if not self.param_convertors:
            self.whole.update({(method, self.path): short for method in self.methods or ()})

        async def handle(request: Request) -> Response:
            try:
                work = short.fit(request, await request.body())
            except _Unusual:
                return await general(request)
            return await short.go(request, work)

        return handle


class ShortWay:
    """ASGI middleware, where bodies come whole: to the endpoint without looking for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        short = PlainRoute.whole.get((scope.get("method", ""), scope.get("path", "")))
        if short is None:
            await self._app(scope, receive, send)
            return
        whole = await receive()
        request = Request(scope)
        try:
            work = short.fit(request, whole.get("body", b""))
        except _Unusual:
            first = [whole]

            async def replay() -> Message:
                return first.pop() if first else await receive()

            await self._app(scope, replay, send)
            return
        try:
            answer = await short.go(request, work)
        except Exception as error:
            handlers = scope["app"].exception_handlers
            kind = next(kind for kind in type(error).__mro__ if kind in handlers)
            refusal = await handlers[kind](request, error)
            await refusal(scope, receive, send)
            if kind is Exception:
                raise  # what nobody expected is the server's to tell too
            return
        await answer(scope, receive, send)


def _arguments(
    endpoint: Callable[..., Any],
) -> tuple[Mapping[str, Read], tuple[str, type[BaseModel]] | None] | None:
    """How each argument is read, and the name and model of the body; None: the general way."""
    signature = inspect.signature(endpoint, eval_str=True)
    answer = signature.return_annotation
    if inspect.iscoroutinefunction(endpoint) or not (
        answer == dict[str, Any] or (isinstance(answer, type) and issubclass(answer, Response))
    ):
        return None
    arguments: dict[str, Read] = {}
    bodies: list[tuple[str, type[BaseModel]]] = []
    for name, parameter in signature.parameters.items():
        kind = parameter.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            bodies.append((name, kind))
            continue
        read = _reader(parameter)
        if read is None:
            return None
        arguments[name] = read
    return (arguments, bodies[0] if bodies else None) if len(bodies) < 2 else None


def _reader(parameter: inspect.Parameter) -> Read | None:
    for mark in get_args(parameter.annotation)[1:]:
        if isinstance(mark, params.Depends):
            short = SHORT.get(mark.dependency) if mark.dependency else None
            return partial(_depends, short) if short else None
        if isinstance(mark, params.Path | params.Header | params.Query):
            adapter: TypeAdapter[Any] = TypeAdapter(parameter.annotation)
            return _SOURCES[type(mark)](
                mark.alias or parameter.name, parameter.default, adapter.validate_python
            )
    return None


def _depends(short: Read, request: Request, headers: Headers) -> Any:
    found = short(request, headers)
    if found is None:
        raise _Unusual
    return found


def _path(name: str, _: Any, check: Check) -> Read:
    return lambda request, _: check(request.path_params[name])


def _header(name: str, default: Any, check: Check) -> Read:
    wanted = name.replace("_", "-").lower().encode()

    def read(_: Request, headers: Headers) -> Any:
        text = headers.get(wanted)
        return _default(default) if text is None else check(text.decode("latin-1"))

    return read


def _query(_: str, default: Any, __: Check) -> Read:
    def read(request: Request, _: Headers) -> Any:
        if request.scope["query_string"]:
            raise _Unusual
        return _default(default)

    return read


def _default(value: Any) -> Any:
    if value is inspect.Parameter.empty:
        raise _Unusual
    return value


_SOURCES = {params.Path: _path, params.Header: _header, params.Query: _query}
