"""Text of another party for a display: a terminal, a report in HTML, a picture, XML."""


def printable(value: object, kept: str = "") -> str:
    """The text of a value with control characters and lone surrogates escaped, because another
    company may have written it. kept: characters that stay as they are."""
    return "".join(c if c.isprintable() or c in kept else ascii(c)[1:-1] for c in str(value))


def printable_lines(value: object) -> str:
    """As `printable`, with the ends of lines as they are."""
    return printable(value, "\n")
