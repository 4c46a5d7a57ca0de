"""The HTTP face of the ecosystem: OPCP 1.0.0, OAuth2 and EST, on FastAPI.

One file per service of the specification; each only turns HTTP into a call of `plugvault.pools`
and back. `app.create_app(services)` is the way in. Endpoints are plain functions, so that they
run in the server's threads and a slow token holds up nobody else.
"""
