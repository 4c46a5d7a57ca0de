"""TI: the times of the response, where this project is the station (`campaign --module station:`).

The vehicle gives a CertificateInstallationRes 5 s (V2G_EVCC_Msg_Timeout), the station has 4.5 s
for it (V2G_SECC_Msg_Performance_Time). The time is that of the whole message, not of each byte.
"""

from plugvault.cases.case import ACCEPT, CLOSE, REFUSE, RESET, SILENCE, Case, Timing

_TIMES = "ISO 15118-2, 8.7.3, table 109"
_WAITS = "The vehicle gives the response 5 s, and then ends the session."
_LATE = "A session that should have ended goes on; the vehicle's state is the sender's choice."
_HANGS = "A station, or a broken line, keeps the vehicle in a session without end."
_NOT_WHOLE = "A response that is not whole is none."
_HALF = "A part of a message is stored as if it were whole."


def _accepted(ident: str, title: str, because: str, timing: Timing) -> Case:
    return Case(ident, title, ACCEPT, _TIMES, because, timing=timing)


def _refused(ident: str, title: str, gain: str, timing: Timing, because: str = _WAITS) -> Case:
    return Case(ident, title, REFUSE, _TIMES, because, gain, "time", timing=timing)


def _cut(number: int, title: str, part: float) -> list[Case]:
    """A part of the message alone, with two ends."""
    silent, closed = Timing(part=part, end=SILENCE), Timing(part=part, end=CLOSE)
    ended = f"{title}, and then the end of the connection"
    return [
        _refused(f"TI-{number:03}", f"{title}, and then silence", _HANGS, silent),
        _refused(f"TI-{number + 1:03}", ended, _HALF, closed, _NOT_WHOLE),
    ]


CASES = [
    _accepted(
        "TI-001",
        "the response after 2.5 s",
        "This message has 5 s, not the 2 s of others: its contract comes from a pool.",
        Timing(delay=2.5),
    ),
    _accepted(
        "TI-002",
        "the response after 4.5 s",
        "The station has 4.5 s, and half a second remains for the line.",
        Timing(delay=4.5),
    ),
    _refused("TI-003", "the response after 6 s", _LATE, Timing(delay=6.0)),
    _accepted(
        "TI-010",
        "the bytes of the response one after another, over 3 s",
        "A slow line is no error while the whole message is there in time.",
        Timing(seconds=3.0),
    ),
    _refused(
        "TI-011",
        "the bytes of the response one after another, over 8 s",
        _LATE,
        Timing(seconds=8.0),
        "The time is that of the whole message: bytes that come do not prolong it.",
    ),
    *_cut(20, "no byte of the response", 0.0),
    *_cut(22, "half of the V2GTP header", 0.001),
    *_cut(24, "half of the response", 0.5),
    *_cut(26, "the response without its last byte", 0.9998),
    _refused(
        "TI-030",
        "half of the response, and then a reset of the connection",
        _HALF,
        Timing(part=0.5, end=RESET),
        _NOT_WHOLE,
    ),
]
