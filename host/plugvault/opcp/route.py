"""The short way to an endpoint, for requests in which nothing is out of the ordinary.

FastAPI's general way (a tree of dependencies solved anew, a thread by way of anyio) takes several
times as long as a pool needs to answer. An endpoint of this route class is still an ordinary
FastAPI endpoint: documented, validated and refused as any other. But where its signature is of
the plain kind (the caller, the services, one JSON body, scalars of path and headers) and a
request fits it at once, the arguments are made right here and the endpoint runs in a thread.
Whatever does not fit, wrong or only unusual, goes the general way, which has the words for it.
"""

import asyncio
import inspect
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, get_args

from fastapi import Request, Response, params
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import to_json

from plugvault.opcp.services import services

THREADS = 40  # endpoints at once in a process; they wait for the database, the token, or peers

# A dependency, and what gives the same at once from a request, or None where it cannot.
SHORT: dict[Callable[..., Any], Callable[[Request], Any]] = {services: services}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Read = Callable[[Request], Any]

_threads = ThreadPoolExecutor(THREADS, "plugvault-endpoint")


class _Unusual(Exception):
    """The request is for the general way."""


class PlainRoute(APIRoute):
    """See the module: `APIRouter(route_class=PlainRoute)`."""

    def get_route_handler(self) -> Handler:
        general = super().get_route_handler()
        endpoint, status = self.endpoint, self.status_code or 200
        found = None if self.dependencies else _arguments(endpoint)
        if found is None:
            return general
        arguments, body = found

        async def handle(request: Request) -> Response:
            try:
                values = {name: read(request) for name, read in arguments.items()}
                if body:
                    values[body[0]] = await _body(request, body[1])
            except (_Unusual, ValidationError):
                return await general(request)
            work = partial(endpoint, **values)
            answer = await asyncio.get_running_loop().run_in_executor(_threads, work)
            if isinstance(answer, Response):
                return answer
            return Response(to_json(answer), status, media_type="application/json")

        return handle


async def _body(request: Request, model: type[BaseModel]) -> BaseModel:
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise _Unusual
    return model.model_validate_json(await request.body())


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
            return partial(
                _SOURCES[type(mark)],
                mark.alias or parameter.name,
                parameter.default,
                TypeAdapter(parameter.annotation),
            )
    return None


def _depends(short: Callable[[Request], Any], request: Request) -> Any:
    found = short(request)
    if found is None:
        raise _Unusual
    return found


def _path(name: str, _: Any, adapter: TypeAdapter[Any], request: Request) -> Any:
    return adapter.validate_python(request.path_params[name])


def _header(name: str, default: Any, adapter: TypeAdapter[Any], request: Request) -> Any:
    text = request.headers.get(name.replace("_", "-"))
    return _default(default) if text is None else adapter.validate_python(text)


def _query(name: str, default: Any, adapter: TypeAdapter[Any], request: Request) -> Any:
    if request.scope["query_string"]:
        raise _Unusual
    return _default(default)


def _default(value: Any) -> Any:
    if value is inspect.Parameter.empty:
        raise _Unusual
    return value


_SOURCES = {params.Path: _path, params.Header: _header, params.Query: _query}
