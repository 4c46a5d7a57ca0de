"""Certificates by comparison, for those that are like one which was read before.

A CA makes its certificates alike: serial number, dates, the subject's texts, key, key identifier
and signature are others in each, and nothing else is. So `evcc.x509` reads the first ones of a
kind, strictly, and they become a mould: all their bytes, and for the values that may be others
what `evcc.x509` would take there, or less. A certificate that fits is good for the same reasons.
Whatever does not fit is read strictly, and refused in `evcc`'s words.

A kind is learnt when its lengths, of the whole and of what is signed, come a second time, and a
limited number is kept: who sends ever new ones costs what `evcc.x509` costs.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256

from evcc import der, x509
from evcc.x509 import Certificate, CertificateError
from plugvault.bounded import keep

MOST = 256  # beginnings of which there are moulds
ALIKE = 16  # moulds of one beginning

# What a board cuts out of the DER each time, to save memory; and what of it a mould knows.
_CUT_OUT = ["tbs_digest", "issuer", "subject", "names", "point", "signature", "ski", "aki", "ocsp"]
_OTHERS = ("subject", "point", "ski")
_BEGIN = 8  # bytes: both headers before what is signed
_HEADER = 2  # bytes, of what is shorter than 128
_SERIAL = 20  # bytes at most, as a number
_HALF = 32  # bytes at most, of a signature's halves

Span = tuple[int, int]


def read(data: bytes) -> Certificate:
    """As `evcc.x509.parse`, with all that a certificate says cut out of it."""
    begin = data[:_BEGIN]
    alike = _moulds.get(begin)
    for mould in alike or ():
        made = mould.read(data)
        if made:
            return made
    certificate = x509.parse(data)
    for name in _CUT_OUT:
        setattr(certificate, name, getattr(certificate, name))
    learnt = [] if alike is None else [Mould(certificate), *alike[: ALIKE - 1]]
    keep(_moulds, MOST, begin, learnt)
    return certificate


class Mould:
    """The kind of certificate that `model` is, which was read strictly."""

    def __init__(self, model: Certificate) -> None:
        data = model.der
        serial, signature = _span(model, "serial"), _span(model, "signature")
        self._model = dict(vars(model))
        self._signed = slice(*_span(model, "tbs"))
        self._others = [
            (name, slice(*_span(model, name)))
            for name in _OTHERS
            if getattr(model, name) is not None
        ]
        dates = tuple(_dates(data, _span(model, "issuer")[1] + _HEADER))
        self._from, self._to = (slice(*span) for span in dates)
        texts = dict(_texts(model))
        self._texts = [(name, slice(*span)) for name, span in texts.items()]
        halves = tuple(_elements(data, signature[0] + _HEADER, signature[1]))
        self._r, self._s = (slice(*span) for span in halves)
        free = [
            (span, _integer(span[1] - span[0], most))
            for span, most in ((serial, _SERIAL), *((half, _HALF) for half in halves))
        ]
        free += [
            ((start + _HEADER, stop), rb"\d{%d}Z" % (stop - start - _HEADER - 1))
            for start, stop in dates
        ]
        free += [(span, b"[ -~]{%d}" % (span[1] - span[0])) for span in texts.values()]
        point, at = _span(model, "point"), 0
        free += [((point[0] + 1, point[1]), b".{64}")]
        if model.ski is not None:
            ski = _span(model, "ski")
            free += [(ski, b".{%d}" % (ski[1] - ski[0]))]
        pattern = b""
        for (start, stop), any_of in sorted(free):
            pattern += re.escape(data[at:start]) + any_of
            at = stop
        self._fits = re.compile(pattern + re.escape(data[at:]), re.DOTALL).fullmatch

    def read(self, data: bytes) -> Certificate | None:
        """A certificate of this kind; None for any other."""
        if not self._fits(data):
            return None
        try:
            not_before, not_after = _seconds(data[self._from]), _seconds(data[self._to])
        except CertificateError:
            return None
        names = dict(self._model["names"])
        for name, span in self._texts:
            names[name] = data[span].decode()
        r, s = data[self._r][-32:], data[self._s][-32:]
        made = Certificate.__new__(Certificate)
        values = vars(made)
        values.update(
            self._model,
            der=data,
            tbs_digest=sha256(data[self._signed]).digest(),
            names=names,
            not_before=not_before,
            not_after=not_after,
            signature=r.rjust(32, b"\0") + s.rjust(32, b"\0"),
        )
        for name, span in self._others:
            values[name] = data[span]
        return made


_moulds: dict[bytes, list[Mould]] = {}


def _span(model: Certificate, name: str) -> Span:
    packed = model._spans[name]
    return packed >> 16, packed & 0xFFFF


def _elements(data: bytes, at: int, end: int) -> Iterator[Span]:
    """The contents of what stands there, one after the other."""
    while at < end:
        _, start, at = der.header(data, at, end)
        yield start, at


def _dates(data: bytes, at: int) -> Iterator[Span]:
    """notBefore and notAfter, with their headers."""
    for _ in range(2):
        _, _, stop = der.header(data, at, len(data))
        yield at, stop
        at = stop


def _texts(model: Certificate) -> Iterator[tuple[str, Span]]:
    """Where the subject's names are, the first of each."""
    seen = set()
    begin = _span(model, "subject")[0]
    for name, _, start, stop in x509.attributes(model.subject):
        if name and name not in seen:
            seen.add(name)
            yield name, (begin + start, begin + stop)


def _integer(size: int, most: int) -> bytes:
    """What fits an INTEGER of this length, in its shortest form and not negative: a number of no
    more than `most` bytes, whether or not it has a zero before it."""
    if size == 1:
        return rb"[\x00-\x7f]"
    with_zero = rb"\x00[\x80-\xff]"
    begin = with_zero if size > most else rb"(?:%b|[\x01-\x7f].)" % with_zero
    return begin + rb".{%d}" % (size - 2)


@lru_cache(maxsize=1024)
def _seconds(date: bytes) -> int:
    return x509.instant(date, 0, len(date))[0]
