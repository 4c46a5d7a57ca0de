"""A charging station (SECC) of ISO 15118-2, with which any vehicle (EVCC) can talk.

    server.py        the TCP server: TLS or plain TCP
    settings.py      its address, TLS, limits and faults
    limits.py        the limits of its vehicles and times
    discovery.py     SDP: the answer to the vehicles' search
    connection.py    one vehicle's connection: clock, contract fetch, faults
    streams.py       TCP and TLS with the same interface
    faults.py        faults on demand; large_bundle.py is one of them
    reports.py       what a display may show
    engine.py        a session of any edition, sans-I/O: order, times, refusals
    events.py        the events of a session
    iso15118_2/      secc.py      the tables of the states, and a handler for each request
                     payment.py   the check of a contract and of its signatures
                     charging.py  the charge: a handler for each request, the simulated supply
                     paused.py    the sessions that vehicles may continue
                     performance.py  the time for each response
                     answers.py   the bodies of the responses, the negative ones too

    station = Station(Offer(evseid="DE*PVT*E0001"), mo_and_v2g_roots, fetch_contract,
                      StationSettings(tls=tls))
    with station.in_thread() as (host, port): ...

Another edition is a folder beside `iso15118_2`.
"""

from plugvault.station.events import Authorized
from plugvault.station.faults import Faults
from plugvault.station.iso15118_2.answers import Offer
from plugvault.station.iso15118_2.charging import Supply
from plugvault.station.server import Station
from plugvault.station.settings import StationSettings

__all__ = ["Authorized", "Faults", "Offer", "Station", "StationSettings", "Supply"]
