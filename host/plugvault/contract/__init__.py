"""The mobility operator's work as pure functions: issue a contract, seal its key, bundle it.

`data` is the same in every edition of ISO 15118; the folder of an edition holds its certificates,
its sealing and its messages. Nothing here uses a server, a database or a token: the caller passes
certificates and signing keys [V2G2-814..822].
"""
