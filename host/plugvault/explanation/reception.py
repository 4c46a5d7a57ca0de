"""The message compared with its circumstances: code, session, EMAID, and the messages before
it."""

from collections.abc import Iterator

from evcc import ids, x509
from plugvault.explanation.circumstances import UNKNOWN, Circumstances
from plugvault.explanation.steps import Message, Step

_USUAL = 8192  # bytes: the buffer of many modules; a real response has 4,416


def explain_reception(
    data: bytes, message: Message, circumstances: Circumstances = UNKNOWN
) -> list[Step]:
    """The steps of a receiver before any certificate. data: the EXI document."""
    size = f"{len(data):,} bytes"
    note = f"{size}: longer than the {_USUAL:,} of many modules' buffers" if _is_long(data) else ""
    return [
        Step("message", size, None, note),
        _code(message["body"]["ResponseCode"]),
        _session(message["header"]["SessionID"], circumstances),
    ]


def explain_identifier(message: Message, circumstances: Circumstances = UNKNOWN) -> list[Step]:
    """The EMAID compared with the certificate and the request, and the contract with earlier
    ones."""
    return [*_emaid(message, circumstances), *_earlier(message, circumstances)]


def _is_long(data: bytes) -> bool:
    return len(data) > _USUAL


def _code(code: str) -> Step:
    note = "" if code == "OK" else "a negative response: nothing of it may be installed"
    if code.startswith("OK_"):
        note = "no code of a response to an installation"
    return Step("ResponseCode", code, code == "OK", note)


def _session(session: bytes, circumstances: Circumstances) -> Step:
    if circumstances.is_asked is False:
        return Step("SessionID", session, False, "no request is open: one request, one response")
    if circumstances.session is None:
        return Step("SessionID", session)
    good = session == circumstances.session
    note = "" if good else f"another session's: the request had {circumstances.session.hex()}"
    return Step("SessionID", session, good, note)


def _emaid(message: Message, circumstances: Circumstances) -> Iterator[Step]:
    stated = message["body"]["eMAID"]["value"]
    leaf = _leaf(message)
    if leaf is None:
        return
    certified = leaf.names.get("CN", "")
    try:
        emaid, of_certificate = ids.parse_emaid(stated), ids.parse_emaid(certified)
    except ids.IdError as error:
        yield Step("eMAID", stated, False, f"{error}; the certificate is of {certified}")
        return
    good = emaid == of_certificate
    yield Step("eMAID", stated, good, "" if good else f"the certificate is of {certified}")
    if circumstances.emaid is not None:
        good = emaid == circumstances.emaid
        note = "" if good else f"the request named {circumstances.emaid}"
        yield Step("eMAID, as requested", stated, good, note)


def _earlier(message: Message, circumstances: Circumstances) -> Iterator[Step]:
    """A replay, an older contract, or a DH point that was used before."""
    leaf = _leaf(message)
    point = message["body"]["DHpublickey"]["value"]
    for name, before in circumstances.earlier:
        installed = _leaf(before)
        if leaf is None or installed is None:
            continue
        is_last = name == circumstances.earlier[-1][0]
        if leaf.der == installed.der:
            note = "the installed contract again" if is_last else "a replay: it was replaced since"
            emaid = leaf.names.get("CN", "")
            yield Step(f"contract, as in {name}", emaid, None if is_last else False, note)
        elif _is_older(leaf, installed):
            note = f"older than the contract of {name}: a renewal is newer"
            yield Step("contract, notBefore", leaf.names.get("CN", ""), False, note)
        same_point = point == before["body"]["DHpublickey"]["value"]
        if same_point and leaf.der != installed.der:
            note = "a DH point comes once: this asks about the key of the earlier envelope"
            yield Step(f"DHpublickey, as in {name}", point, False, note)


def _is_older(leaf: x509.Certificate, installed: x509.Certificate) -> bool:
    same = leaf.names.get("CN") == installed.names.get("CN")
    return same and leaf.not_before < installed.not_before


def _leaf(message: Message) -> x509.Certificate | None:
    try:
        return x509.parse(message["body"]["ContractSignatureCertChain"]["Certificate"])
    except x509.CertificateError:
        return None
