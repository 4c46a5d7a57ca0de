"""The vault service: a token in a supervised process of its own, behind a socket."""
