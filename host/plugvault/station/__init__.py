"""The charging station's communication controller (SECC), up to authorization.

    server.py       the TCP server: one `Secc` a connection, limits, the clock, the contract fetch
    engine.py       a session of any edition, sans-I/O: order, times, refusals
    events.py       the events of a session
    iso15118_2/     secc.py      the tables of the states, and a handler for each request
                    payment.py   the check of a contract and of the signed challenge
                    answers.py   the bodies of the responses

    station = Station(Offer(evseid="DE*PVT*E0001"), mo_and_v2g_roots, fetch_contract)
    with station.in_thread() as (host, port): ...

Not here yet, and where it goes: SDP is a UDP server beside `server.Station` that answers with its
address; TLS is an `ssl` context handed to `asyncio.start_server` there, with the station's CPO
leaf (`chain.CPO`); charging itself is more rows in `secc.ALLOWED` and `secc.NEXT`; another edition
is a folder beside `iso15118_2`.
"""

from plugvault.station.events import Authorized
from plugvault.station.iso15118_2.answers import Offer
from plugvault.station.server import Station

__all__ = ["Authorized", "Offer", "Station"]
