"""The steps from one layout of the database to the next; `plugvault.store.migrate` takes them.

A step in `versions` never changes once somebody's database has taken it, so what it makes is
written down beside it (`layout_0002`) and not taken from `tables`.
"""
