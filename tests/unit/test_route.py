"""The short way to an endpoint answers as the general one, and leaves to it what is unusual."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Query, Request
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from plugvault.opcp.errors import install
from plugvault.opcp.limits import BodyLimit
from plugvault.opcp.route import SHORT, PlainRoute, ShortWay
from plugvault.patience import wait
from plugvault.pools.errors import PoolError


class Asked(BaseModel):
    code: Annotated[str, Field(pattern="^[a-z]+$")]
    count: int = 1


async def caller(request: Request) -> str:
    who = request.headers.get("x-caller")
    if who is None:
        raise HTTPException(401, "Who calls?")
    return who


SHORT[caller] = lambda _, headers: headers.get(b"x-caller", b"").decode() or None


def put(
    who: Annotated[str, Depends(caller)],
    code: Annotated[str, Path(pattern="^[0-9]+$")],
    asked: Asked,
    loud: Annotated[bool, Header(alias="beLoud")] = False,
    kind: Annotated[str, Query(alias="ofKind", pattern="^[a-z]+$")] = "none",
) -> dict[str, Any]:
    if asked.code == "slow":
        wait()
    if asked.code == "gone":
        raise PoolError("not-found", "It is gone.")
    if asked.code == "broken":
        raise RuntimeError("Nobody expected this.")
    thread = threading.current_thread().name
    return {"said": [who, code, asked.code, asked.count, loud, kind], "thread": thread}


def put_whole(
    who: Annotated[str, Depends(caller)],
    asked: Asked,
    loud: Annotated[bool, Header(alias="beLoud")] = False,
    kind: Annotated[str, Query(alias="ofKind", pattern="^[a-z]+$")] = "none",
) -> dict[str, Any]:
    return put(who, "1", asked, loud, kind)


def app(route_class: type, at_hand: bool = True) -> TestClient:
    router = APIRouter(route_class=route_class)
    router.put("/things/{code}", status_code=201)(put)
    router.put("/whole/path", status_code=201)(put_whole)
    made = FastAPI()
    store = SimpleNamespace(at_hand=at_hand, kept=lambda: True)
    made.state.services = SimpleNamespace(store=store)
    install(made)
    made.include_router(router)
    if route_class is PlainRoute:
        made.middleware_stack = BodyLimit(ShortWay(made.build_middleware_stack()))
    return TestClient(made, raise_server_exceptions=False)


PLAIN: list[dict[str, Any]] = [
    {},
    {"json": {"code": "abc", "count": 7}},
    {"headers": {"x-caller": "me", "beLoud": "true"}},
]
UNUSUAL: list[dict[str, Any]] = [
    {"headers": {}},
    {"headers": [("x-caller", "me"), ("x-caller", "somebody else")]},
    {"headers": {"x-caller": "me", "beLoud": "perhaps"}},
    {"params": {"ofKind": "some"}},
    {"params": {"ofKind": "7"}},
    {"url": "/things/abc"},
    {"json": {"code": "7"}},
    {"json": {"code": "abc", "count": "many"}},
    {"json": {}},
    {"json": []},
    {"json": None, "content": b"{", "headers": {"x-caller": "me", "content-type": "text/plain"}},
    {"json": None, "content": b"{", "headers": {"x-caller": "me"}},
    {"json": None},
]


def send(client: TestClient, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    sent = {"url": "/things/1", "json": {"code": "abc"}, "headers": {"x-caller": "me"}, **request}
    answer = client.put(**sent)
    body: dict[str, Any] = answer.json()
    body.pop("traceId", None)
    return answer.status_code, body


@pytest.fixture(params=["/things/1", "/whole/path"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def way(thread: str) -> str:
    """Where an endpoint ran: FastAPI's own threads are the general way's."""
    names = {"AnyIO": "general", "plugvault-endpoint": "thread", "asyncio-portal": "loop"}
    return next(found for name, found in names.items() if thread.startswith(name))


@pytest.mark.parametrize("request_", PLAIN)
def test_a_plain_request_takes_the_short_way_to_the_same_answer(
    request_: dict[str, Any], url: str
):
    status, body = send(app(PlainRoute), {"url": url, **request_})
    assert way(body.pop("thread")) == "loop"
    expected_status, expected = send(app(APIRoute), {"url": url, **request_})
    assert way(expected.pop("thread")) == "general"
    assert (status, body) == (expected_status, expected)
    assert status == 201


@pytest.mark.parametrize("request_", UNUSUAL)
def test_what_is_wrong_or_unusual_is_answered_as_ever(request_: dict[str, Any], url: str):
    status, body = send(app(PlainRoute), {"url": url, **request_})
    expected_status, expected = send(app(APIRoute), {"url": url, **request_})
    for one in (body, expected):
        assert way(one.pop("thread", "AnyIO")) == "general"
    assert (status, body) == (expected_status, expected)


def test_what_would_have_to_wait_is_done_in_a_thread(url: str):
    status, body = send(app(PlainRoute), {"url": url, "json": {"code": "slow"}})
    assert (status, way(body["thread"])) == (201, "thread")


def test_where_everything_waits_nothing_is_tried_before(url: str):
    status, body = send(app(PlainRoute, at_hand=False), {"url": url})
    assert (status, way(body["thread"])) == (201, "thread")


@pytest.mark.parametrize("route_class", [PlainRoute, APIRoute])
def test_a_refusal_by_the_endpoint_keeps_its_words(route_class: type, url: str):
    status, body = send(app(route_class), {"url": url, "json": {"code": "gone"}})
    assert (status, body) == (404, {"errorMessages": ["It is gone."]})


@pytest.mark.parametrize("route_class", [PlainRoute, APIRoute])
def test_what_nobody_expected_is_an_internal_error(route_class: type, url: str):
    status, body = send(app(route_class), {"url": url, "json": {"code": "broken"}})
    assert (status, body) == (500, {"errorMessages": ["Internal error."]})


def test_another_method_of_a_whole_path_is_refused_as_ever():
    assert app(PlainRoute).post("/whole/path", json={}).status_code == 405
