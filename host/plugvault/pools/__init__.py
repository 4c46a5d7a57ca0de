"""The rules of the pools of OPCP 1.0.0 and of the CPS, over a store that they are given.

`records` and `repositories` describe the store. `authorization` has the rights, `checks` the
tables of checks. `rcp`, `pcp`, `ccp` and `cps` are functions of the records, the caller and the
time. No HTTP and no SQL here: refusals are `PoolError`.
"""
