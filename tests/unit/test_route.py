"""The short way to an endpoint answers as the general one, and leaves to it what is unusual."""

from __future__ import annotations

import threading
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Path, Query, Request
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from plugvault.opcp.errors import install
from plugvault.opcp.route import SHORT, PlainRoute
from plugvault.pools.errors import PoolError


class Asked(BaseModel):
    code: Annotated[str, Field(pattern="^[a-z]+$")]
    count: int = 1


async def caller(request: Request) -> str:
    who = request.headers.get("x-caller")
    if who is None:
        raise HTTPException(401, "Who calls?")
    return who


SHORT[caller] = lambda request: request.headers.get("x-caller")


def put(
    who: Annotated[str, Depends(caller)],
    code: Annotated[str, Path(pattern="^[0-9]+$")],
    asked: Asked,
    loud: Annotated[bool, Header(alias="beLoud")] = False,
    kind: Annotated[str, Query(alias="ofKind", pattern="^[a-z]+$")] = "none",
) -> dict[str, Any]:
    if asked.code == "gone":
        raise PoolError("not-found", "It is gone.")
    thread = threading.current_thread().name
    return {"said": [who, code, asked.code, asked.count, loud, kind], "thread": thread}


def app(route_class: type) -> TestClient:
    router = APIRouter(route_class=route_class)
    router.put("/things/{code}", status_code=201)(put)
    made = FastAPI()
    install(made)
    made.include_router(router)
    return TestClient(made, raise_server_exceptions=False)


PLAIN: list[dict[str, Any]] = [
    {},
    {"json": {"code": "abc", "count": 7}},
    {"headers": {"x-caller": "me", "beLoud": "true"}},
]
UNUSUAL: list[dict[str, Any]] = [
    {"headers": {}},
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


@pytest.mark.parametrize("request_", PLAIN)
def test_a_plain_request_takes_the_short_way_to_the_same_answer(request_: dict[str, Any]):
    status, body = send(app(PlainRoute), request_)
    assert body.pop("thread").startswith("plugvault-endpoint")
    expected_status, expected = send(app(APIRoute), request_)
    expected.pop("thread")
    assert (status, body) == (expected_status, expected)
    assert status == 201


@pytest.mark.parametrize("request_", UNUSUAL)
def test_what_is_wrong_or_unusual_is_answered_as_ever(request_: dict[str, Any]):
    status, body = send(app(PlainRoute), request_)
    expected_status, expected = send(app(APIRoute), request_)
    for one in (body, expected):
        assert not one.pop("thread", "").startswith("plugvault-endpoint")
    assert (status, body) == (expected_status, expected)


def test_a_refusal_by_the_endpoint_keeps_its_words():
    status, body = send(app(PlainRoute), {"json": {"code": "gone"}})
    assert (status, body) == (404, {"errorMessages": ["It is gone."]})
