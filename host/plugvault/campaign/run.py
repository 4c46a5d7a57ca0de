"""The campaign itself: the cases in their order, and the observation of each.

begin, good twin             accepted, or the case proves nothing
messages before              accepted likewise, but where a full store may refuse
begin, the case's message    the answer
sign, state                  the key inside; after a refusal, nothing has changed; the contracts of
                             other EMAIDs sign, or after an acceptance are gone
begin, one more good message accepted: the module still works
"""

import datetime as dt
import hashlib
import os
import time
from collections.abc import Callable
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature
from cryptography.x509 import load_der_x509_certificate

from evcc import exi
from evcc.errors import EvccError
from plugvault.campaign.adapters import Module
from plugvault.campaign.cases import Campaign, CampaignCase, CampaignError, Message
from plugvault.campaign.known import Known
from plugvault.campaign.result import CaseResult, Result, deviation_of
from plugvault.campaign.verdicts import (
    INCONCLUSIVE,
    NOT_APPLICABLE,
    Observation,
    Outcome,
    inapplicable,
    is_as_wanted,
    judge,
)
from plugvault.campaign.vocabulary import ACCEPTED, REFUSED, Begin, Hello, ModuleError, clean

_LOST = ("crash", "timeout", "answer")  # after these, the next answer may be that of this request


class Runner:
    """A module and the cases for it. open_module(): opens the module, again after a crash.

    Raises ModuleError when the module does not answer hello; CampaignError when it cannot be
    opened.
    """

    def __init__(self, campaign: Campaign, open_module: Callable[[], Module]) -> None:
        self._campaign, self._open = campaign, open_module
        self._module: Module | None = open_module()
        self._has_ended_a_message = False
        try:
            self.hello = _hello(self._module)
        except ModuleError:
            self.close()
            raise

    def close(self) -> None:
        if self._module is not None:
            self._module.close()
        self._module = None

    def observe(self, case: CampaignCase) -> Observation:
        """Carry out one case. Raises CampaignError when the module's command cannot be started at
        the first message."""
        seen = Observation(self._installed(case, case.twin, reset=True))
        if seen.twin.kind != ACCEPTED:
            return seen
        installed = [(case.twin, seen.twin.emaid)]
        for message in case.before:
            seen.before.append(self._installed(case, message))
            if seen.before[-1].kind == ACCEPTED:
                installed.append((message, seen.before[-1].emaid))
            elif not is_as_wanted(message, seen.before[-1]):
                return seen
        latest = installed.pop()
        earlier = [one for one in installed if self._holds(*one)]
        state = self._state(seen)
        seen.message = self._installed(case, case.message)
        if seen.message.kind == ACCEPTED:
            seen.signs = self._signs(case.message, seen.message.emaid, seen.message.signs)
            kept = [o for o in (*earlier, latest) if not _is_of_one_contract(o[0], case.message)]
            seen.earlier_are_whole = all(self._holds(*one) is not False for one in kept)
        if seen.message.kind == REFUSED:
            seen.earlier_signs = self._signs(*latest, seen.message.signs)
            if not all(self._holds(*one) for one in earlier):
                seen.earlier_signs = False
            now = self._state(seen)
            seen.unchanged = None if None in (state, now) else state == now
        seen.after = self._installed(case, case.after)
        return seen

    def _opened(self) -> Module:
        """The module, opened again where it was closed. Raises ModuleError("crash")."""
        if self._module is None:
            try:
                self._module = self._open()
                _hello(self._module)
            except (CampaignError, ModuleError) as error:
                self.close()
                text = f"the module does not come back: {error.detail}"
                raise ModuleError("crash", text) from error
        return self._module

    def _lose(self, error: ModuleError) -> None:
        """Close a module whose next answer may belong to another request."""
        if error.reason in _LOST:
            self.close()

    def _installed(self, case: CampaignCase, message: Message, reset: bool = False) -> Outcome:
        """The end of one message. After a crash or a time-out the module is opened anew."""
        begun = time.perf_counter()
        try:
            module = self._opened()
            self._begin(module, case, message, reset and "reset" in self.hello.can)
            begun = time.perf_counter()
            answer = module.install(message.exi)
        except ModuleError as error:
            self._has_ended_a_message = True
            self._lose(error)
            return Outcome(error.reason, reason=error.detail, milliseconds=_since(begun))
        except CampaignError as error:
            if not self._has_ended_a_message:
                raise  # the command of the module is wrong
            return Outcome("crash", reason=error.detail, milliseconds=_since(begun))
        self._has_ended_a_message = True
        milliseconds = _since(begun) if answer.milliseconds is None else answer.milliseconds
        return Outcome(
            answer.verdict,
            answer.stage,
            answer.reason,
            milliseconds,
            answer.emaid,
            answer.trace,
            answer.signs,
        )

    def _begin(self, module: Module, case: CampaignCase, message: Message, reset: bool) -> None:
        campaign = self._campaign
        timing = case.timing if message is case.message else None
        begin = Begin(
            case.id, reset, campaign.at, campaign.trust, message.session, case.emaid, timing
        )
        try:
            module.begin(begin)
        except ModuleError as error:
            if error.reason != "unable":
                raise

    def _state(self, seen: Observation) -> str | None:
        """The module's state. Without an answer the observation has a fault."""
        if "state" not in self.hello.can:
            return None
        try:
            return self._opened().state()
        except ModuleError as error:
            self._lose(error)
            if error.reason != "unable":
                seen.fault = f"the module has no answer to state: {error.reason}: {error.detail}"
            return None

    def _signs(self, message: Message, emaid: str, has_signed: bool | None) -> bool | None:
        """Whether the module signs with the key of this message's contract; None: unknown.

        emaid: of the contract, as the module names it; "": that of the message. has_signed: what
        the adapter itself has seen.
        """
        if has_signed is not None:
            return has_signed
        if "sign" not in self.hello.can or _contract(message) is None:
            return None
        return self._holds(message, emaid) or False

    def _holds(self, message: Message, emaid: str) -> bool | None:
        """Whether the module signs with the key of this message's contract. None: it has no such
        contract, or signs with none; False: it signs with another key, or fails."""
        contract = _contract(message)
        if "sign" not in self.hello.can or contract is None:
            return None
        named, key = contract
        digest = hashlib.sha256(os.urandom(32)).digest()
        try:
            signature = self._opened().sign(emaid or named, digest)
        except ModuleError as error:
            self._lose(error)
            return None if error.reason == "unable" else False
        return _verifies(key, digest, signature)


def _hello(module: Module) -> Hello:
    try:
        return module.hello()
    except ModuleError as error:
        if error.reason != "unable":
            raise
        return Hello()  # the module can only install


def _contract(message: Message) -> tuple[str, object] | None:
    """(EMAID, public key) of a message's contract; None for a message that cannot be read."""
    try:
        body = _body(message)
        der = body["ContractSignatureCertChain"]["Certificate"]
        return body["eMAID"]["value"], load_der_x509_certificate(der).public_key()
    except (EvccError, KeyError, ValueError, UnsupportedAlgorithm):
        return None


def _body(message: Message) -> dict[str, Any]:
    """The CertificateInstallationRes of a message. Raises ExiError, KeyError."""
    body: dict[str, Any] = exi.decode(message.exi)["V2G_Message"]["Body"]
    return body["CertificateInstallationRes"]  # type: ignore[no-any-return]


def _is_of_one_contract(one: Message, other: Message) -> bool:
    """Whether the EMAIDs are the same, with or without hyphens and check digit, or unknown."""
    try:
        first, second = (
            str(_body(message)["eMAID"]["value"]).replace("-", "").upper()[:14]
            for message in (one, other)
        )
    except (EvccError, KeyError):
        return True
    return first == second


def _verifies(key: object, digest: bytes, signature: bytes) -> bool:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:32], signature[32:]))
    try:
        key.verify(encode_dss_signature(r, s), digest, ec.ECDSA(Prehashed(hashes.SHA256())))
    except InvalidSignature:
        return False
    return True


def _since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 3)


def tried(
    runner: Runner, case: CampaignCase, known: Known | None = None, today: dt.date = dt.date.min
) -> CaseResult:
    """Carry out one case, where the module can be tried with it. today: for `known`."""
    message, verdict, why = None, NOT_APPLICABLE, inapplicable(case, runner.hello)
    if not why:
        message, verdict, why = _judged(runner, case)
    deviation = deviation_of(verdict, why, known, today)
    return CaseResult(case.id, verdict, why, deviation, known, case.facts, message)


def _judged(runner: Runner, case: CampaignCase) -> tuple[Outcome | None, str, str]:
    """(the end of the case's message, verdict, the reason in words)"""
    try:
        seen = runner.observe(case)
    except CampaignError:
        raise
    except Exception as error:  # noqa: BLE001 - the other cases must keep their results
        runner.close()
        text = clean(f"the campaign failed here: {type(error).__name__}: {error}")
        return None, INCONCLUSIVE, text
    return seen.message, *judge(case, seen)


def run(
    campaign: Campaign,
    open_module: Callable[[], Module],
    *,
    known: dict[str, Known] | None = None,
    command: str = "",
    report: Callable[[CaseResult], object] = lambda case: None,
) -> Result:
    """Carry out all cases. report: called with each result.

    A KeyboardInterrupt ends the cases: those without a result are `not_tried`. Raises ModuleError
    when the module does not answer hello, CampaignError when it cannot be opened.
    """
    now = dt.datetime.now(dt.UTC)
    begun = time.monotonic()
    runner = Runner(campaign, open_module)
    results: list[CaseResult] = []
    try:
        for case in campaign.cases:
            results.append(tried(runner, case, (known or {}).get(case.id), now.date()))
            report(results[-1])
    except KeyboardInterrupt:  # the user's: the finished cases are a result, too
        pass
    finally:
        runner.close()
    return Result(
        module=runner.hello.module,
        version=runner.hello.version,
        can=tuple(sorted(runner.hello.can)),
        vehicle=campaign.vehicle,
        at=campaign.at,
        seed=campaign.seed,
        cases_sha256=campaign.sha256,
        command=command,
        begun=now.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begun, 3),
        cases=results,
        left_out=campaign.left_out,
        not_tried=tuple(case.id for case in campaign.cases[len(results) :]),
    )
