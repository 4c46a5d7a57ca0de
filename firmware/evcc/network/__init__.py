"""The car at a network: it finds a charging station and carries the session itself.

    settings.py   the table "network" of the configuration
    sdp.py        SDP, both ends: the search for a station
    station.py    the connection to a station: SDP, TCP and TLS, one machine that never waits
    module.py     the module with such a connection beside its link

A computer's: no board's list has this folder. TLS is in `evcc.tls`, the sockets in `evcc.ports`.
"""
