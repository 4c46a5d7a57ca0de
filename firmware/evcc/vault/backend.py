"""The Cryptoki backend: the calls of PKCS#11 2.40 that the vault on a token is written on.

Two implementations: `ffi_backend` on MicroPython's Unix port, `plugvault.cryptoki.backend` over
python-pkcs11. Knows no keys and no policy: see `pkcs11`.

template: a list of (attribute, value) with int, bool or bytes; or a tuple, which a backend may
cache and which therefore holds no secret. Object handles are opaque to the vault.
Every call raises VaultError with the reason of `cryptoki.REASONS`.
"""

from .cryptoki import CKA_TOKEN, in_two_steps


class TokenFiles:
    """The token files of a PKCS#11 library: repair, backup, durability. This base class is for a
    library without files, such as a secure element's; see `softhsm` and `nss` for the others.

    label: of the token.
    """

    creates_by_copy = False  # whether an object is stored as the copy of a session object

    def repair(self) -> None:
        """Repair damaged files; called before the library is initialised.

        Raises VaultError("unavailable")."""

    def back_up(self, label: str) -> None:
        """Copy the files that a login needs; called after each login."""

    def check_room(self) -> None:
        """Check that there is room for a key. Raises VaultError("full")."""

    def flush(self, label: str) -> None:
        """Make durable what the library has written."""

    def reload(self, label: str) -> None:
        """Make the library read what other processes have changed."""


def token_files(conf: "str | None", options: str) -> TokenFiles:
    """The files of a library. conf: the path of SoftHSM's configuration; options: the string for
    C_Initialize, which only NSS needs; "" for another library."""
    if options:
        from .nss import NssFiles

        return NssFiles(options)
    from .softhsm import SoftHsmFiles, token_folder

    folder = token_folder(conf)
    return SoftHsmFiles(folder) if folder else TokenFiles()


class CryptokiBackend:
    """A logged-in session on the token `label`. files: its library's."""

    def __init__(self, files: TokenFiles, label: str) -> None:
        self._files = files
        self._label = label

    def create(self, template) -> "object":
        """The handle of a new object with this template."""
        if not (self._files.creates_by_copy and (CKA_TOKEN, True) in template):
            return self._create(template)
        first, later = in_two_steps(template)
        session_object = self._create(first)
        try:
            return self.copy(session_object, later)
        finally:
            self.destroy(session_object)

    def check_room(self) -> None:
        """As `TokenFiles.check_room`."""
        self._files.check_room()

    def flush(self) -> None:
        """As `TokenFiles.flush`, for this token."""
        self._files.flush(self._label)

    def reload(self) -> None:
        """As `TokenFiles.reload`, for this token."""
        self._files.reload(self._label)

    if __debug__:  # for readers and linters: `mpy-cross -O` leaves it out

        def reopen(self) -> None:
            """Replace a session that the token left unusable."""

        def close(self) -> None:
            """Log out and release the library."""

        def _create(self, template):
            """C_CreateObject."""

        def copy(self, handle, template):
            """C_CopyObject: the copy."""

        def generate(self, public, private):
            """C_GenerateKeyPair on P-256: (public object, private object)."""

        def generate_secret(self, template):
            """C_GenerateKey: the handle of an AES key."""

        def find(self, template):
            """C_FindObjects: a list of handles."""

        def attribute(self, handle, kind):
            """C_GetAttributeValue: the value as bytes."""

        def destroy(self, handle):
            """C_DestroyObject."""

        def sign(self, handle, digest):
            """C_Sign with ECDSA over a digest of 32 bytes: r | s, 64 bytes."""

        def verify(self, point, digest, signature):
            """Whether the ECDSA signature is right. Public data: in the token or outside."""

        def derive(self, mechanism, handle, data, template):
            """C_DeriveKey: the handle. data: the peer's point for CKM_ECDH1_DERIVE, else the bytes
            that the mechanism joins to the key, or None."""

        def wrap(self, mechanism, handle, iv, wrapped):
            """C_WrapKey: the ciphertext of the object `wrapped`."""

        def unwrap(self, mechanism, handle, iv, data, template):
            """C_UnwrapKey: the handle."""

        def digest(self, mechanism, parts):
            """C_Digest of bytes and of handles of secrets, as a bytearray for the caller to
            wipe."""

        def decrypt_cbc(self, key, iv, data, into):
            """Decrypt `data` by AES-CBC without padding, in this process, into the bytearray
            `into`."""

        def ecb(self, key, is_encryption, block):
            """Encrypt or decrypt one AES block of 16 bytes, in this process."""

        def random(self, n):
            """C_GenerateRandom: `n` bytes."""
