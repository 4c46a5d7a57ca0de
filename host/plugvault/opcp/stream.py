"""A stream of server-sent events for each subscriber [WHATWG HTML, 9.2].

An extension beside the webhooks of OPCP 1.0.0. The `id` of a message is the sequence of its event.
A subscriber that names its last `id` gets all later events, so every event arrives at least once
and in order. `data` is the body of a webhook. There is no signature: the subscriber has opened the
stream itself, with its access token.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from plugvault.opcp.feed import Feed, feed
from plugvault.opcp.fields import AppServices
from plugvault.opcp.rights import may
from plugvault.opcp.tokens import TokenError, Tokens
from plugvault.pools.caller import Caller
from plugvault.pools.errors import PoolError
from plugvault.pools.events import audiences, envelope
from plugvault.pools.records import Event

router = APIRouter(tags=["Events: webhooks and stream"])

HEARTBEAT = 5.0  # seconds of silence after which a comment shows that the stream is alive
MOST = 50  # streams of one client at a process
_RETRY = 1000  # milliseconds after which a browser connects again
_LARGEST = 2**63 - 1


class EventResponse(StreamingResponse):
    """A stream that counts from its creation to its end, so that streams opened at once all
    count. `streams`: the number of each client."""

    media_type = "text/event-stream"

    def __init__(
        self, messages: AsyncIterator[str], streams: Counter[str], client_id: str
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(messages, headers=headers)
        self._streams, self._client_id = streams, client_id
        streams[client_id] += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._streams[self._client_id] -= 1
            if not self._streams[self._client_id]:
                del self._streams[self._client_id]


@router.get(
    "/v1/events",
    summary="Follow the events of the caller",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Server-sent events"}},
)
async def follow(
    request: Request,
    caller: Annotated[Caller, Depends(may("events"))],
    services: AppServices,
    source: Annotated[Feed, Depends(feed)],
    last_event_id: Annotated[int | None, Header(alias="Last-Event-ID", ge=0, le=_LARGEST)] = None,
    since: Annotated[int | None, Query(ge=0, le=_LARGEST)] = None,
) -> StreamingResponse:
    """The stream starts now, or after the event with the id in `Last-Event-ID` or `since`. It ends
    when the access token is no longer valid. 429 when the client has too many streams open."""
    if source.streams[caller.client_id] >= MOST:
        raise HTTPException(429, f"There are {MOST} streams already; close one first.")
    start = since if last_event_id is None else last_event_id
    token = request.headers.get("authorization", "").partition(" ")[2]
    messages = _messages(source, caller, start, services.tokens, token)
    return EventResponse(messages, source.streams, caller.client_id)


async def _messages(
    source: Feed, caller: Caller, start: int | None, tokens: Tokens, token: str
) -> AsyncIterator[str]:
    async with source.listening() as last:
        position = last if start is None else start
        # An id without data, so that a subscriber can resume before it got the first event.
        yield f"retry: {_RETRY}\nid: {position}\n\n"
        while True:
            try:
                position, events = await source.after(position, audiences(caller), HEARTBEAT)
                if token:  # there is none in open mode
                    caller_now = tokens.known(token)
                    if caller_now is None:
                        caller_now = await run_in_threadpool(tokens.read, token)
                    caller = caller_now
            except (TokenError, PoolError):
                return
            yield "".join(_format(events)) or ":\n\n"


def _format(events: Iterable[Event]) -> Iterable[str]:
    for event in events:
        body = json.dumps(envelope(event))
        yield f"id: {event.sequence}\nevent: {event.kind}\ndata: {body}\n\n"
