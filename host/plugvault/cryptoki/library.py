"""One initialised PKCS#11 library of this process: its lock, its calls and its logins.

python-pkcs11 initialises a library without locks and releases Python's interpreter lock in each
call; two calls at once then crash SoftHSM. So a library has one lock here, held for each whole
operation. C_Initialize(NULL) promises exactly that [PKCS#11 2.40, 5.4].
"""

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pkcs11

from evcc.vault import VaultError, uri
from evcc.vault.cryptoki import tries_left
from plugvault import openssl_errors
from plugvault.cryptoki import loaded
from plugvault.cryptoki.attributes import MAPPER
from plugvault.cryptoki.direct_calls import DirectCalls
from plugvault.cryptoki.driver import Driver
from plugvault.cryptoki.errors import DAMAGED, reason_of
from plugvault.cryptoki.nss import NssDriver
from plugvault.cryptoki.softhsm import SoftHsmDriver

if TYPE_CHECKING:
    from plugvault.cryptoki.token import Token


def driver_of(conf: str | None, options: str) -> Driver:
    """The driver for a library. conf: SoftHSM's configuration; options: the text for C_Initialize,
    of NSS."""
    if options:
        return NssDriver(options)
    return SoftHsmDriver(conf) if conf else Driver()


class ExclusiveCall:
    """The context of one operation on a library: alone in it, its failure a VaultError.

    One object serves every call: a new generator for each would cost a twentieth of a signature.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self.is_forked = False

    def __enter__(self) -> None:
        if self.is_forked:
            raise VaultError("unavailable", "its parent process has this token open")
        self._lock.acquire()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        openssl_errors.clear()
        self._lock.release()
        if error is None:
            return
        if isinstance(error, pkcs11.PKCS11Error):
            detail = f"{type(error).__name__} {error}".strip()
            raise VaultError(reason_of(error), detail) from error
        if isinstance(error, DAMAGED):
            raise VaultError("unavailable", "an attribute in the token is damaged") from error


class Library:
    """An initialised library and its open tokens.

    path, conf, options: what identifies it. tokens: the open ones, by their names. users: the
    number of `Hsm` objects that share it. is_shared: other code of this process has opened it by
    python-pkcs11, and ends it; then it is on that code's store.

    Raises: VaultError("module-missing" | "unavailable" | "refused").
    """

    def __init__(self, path: str, conf: str | None, options: str) -> None:
        self.path, self.conf, self.options, self.users = path, conf, options, 0
        self.lock = threading.RLock()
        self.tokens: dict[str, Token] = {}
        self.driver = driver_of(conf, options)
        self._call = ExclusiveCall(self.lock)
        self.lib: Any = loaded.find(path)
        self.is_shared = self.lib is not None
        if not self.is_shared:
            self.lib = self._load()
            self.add_name(path)
        self.direct_calls = DirectCalls(path)

    def add_name(self, path: str) -> None:
        """Let other code that opens this path share the library. NSS's is not shared: only this
        package can initialise it."""
        if not self.options:
            loaded.add(path, self.lib)

    def _load(self) -> Any:
        # Asked first: python-pkcs11 would crash later for an object that it has half made.
        if not self.options and loaded.is_initialised(self.path):
            text = "other code in this process has initialised it. `service()`, or "
            text += "`plugvault.vault_service`, opens the token in a process of its own"
            raise VaultError("refused", f"{self.path}: {text}")
        try:
            return self.driver.load(self.path)
        except (RuntimeError, OSError) as error:
            # A PKCS11Error itself: the file could not be loaded. A subclass: a return code.
            reason = "module-missing" if type(error) is pkcs11.PKCS11Error else "unavailable"
            cause = self.driver.trouble(self.path) or str(error) or repr(error)
            raise VaultError(reason, f"{self.path} does not start: {cause}") from error
        finally:
            openssl_errors.clear()

    def call(self) -> ExclusiveCall:
        """The context of one operation on the library."""
        return self._call

    def unload(self) -> None:
        """End the library, unless other code has opened it."""
        if not self.is_shared:
            loaded.remove(self.lib)
            self.driver.unload(self.path, self.lib)

    def find_token(self, name: str) -> Any:
        """The token of that name, as python-pkcs11 describes it. Raises: VaultError as
        `uri.Name.pick`."""
        with self.call():
            if not self.tokens and not self.is_shared:
                self.lib.reinitialize()  # to see new tokens; no handle is open that could be lost
            return self._find(name)

    def _find(self, name: str) -> Any:
        with self.call():
            tokens = [
                (token, self.direct_calls.token_info(token.slot.slot_id))
                for token in self.lib.get_tokens()
            ]
            try:
                return uri.Name(name).pick(tokens)
            except VaultError as error:
                if not self.is_shared:
                    raise
                text = f"{error.detail}: {self.path} is open by other code of this process, which "
                text += "has another store or older tokens; `service()` has a process of its own"
                raise VaultError(error.reason, text) from error

    def open_by_another_name(self, name: str) -> "Token | None":
        """The token of that name, if it is open under another one: a process can log in to a
        token only once."""
        if not self.tokens:
            return None
        slot = self._find(name).slot.slot_id
        return next((token for token in self.tokens.values() if token.slot == slot), None)

    def log_in(self, name: str, pin: str | bytearray) -> tuple[Any, str]:
        """A session, and the token's label. The label is read before the login: SoftHSM on a
        read-only disk reports it only then. The error of a refused PIN includes the remaining
        tries that the token reports."""
        token = self.find_token(name)
        secret = bytearray(pin if isinstance(pin, bytearray) else pin.encode())
        try:
            with self.call():
                label = uri.label_of(self.direct_calls.token_info(token.slot.slot_id))
                session = token.open(rw=True, attribute_mapper=MAPPER)
                try:
                    self.direct_calls.login(session, secret)
                except pkcs11.UserAlreadyLoggedIn:
                    if not self.is_shared:  # else the other code has logged in
                        session.close()
                        raise
                except pkcs11.PKCS11Error:
                    session.close()
                    raise
                return session, label
        except VaultError as error:
            if error.reason not in ("pin", "pin-locked"):
                raise
            tries = ""
            with suppress(VaultError), self.call():
                tries = tries_left(self._find(name).flags)
            refusal = VaultError(error.reason, "; ".join(filter(None, (error.detail, tries))))
        finally:
            secret[:] = bytes(len(secret))
        raise refusal
