"""PKCS #11 URIs [RFC 7512], and the choice of a token by its name, for both runtimes.

    pkcs11:token=car%2017;serial=0a1b;object=provisioning;id=%01%02?module-path=/usr/lib/x.so
        &pin-source=file:/run/secrets/pin

Strict: an attribute is known, comes once and has a value. None is ignored: without it the URI
could name another token than was meant. A PIN itself (pin-value) is refused.
"""

from evcc import utf8

from . import VaultError

SCHEME = "pkcs11:"
_PATH = ("token", "serial", "manufacturer", "model", "object", "type", "id")
_QUERY = ("module-path", "pin-source")
_TYPES = (b"", b"private", b"public", b"cert", b"secret-key", b"data")
_HEX = "0123456789abcdefABCDEF"
# The characters of a value without percent-encoding [RFC 7512, 2.3: pk11-pchar, pk11-qchar].
_PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:[]@!$'()*+,="
_ROOM = {"token": 32, "serial": 16, "manufacturer": 32, "model": 16}  # bytes of CK_TOKEN_INFO


def is_uri(text: str) -> bool:
    """Whether a name is a URI; its scheme may be in either case [RFC 3986, 3.1]."""
    return text[: len(SCHEME)].lower() == SCHEME


def parse(text: str) -> dict:
    """{attribute: bytes}, b"" for a missing one; "module-path" and "pin-source" are str.

    Raises: VaultError("refused"), which does not repeat a value: it may be a PIN.
    """
    if not is_uri(text):
        raise VaultError("refused", "a PKCS #11 URI begins with " + SCHEME)
    path, mark, query = text[len(SCHEME) :].partition("?")
    if mark and not query:
        raise VaultError("refused", "nothing after the ? of the URI")
    values: dict = dict.fromkeys(_PATH + _QUERY, b"")
    _read(values, path, ";", _PATH, "&")
    _read(values, query, "&", _QUERY, "/?|")
    if values["type"] not in _TYPES:
        raise VaultError("refused", "type= is private, public, cert, secret-key or data")
    for name, room in _ROOM.items():
        if len(values[name]) > room:
            raise VaultError("refused", "%s= has at most %d bytes" % (name, room))
    for name in _PATH:
        if name != "id":
            _text(name, values[name])
    for name in _QUERY:
        values[name] = _text(name, values[name])
    return values


def _read(values: dict, part: str, separator: str, names: tuple, plain: str) -> None:
    """plain: characters without percent-encoding, besides _PLAIN."""
    for attribute in part.split(separator) if part else []:
        name, mark, value = attribute.partition("=")
        if name == "pin-value":
            raise VaultError("refused", "say where the PIN is (pin-source=), never the PIN")
        if name not in names:
            raise VaultError("refused", "the known attributes are " + ", ".join(names))
        if not mark or not value:
            raise VaultError("refused", name + "= has no value")
        if values[name]:
            raise VaultError("refused", name + "= comes twice")
        values[name] = _decoded(name, value, _PLAIN + plain)


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
    """A value for a URI: all but letters, digits and -._~ as %XX."""
    unreserved = _PLAIN[:66]
    return "".join([chr(c) if chr(c) in unreserved else "%%%02X" % c for c in value])


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
    """(name of the token, path of its library, path of its PIN file). The paths are "" for a
    label, and where the URI has none. Raises: VaultError("refused" | "pin")."""
    if not is_uri(text):
        return text, "", ""
    values = parse(text)
    source = values["pin-source"]
    return text.partition("?")[0], values["module-path"], file_of(source) if source else ""


def named(text: str, serial: str) -> str:
    """A name and a serial number as one text, for `Name`. Raises: VaultError("refused")."""
    Name(text, serial)
    if not serial:
        return text
    if not is_uri(text):
        text = SCHEME + ("token=" + encoded(text.encode()) if text else "")
    separator = ";" if text[len(SCHEME) :] else ""
    return text + separator + "serial=" + encoded(serial.encode())


class Name:
    """The name of a token: its label, its serial number or both, "" for a missing one.

    text: a label, or a URI without a query, which may say manufacturer and model too.
    Raises VaultError("refused").
    """

    def __init__(self, text: str, serial: str = "") -> None:
        values: dict = dict.fromkeys(_PATH, b"")
        if is_uri(text):
            values = parse(text)
            if values["module-path"] or values["pin-source"]:
                raise VaultError("refused", "split the URI first")
            if values["id"] or values["object"] or values["type"]:
                raise VaultError("refused", "a token's URI names no object")
        else:
            values["token"] = _field("a token's label", text, 32)
        if serial:
            if values["serial"]:
                raise VaultError("refused", "the serial number is said twice")
            values["serial"] = _field("a serial number", serial, 16)
        self._fields = [
            values[name].rstrip(b" ") for name in ("token", "serial", "manufacturer", "model")
        ]
        if not (self._fields[0] or self._fields[1]):
            raise VaultError("refused", "a token is named by its label or its serial number")

    def pick(self, tokens: list):
        """The token of this name. tokens: [(token, CK_TOKEN_INFO)] of all initialised tokens, the
        info as bytes.

        Raises: VaultError("token-missing"), or "refused" where several tokens match.
        """
        matches = [(token, info) for token, info in tokens if self._matches(info)]
        if not matches:
            raise VaultError("token-missing", "there is no token " + str(self))
        if len(matches) > 1:
            serials = sorted([_printable(_fields(info)[1]) for _, info in matches])
            text = "%d tokens are %s: say which by its serial number: %s"
            raise VaultError("refused", text % (len(matches), self, ", ".join(serials)))
        return matches[0][0]

    def _matches(self, info: bytes) -> bool:
        return all(not name or name == value for name, value in zip(self._fields, _fields(info)))

    def __str__(self) -> str:
        words = ("", "serial ", "of ", "model ")
        return ", ".join([w + _printable(v) for w, v in zip(words, self._fields) if v])


def _field(title: str, text: str, room: int) -> bytes:
    value = text.encode()
    if len(value) > room or "\0" in text:
        raise VaultError("refused", "%s has at most %d bytes of UTF-8" % (title, room))
    return value


def _fields(info: bytes) -> list:
    """Label, serial number, manufacturer, model of a CK_TOKEN_INFO, without the padding of spaces,
    or of zeros from some libraries."""
    ends = ((0, 32), (80, 96), (32, 64), (64, 80))
    return [bytes(info[start:end]).rstrip(b"\0").rstrip(b" ") for start, end in ends]


def label_of(info: bytes) -> str:
    """The label in a CK_TOKEN_INFO; "" where it is not UTF-8."""
    try:
        return utf8.decode(_fields(info)[0])
    except UnicodeError:
        return ""


def _printable(value: bytes) -> str:
    """Any bytes as text for a person."""
    return "".join([chr(c) if 32 <= c < 127 else "\\x%02x" % c for c in value])
