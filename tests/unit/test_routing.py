"""`@local` says where an endpoint runs, and the shorter way to it changes no answer."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel, Field

from plugvault.opcp.errors import install
from plugvault.opcp.execution import local
from plugvault.opcp.fields import AppServices
from plugvault.opcp.limits import BodyLimit
from plugvault.pools.errors import PoolError
from plugvault.speed import routing

EITHER_WAY = pytest.mark.parametrize("short", [False, True], ids=["plain", "short"])


class Asked(BaseModel):
    code: Annotated[str, Field(pattern="^[a-z]+$")]
    count: int = 1


async def caller(request: Request) -> str:
    name = request.headers.get("x-caller")
    if name is None:
        raise HTTPException(401, "Who calls?")
    return name


router = APIRouter()


@router.put("/things", status_code=201)
@local(unless=lambda asked, **_: asked.code == "slow")
def put(
    name: Annotated[str, Depends(caller)],
    services: AppServices,
    asked: Asked,
    loud: Annotated[bool, Header(alias="beLoud")] = False,
) -> dict[str, Any]:
    if asked.code == "gone":
        raise PoolError("not-found", "It is gone.")
    if asked.code == "broken":
        raise RuntimeError("Nobody expected this.")
    thread = threading.current_thread().name
    return {"arguments": [name, asked.code, asked.count, loud], "thread": thread}


@router.put("/queries")
@local()
def put_with_query(
    services: AppServices, asked: Asked, kind: Annotated[str, Query(alias="ofKind")] = "none"
) -> dict[str, Any]:
    return {"kind": kind}


@router.post("/raw")
async def post_raw(request: Request) -> dict[str, Any]:
    return {"body": (await request.body()).decode()}


def app(short: bool, is_local: bool = True) -> TestClient:
    made = FastAPI()
    made.state.services = SimpleNamespace(store=SimpleNamespace(is_local=is_local))
    made.state.routes = router.routes
    install(made)
    made.include_router(router)
    if short:
        routing.add(made, [router])
    made.add_middleware(BodyLimit)
    return TestClient(made, raise_server_exceptions=False)


def send(client: TestClient, request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    sent = {"url": "/things", "json": {"code": "abc"}, "headers": {"x-caller": "me"}, **request}
    answer = client.put(**sent)
    body: dict[str, Any] = answer.json()
    body.pop("traceId", None)
    return answer.status_code, body


def without_thread(answer: tuple[int, dict[str, Any]]) -> tuple[int, dict[str, Any]]:
    status, body = answer
    body.pop("thread", None)
    return status, body


def runs_in_loop(body: dict[str, Any]) -> bool:
    return not body["thread"].startswith("AnyIO")


@pytest.fixture
def passed_on(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Requests that the shorter way leaves to FastAPI."""
    paths: list[str] = []
    matches = routing.DirectRoute.matches

    def count(self: routing.DirectRoute, scope: Any) -> Any:
        if routing._PASSED_ON in scope:
            paths.append(scope["path"])
        return matches(self, scope)

    monkeypatch.setattr(routing.DirectRoute, "matches", count)
    return paths


PLAIN: list[dict[str, Any]] = [
    {},
    {"json": {"code": "abc", "count": 7}},
    {"headers": {"x-caller": "me", "beLoud": "true"}},
]
REFUSED_BY_A_DEPENDENCY: list[dict[str, Any]] = [{"headers": {}}]
UNUSUAL: list[dict[str, Any]] = [
    {"headers": [("x-caller", "me"), ("x-caller", "somebody else")]},
    {"headers": {"x-caller": "me", "beLoud": "perhaps"}},
    {"params": {"ofKind": "some"}},
    {"json": {"code": "7"}},
    {"json": {"code": "abc", "count": "many"}},
    {"json": {}},
    {"json": []},
    {"json": None, "content": b"{", "headers": {"x-caller": "me", "content-type": "text/plain"}},
    {"json": None, "content": b"{", "headers": {"x-caller": "me"}},
    {"json": None},
]


@pytest.mark.parametrize("request_", [*PLAIN, *REFUSED_BY_A_DEPENDENCY])
def test_a_plain_request_gets_the_same_answer_by_the_shorter_way(
    request_: dict[str, Any], passed_on: list[str]
):
    answer = without_thread(send(app(short=True), request_))
    assert answer == without_thread(send(app(short=False), request_))
    assert answer[0] == (201 if request_ in PLAIN else 401)
    assert passed_on == []


@pytest.mark.parametrize("request_", UNUSUAL)
def test_a_wrong_or_unusual_request_gets_its_answer_from_fastapi(
    request_: dict[str, Any], passed_on: list[str]
):
    answer = without_thread(send(app(short=True), request_))
    assert answer == without_thread(send(app(short=False), request_))
    assert passed_on == ["/things"]


def test_an_endpoint_with_a_query_is_fastapis(passed_on: list[str]):
    request = {"url": "/queries", "params": {"ofKind": "some"}}
    assert send(app(short=True), request) == (200, {"kind": "some"})
    assert passed_on == []


@EITHER_WAY
def test_an_endpoint_reads_the_body_itself(short: bool):
    assert app(short).post("/raw", content=b"body").json() == {"body": "body"}


@EITHER_WAY
def test_a_local_endpoint_runs_in_the_event_loop(short: bool):
    _, body = send(app(short), {})
    assert runs_in_loop(body)


@EITHER_WAY
def test_a_local_endpoint_that_has_to_wait_runs_in_a_thread(short: bool):
    _, body = send(app(short), {"json": {"code": "slow"}})
    assert not runs_in_loop(body)


@EITHER_WAY
def test_a_local_endpoint_over_a_distant_database_runs_in_a_thread(short: bool):
    _, body = send(app(short, is_local=False), {})
    assert not runs_in_loop(body)


@EITHER_WAY
def test_a_refusal_by_the_endpoint_keeps_its_words(short: bool):
    status, body = send(app(short), {"json": {"code": "gone"}})
    assert (status, body) == (404, {"errorMessages": ["It is gone."]})


@EITHER_WAY
def test_an_unexpected_error_is_an_internal_error(short: bool):
    status, body = send(app(short), {"json": {"code": "broken"}})
    assert (status, body) == (500, {"errorMessages": ["Internal error."]})


@EITHER_WAY
def test_another_method_of_the_same_path_is_refused(short: bool):
    assert app(short).post("/things", json={}).status_code == 405
