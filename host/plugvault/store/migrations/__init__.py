"""The steps from one layout of the database to the next; `plugvault.store.migrate` takes them.

A step in `versions` never changes after a release, because databases have taken it. So its tables
are written down beside it (`layout_0002`) and not taken from `tables`.
"""
