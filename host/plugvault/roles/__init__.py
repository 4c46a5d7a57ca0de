"""The companies around the pools, each with its own credentials and its own keys.

`oem` (vehicle maker), `mo` (mobility operator), `cpo` (charge point operator): what each does, as
clients of OPCP over HTTP. They trust nothing a pool says that they can check themselves.
"""
