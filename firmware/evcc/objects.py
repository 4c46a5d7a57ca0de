"""JSON as a configuration needs it [RFC 8259]: objects of texts, whole numbers, true and false.

MicroPython's own reader takes commas that are missing, numbers such as 01 and, by its version, an
object without its end; and every reader takes a name twice. Here each is an error, on every
interpreter.
"""

_SPACE = " \t\n\r"
_DIGITS = "0123456789"
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = (("true", True), ("false", False))
_DEEPEST = 4


def read(text: str) -> dict:
    """The object that is the whole text. Raises: ValueError, saying where."""
    reader = _Reader(text)
    found = reader.object(_DEEPEST)
    reader.space()
    if reader.at < len(text):
        reader.fail()
    return found


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fail(self):
        raise ValueError("not JSON at character %d" % self.at)

    def space(self) -> str:
        """The next character that is no space, or ""."""
        while self.text[self.at : self.at + 1] and self.text[self.at] in _SPACE:
            self.at += 1
        return self.text[self.at : self.at + 1]

    def expect(self, letter: str) -> None:
        if self.space() != letter:
            self.fail()
        self.at += 1

    def object(self, depth: int) -> dict:
        if not depth:
            self.fail()
        self.expect("{")
        found: dict = {}
        if self.space() == "}":
            self.at += 1
            return found
        while True:
            self.space()
            name = self.string()
            if name in found:
                raise ValueError(name + " comes twice")
            self.expect(":")
            found[name] = self.value(depth)
            if self.space() == "}":
                self.at += 1
                return found
            self.expect(",")

    def value(self, depth: int):
        letter = self.space()
        if letter == "{":
            return self.object(depth - 1)
        if letter == '"':
            return self.string()
        for word, value in _WORDS:
            if self.text[self.at : self.at + len(word)] == word:
                self.at += len(word)
                return value
        return self.number()

    def number(self) -> int:
        start = self.at
        if self.text[start : start + 1] == "-":
            self.at += 1
        first = self.at
        while self.text[self.at : self.at + 1] and self.text[self.at] in _DIGITS:
            self.at += 1
        digits = self.text[first : self.at]
        if not digits or len(digits) > 18 or (digits[0] == "0" and len(digits) > 1):
            self.fail()
        return int(self.text[start : self.at])

    def string(self) -> str:
        self.expect('"')
        out = []
        while True:
            letter = self.text[self.at : self.at + 1]
            if not letter or ord(letter) < 32:
                self.fail()
            self.at += 1
            if letter == '"':
                return "".join(out)
            out.append(self.escaped() if letter == "\\" else letter)

    def escaped(self) -> str:
        letter = self.text[self.at : self.at + 1]
        self.at += 1
        if letter in _ESCAPES:
            return _ESCAPES[letter]
        if letter != "u":
            self.fail()
        code = self.four()
        if 0xD800 <= code < 0xDC00:  # the first half of a character beyond the plane
            if self.text[self.at : self.at + 2] != "\\u":
                self.fail()
            self.at += 2
            second = self.four()
            if not 0xDC00 <= second < 0xE000:
                self.fail()
            return chr(0x10000 + ((code & 0x3FF) << 10 | second & 0x3FF))
        if 0xDC00 <= code < 0xE000:
            self.fail()
        return chr(code)

    def four(self) -> int:
        digits = self.text[self.at : self.at + 4]
        if len(digits) < 4 or [c for c in digits if c not in "0123456789abcdefABCDEF"]:
            self.fail()
        self.at += 4
        return int(digits, 16)
