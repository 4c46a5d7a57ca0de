"""Contracts of ISO 15118-2: P-256, AES-128-CBC, CertificateInstallationRes."""
