"""PKCS#11 itself, over python-pkcs11: library, login, keys, and the vault's calls."""
