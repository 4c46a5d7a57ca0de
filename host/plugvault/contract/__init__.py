"""The mobility operator's work as pure functions: issue a contract, seal its key, bundle it.

Nothing here knows a server, a database or a token: certificates and signatures come from the
keys it is handed [V2G2-814..822].
"""
