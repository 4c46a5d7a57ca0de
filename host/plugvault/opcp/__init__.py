"""The HTTP interface of the ecosystem: OPCP 1.0.0, OAuth2 and EST, on FastAPI.

One file per service of the specification. Each translates HTTP into a call of `plugvault.pools`
and its result into HTTP. `app.create_app(services)` returns the application. Endpoints are plain
functions.
"""
