"""The report of a module that cannot start: it sends the reason over the link, before it ends or
the board tries again. So the bench sees a reason instead of a line that does not answer.

The event is "unable" with the text "start: REASON: DETAIL", as in `evcc.module`; LOG has the same.
"""

import json

from .errors import text_of
from .link.mux import CONTROL, LOG, LinkError


def tell(line, error: Exception, wait_ms: int, answers: bool) -> None:
    """Report `error`, and return after `wait_ms`; without `answers` as soon as the peer has it.

    line: a `link.line.Line`. answers: give every request on CONTROL an answer with the reason; and
    return when a new peer has the reason, because the module may have failed without that peer.
    Raises: PortError.
    """
    mux = line.mux
    peers = mux.generation
    text = "start: " + text_of(error)
    _send(line, CONTROL, {"event": "unable", "text": text, "session": None})
    line.send(LOG, text.encode()[:500])
    end = line.ticks_ms() + wait_ms
    while line.ticks_ms() < end and not (mux.idle() and (not answers or mux.generation > peers)):
        line.pump(min(end - line.ticks_ms(), 200))
        inbox, line.inbox = line.inbox, []
        for channel, data in inbox:
            if channel == CONTROL and answers:
                _refuse(line, data, text)


def _refuse(line, data: bytes, text: str) -> None:
    try:
        _send(line, CONTROL, {"id": json.loads(data)["id"], "error": text})
    except (ValueError, KeyError, TypeError, RuntimeError):
        pass  # not a request, or nested too deep


def _send(line, channel: int, message: dict) -> None:
    try:
        line.send(channel, json.dumps(message).encode())
    except LinkError:
        pass  # the peer reads nothing
