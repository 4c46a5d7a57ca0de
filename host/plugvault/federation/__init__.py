"""Federation of ecosystems: a vehicle of any of them, under any of their roots.

[OPCP 1.0.0, header `broadcast`.] The HTTP endpoints call `peers.Federation` when this ecosystem
has no answer itself; `mesh.connect` makes ecosystems partners of each other.
`plugvault.pools.peers` decides which ecosystems are active partners.

A request goes to all active partners concurrently, with `broadcast: true`. A partner does not
forward such a request, so no request returns to its sender. The answers are checked like those of
an unknown client.
"""
