"""PKCS #11 URIs [RFC 7512], and which of several tokens one names: one rule for both runtimes.

    pkcs11:token=car%2017;serial=0a1b;object=provisioning;id=%01%02?module-path=/usr/lib/x.so
        &pin-source=file:/run/secrets/pin

Strict: an attribute comes once, has a value, and is one that is known here. Nothing is ignored,
for what is ignored names another token than was meant. A PIN itself (pin-value) is refused.
"""

from evcc import utf8

from . import VaultError

SCHEME = "pkcs11:"
_PATH = ("token", "serial", "manufacturer", "model", "object", "type", "id")
_QUERY = ("module-path", "pin-source")
_TYPES = (b"", b"private", b"public", b"cert", b"secret-key", b"data")
_HEX = "0123456789abcdefABCDEF"
# What may stand in a value without percent-encoding [RFC 7512, 2.3: pk11-pchar, pk11-qchar].
_PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:[]@!$'()*+,="
_ROOM = {"token": 32, "serial": 16, "manufacturer": 32, "model": 16}  # bytes of CK_TOKEN_INFO


def is_uri(text: str) -> bool:
    """Whether a name is meant as a URI: a scheme is written in either case [RFC 3986, 3.1]."""
    return text[: len(SCHEME)].lower() == SCHEME


def parse(text: str) -> dict:
    """{attribute: bytes}, b"" for one that is not there; "module-path" and "pin-source" are str.

    Raises: VaultError("refused"), which does not repeat a value: it may be a PIN.
    """
    if not is_uri(text):
        raise VaultError("refused", "a PKCS #11 URI begins with " + SCHEME)
    path, mark, query = text[len(SCHEME) :].partition("?")
    if mark and not query:
        raise VaultError("refused", "nothing after the ? of the URI")
    said: dict = dict.fromkeys(_PATH + _QUERY, b"")
    _read(said, path, ";", _PATH, "&")
    _read(said, query, "&", _QUERY, "/?|")
    if said["type"] not in _TYPES:
        raise VaultError("refused", "type= is private, public, cert, secret-key or data")
    for name, room in _ROOM.items():
        if len(said[name]) > room:
            raise VaultError("refused", "%s= has at most %d bytes" % (name, room))
    for name in _PATH:
        if name != "id":
            _text(name, said[name])
    for name in _QUERY:
        said[name] = _text(name, said[name])
    return said


def _read(said: dict, part: str, between: str, known: tuple, more: str) -> None:
    for one in part.split(between) if part else []:
        name, mark, value = one.partition("=")
        if name == "pin-value":
            raise VaultError("refused", "say where the PIN is (pin-source=), never the PIN")
        if name not in known:
            raise VaultError("refused", "what is known is " + ", ".join(known))
        if not mark or not value:
            raise VaultError("refused", name + "= has no value")
        if said[name]:
            raise VaultError("refused", name + "= comes twice")
        said[name] = _decoded(name, value, _PLAIN + more)


def _decoded(name: str, value: str, plain: str) -> bytes:
    out, at = bytearray(), 0
    while at < len(value):
        letter = value[at]
        if letter == "%":
            digits = value[at + 1 : at + 3]
            if len(digits) < 2 or digits[0] not in _HEX or digits[1] not in _HEX:
                raise VaultError("refused", name + "= has a % without two hexadecimal digits")
            out.append(int(digits, 16))
            at += 3
            continue
        if letter not in plain:
            raise VaultError("refused", name + "= has a character that has to be written as %XX")
        out.append(ord(letter))
        at += 1
    return bytes(out)


def _text(name: str, value: bytes) -> str:
    try:
        text = utf8.decode(value)
    except UnicodeError:
        raise VaultError("refused", name + "= is not UTF-8")
    if "\0" in text:
        raise VaultError("refused", name + "= has a zero byte")
    return text


def encoded(value: bytes) -> str:
    """A value as it stands in a URI: what is not a letter, a digit or one of -._~ as %XX."""
    kept = _PLAIN[:66]
    return "".join([chr(c) if chr(c) in kept else "%%%02X" % c for c in value])


def file_of(source: str) -> str:
    """The path that a pin-source names: file:/PATH, file:///PATH or /PATH.

    Raises: VaultError("pin") for any other way: the text may be a PIN.
    """
    path = source
    if source[:5] == "file:":
        path = source[5:]
        if path[:2] == "//":
            path = path[2:]
    if path[:1] != "/":
        raise VaultError("pin", "pin-source is file:/PATH, or a path that begins with /")
    return path


def split(text: str) -> tuple:
    """(what names the token, path of its library, path of the file with its PIN), the latter two
    "" where a URI does not say them, and for a label. Raises: VaultError("refused" | "pin")."""
    if not is_uri(text):
        return text, "", ""
    said = parse(text)
    source = said["pin-source"]
    return text.partition("?")[0], said["module-path"], file_of(source) if source else ""


def named(text: str, serial: str) -> str:
    """One text for both, as `Name` takes it. Raises: VaultError("refused")."""
    Name(text, serial)
    if not serial:
        return text
    if not is_uri(text):
        text = SCHEME + ("token=" + encoded(text.encode()) if text else "")
    between = ";" if text[len(SCHEME) :] else ""
    return text + between + "serial=" + encoded(serial.encode())


class Name:
    """What names a token: its label, its serial number or both; "" for one that is not said.

    text: a label, or a URI without a query, which may say manufacturer and model too.
    Raises VaultError("refused").
    """

    def __init__(self, text: str, serial: str = "") -> None:
        said: dict = dict.fromkeys(_PATH, b"")
        if is_uri(text):
            said = parse(text)
            if said["module-path"] or said["pin-source"]:
                raise VaultError("refused", "split the URI first")
            if said["id"] or said["object"] or said["type"]:
                raise VaultError("refused", "a token's URI names no object")
        else:
            said["token"] = _field("a token's label", text, 32)
        if serial:
            if said["serial"]:
                raise VaultError("refused", "the serial number is said twice")
            said["serial"] = _field("a serial number", serial, 16)
        self._wanted = [
            said[name].rstrip(b" ") for name in ("token", "serial", "manufacturer", "model")
        ]
        if not (self._wanted[0] or self._wanted[1]):
            raise VaultError("refused", "a token is named by its label or its serial number")

    def pick(self, tokens: list):
        """The one token that is meant. tokens: [(token, CK_TOKEN_INFO)], the info as bytes, of
        each that is initialised.

        Raises: VaultError("token-missing"), or "refused" when several are meant.
        """
        found = [(token, info) for token, info in tokens if self._means(info)]
        if not found:
            raise VaultError("token-missing", "there is no token " + str(self))
        if len(found) > 1:
            serials = sorted([_shown(_fields(info)[1]) for _, info in found])
            text = "%d tokens are %s: say which by its serial number: %s"
            raise VaultError("refused", text % (len(found), self, ", ".join(serials)))
        return found[0][0]

    def _means(self, info: bytes) -> bool:
        return all(not want or want == has for want, has in zip(self._wanted, _fields(info)))

    def __str__(self) -> str:
        words = ("", "serial ", "of ", "model ")
        return ", ".join([w + _shown(v) for w, v in zip(words, self._wanted) if v])


def _field(what: str, text: str, room: int) -> bytes:
    value = text.encode()
    if len(value) > room or "\0" in text:
        raise VaultError("refused", "%s has at most %d bytes of UTF-8" % (what, room))
    return value


def _fields(info: bytes) -> list:
    """Label, serial number, manufacturer, model of a CK_TOKEN_INFO. They are padded with spaces;
    some libraries do it with zeros."""
    ends = ((0, 32), (80, 96), (32, 64), (64, 80))
    return [bytes(info[start:end]).rstrip(b"\0").rstrip(b" ") for start, end in ends]


def label_of(info: bytes) -> str:
    """The label in a CK_TOKEN_INFO; "" where it is no text."""
    try:
        return utf8.decode(_fields(info)[0])
    except UnicodeError:
        return ""


def _shown(value: bytes) -> str:
    """For a person, whatever the bytes are."""
    return "".join([chr(c) if 32 <= c < 127 else "\\x%02x" % c for c in value])
