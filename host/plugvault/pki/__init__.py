"""Certificates on the host: profiles, issuing from token keys, verification, path policy."""
