"""The vault: the only way to a private key. Small on purpose, with no raw ECDH.

One interface, several key stores behind it: `pkcs11` (a token, through ffi on MicroPython's Unix
port; the host gives the same vault a backend over python-pkcs11) and `service` (a client of a
vault that runs in a process of its own). Every vault has exactly:

    claim(owner)                                     whose keys they are, from now on
    generate_provisioning_key() -> point             "exists" if there is one
    public(key) -> point                             "not-found"
    sign(key, digest) -> signature                   ECDSA over a finished SHA-256 digest
    open_contract_key(scheme, dh_point, wrapped, aad, expected_public, key=b"") -> key
                                                     "custody" if the token has no way to
    verify(point, digest, signature) -> bool         public data only
    delete(key)                                      "not-found"
    keys() -> [(key, point)]                         the owner's keys, no others in the token
    custody(key) -> level                            what of it was ever outside: `custody`
    random(n) -> bytes                               1 <= n <= 256
    close()

key: `PROVISIONING`, or the 16 bytes `open_contract_key` returned. point: 65 bytes,
0x04 | X | Y. digest: 32 bytes. signature: 64 bytes, r | s, as XML signatures have it.
`keys` gives b"" for the point of a key of which half is missing: it can only be deleted; and one
such key with the id b"" for what creations left that were cut off before there was an id.

claim: owner: the 8 random bytes that a car has drawn for itself. Each owner has a provisioning key
and contract keys of its own; another's are neither seen nor touched. Before `claim`, and with b"",
the keys are those that were made without an owner.

open_contract_key [V2G2-814..823]: scheme: a row of `schemes` ("iso2"); dh_point: the sender's
ephemeral point; wrapped: IV | ciphertext; aad: b"" for "iso2"; expected_public: the point of the
contract certificate; key: 16 bytes that are new in the token, drawn by the caller so that it can
write them down before there is a key (b"": the vault draws them). Derives, decrypts and imports
with the best custody that the token allows, as a key that can only sign, and has it sign a nonce
that must verify under expected_public.
Whatever fails, every object made is destroyed and nothing is left behind. All the reasons it can
fail for that an attacker could tell apart ("key-mismatch" for a scalar out of range as for one of
another certificate) are one.

A vault on a token is opened with a `minimum_custody`, or none: "custody" if the token, tried with
throw-away keys, does not reach it.

Does not decide whether a contract is to be trusted: see `installation`. Every method raises
VaultError; "unavailable" may pass, "pin" is never tried again by the vault itself.
"""

import hashlib

from evcc.errors import EvccError

PROVISIONING = b"provisioning"
OWNER = 8  # bytes


class VaultError(EvccError):
    REASONS = (
        "pin",
        "pin-locked",
        "token-missing",
        "module-missing",
        "unavailable",
        "exists",
        "not-found",
        "scheme",
        "point",
        "wrapped-length",
        "key-mismatch",
        "digest-length",
        "full",
        "refused",
        "protocol",
        "custody",
        "limited",  # too many requests: `detail` says when to ask again
        "locked",  # too many envelopes whose key was not their certificate's
        "seen",  # the ephemeral key has come before, with another envelope or certificate
    )


def proves_possession(vault, key: bytes, point: bytes) -> bool:
    """Whether the vault's `key` signs a nonce that verifies under `point`."""
    digest = possession_digest(vault.random(32))
    return vault.verify(point, digest, vault.sign(key, digest))


def possession_digest(nonce: bytes) -> bytes:
    """What is signed to prove possession of a key: no digest of anything else."""
    return hashlib.sha256(b"plugvault proof of possession" + nonce).digest()
