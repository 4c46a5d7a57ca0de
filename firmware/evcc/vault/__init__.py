"""The vault: the only way to a private key. Small on purpose, with no raw ECDH.

One interface, `Vault`, and several kinds of key store behind it: `pkcs11` (a token, through ffi on
MicroPython's Unix port; the host gives the same vault a backend over python-pkcs11) and `service`
(a client of a vault that runs in a process of its own).

Does not decide whether a contract is to be trusted: see `installation`. Every method raises
VaultError; "unavailable" may pass, "pin" is never tried again by the vault itself.
"""

from evcc.errors import EvccError

PROVISIONING = b"provisioning"
OWNER = 8  # bytes: see `Vault.claim`


class VaultError(EvccError):
    """A request that the vault has not carried out. The order of the reasons is a wire format:
    `service` sends their places."""

    REASONS = (
        "pin",  # wrong, or its file is not usable
        "pin-locked",
        "token-missing",
        "module-missing",  # the PKCS#11 library
        "unavailable",  # a temporary failure, and every other one of the token
        "exists",  # a key with this id
        "not-found",  # a key with this id
        "scheme",  # not a row of `schemes`
        "point",  # not a point of the curve, or the provisioning key's own
        "wrapped-length",
        "key-mismatch",  # the envelope holds another key than its certificate's
        "digest-length",
        "full",  # the token or its disk
        "refused",  # the vault's rules, or its token, do not allow the request
        "protocol",  # a malformed message of the service
        "custody",  # the token does not reach the `minimum_custody`
        "limited",  # too many requests: `detail` says when to ask again
        "locked",  # too many envelopes whose key was not their certificate's
        "seen",  # the ephemeral key has come before, with another envelope or certificate
    )


class Vault:
    """The interface of every vault: exactly these methods.

    key: `PROVISIONING`, or the 16 bytes that `open_contract_key` returned. point: 65 bytes,
    0x04 | X | Y. digest: 32 bytes. signature: 64 bytes, r | s, as XML signatures have it.

    A vault on a token is opened with a `minimum_custody`, or none: "custody" if the token, tried
    with throw-away keys, does not reach it.
    """

    pause = None  # a function without arguments that a long `verify` calls: see `p256.verify`

    def verify(self, point: bytes, digest: bytes, signature: bytes) -> bool:
        """Whether the signature is right: public data only.

        This implementation computes for a second on a board. A vault that can verify by itself
        replaces it.
        """
        from evcc import p256

        return p256.verify(point, digest, signature, self.pause)

    if __debug__:  # for readers and linters: `mpy-cross -O` leaves it out

        def claim(self, owner: bytes) -> None:
            """Use the keys of this owner from now on: 8 random bytes of the car, or b"". "refused"
            for another length, and for the owner of another car where the key is adopted.

            Each owner has a provisioning key and contract keys of its own; the vault neither shows
            nor touches another's. Before `claim`, and with b"", the keys are those that have no
            owner.
            """

        def generate_provisioning_key(self):
            """Make the provisioning key; its point. "exists" if there is one."""

        def public(self, key: bytes):
            """The point of a key. "not-found"."""

        def sign(self, key: bytes, digest: bytes):
            """An ECDSA signature over a finished SHA-256 digest. "not-found", "digest-length"."""

        def open_contract_key(self, scheme, dh_point, wrapped, aad, expected_public, key=b""):
            """Open an envelope into the vault; the key [V2G2-814..823].

            scheme: a row of `schemes` ("iso2"); dh_point: the sender's ephemeral point; wrapped:
            IV | ciphertext; aad: b"" for "iso2"; expected_public: the point of the contract
            certificate; key: 16 bytes that are new in the token, drawn by the caller, which can
            then write them down before there is a key (b"": the vault draws them).

            Derives, decrypts and imports with the best custody that the token allows ("custody" if
            none), as a key that can only sign, and has it sign a nonce that must verify under
            expected_public. On any failure every object made is destroyed. All reasons of failure
            that an attacker could tell apart are one: "key-mismatch" for a scalar out of range as
            for the scalar of another certificate.
            """

        def delete(self, key: bytes) -> None:
            """Destroy a key. "not-found"."""

        def keys(self):
            """[(key, point)] of the owner. The point is b"" for a key of which half is missing,
            which can only be deleted. One such key has the id b"": it stands for what interrupted
            creations have left without an id."""

        def custody(self, key: bytes):
            """The custody of a key, a word of `levels.WORDS`: the parts that were ever outside."""

        def random(self, n: int):
            """`n` random bytes, n from 1 to 256. "refused" for another n."""

        def close(self) -> None:
            """Release the token or the connection."""
