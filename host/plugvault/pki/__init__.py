"""Certificates of the Plug & Charge ecosystem: profiles, issuing, reading requests, path policy.

Follows the profiles of ISO 15118-2 Annex F with the sizes of its schema. The keys that sign come
from outside (any `EllipticCurvePrivateKey`, so also one that lives in a token).
"""
