"""PKCS#11 itself, over python-pkcs11.

`hsm` opens libraries and their tokens [`library`, `token`]; `ec_keys`, `ed448`, `rsa` and `secret`
are the keys of roles; `backend` is the Cryptoki backend of the module's vault. `driver`, `softhsm`
and `nss` state the differences between libraries.
"""
