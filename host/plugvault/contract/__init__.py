"""The mobility operator's work as pure functions: issue a contract, seal its key, bundle it.

`data` is the same in every edition of ISO 15118; the folder of an edition holds its certificates,
its sealing and its messages. No server, database or token is known here: the caller brings
certificates and signing keys [V2G2-814..822].
"""
