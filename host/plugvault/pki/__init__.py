"""Certificates of the Plug & Charge ecosystem: profiles, issuing, reading requests, path policy.

Follows the profiles of ISO 15118-2 Annex F with the sizes of its schema. The caller brings the
signing keys: any `EllipticCurvePrivateKey`, so also a key in a token.
"""
