"""The charging station's communication controller (SECC) of ISO 15118-2, up to authorization.

    secc.py      the session's other half, sans-I/O: one table of what may come when
    payment.py   is this contract good, did its key sign this challenge
    answers.py   the bodies of the responses, refusals with their dummies included
    server.py    TCP around it: one `Secc` a connection, limits, the clock, the contract fetch

    station = Station(Offer(evseid="DE*PVT*E0001"), mo_and_v2g_roots, fetch_contract)
    with station.in_thread() as (host, port): ...

Not here yet, and where it goes: SDP is a UDP server beside `server.Station` that answers with its
address; TLS is an `ssl` context handed to `asyncio.start_server` there, with the station's CPO
leaf (`chain.CPO`); charging itself is more rows in `secc.ALLOWED` and `secc.NEXT`.
"""

from plugvault.station.iso15118_2.answers import Offer
from plugvault.station.iso15118_2.secc import Authorized
from plugvault.station.server import Station

__all__ = ["Authorized", "Offer", "Station"]
