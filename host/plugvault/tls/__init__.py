"""TLS of a charging station: TLS 1.2 of ISO 15118-2, its key in a token.

openssl.py      functions that `ssl` lacks, by ctypes on the OpenSSL that `ssl` uses
station.py      a station's certificates, the choice between them, the test at the start
connection.py   one connection, sans-I/O
renewal.py      the next certificate, before the current one ends
stapling.py     the OCSP answer that is sent in the handshake, always a current one

tls = StationTls([Identity(leaf, subs, root, key.sign_digest)])   # a `TokenKey`; raises TlsError
connection = tls.connection()
"""

from plugvault.tls.connection import Connection, Handshake
from plugvault.tls.errors import TlsError
from plugvault.tls.renewal import Renewal
from plugvault.tls.stapling import Staple
from plugvault.tls.station import Identity, StationTls

__all__ = ["Connection", "Handshake", "Identity", "Renewal", "Staple", "StationTls", "TlsError"]
