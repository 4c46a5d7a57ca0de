"""The rules of the pools of OPCP 1.0.0 and of the CPS; each function gets the store it works on.

`records` and `repositories` describe the store. `authorization` has the rights, `checks` the
tables of checks. `rcp`, `pcp`, `ccp` and `cps` are functions of the records, the caller and the
time. No HTTP and no SQL here: refusals are `PoolError`.

In all of them `records` is an open transaction, `now` is in Unix seconds and certificates are DER.
A PoolError has one of the reasons "invalid", "forbidden", "not-found", "conflict" and
"unavailable".
"""
