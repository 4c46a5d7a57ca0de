"""The certificates and private keys in a folder or file of a test PKI that another program made.

    collection = read(Path("pki"), passwords=["12345"])
    collection.certificates        # {DER: the private key or None}, whatever the files are called

It reads PEM, DER, PKCS#7, PKCS#8, PKCS#12 and JKS by content, not by name. A folder is read with
all its subfolders. Small files whose names contain "password" or "passphrase" are passwords to
try, because EcoG, EVerest and RISE-V2G store such files beside their keys. `layout` says which
certificate is which.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs12,
)

from evcc.errors import EvccError
from plugvault.pki import forms, key_work, keystore
from plugvault.pki.schemes import PrivateKey

_MOST_FILES = 5000
_LONGEST_PASSWORD = 256  # bytes of a file with a password
_JCEKS = b"\xce\xce\xce\xce"
_CONVERT = (
    "convert it: keytool -importkeystore -srckeystore {0} -destkeystore store.p12"
    " -deststoretype PKCS12"
)


class CollectionError(EvccError):
    """A folder or file without a certificate that can be read. The text says what to do."""

    REASONS = ("empty", "password", "format")


@dataclass
class Collection:
    """The content of the files.

    certificates: DER to the private key, None where no file has the key. sources: DER to the name
    of the first file with it. lost_keys: names of files with a key that belongs to no certificate.
    problems: "file: reason" of each file that could not be read.
    """

    certificates: dict[bytes, PrivateKey | None] = field(default_factory=dict)
    sources: dict[bytes, str] = field(default_factory=dict)
    lost_keys: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


class _PasswordError(Exception):
    """None of the passwords fits."""


def read(place: Path, passwords: Iterable[str] = ()) -> Collection:
    """The certificates and keys of a folder or file.

    passwords: tried one after another on each encrypted key. Raises CollectionError: "empty"
    without a certificate; for a single file also "password" when no password opens it, and
    "format". Raises OSError for a single file. A file of a folder that fails is in `problems`.
    """
    files = _files(place)
    known = list(dict.fromkeys([*passwords, *_own_passwords(files)]))
    collection, keys = Collection(), list[tuple[str, PrivateKey]]()
    for file in files:
        name = str(file.relative_to(place)) if file != place else file.name
        try:
            _read_file(file, name, known, collection, keys)
        except _PasswordError:
            if file == place:
                raise CollectionError("password", _locked(place, known)) from None
            collection.problems.append(f"{name}: none of the {len(known)} passwords opens it")
        except (EvccError, ValueError, UnsupportedAlgorithm) as error:
            if file == place:
                raise CollectionError("format", f"{place}: {error}") from error
            collection.problems.append(f"{name}: {error}")
        except OSError as error:
            if file == place:
                raise
            collection.problems.append(f"{name}: {error.strerror or error}")
    _match(collection, keys)
    if not collection.certificates:
        raise CollectionError("empty", f"{place} holds no certificate that can be read")
    return collection


def _locked(place: Path, known: Sequence[str]) -> str:
    tried = "none of the passwords opens it" if known else "it needs a password"
    return f"{place}: {tried}; name a file with the password: --password-file FILE"


def _files(place: Path) -> list[Path]:
    if not place.is_dir():
        return [place]
    files = [file for file in sorted(place.rglob("*")) if file.is_file()]
    if len(files) > _MOST_FILES:
        raise CollectionError(
            "format", f"{place} has {len(files)} files; name the folder of the PKI alone"
        )
    return files


def _own_passwords(files: Iterable[Path]) -> Iterator[str]:
    """The passwords beside the keys, in small files with "password" or "passphrase" in their
    names."""
    for file in files:
        name = file.name.lower()
        if (
            "password" in name or "passphrase" in name
        ) and file.stat().st_size < _LONGEST_PASSWORD:
            try:
                text = file.read_bytes().decode("utf-8", "replace").strip()
            except OSError:  # `read` adds it to the problems
                continue
            if text and "\n" not in text:
                yield text


def _read_file(
    file: Path,
    name: str,
    passwords: Sequence[str],
    collection: Collection,
    keys: list[tuple[str, PrivateKey]],
) -> None:
    if file.stat().st_size > forms.LIMIT:
        raise CollectionError("format", f"more than {forms.LIMIT:,} bytes, which no PKI file has")
    data = file.read_bytes()
    ders, found = _content(data, file, passwords)
    for certificate in ders:
        collection.certificates.setdefault(certificate, None)
        collection.sources.setdefault(certificate, name)
    keys += [(name, key) for key in found]


_Content = tuple[list[bytes], list[PrivateKey]]


def _content(data: bytes, file: Path, passwords: Sequence[str]) -> _Content:
    """The certificates and keys of one file; none for a file of another kind."""
    if data[:4] == keystore.MAGIC:
        return _of_jks(data, passwords)
    if data[:4] == _JCEKS:
        raise CollectionError("format", "JCEKS; " + _CONVERT.format(file.name))
    if data[:1] == b"\x30":
        key_work.check(data)
        return _of_der(data, passwords)
    blocks = forms.blocks(data)
    ders = forms.certificates(data) if any("CERT" in b.label or "PKCS7" in b.label for b in blocks
                                           if "REQUEST" not in b.label) else []  # fmt: skip
    keys = [block for block in blocks if block.label.endswith("PRIVATE KEY")]
    for block in keys:
        key_work.check(block.content)
    return ders, [_key(load_pem_private_key, block.text, passwords) for block in keys]


def _of_der(data: bytes, passwords: Sequence[str]) -> _Content:
    try:
        return forms.certificates(data), []
    except EvccError:
        pass
    try:
        return [], [_key(load_der_private_key, data, passwords)]
    except (ValueError, UnsupportedAlgorithm):
        pass
    return _of_pkcs12(data, passwords)


def _key(load: object, data: bytes, passwords: Sequence[str]) -> PrivateKey:
    """A private key on a curve of ISO 15118. Raises _PasswordError, ValueError."""
    locked = False
    for password in (None, *passwords):
        try:
            key = load(data, None if password is None else password.encode())  # type: ignore[operator]
        except TypeError:  # a password where none is needed, or none where one is
            locked = locked or password is None
            continue
        except ValueError:
            if password is None:
                raise
            continue
        if not isinstance(key, PrivateKey):
            raise ValueError(f"a private key of another kind: {type(key).__name__}")
        return key
    raise _PasswordError


def _of_pkcs12(data: bytes, passwords: Sequence[str]) -> _Content:
    """The certificates and the key of a PKCS#12 file. Raises _PasswordError, also for other DER,
    which only the MAC of PKCS#12 distinguishes."""
    if not is_pkcs12(data):
        return [], []
    for password in (None, "", *passwords):
        secret = None if password is None else password.encode()
        try:
            loaded = pkcs12.load_pkcs12(data, secret)
        except ValueError:
            continue
        certificates = [loaded.cert, *loaded.additional_certs]
        ders = [c.certificate.public_bytes(Encoding.DER) for c in certificates if c is not None]
        return ders, [loaded.key] if isinstance(loaded.key, PrivateKey) else []
    raise _PasswordError


def is_pkcs12(data: bytes) -> bool:
    """Whether the bytes begin as a PFX of PKCS#12 does: a SEQUENCE that begins with the INTEGER 3
    [RFC 7292, 4]."""
    return b"\x02\x01\x03\x30" in data[:12]


def _of_jks(data: bytes, passwords: Sequence[str]) -> _Content:
    for password in passwords:
        try:
            entries = keystore.read(data, password, passwords)
        except keystore.KeystoreError as error:
            if error.reason == "password":
                continue
            raise
        ders = [certificate for entry in entries for certificate in entry.chain]
        keys = [load_der_private_key(entry.key, None) for entry in entries if entry.key]
        return ders, [key for key in keys if isinstance(key, PrivateKey)]
    raise _PasswordError


def _match(collection: Collection, keys: Sequence[tuple[str, PrivateKey]]) -> None:
    """Give each certificate its key, by the public half."""
    by_public = {_public(key.public_key()): key for _, key in keys}
    used = set()
    for certificate in collection.certificates:
        try:
            public = _public(x509.load_der_x509_certificate(certificate).public_key())
        except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion):
            continue
        if public in by_public:
            collection.certificates[certificate] = by_public[public]
            used.add(public)
    collection.lost_keys = sorted(
        {name for name, key in keys if _public(key.public_key()) not in used}
    )


def _public(key: object) -> bytes:
    encoded: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return encoded
