"""A campaign judges and reports all that a module may do: crashes, odd answers, late lines."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import queue
import select
import shlex
import signal
import socket
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

import wrong_modules
from plugvault.campaign import cases as campaign_cases
from plugvault.campaign import command, lines, station_adapter, vocabulary
from plugvault.campaign.adapters import CalledModule, of_function, open_module
from plugvault.campaign.cases import CampaignError
from plugvault.campaign.html import to_html
from plugvault.campaign.junit import to_junit
from plugvault.campaign.lines import LinesModule
from plugvault.campaign.result import CaseResult, Result, to_json
from plugvault.campaign.run import run
from plugvault.campaign.vocabulary import Json, ModuleError
from plugvault.cases import catalogue, files
from plugvault.cases.pki import CasePki
from plugvault.cases.seed import Seed

NOW = 1_790_000_000
Make = Callable[[str], Path]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A folder with the cases of a pattern, for the vehicle of the wrong modules."""
    key = ec.derive_private_key(wrong_modules.PROVISIONING_SCALAR, ec.SECP256R1())
    certificate = CasePki(Seed(9), NOW).oem_sub2.issue("PVTP0000000000001", dc="OEM", key=key)

    def make(pattern: str) -> Path:
        folder = tmp_path_factory.mktemp("cases")
        files.make(folder, certificate.certificate, catalogue.select(pattern), 1, NOW)
        return folder

    return make


def tried(folder: Path, answer: Callable[[Json], Any]) -> Result:
    return run(campaign_cases.read(folder), lambda: of_function(answer))


def module(install: Callable[[int], Any], can: list[str] | None = None) -> Callable[[Json], Any]:
    """A module. install: number of the message, from 1, -> answer."""
    numbers = iter(range(1, 1000))

    def answer(request: Json) -> Any:
        if request["op"] == "hello":
            return {"v": 1, "module": "wrong", "can": can or []}
        return install(next(numbers)) if request["op"] == "install" else {}

    return answer


def program(tmp_path: Path, text: str) -> str:
    file = tmp_path / "module.py"
    file.write_text(text)
    return shlex.join([sys.executable, str(file)])


# -- exec: --

SECOND = """import os, sys
from pathlib import Path
calls = Path(sys.argv[0] + ".calls")
with calls.open("ab") as file:
    file.write(b".")
number = len(calls.read_bytes())
"""


@pytest.mark.parametrize(
    "end",
    [
        "raise IndexError('parser')",
        "sys.exit('==1==ERROR: AddressSanitizer: heap-buffer-overflow')",
        "sys.exit('a.c:1:2: runtime error: shift')",
        "sys.exit(int(os.environ['ASAN_OPTIONS'].rpartition('exitcode=')[2]))",
    ],
)
def test_a_crash_with_status_1_is_no_refusal(
    end: str, made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASAN_OPTIONS", "halt_on_error=1")
    address = program(tmp_path, f"{SECOND}if number == 2:\n    {end}\n")
    (case,) = run(
        campaign_cases.read(made("KT-041")), lambda: open_module(f"exec:{address} {{message}}", 60)
    ).cases
    assert case.verdict == "fail"
    assert case.why.startswith("crash: exit status")


def test_each_sanitizer_is_told_another_status_than_1(tmp_path: Path) -> None:
    text = "import os, sys\nnames = 'ASAN', 'UBSAN', 'LSAN'\nsys.exit(' '.join("
    text += "os.environ[name + '_OPTIONS'] for name in names))\n"
    opened = open_module(f"exec:{program(tmp_path, text)} {{message}}", 60)
    assert opened.install(b"").reason == "exitcode=99 exitcode=99 exitcode=99"
    opened.close()


def test_a_time_out_ends_all_processes_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = tmp_path / "life"
    os.mkfifo(life)
    reader = os.open(life, os.O_RDONLY | os.O_NONBLOCK)

    def never_ends(process: Any, deadline: float) -> None:
        assert select.select([reader], [], [], 60)[0]
        raise subprocess.TimeoutExpired(process.args, deadline)

    monkeypatch.setattr(command, "_said", never_ends)
    script = tmp_path / "module.sh"
    script.write_text(f"#!/bin/sh\nexec 9>{life}\nsleep 600 &\necho begun >&9\nwait\n")
    script.chmod(0o755)
    opened = open_module(f"exec:{script} {{message}}", 60)
    with pytest.raises(ModuleError, match="timeout"):
        opened.install(b"")
    assert os.read(reader, 100) == b"begun\n"
    assert select.select([reader], [], [], 10)[0], "a process of the command lives"
    assert os.read(reader, 100) == b""  # no writer is left
    os.close(reader)
    opened.close()


def test_of_a_long_report_only_the_end_is_kept_and_the_crash_is_seen(tmp_path: Path) -> None:
    text = "import sys\nsys.stderr.write('Traceback (most recent call last)\\n')\n"
    text += "for _ in range(32): sys.stderr.write('x' * (1 << 20))\nsys.exit('the end')\n"
    opened = open_module(f"exec:{program(tmp_path, text)} {{message}}", 60)
    tracemalloc.start()
    with pytest.raises(ModuleError, match=r"crash: exit status 1: x+the end$"):
        opened.install(b"")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20
    opened.close()


def test_a_file_of_any_name_is_state_of_the_module(tmp_path: Path) -> None:
    text = "import os, sys\nopen(os.fsencode(sys.argv[1]) + b'/\\xff', 'ab').write(b'.')\n"
    opened = open_module(f"exec:{program(tmp_path, text)} {{store}} {{message}}", 60)
    states = []
    for _ in range(2):
        opened.install(b"")
        states.append(opened.state())
    assert states[0] != states[1]
    opened.close()


WHOLE_FOLDER = "import os, shutil, sys\nfrom pathlib import Path\nstore = Path(sys.argv[1])\n"


@pytest.mark.parametrize(
    "damage",
    [
        "store.rmdir()",
        "shutil.rmtree(store.parent)",
        "store.rmdir(); store.symlink_to('/usr')",
        "store.rmdir(); store.write_bytes(b'')",
        "moved = store.parent.rename(sys.argv[0] + '.moved'); store.parent.symlink_to(moved)",
    ],
)
def test_a_command_that_takes_its_folder_away_crashes_in_this_case_alone(
    damage: str, made: Make, tmp_path: Path
) -> None:
    text = f"{SECOND}{WHOLE_FOLDER}if number == 2:\n    {damage}\nsys.exit(number == 5)\n"
    adapter = f"exec:{program(tmp_path, text)} {{store}} {{message}}"
    first, second = run(
        campaign_cases.read(made("EN-00[12]")), lambda: open_module(adapter, 60)
    ).cases
    assert first.why == "crash: the command has removed or replaced {store}"
    assert second.why != first.why
    assert second.message is not None


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("message = store.parent / 'message.exi'; message.unlink(); message.mkdir()", "Is a"),
        ("shutil.rmtree(store.parent / 'trust'); (store.parent / 'trust').touch()", "File exists"),
    ],
)
def test_damage_by_a_command_that_is_seen_later_is_its_crash(
    damage: str, why: str, made: Make, tmp_path: Path
) -> None:
    text = f"{SECOND}{WHOLE_FOLDER}if number == 1:\n    {damage}\n"
    adapter = f"exec:{program(tmp_path, text)} {{store}} {{message}}"
    result = run(campaign_cases.read(made("KT-04[12]")), lambda: open_module(adapter, 60))
    assert len(result.cases) == 2
    assert why in str(to_json(result))


def test_the_files_of_a_command_are_read_up_to_a_limit(tmp_path: Path) -> None:
    text = (
        f"{WHOLE_FOLDER}with (store / 'sparse').open('wb') as file:\n    file.truncate(1 << 30)\n"
    )
    opened = open_module(f"exec:{program(tmp_path, text)} {{store}} {{message}}", 60)
    opened.install(b"")
    with pytest.raises(ModuleError, match=r"crash: \{store\} has more than 256 MB"):
        opened.state()
    opened.close()


def test_a_link_in_the_folder_of_a_command_is_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"1")
    text = f"{WHOLE_FOLDER}(store / 'link').symlink_to({str(outside)!r})\n"
    opened = open_module(f"exec:{program(tmp_path, text)} {{store}} {{message}}", 60)
    opened.install(b"")
    before = opened.state()
    outside.write_bytes(b"2")
    assert opened.state() == before
    opened.close()


def test_an_unexpected_exception_in_a_case_leaves_the_results_of_the_others(made: Make) -> None:
    def answer(request: Json) -> Any:
        if request["op"] == "install" and next(messages) == 2:
            raise LookupError("of ours \ud800")
        return {"v": 1, "verdict": "accepted"}

    messages = iter(range(1, 1000))
    opened = CalledModule(answer, lambda: None)
    result = run(campaign_cases.read(made("EN-00[12]")), lambda: opened)
    first, second = result.cases
    assert first.verdict == "inconclusive"
    assert first.why == "the campaign failed here: LookupError: of ours \\ud800"
    assert second.message is not None
    assert not result.not_tried


# -- answers --


def test_an_error_in_place_of_an_answer_fails_the_case(made: Make) -> None:
    error = {"error": "IndexError: list index out of range"}
    result = tried(made("KT-041"), module(lambda n: {"verdict": "accepted"} if n != 2 else error))
    (case,) = result.cases
    assert (case.verdict, case.why) == ("fail", f"unable: {error['error']}")


@pytest.mark.parametrize(("refuses_from", "verdict"), [(9, "not applicable"), (2, "fail")])
def test_a_message_that_the_adapter_cannot_give_is_judged_by_the_message_after(
    refuses_from: int, verdict: str, made: Make, tmp_path: Path
) -> None:
    address = program(tmp_path, f"{SECOND}sys.exit(number >= {refuses_from})\n")
    adapter = f"exec:{address} {{elements}}"
    (case,) = run(campaign_cases.read(made("EN-012")), lambda: open_module(adapter, 60)).cases
    assert case.verdict == verdict, case.why


def test_the_acceptance_of_a_broken_message_is_judged(made: Make) -> None:
    accepts = module(lambda n: {"verdict": "accepted"}, can=["sign"])
    result = tried(made("EN-01*"), accepts)
    assert {case.verdict for case in result.cases if case.facts["must"] == "refuse"} == {"fail"}
    assert len(result.cases) > 3


def test_a_signature_is_asked_for_by_the_emaid_that_the_module_answered(made: Make) -> None:
    asked = []

    def answer(request: Json) -> Any:
        if request["op"] == "sign":
            asked.append(request["emaid"])
            return {"signature": "11" * 64}
        return {"v": 1, "can": ["sign"], "verdict": "accepted", "emaid": "DE-OWN-FORM"}

    tried(made("EN-001"), answer)
    assert asked == ["DE-OWN-FORM"]


@pytest.mark.parametrize("is_refused", [False, True])
def test_a_state_without_content_fails_the_case(is_refused: bool, made: Make) -> None:
    refuse = {"verdict": "refused" if is_refused else "accepted"}
    pattern = "KT-041" if is_refused else "EN-001"
    accept = {"verdict": "accepted"}
    wrong = module(lambda n: refuse if n == 2 else accept, can=["state"])
    (case,) = tried(made(pattern), wrong).cases
    assert case.verdict == "fail"
    assert "no answer to state" in case.why


def test_a_function_that_exits_has_crashed(made: Make) -> None:
    result = tried(made("EN-00[12]"), module(lambda n: sys.exit(0)))
    assert [case.verdict for case in result.cases] == ["inconclusive"] * 2
    assert "SystemExit" in result.cases[0].why


def test_a_function_has_a_limit_of_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hanging.py").write_text(
        "import threading\nnever = threading.Event()\ndef answer(request): never.wait()\n"
        "def prompt(request): return {'v': 1}\n"
    )
    (tmp_path / "exiting.py").write_text("raise SystemExit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleError, match="timeout"):
        open_module("py:hanging:answer", 0.1).hello()
    assert open_module("py:hanging:prompt", 60).hello().editions == ("2",)
    with pytest.raises(CampaignError, match="SystemExit"):
        open_module("py:exiting:answer", 1)


@pytest.mark.parametrize(
    "answer", [{"v": 1, "editions": 2}, {"v": 1, "can": 2}, {"v": 1, "can": [[]]}, b"", {1, 2}]
)
def test_an_answer_of_another_form_is_an_answer_error(answer: Any) -> None:
    with pytest.raises(ModuleError) as raised:
        of_function(lambda request: answer).hello()
    assert raised.value.reason == "answer"


@pytest.mark.parametrize("address", ["http://[::1", "http://x:999999", "tcp:localhost:99999999"])
def test_an_address_that_is_none_is_a_clear_error(address: str) -> None:
    with pytest.raises((CampaignError, ModuleError)):
        open_module(address, 1).hello()


@pytest.mark.parametrize("kind", ["tcp:", "http://"])
def test_a_module_that_does_not_listen_is_named_in_words(kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"{kind}127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises((CampaignError, ModuleError)) as raised:
        open_module(address, 1).hello()
    assert raised.value.detail == f"no server at {address}: Connection refused"


# -- the way to the module --


@contextlib.contextmanager
def dying_server(last: int) -> Iterator[str]:
    """A module on TCP: one connection, and no listener any more at its message number `last`."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def serve() -> None:
        connection, _ = server.accept()
        server.close()
        installed = 0
        with connection, connection.makefile("rwb") as file:
            for line in file:
                installed += json.loads(line)["op"] == "install"
                if installed == last:
                    return
                file.write(b'{"v": 1, "verdict": "accepted"}\n')
                file.flush()

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"tcp:127.0.0.1:{port}"
    thread.join()


def test_a_module_that_does_not_come_back_loses_no_result(made: Make) -> None:
    reported: list[CaseResult] = []
    with dying_server(last=5) as address:
        result = run(
            campaign_cases.read(made("EN-01[0-2]")),
            lambda: open_module(address, 10),
            report=reported.append,
        )
    assert [case.verdict for case in result.cases] == ["fail", "fail", "inconclusive"]
    assert result.cases[1].why.startswith("crash: ")
    assert "does not come back" in result.cases[2].why
    assert reported == result.cases


class Failing(CalledModule):
    """A module whose first `operation` ends with an error of the adapter."""

    def __init__(self, operation: str, reason: str, is_first: bool) -> None:
        def answer(request: Json) -> Json:
            if is_first and request["op"] == operation:
                raise ModuleError(reason, "none")
            said = {"v": 1, "can": ["state", "sign"], "verdict": "accepted", "hash": "x"}
            return {**said, "signature": "11" * 64}

        self.was_closed = False
        super().__init__(answer, self._close)

    def _close(self) -> None:
        self.was_closed = True


@pytest.mark.parametrize("reason", ["crash", "timeout", "answer"])
@pytest.mark.parametrize("operation", ["state", "sign", "install"])
def test_a_module_without_an_answer_is_opened_anew(
    operation: str, reason: str, made: Make
) -> None:
    opened: list[Failing] = []

    def open_anew() -> Failing:
        opened.append(Failing(operation, reason, is_first=not opened))
        return opened[-1]

    (case,) = run(campaign_cases.read(made("EN-001")), open_anew).cases
    assert case.verdict == ("inconclusive" if operation == "install" else "fail")
    assert (operation == "state") == ("no answer to state" in case.why)
    assert len(opened) == (1 if operation == "install" else 2)  # a case ends with its good twin
    assert opened[0].was_closed


def test_a_line_that_was_not_asked_for_is_no_answer(tmp_path: Path) -> None:
    text = (
        'import sys\nfor line in sys.stdin:\n    print(\'{"v": 1}\\n{"extra": 1}\', flush=True)\n'
    )
    opened = open_module(f"lines:{program(tmp_path, text)}", 60)
    assert isinstance(opened, LinesModule)
    waiting = opened._lines
    assert opened.hello().editions == ("2",)
    assert waiting.get(timeout=60) == b'{"extra": 1}\n'
    waiting.put(b'{"verdict": "refused"}\n')  # it has come since
    with pytest.raises(ModuleError, match="not None"):
        opened.install(b"")  # and is not taken for this answer
    opened.close()


def test_nothing_is_asked_after_a_request_without_an_answer(tmp_path: Path) -> None:
    """The answer may come late, and would stand for the next one."""
    text = """import sys
for line in sys.stdin:
    if '"install"' in line:
        continue
    print('{"verdict": "accepted"}', flush=True)
    print('{"v": 1, "signature": "00"}', flush=True)
"""
    opened = open_module(f"lines:{program(tmp_path, text)}", 0.1)
    with pytest.raises(ModuleError, match="no answer within"):
        opened.install(b"")
    with pytest.raises(ModuleError, match="an earlier request had no answer in time"):
        opened.install(b"")
    opened.close()


LATE = b'"cut off\n{"verdict": "accepted"}\n{}\n'  # as answers to what another opening has asked


@pytest.mark.parametrize("is_kept", [True, False])
def test_late_answers_on_a_serial_port_are_dropped_before_hello(is_kept: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rwb") as file, theirs.makefile("rwb") as module:

        def serve() -> None:
            assert b"hello" in module.readline()
            module.write(LATE + b'{"v": 1, "module": "M"}\n')
            module.flush()
            if is_kept:
                assert b"install" in module.readline()
                module.write(b'{"verdict": "refused"}\n')
                module.flush()

        def end() -> None:
            ours.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=serve)
        thread.start()
        opened = LinesModule(file, file, lambda: "", end, 60, is_kept=is_kept)  # type: ignore[arg-type]
        try:
            if is_kept:
                assert opened.hello().module == "M"
                assert opened.install(b"").verdict == "refused"
            else:
                with pytest.raises(ModuleError, match="not JSON"):
                    opened.hello()
        finally:
            opened.close()
            thread.join()


class Flood(io.BytesIO):
    """A module's lines without a pause, and then its end."""

    left = 1000

    def readline(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        return b"{}\n" if self.left >= 0 else b""


def test_a_flood_of_lines_is_not_kept() -> None:
    opened = LinesModule(Flood(), io.BytesIO(), lambda: "ended", lambda: None, 60)
    opened._reader.join()
    assert opened._lines.qsize() == lines._WAITING + 1  # and its end
    with pytest.raises(ModuleError, match="ended"):
        opened.hello()
    opened.close()


class Unread(io.BytesIO):
    """Requests that the module does not read: writing waits until its end."""

    def __init__(self) -> None:
        super().__init__()
        self.ended = threading.Event()

    def write(self, data: Any, /) -> int:
        assert self.ended.wait(60)
        raise BrokenPipeError


def test_a_module_that_does_not_read_has_the_limit_of_time_too() -> None:
    send = Unread()
    opened = LinesModule(io.BytesIO(), send, lambda: "", send.ended.set, 0.1)
    for reason in ("timeout", "crash"):  # no request follows one that was not read
        with pytest.raises(ModuleError) as refusal:
            opened.hello()
        assert refusal.value.reason == reason
    assert not send.ended.is_set()
    opened.close()


class Refilled(queue.Queue[bytes]):
    """The lines of a module that is as fast as their reader, 1000 of them."""

    left = 1000

    def get(self, block: bool = True, timeout: float | None = None) -> bytes:
        self.left -= 1
        if self.left >= 0:
            self.put(b"{}\n")
        return super().get(block, timeout)


def test_a_flood_of_lines_delays_no_request() -> None:
    opened = LinesModule(io.BytesIO(), io.BytesIO(), lambda: "ended", lambda: None, 60)
    opened._reader.join()
    opened._lines = Refilled()
    opened._lines.put(b"{}\n")
    with pytest.raises(ModuleError, match="version None"):
        opened.hello()
    assert opened._lines.left > 900
    opened.close()


def test_a_vehicle_s_command_that_ignores_its_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    text = "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    text += "open(sys.argv[1], 'w').close()\ntime.sleep(20)\n"
    monkeypatch.setattr(station_adapter, "_END_SECONDS", 0.1)
    plug = station_adapter.Command([*shlex.split(program(tmp_path, text)), str(begun)])
    plug("KT-001")
    begun.read_text()
    plug.close()
    assert plug._process is not None
    assert plug._process.returncode == -signal.SIGKILL


@contextlib.contextmanager
def chunked(parts: Callable[[threading.Event], Iterator[bytes]]) -> Iterator[str]:
    """A module on HTTP, its answer in parts. parts: (the test is over) -> the parts."""
    server, is_over = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def serve() -> None:
        connection, _ = server.accept()
        with connection, contextlib.suppress(OSError):
            request = b""
            while not request.endswith(b"}"):  # a request left unread would reset the connection
                request += connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for part in itertools.chain(parts(is_over), [b'{"v": 1}', b""]):
                connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    is_over.set()
    thread.join()
    server.close()


def test_the_limit_of_time_is_of_the_whole_answer() -> None:
    def drop_by_drop(is_over: threading.Event) -> Iterator[bytes]:
        for _ in range(300):
            if not is_over.wait(0.1):
                yield b" "

    with chunked(drop_by_drop) as address:
        opened = open_module(address, 0.5)
        with pytest.raises(ModuleError, match="timeout: no answer within"):
            opened.hello()
        opened.close()


def test_an_answer_without_end_is_not_collected() -> None:
    with chunked(lambda _: iter([b" " * 4096] * 300)) as address:
        opened = open_module(address, 60)
        with pytest.raises(ModuleError, match="answer: more than 1048576 bytes"):
            opened.hello()
        opened.close()


# -- reports --


@pytest.mark.parametrize("secrets", [True, False])
def test_the_values_that_open_a_message_are_written_when_asked_for(
    secrets: bool, made: Make
) -> None:
    trace = {"z": "01", "k": "02", "iv": "03", "scalar": "04", "of their own": "05"}
    result = tried(made("EN-001"), module(lambda n: {"verdict": "accepted", "trace": trace}))
    (case,) = to_json(result, secrets)["cases"]
    hidden = dict.fromkeys(trace) | {"iv": "03"}
    assert case["message"]["trace"] == (trace if secrets else hidden)


def test_a_report_holds_all_that_a_module_may_say(made: Make, tmp_path: Path) -> None:
    def hostile(request: Json) -> Any:
        text = "\x01\ud800\u202e"
        trace = {text: text}
        return {"v": 1, "module": text, "verdict": "refused", "reason": text, "trace": trace}

    result = tried(made("EN-001"), hostile)
    ET.fromstring(to_junit(result))
    page = to_html(result)
    page.encode()
    assert not {"\x01", "\u202e"} & set(page)
    assert r"\u202e" in page


def test_a_text_of_another_writing_stays(made: Make) -> None:
    said = "refusé — 拒否\n"
    result = tried(made("EN-001"), module(lambda n: {"verdict": "refused", "reason": said}))
    assert said.strip() in to_html(result)


def test_a_clean_text_has_no_lone_surrogate() -> None:
    assert vocabulary.clean("a\ud800é") == r"a\ud800é"
