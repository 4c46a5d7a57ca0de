"""Several ecosystems that know of each other: any vehicle, from any of them, under any root.

[OPCP 1.0.0, header `broadcast`.] `peers.Federation` is what the HTTP face asks when this
ecosystem has no answer of its own; `ring.connect` introduces ecosystems to each other. Who may be
asked, and who may ask, is decided by `plugvault.pools.peers`.

A question goes to all active peers at once with `broadcast: true`, which forbids them to pass it
on: no question runs in circles. What comes back is checked here as if a stranger had brought it.
"""
