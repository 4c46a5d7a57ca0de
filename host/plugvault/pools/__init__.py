"""The pools of OPCP 1.0.0 and the CPS: their rules, over a store they are given.

`records` says what is kept and how a store behaves; `rcp`, `pcp`, `ccp` and `cps` are functions
that take the records, the caller and the time. No HTTP and no SQL here: refusals are `PoolError`.
"""
